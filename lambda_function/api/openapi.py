"""The API's OpenAPI document, built from the structs that decode and encode the wire format.

    python -m lambda_function.api.openapi > docs/openapi.json

`_CLOSER` adds what code checks beyond the structs (numbers in text, ISO 8601).
"""

import sys
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec

from lambda_function.api.rides import APPLICATION_JSON, MAX_BODY_BYTES, MAX_RIDES
from lambda_function.api.wire import PROBLEM_JSON, Health, ModelFacts, Problem, encode_problem, problem_of
from lambda_function.core.events import INVALID_FIELD, MODEL_NAME, NOT_JSON, REJECT_REASONS, Prediction, RideEvent
from lambda_function.errors import RequestError

VERSION = "1.1.0"
"""The API's version: an added field is a minor step; fields are never renamed or removed."""

_RIDE_EXAMPLE = {
    "ride": {
        "PULocationID": 130,
        "DOLocationID": 205,
        "trip_distance": 3.66,
        "pickup_datetime": "2021-01-05T08:15:00",
    },
    "ride_id": 256,
}
_OTHER_RIDE_EXAMPLE = {
    "ride": {"PULocationID": 7, "DOLocationID": 138, "trip_distance": 5.1, "pickup_datetime": "2021-01-05T17:40:00"},
    "ride_id": "b7",
}
_PREDICTION_EXAMPLE = {
    "model": MODEL_NAME,
    "version": "green-2021-01-3f2a9c1d0b7e",
    "prediction": {"ride_duration": 18.23, "ride_id": 256},
    "prediction_id": "http:2c26b46b68ffc68ff99b453c1d304134",
    "interval": [13.9, 22.5],
}
_OTHER_PREDICTION_EXAMPLE = {
    "model": MODEL_NAME,
    "version": "green-2021-01-3f2a9c1d0b7e",
    "prediction": {"ride_duration": 21.07, "ride_id": "b7"},
    "prediction_id": "http:fcde2b2edba56bf408601fb721fe9b5c",
    "interval": [15.2, 27.8],
}
_MODEL_EXAMPLE = {
    "model_version": "green-2021-01-3f2a9c1d0b7e",
    "service": "green",
    "train_months": ["2021-01"],
    "validate_months": ["2021-02"],
    "validate_metrics": {"rmse_minutes": 5.11},
    "feature_names": ["trip_distance_miles", "minute_of_day"],
    "duration_range_minutes": [1.0, 60.0],
    "interval_level": 0.8,
    "loaded_at": "2021-03-01T06:00:00+00:00",
    "served_version": "green-2021-01-3f2a9c1d0b7e+2021-03-01T05",
}
_HEALTH_EXAMPLE = {"status": "ok", "model_version": "green-2021-01-3f2a9c1d0b7e"}

_ZONE = {
    "description": "TLC's LocationID, as a number or as the same number in text.",
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 265},
        {"type": "string", "pattern": "^([1-9]|[1-9][0-9]|1[0-9][0-9]|2[0-5][0-9]|26[0-5])(\\.0+)?$"},
    ],
}
_PAIR = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_CLOSER: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("Ride", "PULocationID"): _ZONE,
    ("Ride", "DOLocationID"): _ZONE,
    ("Ride", "trip_distance"): {
        "description": "Miles, as estimated at booking: a number, or the same number in text. 0, and above 60, count "
        "as not known.",
        "anyOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": "^(0|[1-9][0-9]{0,99})(\\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$"},
        ],
    },
    ("Ride", "pickup_datetime"): {
        "description": "ISO 8601, date and time. Without an offset it is New York's wall-clock time. If it is absent, "
        "TLC's names `lpep_pickup_datetime` and `tpep_pickup_datetime` are read, and then the request's arrival.",
        "type": ["string", "null"],
        "format": "iso8601",
        "default": None,
    },
    ("RideDuration", "ride_duration"): {"description": "Minutes, to two decimals.", "type": "number"},
    ("Prediction", "prediction_id"): {
        "description": "`http:` and 32 digits of the SHA-256 of the ride event's bytes, so equal bytes have one id.",
        "type": "string",
    },
    ("Prediction", "interval"): {
        "description": "Minutes, low and high. The share of durations between them is the model's level.",
        **_PAIR,
    },
    ("ModelFacts", "duration_range_minutes"): {
        "description": "Minutes, the shortest and longest that can be predicted.",
        **_PAIR,
    },
    ("Problem", "reason"): {"type": "string", "enum": list(REJECT_REASONS)},
    ("Problem", "path"): {
        "description": "The path of the invalid field in the request.",
        "type": "string",
    },
}
"""By struct and field: the schema that replaces the one derived from the struct."""


def openapi_json() -> bytes:
    """Return the document; always the same bytes."""
    return msgspec.json.format(msgspec.json.encode(openapi()), indent=2) + b"\n"


def openapi() -> dict[str, Any]:
    """Build the document: OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ridecast",
            "version": VERSION,
            "summary": "How long will a ride take, from here to there?",
            "description": "The predictor of the stream, asked over HTTP: same events, same checks, same predictions. "
            "Errors are problem details (RFC 9457) of type `about:blank`; `reason` and `path` name what is wrong "
            "with which field. API Gateway's own refusals (401, 403, 429) have its own form.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": _paths(),
        "components": {"schemas": _schemas(), "responses": _problems()},
    }


def _paths() -> dict[str, Any]:
    return {
        "/predictions": {
            "post": {
                "operationId": "predict",
                "summary": f"Predict a ride, or up to {MAX_RIDES:,}",
                "description": f"The body may have {MAX_BODY_BYTES:,} bytes.",
                "requestBody": {"required": True, "content": _ride_content()},
                "responses": {
                    "200": _answer(
                        "Every ride is predicted.",
                        _any_of("Prediction", "Results"),
                        ride=_PREDICTION_EXAMPLE,
                        rides={"results": [_PREDICTION_EXAMPLE, _OTHER_PREDICTION_EXAMPLE]},
                    ),
                    "207": _answer(
                        "Some rides of a list are, in their place problems for the others.",
                        _any_of("Results"),
                        rides={"results": [_PREDICTION_EXAMPLE, _problem(_BAD_RIDE)]},
                    ),
                    **_refs(*_PROBLEMS),
                },
            }
        },
        "/model": _get("model", "The model that answers", _any_of("ModelFacts"), _MODEL_EXAMPLE),
        "/health": _get(
            "health", "Whether there is a model to answer with, and a fresh one", _any_of("Health"), _HEALTH_EXAMPLE
        ),
        "/openapi.json": _get("openapi", "This document, OpenAPI 3.1", {"type": "object"}, None, needs_model=False),
    }


def _get(operation: str, summary: str, schema: Any, example: Any, *, needs_model: bool = True) -> dict[str, Any]:
    """Describe a path that takes GET, and HEAD: the same answer without a body."""
    examples = {operation: example} if example else {}
    refusals = _refs("NotFound", "MethodNotAllowed", "Failed", *(("NoModel",) if needs_model else ()))
    without_body = {status: {"description": f"As for GET: {status}."} for status in ("200", *refusals)}
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "responses": {"200": _answer(summary + ".", schema, **examples), **refusals},
        },
        "head": {
            "operationId": f"{operation}Head",
            "summary": "Status and headers of GET, without a body",
            "responses": without_body,
        },
    }


def _ride_content() -> dict[str, Any]:
    examples = {
        "ride": {"summary": "A ride", "value": _RIDE_EXAMPLE},
        "rides": {"summary": "Several", "value": {"rides": [_RIDE_EXAMPLE, _OTHER_RIDE_EXAMPLE]}},
    }
    return {APPLICATION_JSON: {"schema": _any_of("RideEvent", "Rides"), "examples": examples}}


def _any_of(*names: str) -> dict[str, Any]:
    options = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    return options[0] if len(options) == 1 else {"anyOf": options}


def _answer(description: str, schema: Any, **examples: Any) -> dict[str, Any]:
    content = {"schema": schema} | _examples(examples)
    return {"description": description, "content": {APPLICATION_JSON: content}}


def _examples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"examples": {name: {"value": value} for name, value in values.items()}} if values else {}


class _Refusal(NamedTuple):
    """A problem answer: when it comes, and an example as it is served."""

    description: str
    error: RequestError


_BAD_RIDE = RequestError(
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "Expected `float` >= 0.0",
    reason=INVALID_FIELD,
    path="$.rides[1].ride.trip_distance",
)
_PROBLEMS = {
    "BadRequest": _Refusal(
        "The body is not JSON.",
        RequestError(
            HTTPStatus.BAD_REQUEST,
            'the body is empty: send a ride event, or {"rides": [...]} for several',
            reason=NOT_JSON,
            path="$",
        ),
    ),
    "NotFound": _Refusal(
        "The path is another one, for example with a slash at its end.",
        RequestError(
            HTTPStatus.NOT_FOUND, "there is no such path: use one of /predictions, /model, /health, /openapi.json"
        ),
    ),
    "MethodNotAllowed": _Refusal(
        "The path does not take this method.",
        RequestError(HTTPStatus.METHOD_NOT_ALLOWED, "/predictions takes POST only"),
    ),
    "LengthRequired": _Refusal(
        "The body comes in chunks: `ridecast serve` does not read these, API Gateway does.",
        RequestError(HTTPStatus.LENGTH_REQUIRED, "send the body in one piece, with a Content-Length"),
    ),
    "TooLarge": _Refusal(
        "The body is too large.",
        RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body has {MAX_BODY_BYTES + 1:,} bytes; the limit is {MAX_BODY_BYTES:,}: send fewer rides at once",
        ),
    ),
    "UnsupportedMediaType": _Refusal(
        "The body is not said to be JSON.",
        RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send JSON with the header content-type: {APPLICATION_JSON}"),
    ),
    "Unprocessable": _Refusal(
        "The body is no ride event and no list of them, or the one ride cannot be predicted.",
        RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            'Expected `object`, got `array`: send a ride event, or {"rides": [...]} for several',
            reason=INVALID_FIELD,
            path="$",
        ),
    ),
    "Failed": _Refusal(
        "Something went wrong; the function's log says what.",
        RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error: the function's log has the details"),
    ),
    "NoModel": _Refusal(
        "There is no model yet.",
        RequestError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "no model can be loaded: release one to the channel that this API follows, or try again later",
        ),
    ),
}
"""By name. The code writes each example's text; a test compares it with the answer to such a request."""


def _refs(*names: str) -> dict[str, Any]:
    return {str(_PROBLEMS[name].error.status.value): {"$ref": f"#/components/responses/{name}"} for name in names}


def _problem(error: RequestError) -> Any:
    return msgspec.json.decode(encode_problem(problem_of(error)))


def _problems() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    problems: dict[str, Any] = {
        name: {
            "description": refusal.description,
            "content": {PROBLEM_JSON: {"schema": schema} | _examples({name: _problem(refusal.error)})},
        }
        for name, refusal in _PROBLEMS.items()
    }
    seconds = {"description": "Seconds until it is worth asking again.", "schema": {"type": "integer", "minimum": 1}}
    problems["NoModel"]["headers"] = {"Retry-After": seconds}
    methods = {"description": "The methods that the path takes.", "schema": {"type": "string"}}
    problems["MethodNotAllowed"]["headers"] = {"Allow": methods}
    return problems


def _schemas() -> dict[str, Any]:
    structs = (RideEvent, Prediction, Problem, ModelFacts, Health)
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    for (struct, field), schema in _CLOSER.items():
        schemas[struct]["properties"][field] = schema
    schemas["Rides"] = {
        "title": "Rides",
        "description": "A list of ride events. A bad one among them does not keep the others from being predicted.",
        "type": "object",
        "properties": {
            "rides": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/RideEvent"},
                "minItems": 1,
                "maxItems": MAX_RIDES,
            }
        },
        "required": ["rides"],
    }
    schemas["Results"] = {
        "title": "Results",
        "description": "For each ride of the list, in its order, a prediction or a problem.",
        "type": "object",
        "properties": {
            "results": {
                "type": "array",
                "items": {
                    "anyOf": [{"$ref": "#/components/schemas/Prediction"}, {"$ref": "#/components/schemas/Problem"}]
                },
                "minItems": 1,
                "maxItems": MAX_RIDES,
            }
        },
        "required": ["results"],
    }
    return dict(sorted(schemas.items()))


if __name__ == "__main__":
    sys.stdout.buffer.write(openapi_json())
