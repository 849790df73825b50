"""Events for EventBridge: a monitor changes its state, or a channel moves. One emitter, whoever causes them.

Moves are read from the channels' history, so that each is announced, whoever made it: a person, a pipeline or the
calibration. Events that are not sent yet are in `monitor/status.json`, and are sent again until EventBridge has taken
them: a receiver may see an event twice, with the same `event_id`, but misses none.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from lambda_function.aws.clients import AWS_ERRORS
from training.errors import BucketError
from training.monitoring.calibration.status import CalibrationStatus
from training.monitoring.monitor.status import Event, GroupStatus, MonitorStatus, State
from training.registry.bucket import Bucket
from training.registry.channel_history import (
    HistoryEntry,
    history_key,
    history_key_at,
    read_history,
    read_last_move,
)

SOURCE = "ridecast"
STATE_CHANGE, CHANNEL_MOVE = "ridecast monitor state change", "ridecast channel move"

CALIBRATION = "calibration"
"""The group of the events that say that calibration is frozen, or no longer."""

_WORDS: dict[State, str] = {"alarm": "alarm of {}", "ok": "{} is in order", "unknown": "{} is not judged"}
_RUNBOOK = {"data": "DataDriftAlarm", "performance": "PerformanceAlarm", CALIBRATION: "CalibrationFrozenAlarm"}

ENTRIES_PER_REQUEST = 10
"""The most that PutEvents takes."""

MOVES_PER_RUN = 200
"""Of a channel: a first run after a long time announces the others at the next runs."""

MAX_PENDING = 1000
"""Of more events that could not be sent, the oldest are dropped: the status must stay small."""

MAX_NAME = 200
"""Characters of a mover's name: EventBridge refuses a large event, and with it all events of its request."""

_CHANNELS = "channels/"


class EventBus(Protocol):
    """The part of an EventBridge client that sends events."""

    def put_events(self, *, Entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:  # noqa: N803
        """Send up to ten events; the answer counts those that were not taken."""


class Sent(NamedTuple):
    """What became of events."""

    pending: tuple[Event, ...]  # those to send again
    problem: str | None  # why, of the first of them


class Moves(NamedTuple):
    """The moves that were not announced yet."""

    events: tuple[Event, ...]
    announced: dict[str, str]  # the key of the last history entry that was announced, by channel
    problems: tuple[str, ...]


def state_changes(previous: MonitorStatus | None, status: MonitorStatus, stack: str) -> tuple[Event, ...]:
    """Return an event for each group whose state differs, and one if calibration has become frozen or is no longer."""
    before: dict[str, State] = {one.group: one.state for one in previous.groups} if previous else {}
    changed = [
        _state_change(status, stack, one, before.get(one.group, "unknown"))
        for one in status.groups
        if one.state != before.get(one.group, "unknown")
    ]
    was, now = _calibration_state(previous.calibration if previous else None), _calibration_state(status.calibration)
    if was != now and "alarm" in {was, now}:
        as_group = GroupStatus(group=CALIBRATION, state=now, threshold=0.0, text=status.calibration.text)
        changed.append(_state_change(status, stack, as_group, was))
    return tuple(changed)


def _calibration_state(calibration: CalibrationStatus | None) -> State:
    if calibration is None or calibration.state == "unknown":
        return "unknown"
    return "alarm" if calibration.state == "frozen" else "ok"


def _state_change(status: MonitorStatus, stack: str, group: GroupStatus, before: State) -> Event:
    is_calibration = group.group == CALIBRATION
    return Event(
        event_id=f"{status.channel}/{group.group}/{group.state}/{status.written_at}",
        time=status.written_at,
        detail_type=STATE_CHANGE,
        detail={
            "stack": stack,
            "channel": status.channel,
            "model_version": status.model_version,
            "served_version": status.served_version,
            "group": group.group,
            "state": group.state,
            "before": before,
            "since": str(group.since) if group.since else None,
            "evidence": None if is_calibration else group.evidence,
            "threshold": None if is_calibration else group.threshold,
            "text": _sentence(status, stack, group),
        },
    )


def _sentence(status: MonitorStatus, stack: str, group: GroupStatus) -> str:
    """Return what a person needs who sees nothing but this text: the stack, what changed, and the steps of an alarm."""
    what = _WORDS[group.state].format(group.group)
    steps = f" Steps: {_RUNBOOK[group.group]} in docs/runbook.md." if group.state == "alarm" else ""
    return f"{_place(stack)}channel {status.channel}: {what}. {group.text}{steps}"


def _place(stack: str) -> str:
    return f"Stack {stack}, " if stack else ""


def channel_moves(bucket: Bucket, announced: Mapping[str, str], stack: str, last_run: datetime | None = None) -> Moves:
    """Return an event for each move of each channel that was not announced yet.

    Args:
        bucket: The channels and their history.
        announced: The key of the last entry that was announced, by channel. If it is empty, this is the first run that
            finds a channel, and only the present state of each channel is announced, and its moves since the last run:
            not a year of history.
        stack: The stack's name.
        last_run: When the monitor ran last, aware; None if it has not.

    Raises:
        BucketError: S3 does not list the channels.
    """
    names = sorted(key.removeprefix(_CHANNELS).removesuffix(".json") for key in bucket.keys(_CHANNELS))
    events: list[Event] = []
    positions, problems = dict(announced), []
    for name in names:
        try:
            new = _new_moves(bucket, name, announced, last_run)
        except BucketError as error:
            problems.append(str(error))
            continue
        events += [_move(entry, stack) for entry in new]
        if new:
            positions[name] = history_key(name, new[-1])
    if not announced and problems:  # the next run is the first one, and announces no year of the channels left out
        return Moves((), {}, tuple(problems))
    return Moves(tuple(events), positions, tuple(problems))


def _new_moves(
    bucket: Bucket, channel: str, announced: Mapping[str, str], last_run: datetime | None
) -> tuple[HistoryEntry, ...]:
    if announced:
        return read_history(bucket, channel, announced.get(channel, ""), MOVES_PER_RUN)
    since = read_history(bucket, channel, history_key_at(channel, last_run), MOVES_PER_RUN) if last_run else ()
    return since or read_last_move(bucket, channel)


def _move(entry: HistoryEntry, stack: str) -> Event:
    newest = entry.segments[0]
    since, withdrawn = newest.effective_from, ""
    if entry.all_withdrawn:
        since = entry.withdrawn_since
        withdrawn = (
            f", {' and '.join(entry.all_withdrawn)} {'was' if len(entry.all_withdrawn) == 1 else 'were'} withdrawn"
        )
    mover = entry.moved_by and entry.moved_by[:MAX_NAME]
    text = (
        f"{_place(stack)}channel {entry.channel} was moved to {newest.text} ({entry.why or 'unknown'}) by"
        f" {mover or 'somebody'}: it serves rides that arrive from {since} on{withdrawn}."
    )
    return Event(
        event_id=history_key(entry.channel, entry),
        time=entry.moved_at,
        detail_type=CHANNEL_MOVE,
        detail={
            "stack": stack,
            "channel": entry.channel,
            "model_version": entry.model_version,
            "served_version": entry.served_version,
            "candidate_version": newest.candidate_version,
            "candidate_share": newest.candidate_share,
            "previous": entry.previous,
            "withdrawn": entry.withdrawn,
            "why": entry.why,
            "moved_by": mover,
            "moved_at": entry.moved_at,
            "effective_from": newest.effective_from,
            "text": text,
        },
    )


def send_events(bus: EventBus, events: Iterable[Event]) -> Sent:
    """Send events, ten at a time, and return those that EventBridge did not take."""
    left = list(events)
    pending: list[Event] = []
    problem: str | None = None
    for start in range(0, len(left), ENTRIES_PER_REQUEST):
        some = left[start : start + ENTRIES_PER_REQUEST]
        try:
            answer = bus.put_events(Entries=[_entry(event) for event in some])
            refused = _refused(answer, some)
        except AWS_ERRORS as error:
            return Sent((*pending, *left[start:]), problem or str(error))
        pending += [event for event, _ in refused]
        problem = problem or next((why for _, why in refused), None)
    return Sent(tuple(pending), problem)


def _refused(answer: Mapping[str, Any], events: Sequence[Event]) -> list[tuple[Event, str]]:
    """Return the events of a request that were not taken, and why."""
    if not answer["FailedEntryCount"]:
        return []
    return [
        (event, f"{one['ErrorCode']}: {one.get('ErrorMessage', '')}")
        for event, one in zip(events, answer["Entries"], strict=True)
        if "ErrorCode" in one
    ]


def _entry(event: Event) -> dict[str, Any]:
    return {
        "Source": SOURCE,
        "DetailType": event.detail_type,
        "Time": datetime.fromisoformat(event.time),
        "Detail": json.dumps({"event_id": event.event_id, **event.detail}),
    }
