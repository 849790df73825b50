"""Late records: outcomes and predictions whose ride event came so long before them that its first pass is over.

The join of each hour stores the late records that arrived in it. So the second pass of an hour reads the archive of the
hours that its first pass read, and of the two days behind them the late records alone: few, where the archive has all.

    late/<kind>/dt=YYYY-MM-DD/hh=HH/<digest>.ndjson.gz

The lines are those of the archive, sorted. The digest is that of the keys of the hour's archive objects, and of how
many hours a first pass reads: late records that were chosen from fewer objects, or for another horizon, are not found,
and the archive is read instead. It is also read if an object was damaged, or if too many records were late. More late
records than needed change no result: each is matched as if it came from the archive.
"""

import gzip
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lambda_function.core.archive_lines import SUFFIX, ArchivedRecord, archive_prefix, decode_lines
from lambda_function.errors import ArchiveError
from training.monitoring.hours import Hour
from training.monitoring.join.archive_reader import ArchiveReader, Filter, list_hours
from training.registry.bucket import Bucket

PREFIX = "late"

MAX_LINES = 100_000
"""Of an hour's late records of a kind. Of more, as of rides from before the archive, none is stored: the lines would
need memory in proportion, and reading the archive costs about the same."""

_DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True)
class LateRecords:
    """Stores and reads late records.

    Attributes:
        bucket: Where they and the archive are.
        reach_hours: How many hours after its own the first pass of an hour reads.
    """

    bucket: Bucket
    reach_hours: int
    _keys: dict[tuple[str, Hour], str | None] = field(default_factory=dict)

    def key(self, kind: str, hour: Hour) -> str | None:
        """Return the key for an hour as it was archived when this was asked first; None if the hour has no object."""
        if (kind, hour) not in self._keys:
            self._look_up(kind, [hour])
        return self._keys[kind, hour]

    def _look_up(self, kind: str, hours: Sequence[Hour]) -> None:
        """Find the keys of those hours that have none yet, by one listing. The hours ascend, in a row."""
        unknown = [hour for hour in hours if (kind, hour) not in self._keys]
        keys: dict[str, list[str]] = defaultdict(list)
        for one in list_hours(self.bucket, kind, unknown[0], unknown[-1]) if unknown else ():
            keys[one.key[: one.key.rindex("/") + 1]].append(one.key)
        for hour in unknown:
            self._keys[kind, hour] = self._key_of(kind, hour, keys[archive_prefix(kind, hour.partition)])

    def _key_of(self, kind: str, hour: Hour, archived: Sequence[str]) -> str | None:
        keys = sorted(archived)
        digest = hashlib.sha256("\n".join([str(self.reach_hours), *keys]).encode()).hexdigest()[:_DIGEST_DIGITS]
        return f"{PREFIX}/{kind}/{hour.partition}/{digest}{SUFFIX}" if keys else None

    def store(
        self, reader: ArchiveReader, kind: str, hour: Hour, chosen: Filter | None,
        is_late: Callable[[ArchivedRecord], bool],
    ) -> None:  # fmt: skip
        """Store the late records of an hour, if they are not stored yet. `key` must have been asked before the join.

        Args:
            reader: Reads the archive; it has read the hour before, so that it knows the damaged objects.
            kind: Of the records.
            hour: When they arrived.
            chosen: Chooses the lines that may be late; None if none is.
            is_late: Whether a record that was chosen is late.
        """
        key, folder = self.key(kind, hour), archive_prefix(kind, hour.partition)
        if key is None or any(damaged.startswith(folder) for damaged in reader.problems):
            return
        if self._lines(kind, hour) is not None:
            return
        found: set[bytes] = set()
        for _, lines in reader.lines(reader.keys(kind, hour)) if chosen else ():
            some = chosen.choose(lines) if chosen else b""
            each = (line for line in some.split(b"\n") if line.strip())
            found.update(line for line, record in zip(each, decode_lines(some), strict=True) if is_late(record))
            if len(found) > MAX_LINES:
                return
        archived_now = list(self.bucket.keys(folder))
        if self._key_of(kind, hour, archived_now) == key:  # else a ride may have been forgotten meanwhile
            self.bucket.write(key, gzip.compress(b"".join(line + b"\n" for line in sorted(found)), mtime=0))

    def records(self, kind: str, hours: Iterable[Hour]) -> Iterator[ArchivedRecord]:
        """Read the late records of hours.

        Raises:
            ArchiveError: The archive of an hour must be read instead.
        """
        each = list(hours)
        self._look_up(kind, each)
        for lines in self.bucket.each(lambda hour: self._lines(kind, hour), each):
            if lines is None:
                raise ArchiveError("an hour has no late records")
            yield from decode_lines(lines)

    def read(
        self, reader: ArchiveReader, kind: str, hours: Iterable[Hour], chosen: Filter
    ) -> Iterator[list[ArchivedRecord]]:
        """Read the late records of hours; of an hour without them, the records of the archive."""
        each = list(hours)
        self._look_up(kind, each)
        for hour, lines in self.bucket.each(lambda hour: (hour, self._lines(kind, hour)), each):
            if (records := _choose(lines, chosen)) is not None:
                yield records
            else:
                yield from (one.records for one in reader.read(kind, hour, chosen))

    def _lines(self, kind: str, hour: Hour) -> bytes | None:
        key = self.key(kind, hour)
        if key is None:
            return b""
        stored = self.bucket.read(key)
        try:
            return gzip.decompress(stored.body) if stored and stored.body else None
        except (OSError, EOFError, zlib.error):
            return None


def _choose(lines: bytes | None, chosen: Filter) -> list[ArchivedRecord] | None:
    """Return the records that a filter chooses; None without lines, or if they are damaged."""
    try:
        return None if lines is None else decode_lines(chosen.choose(lines))
    except ArchiveError:
        return None
