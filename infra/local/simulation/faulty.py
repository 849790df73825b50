"""Clients and functions that meet the faults of a schedule: thin wrappers around the real ones, or those in memory."""

import io
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from infra.local.event_source.lambda_event import count_done
from infra.local.simulation.clock import SimulatedClock
from infra.local.simulation.faults import (
    AnswerLost,
    Cut,
    DeliveredTwice,
    EntriesRefused,
    Fault,
    FaultSchedule,
    Place,
    Refused,
    Slow,
    Spoilt,
)

Answer = TypeVar("Answer")


class FaultyKinesis:
    """A boto3 Kinesis client, or one in memory, whose puts and reads meet faults; each kind counts its calls."""

    def __init__(
        self, kinesis: Any, schedule: FaultSchedule, clock: SimulatedClock, puts: Place, reads: Place | None = None
    ) -> None:
        self._kinesis = kinesis
        self._schedule = schedule
        self._clock = clock
        self._puts = puts
        self._reads = reads

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> Any:  # noqa: N803
        """Puts records, or some of them, or none."""
        fault = self._schedule.next(self._puts)
        if isinstance(fault, EntriesRefused):
            return self._put_some(StreamName, Records, fault)
        return _meet(fault, lambda: self._kinesis.put_records(StreamName=StreamName, Records=Records), self._clock)

    def get_records(self, **request: Any) -> Any:
        """Reads records."""
        return self._read(lambda: self._kinesis.get_records(**request))

    def get_shard_iterator(self, **request: Any) -> Any:
        """Makes a place to read from."""
        return self._read(lambda: self._kinesis.get_shard_iterator(**request))

    def describe_stream_summary(self, **request: Any) -> Any:
        """Tells the stream's ARN, always."""
        return self._kinesis.describe_stream_summary(**request)

    def list_shards(self, **request: Any) -> Any:
        """Lists shards, always."""
        return self._kinesis.list_shards(**request)

    def _read(self, call: Callable[[], Any]) -> Any:
        return _meet(self._schedule.next(self._reads), call, self._clock) if self._reads else call()

    def _put_some(self, stream: str, records: Sequence[dict[str, Any]], fault: EntriesRefused) -> dict[str, Any]:
        refused = set(range(len(records))[fault.first :: fault.every])
        taken = [record for position, record in enumerate(records) if position not in refused]
        answers = iter(self._kinesis.put_records(StreamName=stream, Records=taken)["Records"] if taken else ())
        no = {"ErrorCode": fault.problem.value, "ErrorMessage": "Not taken."}
        results = [no if position in refused else next(answers) for position in range(len(records))]
        return {"FailedRecordCount": len(refused), "Records": results}


class FaultyS3:
    """A boto3 S3 client, or one in memory, whose reads and writes meet faults."""

    def __init__(self, s3: Any, schedule: FaultSchedule, clock: SimulatedClock) -> None:
        self._s3 = s3
        self._schedule = schedule
        self._clock = clock

    def get_object(self, **request: Any) -> Any:
        """Reads an object."""
        fault = self._schedule.next(Place.S3_GET)
        if not isinstance(fault, Spoilt):
            return _meet(fault, lambda: self._s3.get_object(**request), self._clock)
        answer = self._s3.get_object(**request)
        body = bytearray(answer["Body"].read())
        body[len(body) // 2] ^= 1
        return {**answer, "Body": io.BytesIO(bytes(body))}

    def put_object(self, **request: Any) -> Any:
        """Stores an object."""
        return _meet(self._schedule.next(Place.S3_PUT), lambda: self._s3.put_object(**request), self._clock)


class FaultyFunction:
    """A function whose invocations meet faults."""

    def __init__(
        self, invoke: Callable[[dict[str, Any]], object], schedule: FaultSchedule, clock: SimulatedClock
    ) -> None:
        self._invoke = invoke
        self._schedule = schedule
        self._clock = clock

    def __call__(self, event: dict[str, Any]) -> object:
        """Runs it on an event."""
        fault = self._schedule.next(Place.INVOKE)
        match fault:
            case DeliveredTwice():
                self._invoke(event)
                return self._invoke(event)
            case Cut(n_records):
                return self._invoke_on_first(n_records, event)
        return _meet(fault, lambda: self._invoke(event), self._clock)

    def _invoke_on_first(self, n_records: int, event: dict[str, Any]) -> object:
        batch, rest = event["Records"][:n_records], event["Records"][n_records:]
        response = self._invoke({"Records": batch})
        if not rest or count_done(response, batch) < len(batch):
            return response
        return {"batchItemFailures": [{"itemIdentifier": rest[0]["kinesis"]["sequenceNumber"]}]}


def _meet(fault: Fault | None, call: Callable[[], Answer], clock: SimulatedClock) -> Answer:
    """Does a call as its fault has it.

    Raises:
        TypeError: The fault is none of this kind of call.
    """
    match fault:
        case Refused(problem):
            raise problem.error()
        case AnswerLost(problem, after_s):
            call()
            clock.sleep(after_s)
            raise problem.error()
        case Slow(seconds):
            clock.sleep(seconds)
        case None:
            pass
        case _:
            raise TypeError(f"{fault} can't happen here")
    return call()
