"""Kinesis records as Lambda delivers them: the invocation dict in, frozen structs out."""

import binascii
from typing import Any

import msgspec

from lambda_function.errors import RejectError
from lambda_function.events import NOT_BASE64


class KinesisRecord(msgspec.Struct, frozen=True, gc=False):
    """One record's envelope.

    Attributes:
        event_id: ``<shard id>:<sequence number>``, unique on its stream: the id of what comes of the record.
        sequence_number: Digits, ordered as `int`.
        partition_key: As the producer gave it.
        arrival_time_s: When the stream took it, in seconds since the epoch, UTC.
        data_base64: The producer's bytes as the envelope carries them.
    """

    event_id: str
    sequence_number: str
    partition_key: str
    arrival_time_s: float
    data_base64: str

    @property
    def shard_id(self) -> str:
        """The shard, as in ``shardId-000000000000``."""
        return self.event_id.partition(":")[0]

    def data(self) -> bytes:
        """Returns the producer's bytes.

        Raises:
            RejectError: The envelope holds something else than base64.
        """
        try:
            return binascii.a2b_base64(self.data_base64, strict_mode=True)
        except ValueError as error:
            raise RejectError(NOT_BASE64, f"{error} - at `$.kinesis.data`") from error

    def kept_bytes(self) -> bytes:
        """Returns what a reject keeps: the producer's bytes, or the envelope's text where that is no base64."""
        try:
            return self.data()
        except RejectError:
            return self.data_base64.encode("utf-8", "surrogatepass")


def decode_records(event: dict[str, Any]) -> list[KinesisRecord]:
    """Decodes an invocation of a Kinesis event source mapping; all its records are of one shard, in order.

    Raises:
        KeyError: The envelope is not Lambda's. Nothing can be said of such records but that they must come again.
    """
    return [
        KinesisRecord(
            record["eventID"],
            kinesis["sequenceNumber"],
            kinesis["partitionKey"],
            kinesis["approximateArrivalTimestamp"],
            kinesis["data"],
        )
        for record in event["Records"]
        for kinesis in (record["kinesis"],)
    ]


def stream_name(event: dict[str, Any]) -> str:
    """Returns the name of the stream that an invocation with records comes from."""
    arn: str = event["Records"][0]["eventSourceARN"]
    return arn.partition("stream/")[2]
