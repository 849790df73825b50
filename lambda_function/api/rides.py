"""From an HTTP request's body to its answer: a prediction or a problem for each ride in it. Pure.

The rides of a request become records and go through the stream's `process`. So each prediction has the same bytes as
on the stream, except for its `prediction_id`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any

import msgspec

from lambda_function.api.wire import PROBLEM_JSON, as_request_error, encode_problem, problem_of
from lambda_function.core.documents import BYTE_ORDER_MARK
from lambda_function.core.events import INVALID_FIELD, NOT_JSON, TOO_DEEP, decode_ride_event
from lambda_function.core.processor import ModelFrom, process_by_arrival
from lambda_function.core.records import Envelope, KinesisRecord
from lambda_function.errors import RejectError, RequestError

APPLICATION_JSON = "application/json"

MAX_BODY_BYTES = 1024 * 1024
"""The size of one Kinesis record: a thousand rides of a kilobyte each, five times the usual size."""

MAX_RIDES = 1000

_WANTED = 'send a ride event, or {"rides": [...]} for several'
_SOURCE = "http"
_ID_DIGITS = 32
_JSON_WHITESPACE = b" \t\r\n"

_Rides = Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_RIDES)]


class _Body(msgspec.Struct, frozen=True):
    """The fields that distinguish the two forms of a body. A ride event may have other fields, even `rides`."""

    ride: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    rides: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_rides = msgspec.json.Decoder(_Rides).decode


@dataclass(frozen=True, slots=True)
class RideRequest:
    """The decoded request."""

    events: Sequence[bytes]  # the JSON of each ride event (n,), as it is in the body
    is_list: bool  # whether the answer is a list, even of one


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a request."""

    status: HTTPStatus
    body: bytes
    content_type: str = APPLICATION_JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    n_predictions: int = 0
    n_problems: int = 0


class _HttpRecord(KinesisRecord, frozen=True, gc=False):
    """A ride event of a request: one place in the answer."""

    @property
    def may_have_parts(self) -> bool:
        """Whether it may hold several ride events: no."""
        return False


def decode_request(body: bytes) -> RideRequest:
    """Decode a body: a ride event, or ``{"rides": [...]}`` with 1 to MAX_RIDES of them. The rides are not checked yet.

    Raises:
        RequestError: The body is too large, is not JSON, or has neither form.

    >>> decode_request(b'{"rides": [{"ride_id": 1}, 2]}')
    RideRequest(events=[b'{"ride_id": 1}', b'2'], is_list=True)
    """
    if len(body) > MAX_BODY_BYTES:
        problem = f"the body has {len(body):,} bytes; the limit is {MAX_BODY_BYTES:,}: send fewer rides at once"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem)
    body = body.removeprefix(BYTE_ORDER_MARK)
    if not body.strip(_JSON_WHITESPACE):
        raise as_request_error(RejectError(NOT_JSON, f"the body is empty: {_WANTED}"))
    decoded: _Body = _decoded(_decode_body, body, body, "$")
    if decoded.rides is msgspec.UNSET or decoded.ride is not msgspec.UNSET:
        return RideRequest([body.strip(_JSON_WHITESPACE)], is_list=False)
    rides: list[msgspec.Raw] = _decoded(_decode_rides, bytes(decoded.rides), body, "$.rides")
    return RideRequest(list(map(bytes, rides)), is_list=True)


def answer_rides(request: RideRequest, models: ModelFrom, arrival_time_s: float) -> Answer:
    """Predict every valid ride; an invalid ride in a list does not affect the others.

    Args:
        request: The rides.
        models: The model, in a split both: as on the stream, a ride's id decides.
        arrival_time_s: When the request arrived, in seconds since the epoch, UTC: used for a missing pickup time.

    Raises:
        RequestError: The request is a single ride, and it cannot be predicted.
    """
    batch = process_by_arrival([_record(event, arrival_time_s) for event in request.events], [models])
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
    """Return the response to a request that fails as a whole."""
    return Answer(error.status, encode_problem(problem_of(error)), PROBLEM_JSON, error.headers, n_problems=1)


def prediction_id(event: bytes) -> str:
    """Return the id of an event's prediction; the same bytes always have the same id.

    >>> prediction_id(b'{}')
    'http:44136fa355b3678a1146ad16f7e8649e'
    """
    return f"{_SOURCE}:{hashlib.sha256(event).hexdigest()[:_ID_DIGITS]}"


def _record(event: bytes, arrival_time_s: float) -> KinesisRecord:
    return _HttpRecord(prediction_id(event), Envelope("", "0", arrival_time_s, event))


def _decoded(decode: Any, data: bytes, body: bytes, root: str) -> Any:
    try:
        return decode(data)
    except msgspec.ValidationError as error:
        problem = str(error).partition(" - at")[0]
        hint = f": {_WANTED}" if decode is _decode_body else ""
        raise as_request_error(RejectError(INVALID_FIELD, problem + hint), root) from error
    except RecursionError as error:
        raise as_request_error(RejectError(TOO_DEEP, "nested deeper than any ride event"), root) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise as_request_error(_why_not_json(body, error)) from error


def _why_not_json(body: bytes, error: Exception) -> RejectError:
    """Ask the ride event's own decoder, which names by path what Python's encoder writes and JSON does not have."""
    found = RejectError(NOT_JSON, str(error))
    try:
        decode_ride_event(body)
    except RejectError as reject:
        found = reject
    is_several = "trailing characters" in found.detail
    return RejectError(found.reason, f"{found.detail}: {_WANTED}") if is_several else found
