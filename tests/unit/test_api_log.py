"""What the API logs: a line and metrics for each request, our own mistakes, and nothing that a caller sends."""

import json
from typing import Any

import pytest

from tests.builders import ride_bytes, ride_event, small_bundle
from tests.fakes_api import FakeApi, assert_is_problem, rides_bytes


def logged(out: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last request's log line, and its metrics."""
    lines = [json.loads(line) for line in out.splitlines()]
    return [line for line in lines if "request" in line][-1], [line for line in lines if "Requests" in line][-1]


def test_each_request_is_a_log_line_and_a_set_of_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeApi()
    api.predict(rides_bytes(ride_bytes(), ride_bytes(trip_distance=-1)))

    log, metrics = logged(capsys.readouterr().out)

    assert log["request"]["route"] == "POST /predictions"
    assert (log["request"]["status"], log["request"]["model_version"]) == (207, small_bundle().model_version)
    assert (metrics["Requests"], metrics["Predictions"], metrics["Rejects"]) == ([1.0], [1.0], [1.0])
    assert metrics["ModelSwitches"] == [1.0]


def test_nothing_that_a_caller_sends_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeApi()
    api.predict(json.dumps(ride_event("needle", trip_distance="needle")).encode())
    api.ask("needle", "/needle", b"needle", "needle")

    assert "needle" not in capsys.readouterr().out.lower()


def test_mistake_of_ours_is_a_problem_without_a_trace_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeApi()
    api.s3.script = [KeyError("secret")]

    response = api.predict(ride_bytes())

    assert_is_problem(response, 500)
    assert not {"secret", "KeyError", "Traceback"} & set(response.json["detail"].split())
    assert "secret" in (log := capsys.readouterr().out)
    assert '"FailedInvocations"' in log
    assert api.predict(ride_bytes()).status == 200
