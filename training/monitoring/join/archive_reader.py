"""Read the archive: the records of an hour's objects. An object that is damaged is named and left out.

Of the hours after a join's own, few records matter. A filter looks for them by one field, and the others are not
decoded: that takes a third of the time.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import compress, takewhile
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from lambda_function.core.archive_lines import PREFIX, ArchivedRecord, archive_prefix, decode_lines
from lambda_function.errors import ArchiveError
from training.errors import BucketError
from training.monitoring.hours import Hour
from training.registry.bucket import Bucket, Listed

_DAMAGED_GZIP = (OSError, EOFError, zlib.error)
_NOT_THE_FORM = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def list_hours(bucket: Bucket, kind: str, first: Hour, last: Hour) -> Iterator[Listed]:
    """List a kind's objects of hours in a row, by one listing: most requests take as long as a thousand objects."""
    end = archive_prefix(kind, (last + 1).partition)
    before = archive_prefix(kind, first.partition).removesuffix("/")
    listed = bucket.list_objects(f"{PREFIX}/{kind}/", start_after=before)
    return takewhile(lambda one: one.key < end, listed)


class ObjectRecords(NamedTuple):
    """Records of one object, in its order."""

    key: str
    records: list[ArchivedRecord]


class _OfRide(msgspec.Struct, gc=False):
    ride_id: str | int


class _RideLine(msgspec.Struct, gc=False):
    data: _OfRide


class _OfPredictedRide(msgspec.Struct, gc=False):
    prediction: _OfRide


class _PredictedRideLine(msgspec.Struct, gc=False):
    data: _OfPredictedRide


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
        each, fields = self.fields(lines)
        if None in fields:
            wanted = [field is None or self.is_wanted(field) for field in fields]
            return b"\n".join(compress(each, wanted))
        return b"\n".join(compress(each, map(self.is_wanted, fields)))  # type: ignore[arg-type] # none is None

    def fields(self, lines: bytes) -> tuple[list[bytes], list[str | None]]:
        """Return each line and the text in its field; None for a line without."""
        each = lines.removesuffix(b"\n").split(b"\n")
        with suppress(*_NOT_THE_FORM):
            decoded = self.decoder.decode_lines(lines)
            if len(decoded) == len(each):
                return each, list(map(str, map(self.field, decoded)))
        each = [line for line in each if line]
        return each, list(map(self._field, each))

    def _field(self, line: bytes) -> str | None:
        try:
            return str(self.field(self.decoder.decode(line)))
        except _NOT_THE_FORM:
            return None


def by_ride_key(is_wanted: Callable[[str], bool]) -> Filter:
    """Choose ride events, or outcomes, by their `ride_key`."""
    return Filter(msgspec.json.Decoder(_RideLine), attrgetter("data.ride_id"), is_wanted)


def by_prediction_id(is_wanted: Callable[[str], bool]) -> Filter:
    """Choose predictions by their id."""
    return Filter(msgspec.json.Decoder(_PredictionLine), attrgetter("data.prediction_id"), is_wanted)


def by_predicted_ride(is_wanted: Callable[[str], bool]) -> Filter:
    """Choose predictions by the `ride_key` of their ride."""
    return Filter(msgspec.json.Decoder(_PredictedRideLine), attrgetter("data.prediction.ride_id"), is_wanted)


@dataclass
class ArchiveReader:
    """Reads objects of the archive, and remembers what it has read.

    Attributes:
        problems: Why an object was left out, by key.
    """

    bucket: Bucket
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def whole(self) -> "ArchiveReader":
        """The reader of all records; itself, if it does not read a part."""
        return self

    def keys(self, kind: str, hour: Hour) -> list[str]:
        """List the objects of a kind and hour, sorted."""
        return sorted(self.bucket.keys(archive_prefix(kind, hour.partition)))

    def read(self, kind: str, hour: Hour, chosen: Filter | None = None) -> Iterator[ObjectRecords]:
        """Read the objects of a kind and hour; with a filter only what it chooses.

        Raises:
            BucketError: S3 fails.
        """
        yield from self.read_keys(self.keys(kind, hour), chosen)

    def read_keys(self, keys: Sequence[str], chosen: Filter | None = None) -> Iterator[ObjectRecords]:
        """Read objects by key, as `read`."""
        for key, lines in self.lines(keys):
            try:
                records = decode_lines(chosen.choose(lines) if chosen else lines)
            except ArchiveError as error:
                self.problems[key] = str(error)
            else:
                yield ObjectRecords(key, records)

    def lines(self, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Read the lines of objects by key."""
        for key, lines in self.bucket.each(self._unpack, keys):
            if isinstance(lines, bytes):
                yield key, lines
            else:
                self.problems[key] = lines

    def _unpack(self, key: str) -> tuple[str, bytes | str]:
        """Return an object's key and lines; in place of the lines what is wrong with it."""
        stored = self.bucket.read(key)
        if stored is None:  # rewritten under another name, which was not listed: to go on would lose its records
            raise BucketError(self.bucket.name, key, "has vanished since it was listed: try again")
        try:
            return key, gzip.decompress(stored.body) if stored.body else "it is empty"
        except _DAMAGED_GZIP as error:
            return key, f"it is no whole gzip file: {error}"
