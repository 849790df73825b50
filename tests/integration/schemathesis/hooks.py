"""Settings of schemathesis for the API: its time format."""

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format("iso8601", st.datetimes().map(lambda time: time.isoformat()))
