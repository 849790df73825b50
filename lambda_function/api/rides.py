"""From an HTTP request's body to its answer: the rides in it, and a prediction or a problem for each. Pure.

A request is a batch whose records are its rides: it goes through the stream's own `process`, and so every prediction
has the bytes that the stream would give for that ride, but for its `prediction_id`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec

from lambda_function.core.bundle import Manifest, ModelBundle
from lambda_function.core.events import INVALID_FIELD, NOT_JSON, TOO_DEEP, Reject, decode_ride_event
from lambda_function.core.processor import process
from lambda_function.core.records import Envelope, KinesisRecord
from lambda_function.errors import RejectError, RequestError

# MERGED FROM lambda_function/api_problem.py
# What an HTTP request is told when it cannot be answered as asked: problem details, RFC 9457.
# `type` is left out, which makes it ``about:blank``: the title is the status's own phrase. Problems are told apart by
# `status` and by `reason`, whose values are those of rejects; `path` leads to the field at fault. Nothing in a problem
# tells of what is inside: no exception's name, no bucket, no stack trace.
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


APPLICATION_JSON = "application/json"

MAX_BODY_BYTES = 1024 * 1024
"""What one Kinesis record holds, and a thousand rides of a kilobyte each: five times what most take."""

MAX_RIDES = 1000

_SOURCE = "http"
_ID_DIGITS = 32
_JSON_WHITESPACE = b" \t\r\n"

_Rides = Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_RIDES)]


class _Body(msgspec.Struct, frozen=True):
    """Which of the two forms a body has. A ride event may have any other field, and so `rides` too."""

    ride: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    rides: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_rides = msgspec.json.Decoder(_Rides).decode


@dataclass(frozen=True, slots=True)
class RideRequest:
    """What is asked for.

    Attributes:
        events: JSON (n,) of each ride event, as it stands in the body.
        is_list: Whether the answer is to be a list, even of one.
    """

    events: Sequence[bytes]
    is_list: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with."""

    status: HTTPStatus
    body: bytes
    content_type: str = APPLICATION_JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    n_predictions: int = 0
    n_problems: int = 0


def decode_request(body: bytes) -> RideRequest:
    """Decodes a body: a ride event, or ``{"rides": [...]}`` with one to MAX_RIDES of them. The rides are not looked at.

    Raises:
        RequestError: It is too large, is not JSON, or has neither form.

    >>> decode_request(b'{"rides": [{"ride_id": 1}, 2]}')
    RideRequest(events=[b'{"ride_id": 1}', b'2'], is_list=True)
    """
    if len(body) > MAX_BODY_BYTES:
        problem = f"the body may have {MAX_BODY_BYTES:,} bytes and has {len(body):,}: send fewer rides at once"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem)
    decoded: _Body = _decoded(_decode_body, body, body, "$")
    if decoded.rides is msgspec.UNSET or decoded.ride is not msgspec.UNSET:
        return RideRequest([body.strip(_JSON_WHITESPACE)], is_list=False)
    rides: list[msgspec.Raw] = _decoded(_decode_rides, bytes(decoded.rides), body, "$.rides")
    return RideRequest(list(map(bytes, rides)), is_list=True)


def answer_rides(request: RideRequest, model: ModelBundle, arrival_time_s: float) -> Answer:
    """Predicts every ride that can be; a ride that cannot does not keep the others of a list from being predicted.

    Args:
        request: The rides.
        model: Predicts.
        arrival_time_s: When the request came, in seconds since the epoch, UTC: stands in for a missing pickup time.

    Raises:
        RequestError: The one ride that was asked for, on its own, cannot be predicted.
    """
    batch = process([_record(event, arrival_time_s) for event in request.events], model)
    if not request.is_list:
        if batch.rejects:
            raise as_request_error(batch.rejects[0][1])
        return Answer(HTTPStatus.OK, batch.entries[0][1], n_predictions=1)
    results: dict[int, bytes] = {
        position: encode_problem(problem_of(as_request_error(reject, f"$.rides[{position}]")))
        for position, reject in batch.rejects
    }
    results.update(zip(batch.positions, (data for _, data in batch.entries), strict=True))
    return Answer(
        HTTPStatus.MULTI_STATUS if batch.rejects else HTTPStatus.OK,
        b'{"results":[' + b",".join(results[position] for position in range(len(results))) + b"]}",
        n_predictions=len(batch.entries),
        n_problems=len(batch.rejects),
    )


def answer_error(error: RequestError) -> Answer:
    """Returns the answer to a request as a whole that cannot be answered as asked."""
    return Answer(error.status, encode_problem(problem_of(error)), PROBLEM_JSON, error.headers, n_problems=1)


def prediction_id(event: bytes) -> str:
    """Returns the id of an event's prediction: the same bytes asked again have the same id, whenever that is.

    >>> prediction_id(b'{}')
    'http:44136fa355b3678a1146ad16f7e8649e'
    """
    return f"{_SOURCE}:{hashlib.sha256(event).hexdigest()[:_ID_DIGITS]}"


def _record(event: bytes, arrival_time_s: float) -> KinesisRecord:
    return KinesisRecord(prediction_id(event), Envelope("", "0", arrival_time_s, event))


def _decoded(decode: Any, data: bytes, body: bytes, root: str) -> Any:
    try:
        return decode(data)
    except msgspec.ValidationError as error:
        raise as_request_error(RejectError(INVALID_FIELD, str(error).partition(" - at")[0]), root) from error
    except RecursionError as error:
        raise as_request_error(RejectError(TOO_DEEP, "nested deeper than any ride event"), root) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise as_request_error(_why_not_json(body, error)) from error


def _why_not_json(body: bytes, error: Exception) -> RejectError:
    """Asks the ride event's own decoder, which names by path what Python's encoder writes and JSON does not have."""
    try:
        decode_ride_event(body)
    except RejectError as found:
        return found
    return RejectError(NOT_JSON, str(error))


# MERGED FROM lambda_function/api_model.py
# What the HTTP API tells of the model that it serves, and of how it is.
class ModelFacts(msgspec.Struct, frozen=True):
    """The model that answers.

    `validate_metrics` are those that it was published with, on `validate_months`. `interval_level` is the share of
    rides that are to end within their prediction's interval, null where predictions have none. `loaded_at` is when
    this instance of the function loaded the model: ISO 8601, UTC.
    """

    model_version: str
    service: str
    train_months: tuple[str, ...]
    validate_months: tuple[str, ...]
    validate_metrics: dict[str, Any]
    feature_names: tuple[str, ...]
    duration_range_minutes: tuple[float, float]
    interval_level: float | None
    loaded_at: str


class Health(msgspec.Struct, frozen=True):
    """`stale` is an instance that could not look for a newer model, and goes on with the one that it has."""

    status: Literal["ok", "stale"]
    model_version: str


def model_facts(manifest: Manifest, loaded_at: str) -> ModelFacts:
    """Returns what callers may know of a model, out of its manifest."""
    return ModelFacts(
        model_version=manifest.model_version,
        service=manifest.service,
        train_months=manifest.train_months,
        validate_months=manifest.validate_months,
        validate_metrics=manifest.metrics.get("validate", {}),
        feature_names=manifest.feature_names,
        duration_range_minutes=manifest.duration_range_minutes,
        interval_level=manifest.interval.level if manifest.interval else None,
        loaded_at=loaded_at,
    )
