"""Facts of a healthy stack for the doctor, and the findings of one that is not healthy."""

from dataclasses import replace
from typing import Any

from infra.operate.doctor.doctor import check
from infra.operate.doctor.facts import (
    AlarmFacts,
    ConcurrencyFacts,
    Finding,
    FunctionFacts,
    MappingFacts,
    QuotaFacts,
    ReleaseFacts,
    Severity,
    StackFacts,
    StreamFacts,
    WorkFacts,
    good,
)

INPUT = StreamFacts(
    "ride-events",
    "input",
    n_open_shards=2,
    n_records=1000,
    peak_records_per_s=100.0,
    peak_bytes_per_s=20_000.0,
    parameters={"StreamMode": "PROVISIONED", "RideEventsShards": "2"},
)
OUTPUT = replace(INPUT, name="ride-predictions", role="output", parameters={"RidePredictionsShards": "2"})
OUTCOMES = replace(INPUT, name="ride-outcomes", role="outcomes", parameters={"RideOutcomesShards": "2"})
WORK = WorkFacts(n_records=1000, n_predictions=995, n_rejects=5, max_record_age_s=2.0, n_recent_records=100)

HEALTHY = StackFacts(
    name="ridecast",
    status="UPDATE_COMPLETE",
    window_minutes=60,
    parameters={
        "StreamMode": "PROVISIONED",
        "RideEventsShards": "2",
        "RidePredictionsShards": "2",
        "RideOutcomesShards": "2",
        "MemoryMb": "1769",
    },
    template_diff=(),
    release=ReleaseFacts("predictor", "live", serving="7", published="7"),
    model=good("model", "channel stable of s3://rides holds green-2021-01-3f2a9c1d0b7e, and it loads"),
    function=FunctionFacts("predictor", parameters={"MemoryMb": "1769"}),
    work=WORK,
    mapping=MappingFacts("Enabled", "OK"),
    concurrency=ConcurrencyFacts(None, n_unreserved=1000, n_account=1000),
    streams=(INPUT, OUTPUT, OUTCOMES),
    archive_mappings={"ride-events": MappingFacts("Enabled", "OK")},
    alarms=(AlarmFacts("ridecast-errors", "FunctionErrorsAlarm", "OK"), AlarmFacts("age", "A", "INSUFFICIENT_DATA")),
    n_subscribers=1,
    quotas=(QuotaFacts("shards", 4, 500),),
    n_waiting={"rejects": 0, "failures": 0},
)


def stack_with(**changes: Any) -> StackFacts:
    """The healthy stack with some parts changed."""
    return replace(HEALTHY, **changes)


def problems(facts: StackFacts) -> list[Finding]:
    """All findings that are not good; each has a remedy."""
    found = [one for one in check(facts) if one.severity is not Severity.good]
    assert all(one.remedy for one in found)
    return found


def only_problem(facts: StackFacts) -> Finding:
    """The one finding that is not good."""
    (found,) = problems(facts)
    return found
