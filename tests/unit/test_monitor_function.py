"""The function that monitors: what it returns, logs and counts, and what a failing step does."""

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from infra.operate.cost_monitor import N_METRICS
from lambda_function.errors import ConfigurationError
from tests.builders_monitored import DAY, MonitoredStack, monitored_bundle
from tests.builders_status import monitor_status
from tests.fakes import BUCKET, FakeClock, FakeContext
from tests.fakes_kms import FakeKms
from tests.outcomes import DENIED, SERVICE_DOWN
from training.errors import BucketError
from training.experiments.announce import EXPERIMENT_ANSWER
from training.experiments.start import ExperimentOptions, start_experiment
from training.functions.monitor import MonitorHandler, StepsFailedError, build_monitor
from training.functions.monitor_telemetry import MonitorTelemetry
from training.functions.settings import MonitorSettings
from training.monitoring.calibration.status import CalibrationMode, CalibrationStatus
from training.monitoring.monitor.monitor import MonitorRun
from training.monitoring.new_york_days import hours_of_day
from training.registry.channels import Mover, store_bundle

ENVIRONMENT = {"BUCKET": BUCKET, "MODEL_CHANNEL": "stable", "CALIBRATION_MODE": "off", "STACK_NAME": "ridecast"}
_numbers = count()


def handler_of(stack: MonitoredStack, **environment: str) -> MonitorHandler:
    """The function over a stack, at the stack's time."""
    service = f"monitor-{next(_numbers)}"
    settings = MonitorSettings.from_env({**ENVIRONMENT, "POWERTOOLS_SERVICE_NAME": service, **environment})
    built = build_monitor(settings, stack.s3, stack.bus, lambda _: FakeKms())
    return MonitorHandler(built.bucket, built.options, stack.bus, built.telemetry, clock=lambda: stack.now)


def run(stack: MonitoredStack) -> dict[str, Any]:
    return handler_of(stack)({}, FakeContext(FakeClock(), 900.0))


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what was logged, and the metrics."""
    written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [one for one in written if "_aws" not in one], [one for one in written if "_aws" in one]


def test_a_run_returns_logs_and_counts_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    stack = MonitoredStack()
    hours = stack.store_day(DAY, n_hours=2)
    names = [str(hours[0]), str(hours[1])]
    assert run(stack) == {"hours": names, "days": 0, "left": 0, "stored": True, "experiments": {}}
    ((logged,), (counted,)) = lines(capsys)
    assert (logged["level"], logged["message"], logged["monitor"]["failures"]) == ("INFO", "monitor", [])
    assert logged["monitor"]["states"] == {"data": "unknown", "performance": "unknown"}
    assert counted["MonitoredRides"] == [6.0]
    assert counted["ServedRmse"] == counted["RawRmse"]
    assert (counted["DataAlarm"], counted["CalibrationFrozen"], counted["MonitorFailures"]) == ([0.0], [0.0], [0.0])
    assert counted["HoursWithoutJudgedRides"] == [(stack.now - hours[1].end).total_seconds() / 3600]
    assert len(counted.keys() - {"_aws", "service"}) == N_METRICS


def with_an_experiment() -> MonitoredStack:
    """A stack whose only candidate has an answer after one run: the budget is a day."""
    stack = MonitoredStack()
    candidate = monitored_bundle(2)
    store_bundle(stack.bucket, candidate)
    options = ExperimentOptions(name="trial", candidates=(candidate.model_version,), budget_days=1, first_look_days=1)
    start_experiment(stack.bucket, options, Mover("ada", lambda: hours_of_day(DAY)[0].start))
    stack.store_day(DAY)
    return stack


def test_a_run_advances_experiments_and_announces_an_answer_once(capsys: pytest.CaptureFixture[str]) -> None:
    stack = with_an_experiment()
    assert run(stack)["experiments"] == {"trial": 1}
    ((logged,), (counted,)) = lines(capsys)
    (facts,) = logged["monitor"]["experiments"]
    (answer,) = facts["answers"].values()
    assert (facts["n_hours"], facts["new_days"], facts["n_events_sent"], answer) == (24, [str(DAY)], 1, "undecided")
    assert [counted[name] for name in ("ExperimentsRunning", "ExperimentDays", "ExperimentAnswers")] == [[0], [1], [1]]
    event = stack.bus.taken[-1]
    assert (event["DetailType"], event["experiment"], event["answer"]) == (EXPERIMENT_ANSWER, "trial", "undecided")
    assert event["text"].startswith("Stack ridecast, experiment trial: green-2021-01-")
    n_taken = len(stack.bus.taken)
    stack.now += timedelta(minutes=15)
    assert run(stack)["experiments"] == {}
    assert len(stack.bus.taken) == n_taken


def test_an_answer_that_the_bus_does_not_take_is_sent_by_the_next_run() -> None:
    stack = with_an_experiment()
    stack.bus.script = [(), DENIED]
    with pytest.raises(StepsFailedError, match=r"experiment trial \(EventBridge did not take 1 events"):
        run(stack)
    run(stack)
    assert [one["answer"] for one in stack.bus.taken if one["DetailType"] == EXPERIMENT_ANSWER] == ["undecided"]


def test_a_damaged_experiment_is_a_failed_step_and_the_others_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    stack = with_an_experiment()
    stack.s3.objects["experiments/bad.json"] = b"{"
    with pytest.raises(StepsFailedError, match=r"experiment bad \(s3://.*/experiments/bad\.json is no experiment"):
        run(stack)
    ((logged,), _) = lines(capsys)
    assert [one["new_days"] for one in logged["monitor"]["experiments"]] == [[], [str(DAY)]]


def test_without_judged_rides_there_are_no_errors_to_count(capsys: pytest.CaptureFixture[str]) -> None:
    run(MonitoredStack())
    (_, (counted,)) = lines(capsys)
    assert counted["MonitoredRides"] == [0.0]
    assert not counted.keys() & {"ServedRmse", "RawRmse", "ServedCoverage", "ServedBias", "HoursWithoutJudgedRides"}


def test_a_failing_step_is_named_and_counted_and_the_others_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    stack = MonitoredStack()
    stack.store_hour(hours_of_day(DAY)[0])
    stack.bus.script = [DENIED]
    with pytest.raises(StepsFailedError, match=r"failed: events \(EventBridge did not take 1 events .*AccessDenied"):
        run(stack)
    ((logged,), (counted,)) = lines(capsys)
    assert (logged["level"], counted["MonitorFailures"], counted["MonitoredRides"]) == ("WARNING", [1.0], [3.0])
    assert stack.status.latest is not None


def test_a_run_whose_status_cannot_be_read_fails_as_a_whole(capsys: pytest.CaptureFixture[str]) -> None:
    stack = MonitoredStack()
    stack.s3.script = [SERVICE_DOWN]
    with pytest.raises(BucketError):
        run(stack)
    ((logged,), (counted,)) = lines(capsys)
    assert (logged["level"], counted["MonitorFailures"]) == ("ERROR", [1.0])


def test_a_frozen_calibration_is_logged_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    frozen = CalibrationStatus(mode=CalibrationMode.DAILY, state="frozen", frozen_reason="outcomes look like seconds")
    status = monitor_status(calibration=frozen)
    MonitorTelemetry("monitor-frozen", "ridecast", "INFO").ran(
        MonitorRun(status, (), 0, 0, 0, ()), datetime.now(UTC), 1.0
    )
    ((logged,), (counted,)) = lines(capsys)
    facts = logged["monitor"]
    assert (facts["calibration"], facts["frozen_reason"]) == ("frozen", "outcomes look like seconds")
    assert counted["CalibrationFrozen"] == [1.0]


def test_settings_have_defaults_for_all_but_bucket_and_channel() -> None:
    settings = MonitorSettings.from_env({"BUCKET": "bucket", "MODEL_CHANNEL": " stable "})
    assert (settings.model_channel, settings.calibration_mode) == ("stable", CalibrationMode.DAILY)
    assert (settings.model_activation_delay_s, settings.stack_name) == (150.0, "")


def test_a_signing_key_is_taken_up() -> None:
    key = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    handler = handler_of(MonitoredStack(), MODEL_SIGNING_KEY=key)
    assert handler.options.signer is not None
    assert handler.options.signer.key == key


def test_an_unknown_calibration_mode_fails_the_cold_start_by_name() -> None:
    with pytest.raises(ConfigurationError, match="CALIBRATION_MODE is 'weekly': want one of off, daily, hourly"):
        MonitorSettings.from_env({**ENVIRONMENT, "CALIBRATION_MODE": "weekly"})
