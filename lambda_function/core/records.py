"""Kinesis records as Lambda delivers them: the invocation dict in, frozen structs out."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec

from lambda_function.core.events import NOT_BASE64, Reject
from lambda_function.errors import RejectError

MAX_RECORD_BYTES = 1024 * 1024
"""What a stream takes as one record, data and partition key together."""

MAX_KEY_BYTES = 768
"""A partition key has 256 UTF-16 units at most."""

Entry = tuple[str, bytes]
"""What is published: partition key and data."""

_MAX_DETAIL_CHARACTERS = 500  # a path can be as long as the producer's own field names


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """What Kinesis knows of a record.

    Attributes:
        partition_key: As the producer gave it.
        sequence_number: Digits, ordered as `int`.
        arrival_time_s: When the stream took it, in seconds since the epoch, UTC.
        data: The producer's bytes; where the envelope holds no base64, the envelope's text in UTF-8.
    """

    partition_key: str = msgspec.field(name="partitionKey")
    sequence_number: str = msgspec.field(name="sequenceNumber")
    arrival_time_s: float = msgspec.field(name="approximateArrivalTimestamp")
    data: bytes


class KinesisRecord(msgspec.Struct, frozen=True, gc=False):
    """One record.

    Attributes:
        event_id: ``<shard id>:<sequence number>``, unique on its stream: the id of what comes of the record.
        base64_problem: Why its data are no base64, or "".
        index: For a sub-record its place in its aggregate, else None.
    """

    event_id: str = msgspec.field(name="eventID")
    envelope: Envelope = msgspec.field(name="kinesis")
    base64_problem: str = msgspec.field(name="not Lambda's", default="")
    index: int | None = msgspec.field(name="nor this", default=None)

    @property
    def shard_id(self) -> str:
        """The shard, as in ``shardId-000000000000``."""
        return self.event_id.partition(":")[0]

    def data(self) -> bytes:
        """Returns the producer's bytes.

        Raises:
            RejectError: The envelope holds something else than base64.
        """
        if self.base64_problem:
            raise RejectError(NOT_BASE64, f"{self.base64_problem} - at `$.kinesis.data`")
        return self.envelope.data


def decode_records(event: dict[str, Any]) -> list[KinesisRecord]:
    """Decodes an invocation of a Kinesis event source mapping; all its records are of one shard, in order.

    Raises:
        msgspec.ValidationError: The envelope is not Lambda's. Nothing can be said of such records but that they must
            come again.
    """
    try:
        return msgspec.convert(event["Records"], list[KinesisRecord])  # base64 included: a third of binascii's time
    except (msgspec.ValidationError, UnicodeEncodeError):
        return [_decode_record(record) for record in event["Records"]]


def _decode_record(record: dict[str, Any]) -> KinesisRecord:
    try:
        return msgspec.convert(record, KinesisRecord)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter for a lone surrogate
        text: object = record.get("kinesis", {}).get("data")
        if not isinstance(text, str):
            raise
        without_data = {**record, "kinesis": {**record["kinesis"], "data": b""}}
        decoded = msgspec.convert(without_data, KinesisRecord)
        kept = msgspec.structs.replace(decoded.envelope, data=text.encode("utf-8", "surrogatepass"))
        return msgspec.structs.replace(decoded, envelope=kept, base64_problem=str(error).partition(" - at")[0])


def sub_record(record: KinesisRecord, index: int, partition_key: str, data: bytes) -> KinesisRecord:
    """Returns one of an aggregate's sub-records, with an identity of its own: ``<shard>:<sequence number>:<index>``."""
    envelope = Envelope(partition_key, record.envelope.sequence_number, record.envelope.arrival_time_s, data)
    return KinesisRecord(f"{record.event_id}:{index}", envelope, index=index)


def stream_name(event: dict[str, Any]) -> str:
    """Returns the name of the stream that an invocation with records comes from."""
    arn: str = event["Records"][0]["eventSourceARN"]
    return arn.partition("stream/")[2]


def build_reject(record: KinesisRecord, error: RejectError) -> Reject:
    """Builds the reject of a record, or sub-record, that failed with `error`; it keeps all that the record held."""
    return Reject(
        reason=error.reason,
        detail=_encodable(error.detail[:_MAX_DETAIL_CHARACTERS]),
        shard_id=record.shard_id,
        sequence_number=record.envelope.sequence_number,
        arrival_time=datetime.fromtimestamp(record.envelope.arrival_time_s, UTC).isoformat(),
        partition_key=_encodable(record.envelope.partition_key),
        data=base64.b64encode(record.envelope.data).decode("ascii"),
        sub_record=record.index,
    )


def _encodable(text: str) -> str:
    """Escapes lone surrogates, which JSON's escapes can bring in and UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()
