"""What an HTTP request is told when it cannot be answered as asked: problem details, RFC 9457.

`type` is left out, which makes it ``about:blank``: the title is the status's own phrase. Problems are told apart by
`status` and by `reason`, whose values are those of rejects; `path` leads to the field at fault. Nothing in a problem
tells of what is inside: no exception's name, no bucket, no stack trace.
"""

from http import HTTPStatus

import msgspec

from lambda_function.errors import RejectError, RequestError
from lambda_function.events import NOT_JSON, Reject

PROBLEM_JSON = "application/problem+json"

_PATH_BEGINS, _PATH_ENDS = " - at `", "`"
_MAX_CHARACTERS = 500  # a path can be as long as the caller's own field names
_encode = msgspec.json.Encoder().encode


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request, or one ride of it, has no prediction.

    `reason` is one of the reasons that a reject can have, or left out. `path` is where in the request the field at
    fault stands, as in ``$.rides[3].ride.trip_distance``, or left out.
    """

    title: str
    status: int
    detail: str
    reason: str = ""
    path: str = ""


def encode_problem(problem: Problem) -> bytes:
    """Encodes a problem."""
    return _encode(problem)


def problem_of(error: RequestError) -> Problem:
    """Returns what a caller is told of an error.

    >>> problem_of(RequestError(HTTPStatus.NOT_FOUND, "there is nothing here"))
    Problem(title='Not Found', status=404, detail='there is nothing here', reason='', path='')
    """
    return Problem(error.status.phrase, error.status.value, _short(error.detail), error.reason, _short(error.path))


def as_request_error(error: RejectError | Reject, root: str = "$") -> RequestError:
    """Returns a reject as the error of a request.

    Args:
        error: What is wrong with a ride event; a path in its detail starts at the event.
        root: Where in the request the ride event stands.

    >>> reject = RejectError("invalid_field", "Expected `float` - at `$.ride.trip_distance`")
    >>> str(as_request_error(reject, "$.rides[3]"))
    '422: Expected `float` - at `$.rides[3].ride.trip_distance`'
    """
    detail, _, path = error.detail.partition(_PATH_BEGINS)
    status = HTTPStatus.BAD_REQUEST if error.reason == NOT_JSON else HTTPStatus.UNPROCESSABLE_ENTITY
    return RequestError(
        status, detail, reason=error.reason, path=root + path.removesuffix(_PATH_ENDS).removeprefix("$")
    )


def _short(text: str) -> str:
    """Cuts a text, and escapes lone surrogates, which JSON's escapes can bring in and UTF-8 cannot hold."""
    return text[:_MAX_CHARACTERS].encode("utf-8", "backslashreplace").decode()
