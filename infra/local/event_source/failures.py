"""The on-failure destination: an S3 object for each batch that is given up, in AWS's shape, with the whole event."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from infra.local.event_source.config import Condition
from infra.local.event_source.lambda_event import LambdaRecord


class PutObject(Protocol):
    """What of a boto3 S3 client is needed here."""

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> Any:  # noqa: N803
        """Stores an object."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Records of one shard that will not go to the function again.

    Everything that their object says is fixed here, so that a repeated attempt writes the same object.

    Attributes:
        records: At least one, in order.
        condition: Why they are given up.
        n_invocations: How often exactly these went to the function.
        raised: Whether the last invocation raised an error.
        at_s: When they were given up, Unix time.
        object_id: Makes the object's name unique.
        request_id: Stands for the invocation.
    """

    records: list[LambdaRecord]
    condition: Condition
    n_invocations: int
    raised: bool
    at_s: float
    object_id: str
    request_id: str

    @property
    def shard_id(self) -> str:
        """The shard that they are from."""
        return self.records[0]["eventID"].partition(":")[0]


class FailureDestination:
    """Stores what a mapping gives up in a bucket."""

    def __init__(self, s3: PutObject, bucket: str, mapping_id: str, function_arn: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._mapping_id = mapping_id
        self._function_arn = function_arn

    def store(self, given_up: GivenUp) -> None:
        """Writes the object; done again, it overwrites itself.

        Raises:
            BotoCoreError: S3 could not be reached.
            ClientError: S3 refused.
        """
        self._s3.put_object(
            Bucket=self._bucket,
            Key=object_key(given_up, self._mapping_id),
            Body=json.dumps(invocation_record(given_up, self._function_arn)).encode(),
            ContentType="application/json",
        )


def object_key(given_up: GivenUp, mapping_id: str) -> str:
    """Builds the key as Lambda does: `aws/lambda/<mapping>/<shard>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<uuid>`."""
    at = datetime.fromtimestamp(given_up.at_s, UTC)
    return f"aws/lambda/{mapping_id}/{given_up.shard_id}/{at:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{given_up.object_id}"


def invocation_record(given_up: GivenUp, function_arn: str) -> dict[str, Any]:
    """Builds what Lambda tells about a batch that it gives up, with the event that the function got or would get."""
    first, last = given_up.records[0], given_up.records[-1]
    return {
        "requestContext": {
            "requestId": given_up.request_id,
            "functionArn": function_arn,
            "condition": given_up.condition,
            "approximateInvokeCount": max(given_up.n_invocations, 1),  # Lambda says 1 of a batch never invoked, too
        },
        **_response_context(given_up),
        "version": "1.0",
        "timestamp": _iso(given_up.at_s),
        "KinesisBatchInfo": {
            "shardId": given_up.shard_id,
            "startSequenceNumber": first["kinesis"]["sequenceNumber"],
            "endSequenceNumber": last["kinesis"]["sequenceNumber"],
            "approximateArrivalOfFirstRecord": _iso(first["kinesis"]["approximateArrivalTimestamp"]),
            "approximateArrivalOfLastRecord": _iso(last["kinesis"]["approximateArrivalTimestamp"]),
            "batchSize": len(given_up.records),
            "streamArn": first["eventSourceARN"],
        },
        "payload": json.dumps({"Records": given_up.records}, separators=(",", ":")),
    }


def _response_context(given_up: GivenUp) -> dict[str, Any]:
    """Returns what the function answered; Lambda leaves it out where the age alone decided."""
    if given_up.condition == "RecordAgeExceeded":
        return {}
    error = "Unhandled" if given_up.raised else None  # None: it returned, and reported what failed
    return {"responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": error}}


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
