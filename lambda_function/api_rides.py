"""From an HTTP request's body to its answer: the rides in it, and a prediction or a problem for each. Pure.

A request is a batch whose records are its rides: it goes through the stream's own `process`, and so every prediction
has the bytes that the stream would give for that ride, but for its `prediction_id`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any

import msgspec

from lambda_function.api_problem import PROBLEM_JSON, as_request_error, encode_problem, problem_of
from lambda_function.errors import RejectError, RequestError
from lambda_function.events import INVALID_FIELD, NOT_JSON, TOO_DEEP, decode_ride_event
from lambda_function.model import ModelBundle
from lambda_function.processor import process
from lambda_function.records import Envelope, KinesisRecord

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
