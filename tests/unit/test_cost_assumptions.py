"""Assumptions of costs: sizes, metrics and log lines are those that the functions write, and prices have a source."""

import json
import re
from collections import Counter
from typing import Any

import msgspec
import pytest

from infra.operate import prices
from infra.operate.cost import Assumptions
from lambda_function.api.handler import RequestReport, RequestTelemetry
from lambda_function.aws.telemetry import BatchReport, Telemetry
from lambda_function.core.events import MODEL_NAME, REJECT_REASONS, Prediction, RideDuration, encode_reject
from tests.builders import event_id, ride_bytes
from tests.builders_failed import reject_at


def test_assumed_sizes_are_those_of_the_wire() -> None:
    assumed = Assumptions()
    assert len(ride_bytes(1_234_567)) == assumed.ride_bytes
    assert len(encode_reject(reject_at(0, ride_bytes(1_234_567)))) + 1 == pytest.approx(assumed.reject_bytes, abs=5)
    duration = RideDuration(18.23, 1_234_567)
    prediction = Prediction(MODEL_NAME, "green-2021-01-3f2a9c1d0b7e", duration, event_id(0))
    assert len(msgspec.json.encode(prediction)) == assumed.prediction_bytes


def emitted(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines of metrics written since the last call."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if "_aws" in line]


def custom_metrics(lines: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """What CloudWatch bills as one metric each: a name with the values of its dimensions."""
    return {
        (metric["Name"], *(line[dimension] for dimension in sorted(dimensions)))
        for line in lines
        for directive in line["_aws"]["CloudWatchMetrics"]
        for dimensions in directive["Dimensions"]
        for metric in directive["Metrics"]
    }


def batch_report(**more: Any) -> BatchReport:
    return BatchReport(stream="ride-events", shard_id="shardId-000000000000", **more)


def test_assumed_metrics_are_those_that_the_functions_write(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Telemetry("cost-of-stream", "ridecast", "INFO")
    rejects = Counter(dict.fromkeys(REJECT_REASONS, 1))
    stream.report(
        batch_report(first_sequence_number="1", n_records=9, max_record_age_ms=1.0, rejects_by_reason=rejects)
    )
    stream.failed(RuntimeError())
    assert len(custom_metrics(emitted(capsys))) == Assumptions().n_metrics
    api = RequestTelemetry("cost-of-api", "ridecast", "INFO")
    api.report_request(RequestReport())
    api.failed(RuntimeError())
    assert len(custom_metrics(emitted(capsys))) == Assumptions().n_api_metrics


def test_assumed_log_lines_are_as_long_as_the_functions(capsys: pytest.CaptureFixture[str]) -> None:
    version = "green-2021-01-3f2a9c1d0b7e"
    timed = {"max_record_age_ms": 1200.5, "predict_ms": 12.345, "publish_ms": 23.456}
    # As long as a stack's own names, and no other test's: a logger stays with the output of its first.
    Telemetry("cost-log", "ridecast", "INFO").report(
        batch_report(first_sequence_number="4" * 56, n_records=1000, n_predictions=1000, model_version=version, **timed)
    )
    ours = len(capsys.readouterr().out)
    assumed = Assumptions()
    assert ours == pytest.approx(assumed.log_bytes - assumed.platform_log_bytes, abs=150)
    request = RequestReport(route="POST /predictions", status=200, n_predictions=1, model_version=version, request_ms=1)
    RequestTelemetry("cost-log/api", "ridecast", "INFO").report_request(request)
    ours, access_line = len(capsys.readouterr().out), 300
    assert ours + access_line == pytest.approx(assumed.api_log_bytes - assumed.platform_log_bytes, abs=150)


def test_every_price_has_its_page_month_and_confirmation() -> None:
    assert len(prices.ALL) == len({price.unit for price in prices.ALL}) >= 20
    for price in prices.ALL:
        assert price.dollars > 0
        assert price.page.startswith("https://aws.amazon.com/")
        assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", price.as_of)
        assert price.confirmed
    assert prices.LAMBDA_GB_S.of(2) == pytest.approx(0.0000266668)
