"""Bodies of a bucket's objects in a file, so that the memory of a soak does not grow with its archive."""

import os
from collections.abc import Iterator, MutableMapping
from typing import IO


class BodiesInFile(MutableMapping[str, bytes]):
    """Bodies by key, one behind the other in a file; one that is replaced or removed leaves its bytes there."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}  # offset and size
        self._end = 0

    def __getitem__(self, key: str) -> bytes:
        offset, n_bytes = self._places[key]
        return os.pread(self._file.fileno(), n_bytes, offset)

    def __setitem__(self, key: str, body: bytes) -> None:
        os.pwrite(self._file.fileno(), body, self._end)
        self._places[key] = self._end, len(body)
        self._end += len(body)

    def __delitem__(self, key: str) -> None:
        del self._places[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
