"""A function that breaks the promise: it fails once, and then drops the last record of each batch in silence."""

import importlib
from itertools import count
from typing import Any

import lambda_function.handler

_real = importlib.reload(lambda_function.handler)  # its clients belong to the environment of now
_calls = count(1)


def lambda_handler(event: dict[str, Any], context: Any) -> object:
    """Handles a batch, badly."""
    if next(_calls) == 1:
        raise RuntimeError("failing once, on purpose")
    return _real.lambda_handler({"Records": event["Records"][:-1]}, context)
