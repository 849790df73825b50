"""Objects without a ride: an archive object, late records, labelled rides or rejects. Pure but for Parquet.

A record holds a ride if its data have the ride's id under the name `ride_id`, anywhere and in any spelling, in one of
several documents or in text that is no JSON. Data without any `ride_id` belong to the ride of their partition key. So
no prediction is left out whose ride event stays, and the audit finds nothing lost.
"""

import base64
import gzip
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from lambda_function.aws.archive_store import compress
from lambda_function.aws.rejects import PREFIX as REJECTS
from lambda_function.aws.rejects import reject_key
from lambda_function.core.archive_lines import PREFIX as ARCHIVE
from lambda_function.core.archive_lines import archive_key, decode_lines, digest_of
from lambda_function.core.events import Reject, decode_reject, partition_key
from lambda_function.core.spelling import respell_outcome
from lambda_function.errors import ArchiveError
from training.data.labelled import FOLDER as LABELLED
from training.monitoring.join.late import PREFIX as LATE
from training.monitoring.join.ride_table import ROWS_PER_GROUP, SAME_SCHEMA

_NAME = "".join(rf"(?:{letter}|\\u00(?i:{ord(letter):02x}))" for letter in "ride_id")
_RIDE_ID = re.compile(rf'"{_NAME}"\s*:\s*("(?:[^"\\]|\\.)*"|[-+.0-9eE]+)'.encode(), re.DOTALL)
_UNUSUAL = re.compile(rb'"base64":|\\|"ride_id"\s*:\s*(-0|[-+.0-9]+[eE])')  # the id may be there in another spelling


class UnreadableError(Exception):
    """An object, or a part of one, that cannot be searched."""


class Rest(NamedTuple):
    """What is left of an object that held the ride."""

    key: str
    body: bytes  # empty if nothing is left
    n_removed: int  # records or rows


@dataclass(frozen=True)
class RideSearch:
    """Finds the records of one ride.

    Args:
        ride_id: The JSON form as text: ``256`` is the id 256 and the id "256".
    """

    ride_id: str
    _key: str = field(init=False)
    _usual: re.Pattern[bytes] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", partition_key(self.ride_id))
        text = re.escape(json.dumps(self.ride_id, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass"))
        usual = rb'"ride_id"\s*:\s*"?' + text + rb'|"key":"' + re.escape(self._key.encode("utf-8", "surrogatepass"))
        object.__setattr__(self, "_usual", re.compile(usual))

    def may_be_in(self, lines: bytes) -> bool:
        """Return False if no line of an archive object holds the ride, much faster than `holds` does."""
        return bool(self._usual.search(lines) or _UNUSUAL.search(lines))

    def holds(self, key: str, data: bytes) -> bool:
        """Return whether a record with this partition key and these data holds the ride."""
        found = {_id_text(token) for token in _RIDE_ID.findall(data)}
        return self.ride_id in found if found else key == self._key


def _id_text(token: bytes) -> str:
    """Return the text form of an id as it is written in JSON."""
    try:
        if token.startswith(b'"'):
            return str(json.loads(token.decode("utf-8", "surrogateescape"), strict=False))
        return respell_outcome(b'{"ride_id":%b}' % token)[len(b'{"ride_id":') : -1].decode()
    except (ValueError, msgspec.DecodeError):
        return token.decode("utf-8", "replace")


def archive_without(search: RideSearch, key: str, body: bytes) -> Rest | None:
    """Return an archive object without the ride; None if it does not hold it.

    Raises:
        UnreadableError: The object is damaged.
    """
    rest = _lines_without(search, body)
    if rest is None or not rest.first:
        return rest and Rest(key, b"", rest.n_removed)
    _, kind, *hour, _ = key.split("/")
    shard, sequence_number = rest.first.split(":")[:2]
    name = archive_key(kind, "/".join(hour), shard, sequence_number, digest_of(rest.lines))
    return Rest(name, compress(rest.lines), rest.n_removed)


def late_without(search: RideSearch, key: str, body: bytes) -> Rest | None:
    """Return an object of late records without the ride, which may be empty; None if it does not hold it.

    Raises:
        UnreadableError: The object is damaged.
    """
    rest = _lines_without(search, body)
    return rest and Rest(key, compress(rest.lines), rest.n_removed)


class _Lines(NamedTuple):
    """Lines without the ride."""

    lines: bytes
    first: str  # the id of the first record; empty without lines
    n_removed: int


def _lines_without(search: RideSearch, body: bytes) -> _Lines | None:
    try:
        lines = gzip.decompress(body)
        if not search.may_be_in(lines):
            return None
        records = decode_lines(lines)
    except (OSError, EOFError, zlib.error, ArchiveError) as error:
        raise UnreadableError(str(error)) from error
    stays = [not search.holds(record.key, record.data) for record in records]
    if all(stays):
        return None
    raw = (line for line in lines.split(b"\n") if line)
    kept = b"".join(line + b"\n" for line, one in zip(raw, stays, strict=True) if one)
    first = next((record.id for record, one in zip(records, stays, strict=True) if one), "")
    return _Lines(kept, first, len(stays) - sum(stays))


def rejects_without(search: RideSearch, key: str, body: bytes) -> Rest | None:
    """Return an object of rejects without those of the ride; None if it holds none.

    Raises:
        UnreadableError: A line cannot be read, and no other holds the ride.
    """
    kept: list[bytes] = []
    left: list[Reject] = []
    removed: list[Reject] = []
    problem = ""
    for line in filter(None, body.split(b"\n")):
        try:
            reject = decode_reject(line)
            data = base64.b64decode(reject.data, validate=True)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            kept.append(line)
            problem = f"a line cannot be read: {error}"
            continue
        if search.holds(reject.partition_key, data):
            removed.append(reject)
        else:
            kept.append(line)
            left.append(reject)
    if removed:
        rest = b"".join(line + b"\n" for line in kept)
        return Rest(reject_key(key.split("/")[1], (left or removed)[0], rest), rest, len(removed))
    if problem:
        raise UnreadableError(problem)
    return None


def labelled_without(search: RideSearch, key: str, body: bytes) -> Rest | None:
    """Return a file of labelled rides without the ride, which may be empty; None if it does not hold it.

    Raises:
        UnreadableError: The file is damaged.
    """
    import duckdb  # noqa: PLC0415 - an extra, needed for labelled rides only

    with TemporaryDirectory() as folder, duckdb.connect() as connection:
        old, new = Path(folder, "old.parquet"), Path(folder, "new.parquet")
        old.write_bytes(body)
        try:
            connection.execute(SAME_SCHEMA)
            left = connection.read_parquet(str(old)).filter(f"ride_id <> {_quoted(search.ride_id)}")
            n_removed = len(connection.read_parquet(str(old))) - len(left)
            if not n_removed:
                return None
            left.write_parquet(str(new), compression="zstd", row_group_size=ROWS_PER_GROUP)
        except duckdb.Error as error:
            raise UnreadableError(str(error).replace(str(old), key)) from error
        return Rest(key, new.read_bytes(), n_removed)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


STORES: dict[str, Callable[[RideSearch, str, bytes], Rest | None]] = {
    f"{ARCHIVE}/": archive_without,
    f"{LATE}/": late_without,
    f"{LABELLED}/": labelled_without,
    f"{REJECTS}/": rejects_without,
}
"""By the prefix of their keys."""
