"""Faults of a simulation as values, and a simulation whose calls have these faults.

A schedule gives the n-th call at a place its fault:

    [At(Place.PUT_OUTPUT, 0, EntriesRefused(every=2)), At(Place.INVOKE, 3, AnswerLost(Problem.DIED))]
"""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

import msgspec

from infra.local.simulation.clock import SimulatedClock
from infra.local.simulation.simulation import CHANNEL, Clients, Simulation, SimulationOptions, Watch
from infra.local.sqs import MemoryQueue
from infra.operate.lambda_event import count_done
from lambda_function.core.calibration import CALIBRATION_FORMAT, N_WEIGHTS, Calibration
from lambda_function.core.channel import N_BUCKETS, Channel
from lambda_function.core.records import Entry
from tests.outcomes import AnswerLost, EntriesRefused, Problem
from training.model.bundle import ExportedBundle
from training.registry.channel_history import read_channel, served_versions
from training.registry.channels import store_bundle
from training.registry.versions import Verdict, put_artifact


class Place(Enum):
    """The calls that can have a fault; each place counts its own calls from 0. `SENT` is after each send."""

    SENT = "sent"
    PUT_INPUT = "put input"
    READ_INPUT = "read input"
    INVOKE = "invoke"
    PUT_OUTPUT = "put output"
    S3_GET = "s3 get"
    S3_PUT = "s3 put"
    SEND = "send message"
    ARCHIVE_READ = "archive's read"
    ARCHIVE_INVOKE = "archive's invoke"
    ARCHIVE_PUT = "archive's s3 put"


# -- for every call


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is not done."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Slow:
    """The call takes this long; a function that sleeps past its timeout is killed before the call is done."""

    seconds: float


# -- for one kind of call


@dataclass(frozen=True, slots=True)
class Damaged:
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
    """Promote the n-th bundle of the simulation (modulo their number)."""

    n: int


@dataclass(frozen=True, slots=True)
class RollBack:
    """Put the n-th bundle (modulo their number) in place of the newest one, if the channel has held it."""

    n: int


@dataclass(frozen=True, slots=True)
class SplitRides:
    """Let the n-th bundle (modulo their number) serve a share of the rides beside the newest model, if it is another.

    A split that is running grows instead, with the candidate that it has.
    """

    n: int


@dataclass(frozen=True, slots=True)
class EndSplit:
    """Let the champion serve all rides again."""


@dataclass(frozen=True, slots=True)
class Calibrate:
    """Calibrate the channel's newest model, in a split both. Each calibration has other weights and a later hour.

    `resume`: even if the calibration was stopped, else do nothing then.
    """

    resume: bool = False


@dataclass(frozen=True, slots=True)
class StopCalibration:
    """Stop the calibration of the channel's newest model."""


CallFault = Refused | AnswerLost | Slow | EntriesRefused | Damaged | DeliveredTwice | Cut
Move = ServeModel | RollBack | SplitRides | EndSplit | Calibrate | StopCalibration
StateFault = SplitShard | MergeShards | JumpClock | Move
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


class FaultyCalls:
    """Does calls with the faults of a schedule."""

    def __init__(self, schedule: FaultSchedule, clock: SimulatedClock) -> None:
        self.next = schedule.next
        self._clock = clock

    def do(self, fault: Fault | None, call: Callable[[], Any]) -> Any:
        """Do a call with a fault.

        Raises:
            TypeError: This kind of call cannot have the fault.
        """
        match fault:
            case Refused(problem):
                raise problem.error()
            case AnswerLost():
                call()
                self._clock.sleep(fault.after_s)
                raise fault.error()
            case Slow(seconds):
                self._clock.sleep(seconds)
            case None:
                pass
            case _:
                raise TypeError(f"{fault} is not a fault of this call")
        return call()


class FaultyKinesis:
    """A Kinesis client whose puts and reads have faults. `puts` and `reads` are their places; None: no faults."""

    def __init__(self, kinesis: Any, calls: FaultyCalls, puts: Place, reads: Place | None = None) -> None:
        self._kinesis = kinesis
        self._calls = calls
        self._puts = puts
        self._reads = reads

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> Any:  # noqa: N803
        """Put all, some or none of the records."""
        fault = self._calls.next(self._puts)
        put_records = partial(self._kinesis.put_records, StreamName=StreamName)
        if isinstance(fault, EntriesRefused):
            return fault.put(Records, put_records)
        return self._calls.do(fault, partial(put_records, Records=Records))

    def get_records(self, **request: Any) -> Any:
        """Read records."""
        return self._read(lambda: self._kinesis.get_records(**request))

    def get_shard_iterator(self, **request: Any) -> Any:
        """Create an iterator."""
        return self._read(lambda: self._kinesis.get_shard_iterator(**request))

    def __getattr__(self, operation: str) -> Any:
        """Return any other operation, without faults."""
        return getattr(self._kinesis, operation)

    def _read(self, call: Callable[[], Any]) -> Any:
        return self._calls.do(self._calls.next(self._reads), call) if self._reads else call()


class FaultyS3:
    """An S3 client whose reads and writes have faults. `puts` is the place of writes."""

    def __init__(self, s3: Any, calls: FaultyCalls, puts: Place = Place.S3_PUT) -> None:
        self._s3 = s3
        self._calls = calls
        self._puts = puts

    def get_object(self, **request: Any) -> Any:
        """Read an object."""
        fault = self._calls.next(Place.S3_GET)
        if not isinstance(fault, Damaged):
            return self._calls.do(fault, lambda: self._s3.get_object(**request))
        answer = self._s3.get_object(**request)
        body = bytearray(answer["Body"].read())
        body[len(body) // 2] ^= 1
        return {**answer, "Body": io.BytesIO(bytes(body))}

    def put_object(self, **request: Any) -> Any:
        """Store an object."""
        return self._calls.do(self._calls.next(self._puts), lambda: self._s3.put_object(**request))


class FaultyQueue:
    """An SQS client whose sends have faults."""

    def __init__(self, queue: MemoryQueue, calls: FaultyCalls) -> None:
        self.url = queue.url
        self._queue = queue
        self._calls = calls

    def send_message(self, **request: Any) -> Any:
        """Send a message."""
        return self._calls.do(self._calls.next(Place.SEND), lambda: self._queue.send_message(**request))


Function = Callable[[dict[str, Any]], object]


def invoke_with(fault: Fault | None, function: Function, event: dict[str, Any], calls: FaultyCalls) -> object:
    """Run a function on an event, with a fault of the invocation."""
    match fault:
        case DeliveredTwice():
            function(event)
            return function(event)
        case Cut(n_records):
            batch, rest = event["Records"][:n_records], event["Records"][n_records:]
            response = function({"Records": batch})
            if not rest or count_done(response, batch) < len(batch):
                return response
            return {"batchItemFailures": [{"itemIdentifier": rest[0]["kinesis"]["sequenceNumber"]}]}
    return calls.do(fault, lambda: function(event))


class FaultySimulation(Simulation):
    """A simulation with the faults of a schedule.

    Args:
        bundles: Models that a fault may switch to; the first is served at the start.
        options: Its options.
        schedule: The faults.
        watch: Called after each invocation.
    """

    def __init__(
        self,
        bundles: Sequence[ExportedBundle],
        options: SimulationOptions,
        schedule: FaultSchedule,
        watch: Watch = lambda *_: None,
    ) -> None:
        self._bundles = bundles
        self._schedule = schedule
        self._n_calibrations = 0
        super().__init__(bundles[0], options, watch)

    def clients(self) -> Clients:
        """Return clients whose calls have faults."""
        self._calls = FaultyCalls(self._schedule, self.clock)
        return Clients(
            FaultyKinesis(self.input, self._calls, Place.PUT_INPUT, Place.READ_INPUT),
            FaultyKinesis(self.output, self._calls, Place.PUT_OUTPUT),
            FaultyS3(self.bucket, self._calls),
            FaultyQueue(self.queue, self._calls),
            {
                kind: FaultyKinesis(one, self._calls, Place.PUT_OUTPUT, Place.ARCHIVE_READ)
                for kind, one in self.archive_readers().items()
            },
            FaultyS3(self.bucket, self._calls, Place.ARCHIVE_PUT),
        )

    def invoke(self, event: dict[str, Any]) -> object:
        """Run the function on an event, with a fault."""
        return invoke_with(self._schedule.next(Place.INVOKE), self.function, event, self._calls)

    def invoke_archiver(self, event: dict[str, Any]) -> object:
        """Run the archive function on an event, with a fault."""
        return invoke_with(self._schedule.next(Place.ARCHIVE_INVOKE), self.archiver, event, self._calls)

    def send(self, entries: Sequence[Entry]) -> None:
        """Send entries, and then change the simulation's state by a fault."""
        super().send(entries)
        self.change(self._schedule.next(Place.SENT))

    def change(self, fault: Fault | None) -> None:
        """Change the simulation's state.

        Raises:
            TypeError: It is not a fault of the state.
        """
        match fault:
            case None:
                pass
            case SplitShard(n):
                self.input.split(n)
            case MergeShards(n):
                self.input.merge(n)
            case JumpClock(seconds, wall_only):
                # Monotonic time never goes back.
                self.clock.now_s += 0 if wall_only else max(0.0, seconds)
                self.clock.wall_ahead_s += seconds if wall_only else 0
            case ServeModel() | RollBack() | SplitRides() | EndSplit() | Calibrate() | StopCalibration():
                self._move(fault)
            case fault:
                raise TypeError(f"{fault} is not a fault of the simulation's state")

    def _move(self, fault: Move) -> None:
        match fault:
            case ServeModel(n):
                self.serve(self._bundles[n % len(self._bundles)])
            case RollBack(n):
                version = self._bundles[n % len(self._bundles)].model_version
                if version in served_versions(self.models, read_channel(self.models, CHANNEL)):
                    self.roll_back(version)
            case SplitRides(n):
                self._split(self._bundles[n % len(self._bundles)])
            case EndSplit():
                self.end_split()
            case Calibrate(resume):
                self._calibrate(resume=resume)
            case StopCalibration():
                self.stop_calibration()

    def _split(self, bundle: ExportedBundle) -> None:
        state = self._channel()
        newest = state.segments[0]
        if newest.candidate:
            share = min(0.9, newest.candidate.buckets[1] / N_BUCKETS + 0.3)
            self.split(newest.candidate.model_version, share, newest.salt)
        elif bundle.model_version != state.model_version:
            store_bundle(self.models, bundle)
            verdict = Verdict(bundle.model_version, state.model_version, CHANNEL, passed=True)
            put_artifact(self.models, bundle.model_version, f"gate-{CHANNEL}.json", msgspec.json.encode(verdict))
            self.split(bundle.model_version, 0.4, state.moved_at)

    def _calibrate(self, *, resume: bool) -> None:
        state = self._channel()
        if state.calibration_is_off and not resume:
            return
        self._n_calibrations += 1
        hour = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self._n_calibrations)
        calibrations = [
            Calibration(
                format=CALIBRATION_FORMAT,
                model_version=arm.model_version,
                as_of=hour.strftime("%Y-%m-%dT%H"),
                weights=(0.1 * (self._n_calibrations % 7) - 0.3, *(0.01 * self._n_calibrations,) * (N_WEIGHTS - 1)),
                interval_scale=0.5 + 0.25 * (self._n_calibrations % 10),
            )
            for arm in state.segments[0].arms
        ]
        self.calibrate(*map(msgspec.json.encode, calibrations), resume=resume)

    def _channel(self) -> Channel:
        state = read_channel(self.models, CHANNEL).state
        assert state is not None
        return state

    def progress(self) -> tuple[int, ...]:
        """Return the settled records and the faults so far."""
        return *super().progress(), self._schedule.n_struck
