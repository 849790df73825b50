"""The records of a stream on the local AWS."""

from typing import Any

from infra.operate.streams import Record, StreamReader


def read_stream(kinesis: Any, name: str) -> list[Record]:
    """Read a stream from its beginning until a read is empty."""
    reader = StreamReader(kinesis, name, "TRIM_HORIZON")
    found: list[Record] = []
    while records := reader.read_once():
        found += records
    return found
