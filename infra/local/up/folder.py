"""The folder of a local stack: one process uses it at a time, and it is found fit before work begins."""

import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from infra.local.moto.state_file import DamagedStateError, StateFile, state_error
from infra.local.up.state import RUNNING, remove_running
from training.errors import UserError
from training.room import RUN_BYTES, check_room, writing

RETENTION_S = 86_400.0
"""Records that every function has processed are removed at the next start if they are older."""

_LOCK, _STATE, _POSITIONS, _FEED = "lock", "state.db", "positions.json", "feed.json"
_LOCK_WAIT_S, _LOCK_STEP_S = 5.0, 0.1  # a server whose parent was killed ends within this time

_FILES = (RUNNING, _STATE, f"{_STATE}-wal", f"{_STATE}-shm", _POSITIONS, _FEED)
_SUBFOLDERS = ("labelled", "logs")

_SequenceNumber = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+$")]
Positions = dict[str, dict[str, dict[str, _SequenceNumber]]]
"""Up to which sequence number a mapping has settled a shard: by mapping, stream and shard."""


@dataclass(frozen=True, slots=True)
class StateFolder:
    """A folder that this process has locked.

    Attributes:
        path: The folder.
        lock: The open file that holds the lock; it is held until all processes that inherit it have ended.
    """

    path: Path
    lock: int

    @property
    def state(self) -> Path:
        """The file of records and objects."""
        return self.path / _STATE

    def read_positions(self) -> Positions:
        """Return where the functions' mappings have ended."""
        found: Positions = self._read(_POSITIONS, Positions, {})
        return found

    def write_positions(self, positions: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
        """Store where the functions' mappings are."""
        self._write(_POSITIONS, positions)

    def read_feed(self) -> dict[str, float]:
        """Return how many seconds of each month were replayed."""
        found: dict[str, float] = self._read(_FEED, dict[str, float], {})
        return found

    def write_feed(self, seconds: Mapping[str, float]) -> None:
        """Store how many seconds of each month were replayed."""
        self._write(_FEED, seconds)

    def _read(self, name: str, kind: Any, otherwise: Any) -> Any:
        path = self.path / name
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return otherwise
        except msgspec.DecodeError as error:
            raise DamagedStateError(path, error) from error

    def _write(self, name: str, content: object) -> None:
        new = self.path / f"{name}.new"
        with writing(new):
            new.write_bytes(msgspec.json.encode(content))
            new.replace(self.path / name)


@contextmanager
def opened_folder(path: Path, *, is_fresh: bool = False, lock_wait_s: float = _LOCK_WAIT_S) -> Iterator[StateFolder]:
    """Lock a folder, check it, and remove what is not needed any more.

    Args:
        path: It is made if it is missing.
        is_fresh: Whether to remove all that it holds.
        lock_wait_s: How long the process before may take to end.

    Raises:
        UserError: It can't be written to, the disk is full, or another process uses it.
        DamagedStateError: What it holds can't be read.
    """
    check_room(path, RUN_BYTES)
    with writing(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)  # rides are personal data
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(lock, path, lock_wait_s)
        if is_fresh:
            with writing(path):
                _empty(path)
        _check_kinds(path)
        remove_running(path)
        folder = StateFolder(path, lock)
        _check_state(folder)
        yield folder
        remove_running(path)
    finally:
        os.close(lock)


def _lock(lock: int, path: Path, wait_s: float) -> None:
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() >= deadline_s:
                holder = os.pread(lock, 20, 0).decode(errors="replace") or "unknown"
                raise UserError(
                    f"another `ridecast up` uses {path} (process {holder})", "wait until it is ready, or stop it"
                ) from error
            time.sleep(_LOCK_STEP_S)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)


def _empty(path: Path) -> None:
    for one in path.iterdir():
        if one.name == _LOCK:
            continue
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()


def _check_kinds(path: Path) -> None:
    """Check that files are files, folders are folders, and this user may use them, as far as they exist."""
    for name in _FILES:
        for one in (path / name, path / f"{name}.new"):
            if one.is_dir():
                raise DamagedStateError(one, "it is a folder")
            _check_access(one)
    for name in _SUBFOLDERS:
        if (path / name).is_file():
            raise DamagedStateError(path / name, "it is a file, and should be a folder")
        _check_access(path / name)


def _check_access(path: Path) -> None:
    wanted = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
    if path.exists() and not os.access(path, wanted):
        raise UserError(f"{path} cannot be read and written by this user", "change its owner or its permissions")


def _check_state(folder: StateFolder) -> None:
    """Read all that is kept, and remove the records that nobody will read again."""
    positions = folder.read_positions()
    folder.read_feed()
    with StateFile(folder.state) as state:
        state.check(folder.state)
        try:
            _remove_old(state, positions)
        except sqlite3.DatabaseError as error:
            raise state_error(folder.state, error) from error


def _remove_old(state: StateFile, positions: Positions) -> None:
    before_s = time.time() - RETENTION_S
    for stream, shards in _settled_by_all(positions).items():
        for shard_id, number in shards.items():
            state.remove_records(stream, shard_id, number, before_s)
    state.commit()


def _settled_by_all(positions: Positions) -> dict[str, dict[str, str]]:
    """Return up to which number every function that reads a stream has settled it, by stream and shard."""
    settled: dict[str, dict[str, str]] = {}
    for streams in positions.values():
        for stream, shards in streams.items():
            known = settled.get(stream, shards)
            settled[stream] = {id_: min(at, known[id_], key=int) for id_, at in shards.items() if id_ in known}
    return settled
