"""Kinesis records: the invocation that Lambda delivers in, frozen structs out; and rejects, built from records."""

import base64
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from lambda_function.core.events import INVALID_FIELD, NOT_BASE64, Reject
from lambda_function.errors import ConfigurationError, RejectError

RIDES, PREDICTIONS, OUTCOMES = "rides", "predictions", "outcomes"
KINDS = (RIDES, PREDICTIONS, OUTCOMES)
"""The kinds of records, one a stream."""

MAX_RECORD_BYTES = 1024 * 1024
"""The size limit of one record on a stream, data and partition key together."""

MAX_KEY_BYTES = 768
"""A partition key has at most 256 UTF-16 units."""

Entry = tuple[str, bytes]
"""A record to publish: partition key and data."""

FIRST_MILLISECONDS = 100_000_000_000
"""From this number on, an arrival time is in milliseconds, as emulators and replay tools write it: as seconds it would
be in the year 5138, and as milliseconds it is in 1973."""

_MILLISECONDS_PER_S = 1_000
_LAST_SECOND_S = 253_402_300_799.0  # of the calendar, 9999-12-31T23:59:59: in place of an arrival that it does not have
_ARRIVAL_TIME = "approximateArrivalTimestamp"
_NO_ARRIVAL_TIME = f"Expected a time that a calendar has - at `$.kinesis.{_ARRIVAL_TIME}`"
_KINESIS = "aws:kinesis"
_TRIGGER = "trigger"
_MAX_DETAIL_CHARACTERS = 500  # a path can be as long as the producer's own field names


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """The part of a record that Kinesis writes.

    Attributes:
        partition_key: As the producer gave it.
        sequence_number: Digits, ordered as `int`.
        arrival_time_s: When the stream took the record, in seconds since the epoch, UTC.
        data: The producer's bytes; if the envelope's text is not base64, that text in UTF-8.
    """

    partition_key: str = msgspec.field(name="partitionKey")
    sequence_number: str = msgspec.field(name="sequenceNumber")
    arrival_time_s: Annotated[float, msgspec.Meta(ge=0, lt=FIRST_MILLISECONDS)] = msgspec.field(name=_ARRIVAL_TIME)
    data: bytes


class KinesisRecord(msgspec.Struct, frozen=True, gc=False):
    """One record as Lambda delivers it.

    Attributes:
        event_id: ``<shard id>:<sequence number>``, with ``:<index>`` for a sub-record of an aggregate. Unique on its
            stream: the id of the record's prediction. Lambda delivers no sub-records, but a replay may
            (see `replay.py`).
    """

    event_id: str = msgspec.field(name="eventID")
    envelope: Envelope = msgspec.field(name="kinesis")

    @property
    def shard_id(self) -> str:
        """The shard, as in ``shardId-000000000000``."""
        return self.event_id.partition(":")[0]

    @property
    def sub_index(self) -> int | None:
        """The index in the aggregate that the record was part of; None for a record of its own."""
        index = self.event_id.partition(":")[2].partition(":")[2]
        return int(index) if index.isdecimal() else None

    @property
    def may_have_parts(self) -> bool:
        """Whether the record may hold several ride events; a part that comes again by itself may not."""
        return self.sub_index is None

    def data(self) -> bytes:
        """Return the producer's bytes.

        Raises:
            RejectError: The envelope does not hold base64.
        """
        return self.envelope.data


class UnreadableRecord(KinesisRecord, frozen=True, gc=False):
    """A record whose data are not base64, or whose arrival time no calendar has."""

    reason: str
    problem: str

    def data(self) -> bytes:
        """Raise: the record can never become a prediction."""
        raise RejectError(self.reason, self.problem)


def decode_records(event: dict[str, Any]) -> list[KinesisRecord]:
    """Decode an invocation of a Kinesis event source mapping; all its records are of one shard, in order.

    Raises:
        ConfigurationError: Something other than such a mapping invokes the function.
        msgspec.ValidationError: The envelope is not Lambda's; the records can only come again.
    """
    try:
        return msgspec.convert(event["Records"], list[KinesisRecord])  # base64 included, in a third of binascii's time
    except (msgspec.ValidationError, UnicodeEncodeError, LookupError, TypeError):
        return [_decode_record(record) for record in _kinesis_records(event)]


def _kinesis_records(event: Any) -> list[dict[str, Any]]:
    """Return the records of an event from Kinesis."""
    arrived = _name_of_event(event)
    if arrived:
        raise ConfigurationError(
            _TRIGGER, f"delivers {arrived}: a batch of records from a Kinesis event source mapping is expected"
        )
    records: list[dict[str, Any]] = event["Records"]
    return records


def _name_of_event(event: Any) -> str:
    """Return in words what an event is that does not come from Kinesis, or "" for one that does."""
    if not isinstance(event, dict):
        return f"JSON that is no object ({type(event).__name__})"
    records = event.get("Records")
    if isinstance(records, list) and records and isinstance(records[0], dict):
        source = records[0].get("eventSource", _KINESIS)
        source = records[0].get("EventSource", source)  # as SNS writes it
        return "" if source == _KINESIS else f"records of the event source {source}"
    for field, name in _OTHER_EVENTS.items():
        if field in event:
            return name
    return f"an event with the fields {', '.join(map(str, event))}" if event else "an empty event"


_OTHER_EVENTS = {
    "deliveryStreamArn": "a batch of Data Firehose",
    "detail-type": "an event of EventBridge",
    "requestContext": "an HTTP request",
    "awslogs": "log events of CloudWatch Logs",
    "key1": "the console's test event",
}
"""A field by which an event is recognized, and what the event is."""


def _decode_record(record: dict[str, Any]) -> KinesisRecord:
    """Decode a record by itself: with an arrival time in milliseconds, or unreadable."""
    try:
        return msgspec.convert(record, KinesisRecord)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter for a lone surrogate
        envelope = record.get("kinesis")
        if not isinstance(envelope, dict) or not isinstance(envelope.get("data"), str):
            raise
        return _decode_unusual_record(record, envelope)


def _decode_unusual_record(record: dict[str, Any], envelope: dict[str, Any]) -> KinesisRecord:
    arrival_time_s = _arrival_time_s(envelope.get(_ARRIVAL_TIME))
    usual = {**envelope, _ARRIVAL_TIME: 0.0}
    reason, problem = INVALID_FIELD, _NO_ARRIVAL_TIME
    try:
        decoded = msgspec.convert({**record, "kinesis": usual}, KinesisRecord)
        data = decoded.envelope.data
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        decoded = msgspec.convert({**record, "kinesis": {**usual, "data": b""}}, KinesisRecord)
        data = envelope["data"].encode("utf-8", "surrogatepass")
        reason, problem = NOT_BASE64, f"{str(error).partition(' - at')[0]} - at `$.kinesis.data`"
    at_s = _LAST_SECOND_S if arrival_time_s is None else arrival_time_s
    whole = Envelope(decoded.envelope.partition_key, decoded.envelope.sequence_number, at_s, data)
    if reason == INVALID_FIELD and arrival_time_s is not None:
        return KinesisRecord(decoded.event_id, whole)
    return UnreadableRecord(decoded.event_id, whole, reason, problem)


def _arrival_time_s(value: object) -> float | None:
    """Return an arrival time in seconds or milliseconds as seconds; None if no calendar has it."""
    if not isinstance(value, int | float) or value == _LAST_SECOND_S:  # a reject that is redriven stays one
        return None
    try:
        seconds = value / _MILLISECONDS_PER_S if value >= FIRST_MILLISECONDS else float(value)
        return seconds if datetime.fromtimestamp(seconds, UTC).year > 1 else None  # New York's year 1 begins later
    except (ValueError, OverflowError, OSError):
        return None


def checked_arrival(record: KinesisRecord) -> KinesisRecord:
    """Return a record; unreadable if its arrival time is the one that stands for a time that no calendar has."""
    if record.envelope.arrival_time_s < FIRST_MILLISECONDS:
        return record
    return UnreadableRecord(record.event_id, record.envelope, INVALID_FIELD, _NO_ARRIVAL_TIME)


def sub_record(record: KinesisRecord, index: int, partition_key: str, data: bytes) -> KinesisRecord:
    """Return one of the records in an aggregate."""
    envelope = Envelope(partition_key, record.envelope.sequence_number, record.envelope.arrival_time_s, data)
    return KinesisRecord(f"{record.event_id}:{index}", envelope)


def stream_name(event: dict[str, Any]) -> str:
    """Return the name of the stream that an invocation with records comes from."""
    return stream_of_arn(event["Records"][0]["eventSourceARN"])


def stream_of_arn(arn: str) -> str:
    """Return the name of the stream of an ARN: its own, or that of a consumer with enhanced fan-out.

    >>> stream_of_arn("arn:aws:kinesis:us-east-1:123456789012:stream/rides/consumer/name:1700000000")
    'rides'
    """
    return arn.partition(":stream/")[2].partition("/")[0]


def build_reject(record: KinesisRecord, error: RejectError) -> Reject:
    """Build the reject of a record or sub-record that failed with `error`; it holds everything that the record held."""
    return Reject(
        reason=error.reason,
        detail=encodable(error.detail[:_MAX_DETAIL_CHARACTERS]),
        shard_id=record.shard_id,
        sequence_number=record.envelope.sequence_number,
        arrival_time=datetime.fromtimestamp(record.envelope.arrival_time_s, UTC).isoformat(),
        partition_key=encodable(record.envelope.partition_key),
        data=base64.b64encode(record.envelope.data).decode("ascii"),
        sub_record=record.sub_index,
    )


def encodable(text: str) -> str:
    """Return a text with its lone surrogates escaped: JSON escapes can contain them, UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()
