"""Divide a busy hour's records by ride, so that a join needs the memory of one part only.

Records of one ride are in one part, so each part is a join of its own. The objects of the archive are read once, and
their lines are written to a local folder for each part, under the same keys.
"""

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from lambda_function.core.archive_lines import archive_prefix
from lambda_function.core.records import PREDICTIONS, RIDES
from training.monitoring.hours import Hour
from training.monitoring.join.archive_reader import ArchiveReader, by_predicted_ride, by_ride_key


def part_of(key: str, n: int) -> int:
    """Return the number of the part that a ride is in, from its key."""
    return crc32(key.encode("utf-8", "surrogatepass")) % n


@dataclass(frozen=True, slots=True)
class Part:
    """One of `n` parts of the rides, by a hash of the ride's key.

    >>> Part().holds("256"), [Part(index, 2).holds("256") for index in range(2)]
    (True, [False, True])
    """

    index: int = 0
    n: int = 1

    def holds(self, key: str) -> bool:
        """Return whether a ride is in the part."""
        return self.n == 1 or part_of(key, self.n) == self.index


WHOLE = Part()
"""All rides."""


def n_parts(reader: ArchiveReader, hour: Hour, bytes_per_part: int) -> int:
    """Return in how many parts an hour is joined; it follows from the sizes of its objects."""
    prefix = archive_prefix(RIDES, hour.partition)
    n_bytes = sum(listed.n_bytes for listed in reader.bucket.list_objects(prefix))
    return max(1, -(-n_bytes // bytes_per_part))


@dataclass(slots=True)
class DividedArchive:
    """The objects of an archive, divided when they are first needed."""

    reader: ArchiveReader
    folder: Path
    n: int
    _done: set[tuple[str, Hour]] = field(default_factory=set)

    def parts(self) -> Iterator[tuple[Part, ArchiveReader]]:
        """Return the parts with their readers; a single part is read from the archive itself."""
        if self.n == 1:
            yield WHOLE, self.reader
            return
        for index in range(self.n):
            part = Part(index, self.n)
            yield part, PartReader(self.reader.bucket, self.reader.problems, archive=self, part=part)

    def files(self, part: Part, kind: str, hour: Hour) -> list[str]:
        """Return the keys of the objects of an hour that are divided, sorted."""
        if (kind, hour) not in self._done:
            self._divide(kind, hour)
            self._done.add((kind, hour))
        folder = self.path(part, "")
        return sorted(
            path.relative_to(folder).as_posix() for path in (folder / archive_prefix(kind, hour.partition)).glob("*")
        )

    def path(self, part: Part, key: str) -> Path:
        """Return the file with a part of an object."""
        return self.folder / str(part.index) / key

    def _divide(self, kind: str, hour: Hour) -> None:
        by_ride = (by_predicted_ride if kind == PREDICTIONS else by_ride_key)(bool)
        parts = [Part(index, self.n) for index in range(self.n)]
        for key, lines in self.reader.lines(self.reader.keys(kind, hour)):
            divided: list[list[bytes]] = [[] for _ in parts]
            for line, field_of_line in zip(*by_ride.fields(lines), strict=True):
                for mine in divided if field_of_line is None else (divided[part_of(field_of_line, self.n)],):
                    mine.append(line)
            for part, mine in zip(parts, divided, strict=True):
                path = self.path(part, key)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(b"\n".join(mine), 1, mtime=0))


@dataclass
class PartReader(ArchiveReader):
    """Reads one part of each object."""

    archive: DividedArchive = field(kw_only=True)
    part: Part = field(kw_only=True)

    @property
    def whole(self) -> ArchiveReader:
        """The reader of all records."""
        return self.archive.reader

    def keys(self, kind: str, hour: Hour) -> list[str]:
        """List the objects of a kind and hour, sorted."""
        return self.archive.files(self.part, kind, hour)

    def lines(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Read the part's lines of objects by key."""
        return ((key, gzip.decompress(self.archive.path(self.part, key).read_bytes())) for key in keys)
