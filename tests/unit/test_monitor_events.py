"""Events of the monitor: which changes of a status make one, and what they say."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from botocore.stub import Stubber

from lambda_function.aws.clients import make_events_client
from tests.builders_monitored import MonitoredStack, monitored_bundle
from training.monitoring.calibration.status import CalibrationMode, CalibrationStatus
from training.monitoring.monitor.events import channel_moves, send_events, state_changes
from training.monitoring.monitor.status import GroupStatus, MonitorStatus

VERSION = "green-2023-03-abcdef123456"


def calibration(state: Any) -> CalibrationStatus:
    return CalibrationStatus(mode=CalibrationMode.DAILY, state=state, text=f"calibration is {state}")


def status(*, data: Any = "ok", performance: Any = "ok", calibrating: Any = "active") -> MonitorStatus:
    groups = tuple(
        GroupStatus(group=group, state=state, evidence=401.0, text="Far.")
        for group, state in (("data", data), ("performance", performance))
    )
    return MonitorStatus(
        written_at="2026-08-04T12:00:00.000000+00:00",
        channel="stable",
        model_version=VERSION,
        served_version=f"{VERSION}+2026-08-04T05",
        groups=groups,
        calibration=calibration(calibrating),
    )


def changes(before: MonitorStatus | None, now: MonitorStatus) -> list[tuple[object, ...]]:
    events = state_changes(before, now, "ridecast")
    return [tuple(event.detail[name] for name in ("group", "before", "state")) for event in events]


def test_no_change_makes_no_event() -> None:
    assert changes(status(), status(calibrating="learning")) == []


def test_each_group_that_changes_makes_one() -> None:
    before, now = status(), status(data="alarm", performance="unknown")
    assert changes(before, now) == [("data", "ok", "alarm"), ("performance", "ok", "unknown")]
    assert changes(now, before) == [("data", "alarm", "ok"), ("performance", "unknown", "ok")]


def test_before_the_first_run_all_is_unknown() -> None:
    assert changes(None, status(data="alarm", performance="unknown")) == [("data", "unknown", "alarm")]


@pytest.mark.parametrize("other", ["active", "learning", "off"])
def test_freezing_and_its_end_make_one_each(other: str) -> None:
    running, frozen = status(calibrating=other), status(calibrating="frozen")
    assert changes(running, frozen) == [("calibration", "ok", "alarm")]
    assert changes(frozen, running) == [("calibration", "alarm", "ok")]
    assert changes(frozen, status(calibrating="unknown")) == [("calibration", "alarm", "unknown")]


def test_an_event_says_what_on_call_needs_to_know() -> None:
    (event,) = state_changes(status(), status(data="alarm"), "ridecast-prod")
    assert event.detail_type == "ridecast monitor state change"
    assert event.detail == {
        "stack": "ridecast-prod",
        "channel": "stable",
        "model_version": VERSION,
        "served_version": f"{VERSION}+2026-08-04T05",
        "group": "data",
        "state": "alarm",
        "before": "ok",
        "since": None,
        "evidence": 401.0,
        "threshold": 365.0,
        "text": "Stack ridecast-prod, channel stable: alarm of data. Far. Steps: DataDriftAlarm in docs/runbook.md.",
    }
    assert msgspec.json.decode(msgspec.json.encode(event))["event_id"] == event.event_id


def test_a_mover_with_an_endless_name_makes_no_event_that_is_too_large() -> None:
    stack = MonitoredStack()
    stack.serve(monitored_bundle(2), stack.now, by="a" * 300_000)
    (event,) = channel_moves(stack.bucket, {}, "ridecast").events
    assert event.detail["moved_by"] == "a" * 200
    assert len(msgspec.json.encode(event)) < 3_000


def test_a_client_of_eventbridge_takes_the_events_and_says_which_it_refuses() -> None:
    events = state_changes(None, status(data="alarm", performance="ok"), "ridecast")
    client = make_events_client()
    refused = {"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"}
    answer = {"FailedEntryCount": 1, "Entries": [{"EventId": "1"}, refused]}
    with Stubber(client) as stub:  # it validates the request, too
        stub.add_response("put_events", answer)
        sent = send_events(client, events[:2])
    assert sent.pending == events[1:2]
    assert sent.problem == "ThrottlingException: Rate exceeded"


@pytest.mark.parametrize("answer", [{}, {"FailedEntryCount": 1, "Entries": []}])
def test_events_whose_answer_cannot_be_read_are_sent_again(answer: dict[str, Any]) -> None:
    class Bus:
        def put_events(self, *, Entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: N803
            return answer

    events = state_changes(None, status(data="alarm"), "ridecast")
    assert send_events(Bus(), events).pending == events
