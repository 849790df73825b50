"""Logs and metrics of the function: per batch, in CloudWatch's embedded format, and never a payload."""

import json
from collections import Counter
from itertools import count
from typing import Any

import pytest

from lambda_function.aws.telemetry import BatchReport, Stopwatch, Telemetry
from lambda_function.core.events import REJECT_REASONS
from lambda_function.errors import PublishError, StoreError
from tests.builders import invocation, raw_ride_bytes, ride_bytes, small_bundle
from tests.fakes import FakeClock, FakeFunction
from tests.outcomes import DENIED, THROTTLED

Line = dict[str, Any]
_numbers = count()


def new_telemetry(log_level: str = "INFO") -> Telemetry:
    """Telemetry whose logger is new, and so writes to what is the standard output now."""
    return Telemetry(f"service-{next(_numbers)}", "ridecast", log_level)


def report_of(**changes: Any) -> BatchReport:
    facts = {
        "stream": "ride-events",
        "shard_id": "shardId-000000000000",
        "first_sequence_number": "4959",
        "n_records": 10,
        "max_record_age_ms": 1500.5,
        "n_predictions": 7,
        "rejects_by_reason": Counter(),
        "n_retried": 3,
        "n_resent": 2,
        "retry_from": "4966",
        "model_version": "green-2021-01-000000000000",
        "predict_ms": 12.5,
        "publish_ms": 80.25,
    }
    return BatchReport(**{**facts, **changes})


def reported(capsys: pytest.CaptureFixture[str], **changes: Any) -> tuple[Line, list[Line]]:
    """Report a batch and return the log line and the lines of metrics."""
    new_telemetry().report(report_of(**changes))
    log, *metrics = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    return log, metrics


def units(line: Line) -> dict[str, str]:
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    return {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}


def test_log_line_holds_every_fact_of_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    log, _ = reported(capsys)
    assert log["message"] == "batch"
    assert log["level"] == "INFO"
    report = report_of()
    assert log["batch"] == {name: getattr(report, name) for name in BatchReport.__slots__}


@pytest.mark.parametrize("change", [{"problem": "S3 is down"}, {"rejects_by_reason": Counter(not_json=1)}])
def test_batch_with_a_problem_or_a_reject_is_a_warning(
    capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    log, _ = reported(capsys, **change)
    assert log["level"] == "WARNING"


def test_metrics_have_their_names_units_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {
        "Records": 10,
        "Predictions": 7,
        "RidesWithoutPickupTime": 0,
        "Rejects": 0,
        "RejectsInQueue": 2,
        "RejectsNotStored": 1,
        "RetriedRecords": 3,
        "ResentEntries": 2,
        "ModelSwitches": 1,
        "ModelRefreshFailures": 0,
    }
    times_ms = {"RecordAge": 1500.5, "PredictTime": 12.5, "PublishTime": 80.25}
    _, (metrics,) = reported(capsys, model_switched=True, n_rejects_in_queue=2, n_rejects_not_stored=1)
    assert units(metrics) == dict.fromkeys(counts, "Count") | dict.fromkeys(times_ms, "Milliseconds")
    assert {name: metrics[name] for name in units(metrics)} == {n: [value] for n, value in (counts | times_ms).items()}


@pytest.mark.parametrize("change", [{"refresh_failed": True}, {"channel_is_stale": True}])
def test_age_of_the_channel_is_written_if_the_last_look_failed_or_is_too_old(
    capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    _, (metrics,) = reported(capsys, channel_age_s=200.5, **change)
    assert units(metrics).items() >= {"StaleChannel": "Count", "ChannelAge": "Seconds"}.items()
    assert metrics["StaleChannel"] == [int("channel_is_stale" in change)]
    assert metrics["ChannelAge"] == [200.5]


def test_model_version_is_no_dimension(capsys: pytest.CaptureFixture[str]) -> None:
    _, (metrics,) = reported(capsys)
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "ridecast"
    assert directive["Dimensions"] == [["service"]]
    assert metrics["model_version"] == "green-2021-01-000000000000"


def test_rejects_are_counted_together_and_by_reason(capsys: pytest.CaptureFixture[str]) -> None:
    _, (metrics, *by_reason) = reported(capsys, rejects_by_reason=Counter(not_json=2, invalid_field=1))
    assert metrics["Rejects"] == [3]
    assert {line["reason"]: line["RejectsByReason"] for line in by_reason} == {"not_json": [2], "invalid_field": [1]}
    for line in by_reason:
        assert sorted(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0]) == ["reason", "service"]


def test_invocation_that_fails_is_logged_with_its_error_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    new_telemetry().failed(StoreError("read", "bucket", "key", "no answer"))
    log, metrics = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (log["level"], log["message"], log["error"]) == ("ERROR", "invocation failed", "StoreError")
    assert metrics["FailedInvocations"] == [1]


def test_log_level_is_respected_and_metrics_are_still_written(capsys: pytest.CaptureFixture[str]) -> None:
    new_telemetry("ERROR").report(report_of())
    (metrics,) = capsys.readouterr().out.splitlines()
    assert json.loads(metrics)["Records"] == [10]


def test_counts_of_one_batch_do_not_leak_into_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = new_telemetry()
    telemetry.report(report_of())
    capsys.readouterr()
    telemetry.report(report_of(n_records=1))
    _, metrics = capsys.readouterr().out.splitlines()
    assert json.loads(metrics)["Records"] == [1]


@pytest.mark.parametrize("n_records", [1, 500])
def test_batch_of_any_size_has_one_log_line_and_one_line_of_metrics(
    capsys: pytest.CaptureFixture[str], n_records: int
) -> None:
    function = FakeFunction(small_bundle())
    function.invoke(invocation(*[ride_bytes(number) for number in range(n_records)]))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_metrics_of_a_batch_full_of_rejects_are_a_line_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    function = FakeFunction(small_bundle())
    datas: list[bytes | str] = [b"bad", "not base64", ride_bytes(PULocationID=0)]
    function.invoke(invocation(*datas * 100))
    assert len(capsys.readouterr().out.splitlines()) <= 2 + len(REJECT_REASONS)


def test_no_payload_is_in_any_line(capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN rides, rejects of every kind, a stream and a store that fail
    secret = "Rosebud"  # noqa: S105 - a payload
    datas: list[bytes | str] = [
        ride_bytes(secret),
        raw_ride_bytes(f'"{secret}"', trip_distance="NaN", **{secret: "1"}),
        raw_ride_bytes(extra=f',"{secret}":NaN'),
        ride_bytes(pickup_datetime=secret),
        ride_bytes(PULocationID=secret),
        secret.encode(),
        f"!{secret}",
    ]
    function = FakeFunction(small_bundle())
    function.invoke(invocation(*datas))
    function.kinesis.script, function.s3.script = [THROTTLED], [DENIED]
    function.invoke(invocation(*datas))
    function.kinesis.script = [DENIED]
    with pytest.raises(PublishError) as raised:
        function.invoke(invocation(*datas))
    function.handler.telemetry.failed(raised.value)
    # THEN its log holds nothing of their contents
    out = capsys.readouterr().out
    assert len(out.splitlines()) >= 4
    assert secret not in out


def test_stopwatch_counts_milliseconds() -> None:
    clock = FakeClock()
    stopwatch = Stopwatch(clock)
    clock.sleep(0.25)
    assert stopwatch.ms() == pytest.approx(250)
