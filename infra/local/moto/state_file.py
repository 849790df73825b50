"""A file with the streams' records and the buckets' objects, so that they outlive the server. SQLite, one process.

What is committed survives the end of the process at any moment.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from training.errors import UserError

FORMAT = 1

_MAGIC = b"SQLite format 3"

_SCHEMA = """
CREATE TABLE shards (stream TEXT, number INTEGER, starting_hash TEXT, ending_hash TEXT, parent TEXT,
    adjacent_parent TEXT, is_open INTEGER, first_number TEXT, PRIMARY KEY (stream, number)) WITHOUT ROWID;
CREATE TABLE records (stream TEXT, shard_id TEXT, number TEXT, arrival_s REAL, key TEXT, data TEXT,
    PRIMARY KEY (stream, shard_id, number)) WITHOUT ROWID;
CREATE TABLE objects (bucket TEXT, key TEXT, body BLOB, etag TEXT, modified TEXT, metadata TEXT,
    PRIMARY KEY (bucket, key));
CREATE TABLE numbers (reserved TEXT);
"""


class DamagedStateError(UserError):
    """A state file that can't be read."""

    def __init__(self, path: Path, problem: object) -> None:
        super().__init__(
            f"{path} is damaged: {problem}",
            "`--fresh` starts anew without what it holds: records, predictions, models and labelled rides",
        )


def state_error(path: Path, error: sqlite3.DatabaseError) -> UserError:
    """Return the error of a state file: damaged, unless the disk is full, or somebody else has locked or closed it."""
    if isinstance(error, sqlite3.OperationalError):
        return UserError(
            f"{path} cannot be used ({error})",
            "see that its disk has room, that you may write to it, and that no other program has it open",
        )
    return DamagedStateError(path, error)


class SavedShard(NamedTuple):
    """A shard. Hashes and sequence numbers are decimal text: they are too large for SQLite's integers."""

    number: int
    starting_hash: str
    ending_hash: str
    parent: str | None
    adjacent_parent: str | None
    is_open: bool
    first_number: str


class SavedRecord(NamedTuple):
    """A record; `data` is base64."""

    number: str
    arrival_s: float
    key: str
    data: str


class SavedObject(NamedTuple):
    """An object's newest version; `modified` is ISO 8601."""

    key: str
    body: bytes
    etag: str
    modified: str
    metadata: Mapping[str, str]


class StateFile:
    """The file, open. Safe to use from several threads; `lock` makes several steps one.

    Nothing is stored before `commit`.

    Raises:
        DamagedStateError: The file is no state file, or of another version of ridecast.
        UserError: It cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False)
        except sqlite3.DatabaseError as error:  # this user may not open it
            raise state_error(path, error) from error
        try:
            self._prepare(path)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise state_error(path, error) from error
        except DamagedStateError:
            self._db.close()
            raise

    def _prepare(self, path: Path) -> None:
        with path.open("rb") as file:
            beginning = file.read(len(_MAGIC))
        if beginning not in (b"", _MAGIC):
            raise DamagedStateError(path, "it has another beginning than a database")
        self._db.execute("PRAGMA journal_mode = WAL")  # so that a commit writes a few pages and waits for no disk
        self._db.execute("PRAGMA synchronous = NORMAL")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif found != FORMAT:
            raise DamagedStateError(path, f"it has format {found}, and this version of ridecast reads {FORMAT}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def check(self, path: Path) -> None:
        """Read the whole file.

        Raises:
            DamagedStateError: It is damaged.
        """
        try:
            problems = [text for (text,) in self._db.execute("PRAGMA quick_check(1)")]
        except sqlite3.DatabaseError as error:
            raise state_error(path, error) from error
        if problems != ["ok"]:
            raise DamagedStateError(path, " ".join(" ".join(problems).split()))

    def commit(self) -> None:
        """Store what was added since the last commit."""
        with self.lock:
            self._db.commit()

    # -- streams

    def shards(self, stream: str) -> list[SavedShard]:
        """Return the shards of a stream, in order; none if the stream is not known."""
        columns = "number, starting_hash, ending_hash, parent, adjacent_parent, is_open, first_number"
        query = f"SELECT {columns} FROM shards WHERE stream = ? ORDER BY number"  # noqa: S608 - no outside input
        with self.lock:
            return [
                SavedShard(number, start, end, parent, adjacent, bool(is_open), first)
                for number, start, end, parent, adjacent, is_open, first in self._db.execute(query, (stream,))
            ]

    def save_shards(self, stream: str, shards: Iterable[SavedShard]) -> None:
        """Add the shards of a stream, or replace them."""
        with self.lock:
            self._db.executemany(
                "INSERT OR REPLACE INTO shards VALUES (?, ?, ?, ?, ?, ?, ?, ?)", ((stream, *one) for one in shards)
            )

    def records(self, stream: str, shard_id: str) -> list[SavedRecord]:
        """Return the records of a shard, in order."""
        query = "SELECT number, arrival_s, key, data FROM records WHERE stream = ? AND shard_id = ? ORDER BY number"
        with self.lock:
            return [SavedRecord(*row) for row in self._db.execute(query, (stream, shard_id))]

    def add_record(self, stream: str, shard_id: str, record: SavedRecord) -> None:
        """Add a record."""
        with self.lock:
            self._db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", (stream, shard_id, *record))

    def remove_stream(self, stream: str) -> None:
        """Remove a stream with its records."""
        with self.lock:
            self._db.execute("DELETE FROM records WHERE stream = ?", (stream,))
            self._db.execute("DELETE FROM shards WHERE stream = ?", (stream,))

    def remove_records(self, stream: str, shard_id: str, number: str, before_s: float) -> None:
        """Remove the records of a shard up to a number that arrived before a time."""
        with self.lock:
            self._db.execute(
                "DELETE FROM records WHERE stream = ? AND shard_id = ? AND number <= ? AND arrival_s < ?",
                (stream, shard_id, number, before_s),
            )

    def reserved_number(self) -> int | None:
        """Return the number that no record has reached; None if none was ever reserved."""
        with self.lock:
            row = self._db.execute("SELECT reserved FROM numbers").fetchone()
        return int(row[0]) if row else None

    def reserve_numbers(self, below: int) -> None:
        """Store that numbers below one may be given, at once: they are never given again."""
        with self.lock:
            self._db.execute("DELETE FROM numbers")
            self._db.execute("INSERT INTO numbers VALUES (?)", (str(below),))
            self._db.commit()

    # -- buckets

    def objects(self, bucket: str) -> Iterable[SavedObject]:
        """Return the objects of a bucket."""
        query = "SELECT key, body, etag, modified, metadata FROM objects WHERE bucket = ?"
        with self.lock:
            rows: Sequence[tuple[str, bytes, str, str, str]] = self._db.execute(query, (bucket,)).fetchall()
        return [SavedObject(*row[:4], json.loads(row[4])) for row in rows]

    def save_object(self, bucket: str, saved: SavedObject) -> None:
        """Add an object, or replace it."""
        row = (bucket, *saved[:4], json.dumps(dict(saved.metadata)))
        with self.lock:
            self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)", row)

    def remove_object(self, bucket: str, key: str) -> None:
        """Remove an object, if it is there."""
        with self.lock:
            self._db.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key))
