"""One invocation: the part of Lambda's context that functions use, and a block without garbage collection."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Context(Protocol):
    """The part of Lambda's context that the functions use."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda kills the invocation."""


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Turn the cyclic garbage collector off: it would scan 10,000 records and find no cycle.

    Measured on a full batch: 0.15 of 5 µs a ride.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
