"""Decode the objects of rejects and of failed batches: both become `FailedRecord`s.

A *reject* is a record that can never become a prediction; the function stores those of a batch as one object, one per
line. A *failed batch* (a "failure") is one that Lambda's event source mapping no longer retries; Lambda itself stores
the whole invocation. Some of its records may have been predicted or rejected already, by an invocation that published
and ended before it answered.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from infra.operate.lambda_event import LambdaRecord, lambda_record
from lambda_function.core.events import Reject, decode_reject
from lambda_function.core.records import KinesisRecord, decode_records, stream_of_arn
from training.monitoring.join.failures import is_archivers

_UNREADABLE = (msgspec.DecodeError, ValueError, OverflowError, RecursionError)
"""What decoding any bytes can raise: no JSON, no base64, no UTF-8; no time or one beyond the calendar; deep nesting."""

_N_PROBLEMS = 10  # of one object are reported: all of a large one would fill the screen, and memory


@dataclass(frozen=True, slots=True)
class FailedRecord:
    """A record that was not predicted, or not archived."""

    record_id: str  # <shard id>:<sequence number>, with :<index> appended for a sub-record of an aggregate
    stream: str
    shard_id: str
    reason: str  # a reject's reason, or Lambda's condition for a failed batch
    detail: str
    arrived: datetime  # in the stream, in aware UTC
    partition_key: str
    data: bytes  # the producer's
    key: str  # of the object that holds it
    is_reject: bool  # or of a failed batch
    function: str = ""  # the name of the function that the batch failed in; "" for a reject

    def original(self, stream_arn: str) -> LambdaRecord:
        """Return the record as the function gets it: as it came before, or a sub-record by itself."""
        return lambda_record(
            event_id=self.record_id,
            partition_key=self.partition_key,
            sequence_number=self.record_id.split(":")[1],
            arrival_time_s=self.arrived.timestamp(),
            data=self.data,
            stream_arn=stream_arn,
        )

    @property
    def is_archivers(self) -> bool:
        """Whether the archive function failed on it: the record is missing in the archive."""
        return is_archivers(self.function)

    @property
    def identity(self) -> tuple[str, str, bool]:
        """Equal for copies of the record in several objects; two functions may have failed on the same record."""
        return self.stream, self.record_id, self.is_archivers


@dataclass(frozen=True, slots=True)
class FailedObject:
    """One object of the bucket, decoded. `problem` names the part that could not be decoded; "" if none."""

    key: str
    records: tuple[FailedRecord, ...] = ()
    problem: str = ""

    def only(self, admits: Callable[[FailedRecord], bool]) -> "FailedObject":
        """Return the object with the admitted records only."""
        return replace(self, records=tuple(record for record in self.records if admits(record)))


def decode_rejects(key: str, body: bytes) -> FailedObject:
    """Decode an object of rejects; a line that does not decode is reported in `problem`."""
    stream = key.split("/")[1]
    records: list[FailedRecord] = []
    problems: list[str] = []
    n_unreadable = 0
    for number, line in enumerate(body.splitlines(), 1):
        try:
            records.append(_record_of_reject(key, stream, decode_reject(line)))
        except _UNREADABLE as error:
            n_unreadable += 1
            if n_unreadable <= _N_PROBLEMS:
                problems.append(f"line {number}: {error}")
    if n_unreadable > _N_PROBLEMS:
        problems.append(f"and {n_unreadable - _N_PROBLEMS:,} lines more")
    return FailedObject(key, tuple(records), "; ".join(problems))


def _record_of_reject(key: str, stream: str, reject: Reject) -> FailedRecord:
    part = "" if reject.sub_record is None else f":{reject.sub_record}"
    return FailedRecord(
        record_id=f"{reject.shard_id}:{reject.sequence_number}{part}",
        stream=stream,
        shard_id=reject.shard_id,
        reason=reject.reason,
        detail=reject.detail,
        arrived=datetime.fromisoformat(reject.arrival_time).astimezone(UTC),
        partition_key=reject.partition_key,
        data=base64.b64decode(reject.data, validate=True),
        key=key,
        is_reject=True,
    )


class _Invocation(msgspec.Struct):
    records: list[dict[str, Any]] = msgspec.field(name="Records")


class _Request(msgspec.Struct, rename="camel"):
    condition: str
    function_arn: str = ""
    approximate_invoke_count: int = 0


class _Response(msgspec.Struct, rename="camel"):
    function_error: str | None = None


class _Batch(msgspec.Struct, rename="camel"):
    stream_arn: str


class _Failure(msgspec.Struct, rename="camel"):
    """The fields used here of what Lambda stores in an on-failure destination."""

    request_context: _Request
    timestamp: str
    batch: _Batch = msgspec.field(name="KinesisBatchInfo")
    payload: str | _Invocation
    response_context: _Response | None = None


def decode_failure(key: str, body: bytes) -> FailedObject:
    """Decode an object of Lambda's on-failure destination: all of the batch or nothing."""
    try:
        failure = msgspec.json.decode(body, type=_Failure)
        invocation = failure.payload
        if isinstance(invocation, str):  # Lambda writes the invocation as JSON in a string
            invocation = msgspec.json.decode(invocation, type=_Invocation)
        records = decode_records({"Records": invocation.records})
        return FailedObject(key, tuple(_record_of_batch(key, failure, record) for record in records))
    except (*_UNREADABLE, AttributeError) as error:  # the latter for an envelope that is no object
        return FailedObject(key, problem=f"is no failed invocation: {error}")


def _record_of_batch(key: str, failure: _Failure, record: KinesisRecord) -> FailedRecord:
    request, response = failure.request_context, failure.response_context
    ending = f", function error {response.function_error}" if response and response.function_error else ""
    return FailedRecord(
        record_id=record.event_id,
        stream=stream_of_arn(failure.batch.stream_arn),
        shard_id=record.shard_id,
        reason=request.condition,
        detail=f"failed at {failure.timestamp}, invocations: {request.approximate_invoke_count}{ending}",
        arrived=datetime.fromtimestamp(record.envelope.arrival_time_s, UTC),
        partition_key=record.envelope.partition_key,
        data=record.envelope.data,
        key=key,
        is_reject=False,
        function=request.function_arn.partition(":function:")[2].partition(":")[0],
    )
