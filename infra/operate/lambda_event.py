"""Lambda's events for Kinesis records: build the event of a batch, and read the function's response."""

import json
from binascii import b2a_base64
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii  # C, and exactly what json.dumps does to a string
from typing import Any, TypedDict

MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
"""Lambda's limit of an event and of a response. Events are measured as compact ASCII JSON; UTF-8 is never longer."""


class Envelope(TypedDict):
    """The part of a record that Kinesis creates."""

    kinesisSchemaVersion: str
    partitionKey: str
    sequenceNumber: str
    data: str
    approximateArrivalTimestamp: float


class LambdaRecord(TypedDict):
    """One record of a Kinesis event, with AWS's names and order."""

    kinesis: Envelope
    eventSource: str
    eventVersion: str
    eventID: str
    eventName: str
    invokeIdentityArn: str
    awsRegion: str
    eventSourceARN: str


def lambda_record(
    event_id: str, partition_key: str, sequence_number: str, arrival_time_s: float, data: bytes, stream_arn: str
) -> LambdaRecord:
    """Build one record of an event."""
    envelope = _envelope(partition_key, sequence_number, arrival_time_s, data)
    return {**_empty_record(stream_arn), "kinesis": envelope, "eventID": event_id}


def lambda_records(records: Sequence[dict[str, Any]], shard_id: str, stream_arn: str) -> list[LambdaRecord]:
    """Convert records of one shard from boto3's format to the event's."""
    empty = _empty_record(stream_arn)
    return [
        {
            **empty,
            "kinesis": _envelope(
                record["PartitionKey"],
                record["SequenceNumber"],
                record["ApproximateArrivalTimestamp"].timestamp(),
                record["Data"],
            ),
            "eventID": f"{shard_id}:{record['SequenceNumber']}",
        }
        for record in records
    ]


def _empty_record(stream_arn: str) -> LambdaRecord:
    """Return what all records of a stream have in common, with the names of the other parts."""
    region, account = stream_arn.split(":")[3:5]
    return {
        "kinesis": _envelope("", "", 0.0, b""),
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": "",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": f"arn:aws:iam::{account}:role/lambda-role",
        "awsRegion": region,
        "eventSourceARN": stream_arn,
    }


def _envelope(partition_key: str, sequence_number: str, arrival_time_s: float, data: bytes) -> Envelope:
    return {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": partition_key,
        "sequenceNumber": sequence_number,
        "data": b2a_base64(data, newline=False).decode("ascii"),
        "approximateArrivalTimestamp": arrival_time_s,
    }


def json_sizes(records: Sequence[LambdaRecord]) -> list[int]:
    """Return the bytes of each record of one shard as compact ASCII JSON.

    Encodes only the first record and counts how the others differ from it, for speed.
    """
    if not records:
        return []
    varying = [
        len(encode_basestring_ascii(envelope["partitionKey"]))
        + 2 * len(envelope["sequenceNumber"])  # in eventID again
        + len(envelope["data"])
        + len(repr(envelope["approximateArrivalTimestamp"]))
        for envelope in (record["kinesis"] for record in records)
    ]
    n_fixed_bytes = len(json.dumps(records[0], separators=(",", ":"))) - varying[0]
    return [n_fixed_bytes + n_bytes for n_bytes in varying]


def count_done(response: object, batch: Sequence[LambdaRecord]) -> int:
    """Count the leading records of a batch that are done, by the function's partial batch response.

    - No response, `{}`, `batchItemFailures` missing, null or empty: all records.
    - A malformed response, or a record that is not in the batch: no record.
    - Otherwise: the records before the lowest sequence number in the response.
    """
    if response is None:
        return len(batch)
    if not isinstance(response, dict):
        return 0
    items = response.get("batchItemFailures")
    if items is None or items == []:
        return len(batch)
    if not isinstance(items, list):
        return 0
    # A shard is in order: the lowest sequence number is the first in the batch, and no digits need comparing.
    positions = {record["kinesis"]["sequenceNumber"]: position for position, record in enumerate(batch)}
    return min(_reported_position(item, positions) for item in items)


def _reported_position(item: object, positions: dict[str, int]) -> int:
    identifier = item.get("itemIdentifier") if isinstance(item, dict) else None
    return positions.get(identifier, 0) if isinstance(identifier, str) else 0
