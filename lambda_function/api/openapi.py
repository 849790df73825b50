"""The API's OpenAPI document, built from the structs that decode and encode the wire format.

    python -m lambda_function.api.openapi > docs/openapi.json

`_CLOSER` adds what code checks beyond the structs (numbers in text, ISO 8601).
"""

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from lambda_function.api.rides import APPLICATION_JSON, MAX_BODY_BYTES, MAX_RIDES
from lambda_function.api.wire import PROBLEM_JSON, Health, ModelFacts, Problem
from lambda_function.core.events import MODEL_NAME, REJECT_REASONS, Prediction, RideEvent

VERSION = "1.0.0"
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
_PREDICTION_EXAMPLE = {
    "model": MODEL_NAME,
    "version": "green-2021-01-3f2a9c1d0b7e",
    "prediction": {"ride_duration": 18.23, "ride_id": 256},
    "prediction_id": "http:2c26b46b68ffc68ff99b453c1d304134",
}
_PROBLEM_EXAMPLE = {
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "Expected `float` >= 0.0",
    "reason": "invalid_field",
    "path": "$.rides[1].ride.trip_distance",
}

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
                    "200": _answer("Every ride is predicted.", {"$ref": "#/components/schemas/Prediction"}, "Results"),
                    "207": _answer("Some rides of a list are, in their place problems for the others.", "Results"),
                    **_refs("BadRequest", "TooLarge", "UnsupportedMediaType", "Unprocessable"),
                    **_refs("Failed", "NoModel"),
                },
            }
        },
        "/model": _get("model", "The model that answers", "ModelFacts"),
        "/health": _get("health", "Whether there is a model to answer with, and a fresh one", "Health"),
        "/openapi.json": {
            "get": {
                "operationId": "openapi",
                "summary": "This document",
                "responses": {"200": _answer("OpenAPI 3.1.", {"type": "object"}), **_refs("Failed")},
            }
        },
    }


def _get(operation: str, summary: str, schema: str) -> dict[str, Any]:
    responses = {"200": _answer(summary + ".", schema), **_refs("Failed", "NoModel")}
    return {"get": {"operationId": operation, "summary": summary, "responses": responses}}


def _ride_content() -> dict[str, Any]:
    examples = {
        "ride": {"summary": "A ride", "value": _RIDE_EXAMPLE},
        "rides": {"summary": "Several", "value": {"rides": [_RIDE_EXAMPLE, {**_RIDE_EXAMPLE, "ride_id": "b7"}]}},
    }
    schema = {"anyOf": [{"$ref": "#/components/schemas/RideEvent"}, {"$ref": "#/components/schemas/Rides"}]}
    return {APPLICATION_JSON: {"schema": schema, "examples": examples}}


def _answer(description: str, *schemas: str | dict[str, Any]) -> dict[str, Any]:
    options = [one if isinstance(one, dict) else {"$ref": f"#/components/schemas/{one}"} for one in schemas]
    schema = options[0] if len(options) == 1 else {"anyOf": options}
    return {"description": description, "content": {APPLICATION_JSON: {"schema": schema}}}


_PROBLEMS = {
    "BadRequest": ("400", "The body is not JSON."),
    "TooLarge": ("413", "The body is too large."),
    "UnsupportedMediaType": ("415", "The body is not said to be JSON."),
    "Unprocessable": ("422", "The body is no ride event and no list of them, or the one ride cannot be predicted."),
    "Failed": ("500", "Something went wrong; the function's log says what."),
    "NoModel": ("503", "There is no model yet."),
}


def _refs(*names: str) -> dict[str, Any]:
    return {_PROBLEMS[name][0]: {"$ref": f"#/components/responses/{name}"} for name in names}


def _problems() -> dict[str, Any]:
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    problems: dict[str, Any] = {
        name: {"description": description, "content": content} for name, (_, description) in _PROBLEMS.items()
    }
    seconds = {"description": "Seconds until it is worth asking again.", "schema": {"type": "integer", "minimum": 1}}
    problems["NoModel"]["headers"] = {"Retry-After": seconds}
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
        "examples": [{"results": [_PREDICTION_EXAMPLE, _PROBLEM_EXAMPLE]}],
    }
    return dict(sorted(schemas.items()))


if __name__ == "__main__":
    sys.stdout.buffer.write(openapi_json())
