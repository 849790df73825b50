"""Lambda's side of a batch: the event that a function gets for Kinesis records, and what its response says is done."""

import json
from binascii import b2a_base64
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii  # C, and exactly what json.dumps does to a string
from typing import Any, TypedDict

MAX_PAYLOAD_BYTES = 6 * 1024 * 1024
"""Lambda's limit of one invocation; counted here in compact ASCII JSON, which UTF-8 never exceeds."""


class Envelope(TypedDict):
    """The part of a record that Kinesis made."""

    kinesisSchemaVersion: str
    partitionKey: str
    sequenceNumber: str
    data: str
    approximateArrivalTimestamp: float


class LambdaRecord(TypedDict):
    """One record of a Kinesis event, in AWS's words and order."""

    kinesis: Envelope
    eventSource: str
    eventVersion: str
    eventID: str
    eventName: str
    invokeIdentityArn: str
    awsRegion: str
    eventSourceARN: str


def lambda_records(records: Sequence[dict[str, Any]], shard_id: str, stream_arn: str) -> list[LambdaRecord]:
    """Puts records of one shard, as boto3 gives them, into the envelope that Lambda gives the function."""
    region, account = stream_arn.split(":")[3:5]
    role_arn = f"arn:aws:iam::{account}:role/lambda-role"
    return [
        {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": record["PartitionKey"],
                "sequenceNumber": record["SequenceNumber"],
                "data": b2a_base64(record["Data"], newline=False).decode("ascii"),
                "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"].timestamp(),
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard_id}:{record['SequenceNumber']}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": role_arn,
            "awsRegion": region,
            "eventSourceARN": stream_arn,
        }
        for record in records
    ]


def json_sizes(records: Sequence[LambdaRecord]) -> list[int]:
    """Tells the bytes of each record as compact ASCII JSON; encodes one, and counts where the others differ.

    Args:
        records: Records of one shard.
    """
    if not records:
        return []
    n_fixed_bytes = len(json.dumps(records[0], separators=(",", ":"))) - _varying_bytes(records[0])
    return [n_fixed_bytes + _varying_bytes(record) for record in records]


def _varying_bytes(record: LambdaRecord) -> int:
    envelope = record["kinesis"]
    return (
        len(encode_basestring_ascii(envelope["partitionKey"]))
        + 2 * len(envelope["sequenceNumber"])  # in eventID again
        + len(envelope["data"])
        + len(repr(envelope["approximateArrivalTimestamp"]))
    )


def count_done(response: object, batch: Sequence[LambdaRecord]) -> int:
    """Counts the leading records of a batch that are done, by the function's partial batch response.

    All of them, if it reports no failure (no response, `{}`, `batchItemFailures` missing, null or empty). None, if
    it is malformed or names a record that is not in the batch. Else those before the lowest sequence number named.
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
