"""Kinesis records: the invocation that Lambda delivers in, frozen structs out; and rejects, built from records."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambda_function.core.events import NOT_BASE64, Reject
from lambda_function.errors import RejectError

MAX_RECORD_BYTES = 1024 * 1024
"""The size limit of one record on a stream, data and partition key together."""

MAX_KEY_BYTES = 768
"""A partition key has at most 256 UTF-16 units."""

Entry = tuple[str, bytes]
"""A record to publish: partition key and data."""

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
    arrival_time_s: float = msgspec.field(name="approximateArrivalTimestamp")
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

    def data(self) -> bytes:
        """Return the producer's bytes.

        Raises:
            RejectError: The envelope does not hold base64.
        """
        return self.envelope.data


class NotBase64Record(KinesisRecord, frozen=True, gc=False):
    """A record whose data are not base64."""

    problem: str

    def data(self) -> bytes:
        """Raise: there are no producer's bytes."""
        raise RejectError(NOT_BASE64, f"{self.problem} - at `$.kinesis.data`")


def decode_records(event: dict[str, Any]) -> list[KinesisRecord]:
    """Decode an invocation of a Kinesis event source mapping; all its records are of one shard, in order.

    Raises:
        msgspec.ValidationError: The envelope is not Lambda's; the records can only come again.
    """
    try:
        return msgspec.convert(event["Records"], list[KinesisRecord])  # base64 included, in a third of binascii's time
    except (msgspec.ValidationError, UnicodeEncodeError):
        return [_decode_record(record) for record in event["Records"]]


def _decode_record(record: dict[str, Any]) -> KinesisRecord:
    try:
        return msgspec.convert(record, KinesisRecord)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter for a lone surrogate
        text: object = record.get("kinesis", {}).get("data")
        if not isinstance(text, str):
            raise
        decoded = msgspec.convert({**record, "kinesis": {**record["kinesis"], "data": b""}}, KinesisRecord)
        envelope = msgspec.structs.replace(decoded.envelope, data=text.encode("utf-8", "surrogatepass"))
        return NotBase64Record(decoded.event_id, envelope, str(error).partition(" - at")[0])


def sub_record(record: KinesisRecord, index: int, partition_key: str, data: bytes) -> KinesisRecord:
    """Return one of the records in an aggregate."""
    envelope = Envelope(partition_key, record.envelope.sequence_number, record.envelope.arrival_time_s, data)
    return KinesisRecord(f"{record.event_id}:{index}", envelope)


def stream_name(event: dict[str, Any]) -> str:
    """Return the name of the stream that an invocation with records comes from."""
    arn: str = event["Records"][0]["eventSourceARN"]
    return arn.partition("stream/")[2]


def build_reject(record: KinesisRecord, error: RejectError) -> Reject:
    """Build the reject of a record or sub-record that failed with `error`; it holds everything that the record held."""
    return Reject(
        reason=error.reason,
        detail=_encodable(error.detail[:_MAX_DETAIL_CHARACTERS]),
        shard_id=record.shard_id,
        sequence_number=record.envelope.sequence_number,
        arrival_time=datetime.fromtimestamp(record.envelope.arrival_time_s, UTC).isoformat(),
        partition_key=_encodable(record.envelope.partition_key),
        data=base64.b64encode(record.envelope.data).decode("ascii"),
        sub_record=record.sub_index,
    )


def _encodable(text: str) -> str:
    """Escape lone surrogates: JSON escapes can contain them, UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()
