"""What differs in the findings of the stack that `ridecast up` runs: what it cannot have, and the remedies."""

from dataclasses import replace

from infra.operate.doctor.facts import Finding
from infra.operate.doctor.faults import REPAIR
from infra.operate.local import in_local

NO_METRICS = "the local AWS has no metrics of the function; `ridecast records list --local` shows what it rejected"

_AGAIN = "end `ridecast up` and start it again: it makes the stack as in template.yaml, and keeps records and objects"

_SHARDS_STAY = "; shards that were split or merged stay so, which does no harm, until `ridecast up --fresh`"

_NOT_LOCAL = frozenset({"nobody-subscribed", "template-differs", "resources-drifted", "rollout-unwatched"})
"""Faults that only a stack in an account can have."""


def for_local(findings: list[Finding]) -> list[Finding]:
    """Return the findings that concern a local stack, with remedies that work there."""
    return [replace(one, remedy=_remedy(one)) for one in findings if one.fault not in _NOT_LOCAL]


def _remedy(finding: Finding) -> str:
    """Return a remedy with --local in the place of stack and bucket; a restart makes again what was deployed."""
    remedy = finding.remedy
    if finding.fault == "parameters-changed":
        return _AGAIN + _SHARDS_STAY
    if not remedy or (remedy.startswith("docs/runbook.md#") and REPAIR not in remedy):
        return remedy
    return _AGAIN if REPAIR in remedy or "`ridecast " not in remedy else in_local(remedy)
