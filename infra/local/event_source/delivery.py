"""Delivery of batches to the function, and of failed batches to the failure destination in AWS's format."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from infra.local.event_source.config import MappingConfig, MappingStats
from infra.operate.lambda_event import LambdaRecord, count_done

logger = logging.getLogger(__name__)

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]
"""Why a batch has failed, in AWS's words."""


class Outcome(NamedTuple):
    """The result of an invocation: how many leading records are done, and whether the function raised an error."""

    n_done: int
    raised: bool


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """Records of one shard that are not delivered again.

    All content of the stored object is fixed here, so a repeated attempt writes the same object.
    """

    records: list[LambdaRecord]  # at least one, in order
    condition: Condition  # why they failed
    n_invocations: int  # invocations of exactly these records
    raised: bool  # whether the last invocation raised an error
    at_s: float  # when they failed, Unix time
    object_id: str  # unique part of the object's key
    request_id: str  # ID of the invocation

    @property
    def shard_id(self) -> str:
        """The shard of the records."""
        return self.records[0]["eventID"].partition(":")[0]


class Delivery:
    """Invokes the function with batches, stores failed batches and counts both.

    Args:
        config: The mapping's properties. Without a failure destination, failed records are dropped, as Lambda does.
        stream_arn: The stream's ARN.
        invoke: Runs the function on an event: returns its response, raises if it failed.
        s3: A boto3 client for the failure destination.
        wall_clock: Unix time in seconds.
        new_id: Makes the unique part of names.

    Attributes:
        stats: The mapping's counters.
    """

    def __init__(
        self,
        config: MappingConfig,
        stream_arn: str,
        invoke: Callable[[dict[str, Any]], object],
        s3: Any,
        wall_clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self.stats = MappingStats()
        region, account = stream_arn.split(":")[3:5]
        self._function_arn = f"arn:aws:lambda:{region}:{account}:function:{config.function_name}"
        self._mapping_id = new_id()
        self._config = config
        self._invoke = invoke
        self._s3 = s3
        self._wall_clock = wall_clock
        self._new_id = new_id

    def deliver(self, batch: list[LambdaRecord], *, is_redelivered: bool) -> Outcome:
        """Invoke the function with a batch."""
        outcome = self._invoke_on(batch)
        self.stats.n_invocations += 1
        self.stats.n_delivered += len(batch)
        self.stats.n_redelivered += len(batch) if is_redelivered else 0
        self.stats.n_done += outcome.n_done
        self.stats.n_failures += outcome.n_done < len(batch)
        return outcome

    def failed_batch(
        self, records: list[LambdaRecord], condition: Condition, n_invocations: int, *, raised: bool
    ) -> FailedBatch:
        """Build a failed batch from records that have failed now."""
        return FailedBatch(
            records, condition, n_invocations, raised, self._wall_clock(), self._new_id(), self._new_id()
        )

    def settle(self, failed: FailedBatch) -> bool:
        """Store or drop a failed batch; return False if the destination fails and the call must be repeated."""
        n_records, first = len(failed.records), failed.records[0]["eventID"]
        if not self._config.on_failure_bucket:
            self.stats.n_dropped += n_records
            logger.error("%d records from %s on are lost: %s", n_records, first, failed.condition)
            return True
        try:
            self._s3.put_object(
                Bucket=self._config.on_failure_bucket,
                Key=object_key(failed, self._mapping_id),
                Body=json.dumps(_invocation_record(failed, self._function_arn)).encode(),
                ContentType="application/json",
            )
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            self._note(error)
            logger.warning("%d failed records from %s on cannot be stored yet: %s", n_records, first, error)
            return False
        self.stats.n_failed += n_records
        logger.warning("%d records from %s on are in the failure destination: %s", n_records, first, failed.condition)
        return True

    def _invoke_on(self, batch: list[LambdaRecord]) -> Outcome:
        try:
            response = self._invoke({"Records": batch})
        except Exception as error:
            # Lambda delivers the batch again, whatever the function raises.
            self._note(error)
            logger.warning("%d records from %s on are not done", len(batch), batch[0]["eventID"], exc_info=True)
            return Outcome(0, raised=True)
        reports_failures = self._config.report_batch_item_failures
        return Outcome(count_done(response, batch) if reports_failures else len(batch), raised=False)

    def _note(self, error: Exception) -> None:
        self.stats.last_error = f"{type(error).__name__}: {error}"


def object_key(failed: FailedBatch, mapping_id: str) -> str:
    """Build the key as Lambda does: `aws/lambda/<mapping>/<shard>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<uuid>`."""
    at = datetime.fromtimestamp(failed.at_s, UTC)
    return f"aws/lambda/{mapping_id}/{failed.shard_id}/{at:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{failed.object_id}"


def _invocation_record(failed: FailedBatch, function_arn: str) -> dict[str, Any]:
    """Build the object that Lambda stores for a failed batch, with the event of the invocation as its payload."""
    first, last = failed.records[0], failed.records[-1]
    return {
        "requestContext": {
            "requestId": failed.request_id,
            "functionArn": function_arn,
            "condition": failed.condition,
            "approximateInvokeCount": max(failed.n_invocations, 1),  # Lambda writes 1 for a batch never invoked, too
        },
        **_response_context(failed),
        "version": "1.0",
        "timestamp": _iso(failed.at_s),
        "KinesisBatchInfo": {
            "shardId": failed.shard_id,
            "startSequenceNumber": first["kinesis"]["sequenceNumber"],
            "endSequenceNumber": last["kinesis"]["sequenceNumber"],
            "approximateArrivalOfFirstRecord": _iso(first["kinesis"]["approximateArrivalTimestamp"]),
            "approximateArrivalOfLastRecord": _iso(last["kinesis"]["approximateArrivalTimestamp"]),
            "batchSize": len(failed.records),
            "streamArn": first["eventSourceARN"],
        },
        "payload": json.dumps({"Records": failed.records}, separators=(",", ":")),
    }


def _response_context(failed: FailedBatch) -> dict[str, Any]:
    """Return the function's response; Lambda leaves it out if the record age was the only reason."""
    if failed.condition == "RecordAgeExceeded":
        return {}
    error = "Unhandled" if failed.raised else None  # None: it returned and reported failed records
    return {"responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": error}}


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
