"""Settings of schemathesis for the API: its time format, and rules that JSON Schema cannot express."""

from typing import Any

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format("iso8601", st.datetimes().map(lambda time: time.isoformat()))


@schemathesis.hook
def map_body(context: object, body: Any) -> Any:
    """Writes 68.0 as 68: to JSON Schema they are the same integer, to a ride event only the latter is one."""
    if isinstance(body, float) and body.is_integer():
        return int(body)
    if isinstance(body, list):
        return [map_body(context, item) for item in body]
    if isinstance(body, dict):
        return {name: map_body(context, value) for name, value in body.items()}
    return body
