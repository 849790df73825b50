"""Faults as values, and the schedule that puts them into a run by position: the n-th call of a place gets this one.

`faulty.py` makes calls meet them; `memory_world.py` wires those calls together. So a run with faults reads like data:

    [At(Place.PUT_OUTPUT, 0, EntriesRefused(every=2)), At(Place.INVOKE, 3, AnswerLost(Problem.DIED))]
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import NamedTuple

from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from infra.local.runtime.in_process import FunctionExitError
from infra.local.s3 import client_error

_SIGKILL_EXIT = 137
_NO_ENDPOINT = "https://aws.invalid"


class Place(Enum):
    """Where a fault strikes; each counts its own calls from 0. `SENT` is when the producer has sent some."""

    SENT = "sent"
    PUT_INPUT = "put input"
    READ_INPUT = "read input"
    INVOKE = "invoke"
    PUT_OUTPUT = "put output"
    S3_GET = "s3 get"
    S3_PUT = "s3 put"


class Problem(Enum):
    """What a caller is told, as AWS's code where there is one."""

    THROTTLED = "ProvisionedThroughputExceededException"
    INTERNAL = "InternalFailure"
    DOWN = "ServiceUnavailable"
    DENIED = "AccessDeniedException"
    EXPIRED = "ExpiredIteratorException"
    NO_SUCH_KEY = "NoSuchKey"
    NO_ANSWER = "no answer came in time"
    UNREACHABLE = "no connection"
    DIED = "the function's process is gone"

    def error(self) -> Exception:
        """Builds the error, a new one each time: an exception that is raised again grows with every traceback."""
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
    """The call is done, and its answer never arrives; whoever asked learns so `after_s` seconds later."""

    problem: Problem
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Slow:
    """The call takes so many seconds; a function that sleeps past its timeout is killed before it is done."""

    seconds: float


# -- for one kind of call


@dataclass(frozen=True, slots=True)
class EntriesRefused:
    """PutRecords answers 200 and has not taken every n-th entry from `first` on: all of them as it stands."""

    first: int = 0
    every: int = 1
    problem: Problem = Problem.THROTTLED


@dataclass(frozen=True, slots=True)
class Spoilt:
    """An object of S3 arrives with a byte that is not its own."""


@dataclass(frozen=True, slots=True)
class DeliveredTwice:
    """The function gets the batch twice, and its second answer counts."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The function gets the batch's first records only; the others are answered for as not done."""

    n_records: int


# -- for the world, after the producer has sent some


@dataclass(frozen=True, slots=True)
class SplitShard:
    """The n-th open shard of the input stream, counted around its end, becomes two."""

    n: int = 0


@dataclass(frozen=True, slots=True)
class MergeShards:
    """The n-th open shard and the one beside it become one; nothing, where there is but one."""

    n: int = 0


@dataclass(frozen=True, slots=True)
class JumpClock:
    """Time passes at once, or the clock on the wall is set, back perhaps."""

    seconds: float
    wall_only: bool = False


@dataclass(frozen=True, slots=True)
class ServeModel:
    """The channel moves to the n-th of the world's bundles."""

    n: int


CallFault = Refused | AnswerLost | Slow | EntriesRefused | Spoilt | DeliveredTwice | Cut
WorldFault = SplitShard | MergeShards | JumpClock | ServeModel
Fault = CallFault | WorldFault


class At(NamedTuple):
    """A fault and where it strikes: at the n-th call, from 0."""

    place: Place
    position: int
    fault: Fault


class FaultSchedule:
    """Faults by place and position, each handed out once; of several for one call, the first.

    Attributes:
        n_struck: Faults handed out so far.
    """

    def __init__(self, script: Iterable[At] = ()) -> None:
        self.n_struck = 0
        self._n_calls: Counter[Place] = Counter()
        self._faults: dict[tuple[Place, int], Fault] = {}
        for place, position, fault in script:
            self._faults.setdefault((place, position), fault)

    def next(self, place: Place) -> Fault | None:
        """Counts a call, and returns the fault that it meets."""
        fault = self._faults.pop((place, self._n_calls[place]), None)
        self._n_calls[place] += 1
        self.n_struck += fault is not None
        return fault
