"""The gate: whether a candidate may go into a channel, judged on rides that no model has met, a rule a line."""

from collections.abc import Callable, Sequence

import msgspec

from lambda_function.core.bundle import Manifest, ModelBundle
from training.data.months import Month
from training.data.rides import Rides
from training.evaluation.bootstrap import Comparison, compare_day_sums
from training.evaluation.gate_rules import (
    RuleResult,
    predict_time_ratio,
    rule_better,
    rule_coverage,
    rule_parity,
    rule_predict_time,
    rule_service,
    rule_size,
    rule_slices,
    rule_unseen,
    used_months,
)
from training.evaluation.metrics import side_by_side
from training.evaluation.slices import plain_predictor, predictor
from training.model.baseline import fit_baseline
from training.model.bundle import ExportedBundle
from training.model.evaluation import Measured


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, for one channel as it was.

    Attributes:
        passed: Every rule did.
        model_version: The candidate's.
        manifest_sha256: Its manifest's digest.
        against: The version in the channel; None where the channel was empty, and the baseline the rival.
        channel: Its name.
        months: What was judged on, as in ``2023-03``.
        candidate: The candidate's errors there; None where there was no month to judge on.
        rival: Those of the channel's model, or of the baseline.
        comparison: The one less the other, by bootstrap over days.
        rules: In the order of judging.
    """

    passed: bool
    model_version: str
    manifest_sha256: str
    against: str | None
    channel: str
    months: tuple[str, ...]
    candidate: Measured | None = None
    rival: Measured | None = None
    comparison: Comparison | None = None
    rules: tuple[RuleResult, ...]


TimeRatio = Callable[[ModelBundle, Rides], float]

decode_gate_report = msgspec.json.Decoder(GateReport).decode


def encode_gate_report(report: GateReport) -> bytes:
    """Returns a report's bytes, as they are stored."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def unseen_month(candidate: Manifest, champion: Manifest | None, in_hand: Sequence[Month]) -> Month | None:
    """Returns the latest month in hand that neither model has trained, calibrated or validated on; None without one."""
    met = used_months(candidate) | (used_months(champion) if champion else frozenset())
    return max(set(in_hand) - met, default=None)


def judge(
    candidate: ExportedBundle,
    champion: ExportedBundle | None,
    rides: Rides,
    train_rides: Rides,
    *,
    channel: str,
    time_ratio: TimeRatio = predict_time_ratio,
) -> GateReport:
    """Judges a candidate by all the rules.

    Args:
        candidate: Who wants into the channel.
        champion: What the channel holds; None where it is empty: then the baseline is the rival.
        rides: The months to judge on, at least one ride.
        train_rides: What the candidate learnt from: the baseline is fitted on it, and it makes zone pairs known.
        channel: Its name.
        time_ratio: Measures the predict time.
    """
    rival = predictor(champion.model) if champion else plain_predictor(fit_baseline(train_rides).predict)
    measured = side_by_side(predictor(candidate.model), rival, rides, train_rides)
    days, rival_days = measured.model_days, measured.rival_days
    comparison = compare_day_sums(days.n_rides, days.squares, rival_days.squares)
    ours, theirs = candidate.model.manifest, champion.model.manifest if champion else None
    against = champion.model_version if champion else None
    rules = (
        rule_unseen([source.month for source in rides.sources], ours, theirs),
        rule_service(ours, theirs),
        rule_better(measured.result, comparison, candidate.model_version, against),
        rule_slices(measured.result),
        rule_coverage(measured.result, ours, theirs),
        rule_parity(candidate),
        rule_size(candidate),
        rule_predict_time(time_ratio(candidate.model, rides)),
    )
    return GateReport(
        passed=all(rule.passed for rule in rules),
        model_version=candidate.model_version,
        manifest_sha256=candidate.manifest_sha256,
        against=against,
        channel=channel,
        months=measured.result.months,
        candidate=measured.result.model,
        rival=measured.result.baseline,
        comparison=comparison,
        rules=rules,
    )


def no_month_to_judge(candidate: ExportedBundle, champion: ExportedBundle | None, *, channel: str) -> GateReport:
    """Returns the failing report for where `unseen_month` found none."""
    theirs = champion.model.manifest if champion else None
    return GateReport(
        passed=False,
        model_version=candidate.model_version,
        manifest_sha256=candidate.manifest_sha256,
        against=champion.model_version if champion else None,
        channel=channel,
        months=(),
        rules=(rule_unseen((), candidate.model.manifest, theirs),),
    )


def lines(report: GateReport) -> list[str]:
    """Returns a report for people: the verdict, then a rule a line."""
    verdict = "passes" if report.passed else "fails"
    against = report.against or "the baseline"
    months = ", ".join(report.months) or "no month"
    return [
        f"{report.model_version} {verdict} the gate of {report.channel}, against {against} on {months}",
        *(
            f"{'pass' if rule.passed else 'FAIL'}  {rule.rule}: {rule.seen} (wanted: {rule.wanted})"
            for rule in report.rules
        ),
    ]
