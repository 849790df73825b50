"""A bucket in memory for tens of thousands of objects: listings find their keys by halving, times are simulated."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from infra.local.s3 import MemoryS3
from training.registry.folder_s3 import Check

_BEHIND_ALL = chr(0x10FFFF)


def _real_time_s() -> float:
    return datetime.now(UTC).timestamp()


@dataclass
class SortedS3(MemoryS3):
    """A bucket in memory whose keys are kept sorted. Objects come and go by its methods only.

    Attributes:
        clock: Unix time in seconds, for the times of objects.
    """

    clock: Callable[[], float] = field(default=_real_time_s, kw_only=True)
    _sorted: list[str] = field(default_factory=list, init=False)

    def _write(self, key: str, body: bytes, check: Check | None) -> None:
        is_new = key not in self.objects
        super()._write(key, body, check)
        self.modified[key] = datetime.fromtimestamp(self.clock(), UTC)
        if is_new:
            insort(self._sorted, key)

    def _delete(self, key: str) -> None:
        if key in self.objects:
            del self._sorted[bisect_left(self._sorted, key)]
        super()._delete(key)

    def _first_keys(self, prefix: str, after: str, n_keys: int) -> list[str]:
        begin = max(bisect_left(self._sorted, prefix), bisect_right(self._sorted, after))
        return self._sorted[begin : min(begin + n_keys, bisect_left(self._sorted, prefix + _BEHIND_ALL))]
