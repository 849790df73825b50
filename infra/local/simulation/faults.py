"""Faults of a simulation as values, and clients and functions whose calls have these faults.

A schedule gives the n-th call at a place its fault:

    [At(Place.PUT_OUTPUT, 0, EntriesRefused(every=2)), At(Place.INVOKE, 3, AnswerLost(Problem.DIED))]
"""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from infra.local.event_source.lambda_event import count_done
from infra.local.runtime.in_process import FunctionExitError
from infra.local.s3 import client_error
from infra.local.simulation.clock import SimulatedClock

Answer = TypeVar("Answer")

_SIGKILL_EXIT = 137
_NO_ENDPOINT = "https://aws.invalid"


class Place(Enum):
    """The calls that can have a fault; each place counts its own calls from 0. `SENT` is after each send."""

    SENT = "sent"
    PUT_INPUT = "put input"
    READ_INPUT = "read input"
    INVOKE = "invoke"
    PUT_OUTPUT = "put output"
    S3_GET = "s3 get"
    S3_PUT = "s3 put"


class Problem(Enum):
    """The error that a caller gets: AWS's code if there is one."""

    THROTTLED = "ProvisionedThroughputExceededException"
    INTERNAL = "InternalFailure"
    DOWN = "ServiceUnavailable"
    DENIED = "AccessDeniedException"
    EXPIRED = "ExpiredIteratorException"
    NO_SUCH_KEY = "NoSuchKey"
    NO_ANSWER = "no answer in time"
    UNREACHABLE = "no connection"
    DIED = "the function's process has ended"

    def error(self) -> Exception:
        """Build a new error: an exception that is raised repeatedly collects tracebacks."""
        match self:
            case Problem.NO_ANSWER:
                return ReadTimeoutError(endpoint_url=_NO_ENDPOINT)
            case Problem.UNREACHABLE:
                return EndpointConnectionError(endpoint_url=_NO_ENDPOINT)
            case Problem.DIED:
                return FunctionExitError("function", _SIGKILL_EXIT)
        return client_error(_STATUS.get(self, HTTPStatus.BAD_REQUEST), self.value)


_STATUS = {
    Problem.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    Problem.DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    Problem.DENIED: HTTPStatus.FORBIDDEN,
    Problem.NO_SUCH_KEY: HTTPStatus.NOT_FOUND,
}


# -- for every call


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is not done."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """The call is done, but its answer is lost: the caller gets an error after `after_s` seconds."""

    problem: Problem
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Slow:
    """The call takes this long; a function that sleeps past its timeout is killed before the call is done."""

    seconds: float


# -- for one kind of call


@dataclass(frozen=True, slots=True)
class EntriesRefused:
    """PutRecords answers 200 but refuses every n-th entry from `first` on; by default all entries."""

    first: int = 0
    every: int = 1
    problem: Problem = Problem.THROTTLED


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A read of an S3 object returns one wrong byte."""


@dataclass(frozen=True, slots=True)
class DeliveredTwice:
    """The function gets the batch twice; its second answer counts."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The function gets only the batch's first records; the answer reports the others as not done."""

    n_records: int


# -- for the state of the simulation, after a send


@dataclass(frozen=True, slots=True)
class SplitShard:
    """Split the n-th open shard of the input stream (modulo their number)."""

    n: int = 0


@dataclass(frozen=True, slots=True)
class MergeShards:
    """Merge the n-th open shard with the next one; do nothing if only one is open."""

    n: int = 0


@dataclass(frozen=True, slots=True)
class JumpClock:
    """Let time pass at once, or set the wall clock forward or back."""

    seconds: float
    wall_only: bool = False


@dataclass(frozen=True, slots=True)
class ServeModel:
    """Move the channel to the n-th bundle of the simulation (modulo their number)."""

    n: int


CallFault = Refused | AnswerLost | Slow | EntriesRefused | Spoilt | DeliveredTwice | Cut
StateFault = SplitShard | MergeShards | JumpClock | ServeModel
Fault = CallFault | StateFault


class At(NamedTuple):
    """A fault of the n-th call at a place, from 0."""

    place: Place
    position: int
    fault: Fault


class FaultSchedule:
    """Faults by place and position. Each occurs once; of several for one call, the first.

    Attributes:
        n_struck: Faults that have occurred.
    """

    def __init__(self, script: Iterable[At] = ()) -> None:
        self.n_struck = 0
        self._n_calls: Counter[Place] = Counter()
        self._faults: dict[tuple[Place, int], Fault] = {}
        for place, position, fault in script:
            self._faults.setdefault((place, position), fault)

    def next(self, place: Place) -> Fault | None:
        """Count a call and return its fault."""
        fault = self._faults.pop((place, self._n_calls[place]), None)
        self._n_calls[place] += 1
        self.n_struck += fault is not None
        return fault


class FaultyKinesis:
    """A Kinesis client whose puts and reads have faults. `puts` and `reads` are their places; None: no faults."""

    def __init__(
        self, kinesis: Any, schedule: FaultSchedule, clock: SimulatedClock, puts: Place, reads: Place | None = None
    ) -> None:
        self._kinesis = kinesis
        self._schedule = schedule
        self._clock = clock
        self._puts = puts
        self._reads = reads

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> Any:  # noqa: N803
        """Put all, some or none of the records."""
        fault = self._schedule.next(self._puts)
        if isinstance(fault, EntriesRefused):
            return self._put_some(StreamName, Records, fault)
        return _call_with(fault, lambda: self._kinesis.put_records(StreamName=StreamName, Records=Records), self._clock)

    def get_records(self, **request: Any) -> Any:
        """Read records."""
        return self._read(lambda: self._kinesis.get_records(**request))

    def get_shard_iterator(self, **request: Any) -> Any:
        """Create an iterator."""
        return self._read(lambda: self._kinesis.get_shard_iterator(**request))

    def describe_stream_summary(self, **request: Any) -> Any:
        """Return the stream's summary, without faults."""
        return self._kinesis.describe_stream_summary(**request)

    def list_shards(self, **request: Any) -> Any:
        """List the shards, without faults."""
        return self._kinesis.list_shards(**request)

    def _read(self, call: Callable[[], Any]) -> Any:
        return _call_with(self._schedule.next(self._reads), call, self._clock) if self._reads else call()

    def _put_some(self, stream: str, records: Sequence[dict[str, Any]], fault: EntriesRefused) -> dict[str, Any]:
        refused = set(range(len(records))[fault.first :: fault.every])
        taken = [record for position, record in enumerate(records) if position not in refused]
        answers = iter(self._kinesis.put_records(StreamName=stream, Records=taken)["Records"] if taken else ())
        refusal = {"ErrorCode": fault.problem.value, "ErrorMessage": "Refused."}
        results = [refusal if position in refused else next(answers) for position in range(len(records))]
        return {"FailedRecordCount": len(refused), "Records": results}


class FaultyS3:
    """An S3 client whose reads and writes have faults."""

    def __init__(self, s3: Any, schedule: FaultSchedule, clock: SimulatedClock) -> None:
        self._s3 = s3
        self._schedule = schedule
        self._clock = clock

    def get_object(self, **request: Any) -> Any:
        """Read an object."""
        fault = self._schedule.next(Place.S3_GET)
        if not isinstance(fault, Spoilt):
            return _call_with(fault, lambda: self._s3.get_object(**request), self._clock)
        answer = self._s3.get_object(**request)
        body = bytearray(answer["Body"].read())
        body[len(body) // 2] ^= 1
        return {**answer, "Body": io.BytesIO(bytes(body))}

    def put_object(self, **request: Any) -> Any:
        """Store an object."""
        return _call_with(self._schedule.next(Place.S3_PUT), lambda: self._s3.put_object(**request), self._clock)


class FaultyFunction:
    """A function whose invocations have faults."""

    def __init__(
        self, invoke: Callable[[dict[str, Any]], object], schedule: FaultSchedule, clock: SimulatedClock
    ) -> None:
        self._invoke = invoke
        self._schedule = schedule
        self._clock = clock

    def __call__(self, event: dict[str, Any]) -> object:
        """Run the function on an event."""
        fault = self._schedule.next(Place.INVOKE)
        match fault:
            case DeliveredTwice():
                self._invoke(event)
                return self._invoke(event)
            case Cut(n_records):
                return self._invoke_on_first(n_records, event)
        return _call_with(fault, lambda: self._invoke(event), self._clock)

    def _invoke_on_first(self, n_records: int, event: dict[str, Any]) -> object:
        batch, rest = event["Records"][:n_records], event["Records"][n_records:]
        response = self._invoke({"Records": batch})
        if not rest or count_done(response, batch) < len(batch):
            return response
        return {"batchItemFailures": [{"itemIdentifier": rest[0]["kinesis"]["sequenceNumber"]}]}


def _call_with(fault: Fault | None, call: Callable[[], Answer], clock: SimulatedClock) -> Answer:
    """Do a call with its fault.

    Raises:
        TypeError: This kind of call cannot have the fault.
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
            raise TypeError(f"{fault} is not a fault of this call")
    return call()
