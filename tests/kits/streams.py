"""Streams on the local AWS: their records, and streams that exist before a stack does."""

from typing import Any

from infra.local.aws import LocalAws
from infra.operate.streams import Record, StreamReader

NAMES = {"RideEvents": "ride-events", "RidePredictions": "ride-predictions", "RideOutcomes": "ride-outcomes"}
"""The names of streams that exist already, by the template's parameters."""


def read_stream(kinesis: Any, name: str) -> list[Record]:
    """Read a stream from its beginning until a read is empty."""
    reader = StreamReader(kinesis, name, "TRIM_HORIZON")
    found: list[Record] = []
    while records := reader.read_once():
        found += records
    return found


def make_streams(aws: LocalAws, prefix: str = "") -> dict[str, str]:
    """Make three streams, each encrypted with a key of its own; return them as the template's parameters.

    Args:
        aws: The local AWS.
        prefix: The beginning of the streams' names.
    """
    kinesis, parameters = aws.client("kinesis"), dict[str, str]()
    for logical_name, kind in NAMES.items():
        key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
        name = f"{prefix}{kind}"
        kinesis.create_stream(StreamName=name, ShardCount=1)
        kinesis.start_stream_encryption(StreamName=name, EncryptionType="KMS", KeyId=key)
        arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
        parameters |= {f"{logical_name}Arn": arn, f"{logical_name}KeyArn": key}
    return parameters
