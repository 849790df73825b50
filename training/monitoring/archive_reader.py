"""Read the archive: the records of an hour's objects. An object that is damaged is named and left out.

Of the hours after a join's own, few records matter. A filter looks for them by one field, and the others are not
decoded: that takes a third of the time.
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import compress
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from lambda_function.core.archive_lines import ArchivedRecord, archive_prefix, decode_lines
from lambda_function.errors import ArchiveError
from training.monitoring.hours import Hour
from training.registry.bucket import Bucket

_DAMAGED_GZIP = (OSError, EOFError, zlib.error)
_NOT_THE_FORM = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class ObjectRecords(NamedTuple):
    """Records of one object, in its order."""

    key: str
    records: list[ArchivedRecord]


class _OfRide(msgspec.Struct, gc=False):
    ride_id: str | int


class _RideLine(msgspec.Struct, gc=False):
    data: _OfRide


class _OfPrediction(msgspec.Struct, gc=False):
    prediction_id: str


class _PredictionLine(msgspec.Struct, gc=False):
    data: _OfPrediction


@dataclass(frozen=True, slots=True)
class Filter:
    """Chooses lines by one field of their data; a line without that field, or in base64, is always chosen.

    Attributes:
        decoder: Decodes the field of a line and nothing else.
        field: Returns it from what was decoded.
        is_wanted: Returns whether a line with this text in the field is chosen.
    """

    decoder: msgspec.json.Decoder[Any]
    field: Callable[[Any], str | int]
    is_wanted: Callable[[str], bool]

    def choose(self, lines: bytes) -> bytes:
        """Return the lines to decode."""
        each = lines.removesuffix(b"\n").split(b"\n")
        try:
            decoded = self.decoder.decode_lines(lines)
        except _NOT_THE_FORM:
            decoded = []
        if len(decoded) != len(each):
            return b"\n".join([line for line in each if line and self._may_be_wanted(line)])
        return b"\n".join(compress(each, map(self.is_wanted, map(str, map(self.field, decoded)))))

    def _may_be_wanted(self, line: bytes) -> bool:
        try:
            return self.is_wanted(str(self.field(self.decoder.decode(line))))
        except _NOT_THE_FORM:
            return True


def by_ride_key(is_wanted: Callable[[str], bool]) -> Filter:
    """Choose ride events, or outcomes, by their `ride_key`."""
    return Filter(msgspec.json.Decoder(_RideLine), attrgetter("data.ride_id"), is_wanted)


def by_prediction_id(is_wanted: Callable[[str], bool]) -> Filter:
    """Choose predictions by their id."""
    return Filter(msgspec.json.Decoder(_PredictionLine), attrgetter("data.prediction_id"), is_wanted)


@dataclass(slots=True)
class ArchiveReader:
    """Reads objects of the archive, and remembers what it has read.

    Attributes:
        problems: Why an object was left out, by key.
        n_objects: Objects read, by kind.
        n_bytes: Their size as stored.
    """

    bucket: Bucket
    problems: dict[str, str] = field(default_factory=dict)
    n_objects: Counter[str] = field(default_factory=Counter)
    n_bytes: int = 0
    _sizes: dict[str, int] = field(default_factory=dict)

    def keys(self, kind: str, hour: Hour) -> list[str]:
        """List the objects of a kind and hour, sorted."""
        return sorted(self.bucket.keys(archive_prefix(kind, hour.partition)))

    def read(self, kind: str, hour: Hour, chosen: Filter | None = None) -> Iterator[ObjectRecords]:
        """Read the objects of a kind and hour; with a filter only what it chooses.

        Raises:
            BucketError: S3 fails.
        """
        yield from self.read_keys(kind, self.keys(kind, hour), chosen)

    def read_keys(self, kind: str, keys: list[str], chosen: Filter | None = None) -> Iterator[ObjectRecords]:
        """Read objects by key, as `read`."""
        for key, n_bytes, lines in self.bucket.each(self._lines, keys):
            self._count(kind, key, n_bytes)
            records = self._decode(key, chosen.choose(lines) if chosen and isinstance(lines, bytes) else lines)
            if records is not None:
                yield ObjectRecords(key, records)

    def _decode(self, key: str, lines: bytes | str) -> list[ArchivedRecord] | None:
        """Return the records of an object; None if it is damaged, which is noted."""
        if isinstance(lines, str):
            self.problems[key] = lines
            return None
        try:
            return decode_lines(lines)
        except ArchiveError as error:
            self.problems[key] = str(error)
            return None

    def _lines(self, key: str) -> tuple[str, int, bytes | str]:
        """Return an object's key, size and lines; in place of the lines what is wrong with it."""
        stored = self.bucket.read(key)
        if stored is None:
            return key, 0, "it has vanished since it was listed"
        try:
            return key, len(stored.body), gzip.decompress(stored.body) if stored.body else "it is empty"
        except _DAMAGED_GZIP as error:
            return key, len(stored.body), f"it is no whole gzip file: {error}"

    def _count(self, kind: str, key: str, n_bytes: int) -> None:
        """Count an object once, however often it is read."""
        if key not in self._sizes:
            self._sizes[key] = n_bytes
            self.n_objects[kind] += 1
            self.n_bytes += n_bytes
