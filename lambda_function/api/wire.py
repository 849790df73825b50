"""What the HTTP API sends besides predictions: problems (RFC 9457), facts about the model, and health.

A problem has no `type`, so it counts as ``about:blank``: its title is the status's phrase. `status` and `reason`
distinguish problems; a reason is one of the reject reasons; `path` is that of the invalid field. A problem holds
nothing internal: no exception name, no bucket, no stack trace.
"""

from http import HTTPStatus
from typing import Any, Literal

import msgspec

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.events import NOT_JSON, Reject
from lambda_function.errors import RejectError, RequestError

PROBLEM_JSON = "application/problem+json"

_TITLES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Content",
}
"""The phrases of RFC 9110 where Python's versions differ."""

_PATH_BEGINS, _PATH_ENDS = " - at `", "`"
_MAX_CHARACTERS = 500  # a path can be as long as the caller's own field names
_encode = msgspec.json.Encoder().encode


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request, or one ride of it, has no prediction.

    `reason` is one of the reject reasons, or left out. `path` is the field at fault in the request, for example
    ``$.rides[3].ride.trip_distance``, or left out.
    """

    title: str
    status: int
    detail: str
    reason: str = ""
    path: str = ""


def encode_problem(problem: Problem) -> bytes:
    """Encode a problem."""
    return _encode(problem)


def problem_of(error: RequestError) -> Problem:
    """Return the problem that a caller gets for an error.

    >>> problem_of(RequestError(HTTPStatus.NOT_FOUND, "there is nothing here"))
    Problem(title='Not Found', status=404, detail='there is nothing here', reason='', path='')
    """
    title = _TITLES.get(error.status, error.status.phrase)
    return Problem(title, error.status.value, _short(error.detail), error.reason, _short(error.path))


def as_request_error(error: RejectError | Reject, root: str = "$") -> RequestError:
    """Return the error of a request for a reject.

    Args:
        error: The reject; a path in its detail starts at the ride event.
        root: The path of the ride event in the request.

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
    """Shorten a text and escape lone surrogates: JSON escapes can contain them, UTF-8 cannot."""
    return text[:_MAX_CHARACTERS].encode("utf-8", "backslashreplace").decode()


class ModelFacts(msgspec.Struct, frozen=True):
    """The current model.

    `served_version` is the version that predictions name: the model version, with the hour of its calibration if it has
    one. `validate_metrics` are the bundle's metrics on `validate_months`. `interval_level` is the target share of rides
    that end within their interval, null if predictions have none. `loaded_at` is when this instance of the function
    loaded this version: ISO 8601, UTC.
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
    served_version: str


class Health(msgspec.Struct, frozen=True):
    """The health of an instance; `stale` means that its last refresh failed and it serves the model it has."""

    status: Literal["ok", "stale"]
    model_version: str


def model_facts(model: ModelBundle, loaded_at: str) -> ModelFacts:
    """Return the public facts of a model."""
    manifest = model.manifest
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
        served_version=model.served_version,
    )
