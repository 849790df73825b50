"""Outcomes: how long rides really took. Messages in, minutes out.

    {"ride_id": 256, "outcome": {"ride_duration": 17.4}}
    {"ride_id": 256, "outcome": {"dropoff_datetime": "2021-01-05T08:33:00"}}
    {"ride_id": 256, "outcome": {"dropoff_datetime": "2021-01-05T08:33:00", "pickup_datetime": "2021-01-05T08:15:00"}}

An outcome without a duration and a pickup time lasts from the pickup of its ride event. Fields are added, never renamed
or removed.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from lambda_function.core.diagnosis import Expected
from lambda_function.core.documents import BYTE_ORDER_MARK
from lambda_function.core.events import INVALID_FIELD, UNDECODABLE, Reject, refusal
from lambda_function.core.parts import decode_parts, parts_of
from lambda_function.core.pickup_time import NEW_YORK, is_date
from lambda_function.core.records import KinesisRecord, build_reject
from lambda_function.core.spelling import respell_outcome
from lambda_function.errors import RejectError

MAX_OUTCOME_MINUTES = 1440.0
"""Durations are above 0 and at most a day: a longer one is a meter that nobody turned off."""

USUAL_MINUTES = (1.0, 60.0)
"""Of two readings of a time in the doubled hour, the one that gives so many minutes is right."""

_OUTCOME = Expected("outcome", "outcome")
_FIELD = b'"outcome"'
_PICKUP, _DROPOFF = "$.outcome.pickup_datetime", "$.outcome.dropoff_datetime"
_MINUTE = timedelta(minutes=1)


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """A decoded outcome: `ride_duration` is in minutes, the times are ISO 8601, in New York's time without an offset.

    It has a duration or a drop-off.
    """

    ride_id: str | int
    ride_duration: float | None = None
    dropoff_datetime: str | None = None
    pickup_datetime: str | None = None


class _Fields(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    ride_duration: float | None = None
    dropoff_datetime: str | None = None
    pickup_datetime: str | None = None


class _Message(msgspec.Struct, frozen=True, gc=False):
    ride_id: str | int
    outcome: _Fields


_decode = msgspec.json.Decoder(_Message).decode
_encode = msgspec.json.Encoder().encode


def decode_outcome(data: bytes) -> Outcome:
    """Decode one outcome and check its fields.

    Raises:
        RejectError: No duration can ever follow from it; the detail names the field by its path.

    >>> decode_outcome(b'{"ride_id": 256, "outcome": {"ride_duration": 17.4}}').ride_duration
    17.4
    """
    try:
        message = _decode(data)
    except UNDECODABLE as error:
        message = _decode_unusual(data, error)
    fields = message.outcome
    outcome = Outcome(message.ride_id, fields.ride_duration, fields.dropoff_datetime, fields.pickup_datetime)
    _check(outcome)
    return outcome


def decode_outcomes(record: KinesisRecord) -> tuple[list[tuple[KinesisRecord, Outcome]], list[Reject]]:
    """Decode the outcomes of a record: one, or those of its parts, each with its record or sub-record.

    Returns:
        Outcomes and rejects. What is bad is in the second; no content of a record makes this raise.
    """
    try:
        return [(record, decode_outcome(record.data()))], []
    except RejectError as error:
        remaining = error
    try:
        parts = parts_of(record, _FIELD)
    except RejectError as error:
        return [], [build_reject(record, error)]
    return decode_parts(record, parts, decode_outcome, _FIELD) if parts else ([], [build_reject(record, remaining)])


def encode_outcome(outcome: Outcome) -> bytes:
    """Encode one outcome, for producers.

    >>> encode_outcome(Outcome(256, 17.4))
    b'{"ride_id":256,"outcome":{"ride_duration":17.4}}'
    """
    fields = _Fields(outcome.ride_duration, outcome.dropoff_datetime, outcome.pickup_datetime)
    return _encode(_Message(outcome.ride_id, fields))


def ride_key(ride_id: str | int) -> str:
    """Return the text by which ride events and outcomes are matched: a number and its digits in text are the same ride.

    >>> ride_key(256) == ride_key("256")
    True
    """
    return str(ride_id)


def outcome_minutes(outcome: Outcome, pickup: str | None, arrival_time_s: float) -> float:
    """Return how long a ride took.

    Args:
        outcome: Its outcome.
        pickup: The pickup time in its ride event, ISO 8601, or None.
        arrival_time_s: When its ride event arrived, in seconds since the epoch, UTC: the pickup if there is no other.

    Returns:
        Minutes, above 0 and at most MAX_OUTCOME_MINUTES.

    Raises:
        RejectError: The times make no such duration.

    >>> outcome_minutes(Outcome(256, dropoff_datetime="2021-01-05T08:33:00"), "2021-01-05T08:15:00", 0.0)
    18.0
    """
    if outcome.ride_duration is not None:
        return _checked(outcome.ride_duration, "$.outcome.ride_duration")
    dropoff = _readings(outcome.dropoff_datetime or "", _DROPOFF)
    if outcome.pickup_datetime is not None:
        pickups = _readings(outcome.pickup_datetime, _PICKUP)
    elif pickup is not None:
        pickups = _readings(pickup, "$.ride.pickup_datetime")
    else:
        pickups = [datetime.fromtimestamp(arrival_time_s, UTC).replace(tzinfo=None)]
    return _checked(_elapsed_minutes(pickups, dropoff), _DROPOFF)


def elapsed_minutes(pickup: str, dropoff: str) -> float:
    """Return the real minutes between two times in ISO 8601, in New York if they have no offset; may be negative.

    A time without an offset in the hour that a clock change repeats has two readings, and so has one in the hour that
    it skips (by the clock before the change, and after it). The one that gives 1 to 60 minutes is taken; if none does,
    the first.

    Raises:
        RejectError: A time is not ISO 8601, or a date alone, or outside the years that Python can represent.

    >>> elapsed_minutes("2021-11-07T01:50:00", "2021-11-07T01:10:00")  # the clock went back an hour at 2 o'clock
    20.0
    """
    return _elapsed_minutes(_readings(pickup, _PICKUP), _readings(dropoff, _DROPOFF))


def _check(outcome: Outcome) -> None:
    """Raise RejectError if no duration can follow from an outcome, whatever its ride event holds."""
    if outcome.ride_duration is None and outcome.dropoff_datetime is None:
        raise RejectError(INVALID_FIELD, "Expected `ride_duration` or `dropoff_datetime` - at `$.outcome`")
    if outcome.ride_duration is not None or outcome.pickup_datetime is not None:
        outcome_minutes(outcome, None, 0.0)
    else:
        _readings(outcome.dropoff_datetime or "", _DROPOFF)


def _checked(minutes: float, path: str) -> float:
    if not 0 < minutes <= MAX_OUTCOME_MINUTES:
        problem = f"Expected a duration above 0 and of at most {MAX_OUTCOME_MINUTES:,.0f} minutes - at `{path}`"
        raise RejectError(INVALID_FIELD, problem)
    return minutes


def _elapsed_minutes(pickups: list[datetime], dropoffs: list[datetime]) -> float:
    """Return the minutes from a pickup to a drop-off, each in all of its readings, in UTC."""
    low, high = USUAL_MINUTES
    elapsed = [(dropoff - pickup) / _MINUTE for pickup in pickups for dropoff in dropoffs]
    # Two readings differ by an hour, so that no two durations are usual.
    return next((minutes for minutes in elapsed if low <= minutes <= high), elapsed[0])


def _readings(text: str, path: str) -> list[datetime]:
    """Return the naive times in UTC that a text may mean: one; two beside a clock change, the clock before it first.

    Raises:
        RejectError: It is no time in ISO 8601.
    """
    if is_date(text):
        raise RejectError(INVALID_FIELD, f"Expected a time after the date - at `{path}`")
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return [time.astimezone(UTC).replace(tzinfo=None)]
        return [time - offset for offset in _offsets(time.replace(minute=0, second=0, microsecond=0))]
    except ValueError as error:
        raise RejectError(INVALID_FIELD, f"Expected ISO 8601 - at `{path}`") from error
    except OverflowError as error:
        raise RejectError(INVALID_FIELD, f"Date out of range - at `{path}`") from error


@lru_cache(maxsize=64)
def _offsets(hour: datetime) -> list[timedelta]:
    """Return New York's offsets from UTC in an hour of its clock: one, or two if a clock change repeats or skips it."""
    readings = [hour.replace(tzinfo=NEW_YORK, fold=fold).astimezone(UTC) for fold in (0, 1)]
    first, second = (hour - reading.replace(tzinfo=None) for reading in readings)
    return [first] if first == second else [first, second]


def _decode_unusual(data: bytes, error: Exception) -> _Message:
    """Decode an outcome with a byte order mark, or with its numbers in another spelling.

    Raises:
        RejectError: It is neither; the detail says why.
    """
    document = data.removeprefix(BYTE_ORDER_MARK)
    try:
        if len(document) < len(data) or isinstance(error, msgspec.ValidationError):
            return _decode(respell_outcome(document))
    except UNDECODABLE as remaining:
        raise refusal(document, remaining, _OUTCOME) from remaining
    raise refusal(data, error, _OUTCOME) from error
