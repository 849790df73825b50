"""What could not be processed, as one shape: rejects and failures are both read into `KeptRecord`s.

A *reject* is what the function could never predict; it stores them a line each, those of a batch as one object. A
*failure* is a batch that the event source mapping gave up; Lambda itself stores the whole invocation, with what it
knows of its end. Some of a failure's records may have been predicted or rejected before the batch was given up, by a
function that published and died before it answered.
"""

import base64
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec

from lambda_function.events import Reject, decode_reject

_UNREADABLE = (msgspec.DecodeError, ValueError, OverflowError, RecursionError)
"""What reading somebody else's bytes can raise: no JSON, no base64, no UTF-8; no time, or one that no calendar has;
nested without an end."""

_N_PROBLEMS = 10  # are told of an object: all of a large one that is none would fill a screen, and memory


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """One record that was not processed, and all that is known of it.

    Attributes:
        record_id: ``<shard id>:<sequence number>``, and ``:<index>`` behind it for a part of an aggregate.
        reason: A reject's reason, or the condition under which Lambda gave the batch up.
        arrived: When the stream took it, in aware UTC.
        data: The producer's bytes.
        key: The object that it stands in.
    """

    record_id: str
    stream: str
    shard_id: str
    reason: str
    detail: str
    arrived: datetime
    partition_key: str
    data: bytes
    key: str

    @property
    def identity(self) -> tuple[str, str]:
        """What tells it from every other record, in whichever object it stands."""
        return self.stream, self.record_id


@dataclass(frozen=True, slots=True)
class KeptObject:
    """One object of the bucket, read. `problem` says what of it could not be, "" if all could."""

    key: str
    records: tuple[KeptRecord, ...] = ()
    problem: str = ""

    def only(self, admits: Callable[[KeptRecord], bool]) -> "KeptObject":
        """Returns the object without the records that are not admitted."""
        return replace(self, records=tuple(record for record in self.records if admits(record)))


def decode_rejects(key: str, body: bytes) -> KeptObject:
    """Reads an object of rejects; a line that is none is told, and the others stay."""
    stream = key.split("/")[1]
    records: list[KeptRecord] = []
    problems: list[str] = []
    n_unreadable = 0
    for number, line in enumerate(body.splitlines(), 1):
        try:
            records.append(_kept_reject(key, stream, decode_reject(line)))
        except _UNREADABLE as error:
            n_unreadable += 1
            if n_unreadable <= _N_PROBLEMS:
                problems.append(f"line {number}: {error}")
    if n_unreadable > _N_PROBLEMS:
        problems.append(f"and {n_unreadable - _N_PROBLEMS:,} lines more")
    return KeptObject(key, tuple(records), "; ".join(problems))


def _kept_reject(key: str, stream: str, reject: Reject) -> KeptRecord:
    part = "" if reject.sub_record is None else f":{reject.sub_record}"
    return KeptRecord(
        record_id=f"{reject.shard_id}:{reject.sequence_number}{part}",
        stream=stream,
        shard_id=reject.shard_id,
        reason=reject.reason,
        detail=reject.detail,
        arrived=datetime.fromisoformat(reject.arrival_time).astimezone(UTC),
        partition_key=reject.partition_key,
        data=base64.b64decode(reject.data, validate=True),
        key=key,
    )


class _Envelope(msgspec.Struct, rename="camel"):
    partition_key: str
    approximate_arrival_timestamp: float
    data: str


class _Record(msgspec.Struct):
    event_id: str = msgspec.field(name="eventID")
    kinesis: _Envelope


class _Invocation(msgspec.Struct):
    records: list[_Record] = msgspec.field(name="Records")


class _Request(msgspec.Struct, rename="camel"):
    condition: str
    approximate_invoke_count: int = 0


class _Response(msgspec.Struct, rename="camel"):
    function_error: str | None = None


class _Batch(msgspec.Struct, rename="camel"):
    stream_arn: str


class _Failure(msgspec.Struct, rename="camel"):
    """What Lambda puts into an on-failure bucket, as far as it matters here."""

    request_context: _Request
    timestamp: str
    batch: _Batch = msgspec.field(name="KinesisBatchInfo")
    payload: str | _Invocation
    response_context: _Response | None = None


def decode_failure(key: str, body: bytes) -> KeptObject:
    """Reads an object of Lambda's on-failure destination: a batch, all of it or nothing."""
    try:
        failure = msgspec.json.decode(body, type=_Failure)
        invocation = failure.payload
        if isinstance(invocation, str):  # Lambda writes the invocation as a text
            invocation = msgspec.json.decode(invocation, type=_Invocation)
        return KeptObject(key, tuple(_kept_failure(key, failure, record) for record in invocation.records))
    except _UNREADABLE as error:
        return KeptObject(key, problem=f"is no failed invocation: {error}")


def _kept_failure(key: str, failure: _Failure, record: _Record) -> KeptRecord:
    request, response = failure.request_context, failure.response_context
    ending = f", function error {response.function_error}" if response and response.function_error else ""
    return KeptRecord(
        record_id=record.event_id,
        stream=failure.batch.stream_arn.partition("stream/")[2],
        shard_id=record.event_id.partition(":")[0],
        reason=request.condition,
        detail=f"given up at {failure.timestamp}, invocations: {request.approximate_invoke_count}{ending}",
        arrived=datetime.fromtimestamp(record.kinesis.approximate_arrival_timestamp, UTC),
        partition_key=record.kinesis.partition_key,
        data=_original_bytes(record.kinesis.data),
        key=key,
    )


def _original_bytes(text: str) -> bytes:
    """Returns the producer's bytes, or the envelope's text where that is no base64: what a reject keeps too."""
    try:
        return base64.b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return text.encode()
