"""Facts of a stack → findings, the worst first. Pure."""

from collections.abc import Iterator

from infra.doctor.facts import StackFacts
from infra.doctor.finding import Finding, Severity, warning
from infra.doctor.judge.capacity import judge_concurrency, judge_quotas, judge_streams
from infra.doctor.judge.function import judge_function, judge_mapping, judge_refresh, judge_work
from infra.doctor.judge.model import judge_model
from infra.doctor.judge.stack import judge_drift, judge_release, judge_status
from infra.doctor.judge.watching import judge_alarms, judge_kept

__all__ = ["Finding", "Severity", "check"]

_BY_BADNESS = list(Severity)


def check(facts: StackFacts) -> tuple[Finding, ...]:
    """Judges all that is known, the worst first, and else in the order of a ride's way.

    What could not be looked at is a warning: nothing is said of it that nobody knows.
    """
    findings = (finding for judge in _JUDGES for finding in judge(facts))
    return tuple(sorted(findings, key=lambda finding: _BY_BADNESS.index(finding.severity)))


def _judge_unseen(facts: StackFacts) -> Iterator[Finding]:
    for name, why in facts.unseen.items():
        denied = name in facts.denied
        remedy = "attach the stack's DoctorPolicy to your role" if denied else "put right what it says, and look again"
        yield warning(name, f"could not be looked at: {why}", remedy)


_JUDGES = (
    judge_status,
    judge_drift,
    judge_release,
    judge_streams,
    judge_mapping,
    judge_concurrency,
    judge_model,
    judge_function,
    judge_refresh,
    judge_work,
    judge_alarms,
    judge_quotas,
    judge_kept,
    _judge_unseen,
)
