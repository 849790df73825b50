"""Facts of a stack → findings: what is wrong, how bad it is, and what to do about it. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from infra.doctor.facts import FunctionFacts, ModelFacts, QuotaFacts, StackFacts, StreamFacts

SHARD_RECORDS_PER_S = 1000
SHARD_BYTES_PER_S = 1024 * 1024
"""What a shard takes."""

BUSY_SHARE = 0.7
"""Of what its shards take: above, a stream has no room for a peak within the minute, or an uneven spread of keys."""

FULL_SHARE = 0.9
"""Of a quota: above, it stands in the way of the next scaling."""

MAX_REJECT_SHARE = 0.01
MAX_RECORD_AGE_S = 300.0


class Severity(StrEnum):
    """How bad a finding is. `bad` makes the command fail."""

    good = "good"
    warning = "warning"
    bad = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: What was found, with figures.
        remedy: What to do next; "" for nothing.
    """

    check: str
    severity: Severity
    what: str
    remedy: str = ""


def check(facts: StackFacts) -> tuple[Finding, ...]:
    """Judges all that is known, in the order of a ride's way; what could not be looked at is a warning."""
    findings = [
        _stack(facts),
        *_drift(facts),
        *(_stream(stream) for stream in facts.streams),
        *_mapping(facts),
        *_model(facts.model),
        *_function(facts.function, facts.window_minutes),
        *_alarms(facts),
        *(_quota(quota) for quota in facts.quotas),
        *_kept(facts),
    ]
    unseen = [
        Finding(
            name, Severity.warning, f"could not be looked at: {why}", "attach the stack's DoctorPolicy to your role"
        )
        for name, why in facts.unseen.items()
    ]
    return (*findings, *unseen)


def _stack(facts: StackFacts) -> Finding:
    status = facts.status
    what = f"{facts.name} is {status}"
    if status.endswith(("FAILED", "ROLLBACK_COMPLETE")) and status != "UPDATE_ROLLBACK_COMPLETE":
        return Finding("stack", Severity.bad, what, "read its events, delete it if it never was, and deploy again")
    if status == "UPDATE_ROLLBACK_COMPLETE":
        return Finding("stack", Severity.warning, what, "the last update failed and was put back: read its events")
    if status.endswith("IN_PROGRESS"):
        return Finding("stack", Severity.warning, what, "look again when it has ended")
    return Finding("stack", Severity.good, what)


def _drift(facts: StackFacts) -> Iterator[Finding]:
    if facts.drift is None:
        return
    if facts.drift:
        more = f" and {len(facts.drift) - 3} more" if len(facts.drift) > 3 else ""  # noqa: PLR2004
        what = f"the template here is not the one deployed: {'; '.join(facts.drift[:3])}{more}"
        yield Finding("drift", Severity.warning, what, "run `sam build && sam deploy`, or check out what is deployed")
    else:
        yield Finding("drift", Severity.good, "the template here is the one deployed")


def _stream(stream: StreamFacts) -> Finding:
    name = f"{stream.role} stream"
    if stream.n_throttled:
        what = f"{stream.name} refused {stream.n_throttled:,} records for want of shards"
        return Finding(name, Severity.bad, what, _more_shards(stream))
    if stream.is_on_demand:
        what = f"{stream.name} is on demand, {stream.n_open_shards} shards now, and refused nothing"
        return Finding(name, Severity.good, what)
    share = max(
        stream.peak_records_per_s / (stream.n_open_shards * SHARD_RECORDS_PER_S),
        stream.peak_bytes_per_s / (stream.n_open_shards * SHARD_BYTES_PER_S),
    )
    what = f"{stream.name} has {stream.n_open_shards} shards, {share:.0%} full in its busiest minute"
    if share > BUSY_SHARE:
        return Finding(name, Severity.warning, what, _more_shards(stream))
    return Finding(name, Severity.good, what)


def _more_shards(stream: StreamFacts) -> str:
    if stream.is_on_demand:
        return "it doubles within minutes by itself; send at a lower rate until then"
    parameter = "RideEventsShards" if stream.role == "input" else "RidePredictionsShards"
    return f"deploy with {parameter}={stream.n_open_shards * 2}, or with StreamMode=ON_DEMAND"


def _mapping(facts: StackFacts) -> Iterator[Finding]:
    if facts.mapping is None:
        return
    state, last = facts.mapping.state, facts.mapping.last_result
    what = f"the mapping is {state}, its last result: {last or 'none yet'}"
    if state != "Enabled":
        remedy = "no ride is read: enable it, or deploy again"
        yield Finding("mapping", Severity.bad, what, remedy)
    elif "PROBLEM" in last.upper() or "ERROR" in last.upper():
        yield Finding("mapping", Severity.bad, what, "read the function's log; the role may lack a permission")
    else:
        yield Finding("mapping", Severity.good, what)


def _model(model: ModelFacts | None) -> Iterator[Finding]:
    if model is None:
        return
    where = f"channel {model.channel} of s3://{model.bucket}"
    if model.model_version is None:
        what = f"{where} holds no model that loads: {model.problem}"
        remedy = f"`ridecast models publish`, `promote` or `rollback` with --bucket s3://{model.bucket}; rides wait"
        yield Finding("model", Severity.bad, what, remedy)
    else:
        yield Finding("model", Severity.good, f"{where} holds {model.model_version}, and it loads")


def _function(function: FunctionFacts | None, window_minutes: int) -> Iterator[Finding]:
    if function is None:
        return
    if function.settings_problem:
        what = f"its settings would fail the cold start: {function.settings_problem}"
        yield Finding("function", Severity.bad, what, "put the variable right in template.yaml and deploy")
    if function.state not in {"Active", "Inactive"}:  # Lambda lets an unused function rest
        yield Finding("function", Severity.bad, f"{function.name} is {function.state}", "deploy it again")
    within = f"in the last {window_minutes} minutes"
    yield _refresh(function, within)
    yield _work(function, within)


def _refresh(function: FunctionFacts, within: str) -> Finding:
    if function.n_refresh_failures:
        what = f"{function.n_refresh_failures} looks at the channel failed {within}: it serves the model it has"
        remedy = "see `model` above; then the function's log for `refresh_failed`"
        return Finding("refresh", Severity.bad, what, remedy)
    if not function.n_records:
        return Finding("refresh", Severity.good, f"no ride has come {within}, so the function has not looked")
    return Finding("refresh", Severity.good, f"no look at the channel failed {within}")


def _work(function: FunctionFacts, within: str) -> Finding:
    records, predictions = function.n_records, function.n_predictions
    what = f"{records:,} records, {predictions:,} predictions, {function.n_rejects:,} rejects {within}"
    if function.n_failed_invocations:
        what = f"{function.n_failed_invocations} invocations failed; {what}"
        return Finding(
            "work", Severity.bad, what, "read the function's log for `invocation failed`; the batches come again"
        )
    if records and not predictions:
        return Finding("work", Severity.bad, what, "`ridecast rejects list`: nothing that arrives can be predicted")
    if records and function.n_rejects / records > MAX_REJECT_SHARE:
        return Finding("work", Severity.warning, what, "`ridecast rejects list` says which reasons; tell the producer")
    if function.max_record_age_s > MAX_RECORD_AGE_S:
        what = f"rides wait up to {function.max_record_age_s:,.0f} s; {what}"
        return Finding("work", Severity.warning, what, "more shards, or a higher ParallelizationFactor")
    return Finding("work", Severity.good, what)


def _alarms(facts: StackFacts) -> Iterator[Finding]:
    ringing = [alarm for alarm in facts.alarms if alarm.state == "ALARM"]
    for alarm in ringing:
        yield Finding("alarm", Severity.bad, f"{alarm.name}: {alarm.reason or 'in alarm'}", "see docs/runbook.md")
    if silent := [alarm.name for alarm in facts.alarms if not alarm.actions_enabled]:
        what = f"nobody is told of {', '.join(silent)}"
        yield Finding("alarm", Severity.warning, what, "enable the alarms' actions again")
    if facts.alarms and not ringing:
        yield Finding("alarm", Severity.good, f"none of {len(facts.alarms)} alarms rings")


def _quota(quota: QuotaFacts) -> Finding:
    what = f"{quota.n_used:,} of {quota.limit:,} {quota.name} are taken"
    if quota.n_used > FULL_SHARE * quota.limit:
        return Finding("quota", Severity.warning, what, "ask for more in Service Quotas before you scale")
    return Finding("quota", Severity.good, what)


def _kept(facts: StackFacts) -> Iterator[Finding]:
    for kind, n_objects in facts.n_kept.items():
        if not n_objects:
            yield Finding(kind, Severity.good, f"no {kind} wait")
            continue
        what = f"{n_objects:,} objects of {kind} wait"
        remedy = f"`ridecast {kind} list`, and `ridecast {kind} redrive` once the cause is gone"
        severity = Severity.bad if kind == "failures" else Severity.warning
        yield Finding(kind, severity, what, remedy)
