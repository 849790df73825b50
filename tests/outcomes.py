"""What can happen to a call to AWS, as values: for the scripts of the fakes and for the faults of a simulation."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from infra.local.moto.kinesis_limits import MAX_PUT_RECORDS
from infra.local.runtime.in_process import FunctionExitError
from training.registry.folder_s3 import client_error

_SIGKILL_EXIT = 137
_NO_ENDPOINT = "https://aws.invalid"


class Problem(Enum):
    """The error that a caller gets: AWS's code if there is one."""

    THROTTLED = "ProvisionedThroughputExceededException"
    INTERNAL = "InternalFailure"
    DOWN = "ServiceUnavailable"
    DENIED = "AccessDeniedException"
    NO_SUCH_STREAM = "ResourceNotFoundException"
    KEY_DISABLED = "KMSDisabledException"
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

THROTTLED = Problem.THROTTLED.error()
SERVICE_DOWN = Problem.DOWN.error()
DENIED = Problem.DENIED.error()
NO_ANSWER = Problem.NO_ANSWER.error()


@dataclass(frozen=True, slots=True)
class AnswerLost:
    """The call is done, but its answer is lost: the caller gets an error after `after_s` seconds of a simulation."""

    problem: Problem | Exception = Problem.NO_ANSWER
    after_s: float = 0.0

    def error(self) -> Exception:
        """Return the caller's error."""
        return self.problem.error() if isinstance(self.problem, Problem) else self.problem


@dataclass(frozen=True, slots=True)
class AnswerChanged:
    """The call is done, and its answer arrives changed: cut off, or with parts that contradict each other."""

    change: Callable[[dict[str, Any]], dict[str, Any]]


CUT_OFF = AnswerChanged(lambda _: {})


@dataclass(frozen=True, slots=True)
class EntriesRefused:
    """PutRecords answers 200 but refuses the entries at these positions, by default all."""

    positions: Collection[int] = range(MAX_PUT_RECORDS)
    problem: Problem = Problem.THROTTLED

    def put(self, records: Sequence[dict[str, Any]], put_records: Callable[..., Any]) -> dict[str, Any]:
        """Put the other entries with a client's method, and return PutRecords' answer for all of them."""
        refused = {position for position in range(len(records)) if position in self.positions}
        accepted = [record for position, record in enumerate(records) if position not in refused]
        answers = iter(put_records(Records=accepted)["Records"] if accepted else ())
        refusal = {"ErrorCode": self.problem.value, "ErrorMessage": "Rate exceeded for shard."}
        results = [refusal if position in refused else next(answers) for position in range(len(records))]
        return {"FailedRecordCount": len(refused), "Records": results}


@dataclass(frozen=True, slots=True)
class BodyLost:
    """The S3 object is found, and reading its body fails."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Another client does something just before the call."""

    action: Callable[[], object]


S3Outcome = Exception | AnswerLost | BodyLost | Meanwhile | None
PutOutcome = Exception | AnswerLost | AnswerChanged | EntriesRefused | None
SendOutcome = Exception | AnswerLost | AnswerChanged | None
