"""The function that joins: which hours it joins, what a failing hour does, and what it logs and counts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from lambda_function.aws.telemetry import Stopwatch
from lambda_function.errors import ConfigurationError
from tests.builders_archive import HOUR, ArchivedStreams
from tests.fakes import FakeClock, FakeContext
from training.errors import UserError
from training.functions.join import ArchiveJoins, HoursFailedError, JoinHandler, build_joiner
from training.functions.settings import JoinSettings
from training.functions.telemetry import JoinTelemetry
from training.monitoring.hours import Due, Hour
from training.monitoring.join.options import JoinOptions
from training.monitoring.summary import DamagedObject, HourSummary, load_summary

FIRST = Hour.parse("2026-08-01T09")
ENVIRONMENT = {
    "BUCKET": "bucket",
    "MODEL_CHANNEL": "stable",
    "RIDE_EVENTS_STREAM": "ride-events",
    "RIDE_OUTCOMES_STREAM": "ride-outcomes",
}
_numbers = count()


@dataclass
class FakeJoin:
    """A join whose hours take some time, and some of which fail.

    Attributes:
        hours: The hours that are due.
        failing: The errors of hours that fail.
        found: What the audit finds in each hour.
        hour_s: Seconds that an hour takes.
    """

    hours: Sequence[Hour] = (FIRST, FIRST + 1, FIRST + 2)
    failing: Mapping[Hour, Exception] = field(default_factory=dict)
    found: Mapping[str, Any] = field(default_factory=dict)
    hour_s: float = 1.0
    clock: FakeClock = field(default_factory=FakeClock)

    def run(self, event: dict[str, Any] | None = None, timeout_s: float = 900.0) -> dict[str, list[str]]:
        """Invoke the function with this join."""
        telemetry = JoinTelemetry(f"join-{next(_numbers)}", "ridecast", "INFO")
        handler = JoinHandler(self, telemetry, stopwatch=lambda: Stopwatch(self.clock))
        return handler(event or {}, FakeContext(self.clock, timeout_s))

    def due(self) -> list[Due]:
        """The hours that are due."""
        return [Due(hour, 1) for hour in self.hours]

    def named(self, hours: Iterable[str]) -> list[Due]:
        """Hours by name, in their second pass."""
        return [Due(Hour.parse(hour), 2) for hour in hours]

    def join(self, due: Due) -> HourSummary:
        """Join an hour."""
        self.clock.advance(self.hour_s)
        if due.hour in self.failing:
            raise self.failing[due.hour]
        return HourSummary(hour=str(due.hour), pass_number=due.pass_number, horizon_minutes=180, **self.found)


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what was logged, and the metrics."""
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [one for one in written if "_aws" not in one], [one for one in written if "_aws" in one]


def test_due_hours_are_joined_in_their_order() -> None:
    assert FakeJoin().run() == {"joined": ["2026-08-01T09", "2026-08-01T10", "2026-08-01T11"], "left": []}


def test_nothing_due_is_no_error() -> None:
    assert FakeJoin(hours=()).run() == {"joined": [], "left": []}


def test_event_may_name_the_hours() -> None:
    assert FakeJoin().run({"hours": ["2026-07-01T00"]}) == {"joined": ["2026-07-01T00"], "left": []}


def test_event_that_names_no_hour_is_refused_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="'yesterday' is no hour: write it as 2026-08-01T09"):
        FakeJoin().run({"hours": ["2026-08-01T09", "yesterday"]})

    ((logged,), (counted,)) = lines(capsys)
    assert (logged["level"], logged["message"], counted["FailedJoins"]) == ("ERROR", "invocation failed", [1.0])


def test_hour_is_left_to_the_next_run_if_the_time_may_not_suffice() -> None:
    assert FakeJoin(hour_s=300).run() == {"joined": ["2026-08-01T09", "2026-08-01T10"], "left": ["2026-08-01T11"]}


def test_one_hour_is_joined_however_long_it_takes() -> None:
    assert FakeJoin(hour_s=899).run()["joined"] == ["2026-08-01T09"]


def test_failing_hour_is_logged_and_counted_and_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    join = FakeJoin(failing={FIRST: OSError("disk full")})

    with pytest.raises(HoursFailedError, match=r"cannot join 2026-08-01T09 \(disk full\)"):
        join.run()

    logged, counted = lines(capsys)
    assert [(one["level"], one["message"], one.get("exception_name")) for one in logged] == [
        ("ERROR", "hour failed", "OSError"),
        ("INFO", "hour", None),
        ("INFO", "hour", None),
    ]
    assert logged[0]["hour"] == "2026-08-01T09"
    assert [one.get("FailedJoins") for one in counted] == [[1.0], None, None]


def test_each_hour_has_its_metrics_and_one_line_of_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"n_ride_events": 10, "n_labelled": 7, "n_without_outcome": 2, "n_waiting": 1, "n_contradicting": 3}

    FakeJoin(hours=[FIRST], found={**found, "n_outcomes_rejected": 4}).run()

    ((logged,), (counted,)) = lines(capsys)
    assert (logged["level"], logged["hour"]["n_labelled"], logged["join_ms"]) == ("INFO", 7, 1000)
    (directive,) = counted["_aws"]["CloudWatchMetrics"]
    assert {name["Name"]: counted[name["Name"]] for name in directive["Metrics"]} == {
        "JoinedHours": [1.0],
        "RideEventsJoined": [10.0],
        "LabelledRides": [7.0],
        "RidesWithoutOutcome": [2.0],
        "LostRides": [0.0],
        "ConflictingPredictions": [0.0],
        "SkewedPredictions": [0.0],
        "UnrecomputedRides": [0.0],
        "WaitingRides": [1.0],
        "DamagedArchiveObjects": [0.0],
        "ContradictingOutcomes": [3.0],
        "OutcomeRejects": [4.0],
    }


@pytest.mark.parametrize(
    ("found", "metric"),
    [
        ({"n_lost": 1}, "LostRides"),
        ({"n_conflicting": 1}, "ConflictingPredictions"),
        ({"n_skewed": 1}, "SkewedPredictions"),
        ({"n_unrecomputed": 1}, "UnrecomputedRides"),
        ({"damaged_objects": (DamagedObject("archive/a", "is cut short"),)}, "DamagedArchiveObjects"),
    ],
)
def test_fault_is_a_warning_and_its_metric(
    found: dict[str, Any], metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeJoin(hours=[FIRST], found=found).run()

    ((logged,), (counted,)) = lines(capsys)
    assert logged["level"] == "WARNING"
    assert counted[metric] == [1.0]


def test_settings_are_read() -> None:
    delay = {"OUTCOME_DELAY_MINUTES": "0", "POWERTOOLS_SERVICE_NAME": "ridecast/join"}

    assert JoinSettings.from_env({**ENVIRONMENT, **delay}) == JoinSettings(
        bucket="bucket",
        model_channel="stable",
        ride_stream="ride-events",
        outcome_stream="ride-outcomes",
        outcome_delay_minutes=0,
        service_name="ridecast/join",
    )


def test_all_missing_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError, match=f"setting {', '.join(ENVIRONMENT)} is missing"):
        JoinSettings.from_env({})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [("OUTCOME_DELAY_MINUTES", "-1", "want a number from 0 on"), ("MODEL_SIGNING_KEY", "mine", "want the ARN")],
)
def test_setting_that_makes_no_sense_is_named_and_shown(name: str, value: str, wanted: str) -> None:
    with pytest.raises(ConfigurationError, match=f"setting {name} is '{value}': {wanted}"):
        JoinSettings.from_env({**ENVIRONMENT, name: value})


def test_due_hour_of_an_archive_is_joined() -> None:
    streams = ArchivedStreams()
    streams.ride(256, 5)
    streams.outcome(256, 25, 17.4)
    bucket = streams.store()
    settings = JoinSettings.from_env({**ENVIRONMENT, "BUCKET": bucket.name})
    handler = build_joiner(settings, bucket.s3)
    now = HOUR.end + timedelta(hours=3)
    joins = ArchiveJoins(bucket, JoinOptions(threads=1), lambda _: streams.model, lambda: now)

    answer = replace(handler, joins=joins)({}, FakeContext(FakeClock()))

    assert answer == {"joined": [str(HOUR)], "left": []}
    summary = load_summary(bucket, HOUR)
    assert summary
    assert (summary.n_labelled, summary.n_skewed, summary.pass_number) == (1, 0, 1)
    assert replace(handler, joins=joins)({}, FakeContext(FakeClock()))["joined"] == []
    assert replace(handler, joins=joins)({"hours": [str(HOUR)]}, FakeContext(FakeClock()))["joined"] == [str(HOUR)]


def test_models_are_checked_with_the_key_of_the_settings() -> None:
    regions: list[str] = []
    key = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

    build_joiner(JoinSettings.from_env({**ENVIRONMENT, "MODEL_SIGNING_KEY": key}), None, regions.append)
    build_joiner(JoinSettings.from_env(ENVIRONMENT), None, regions.append)

    assert regions == ["eu-west-1"]
