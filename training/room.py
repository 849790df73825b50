"""Find out before work begins whether its results can be written, and name the path if writing fails later."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from training.errors import UserError
from training.project import build_folder

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""A full disk, a quota, and a limit of a file's size: the file system's or ulimit's."""

RESULT_BYTES = 20 << 20
"""For a bundle with its report, several times over: a bundle has at most 3 MB, a report 4 MB."""

RUN_BYTES = 200 << 20
"""For rides that a demo or a simulation leaves."""

_MB = 1 << 20
_OTHER_FOLDER = "make it writable, or name another folder"


def check_room(folder: Path, n_bytes: int = RESULT_BYTES) -> None:
    """Check that so many bytes can be written into a folder, which need not exist yet.

    Raises:
        UserError: It can't be written, or its disk has less room.
    """
    path = folder.absolute()
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    if not place.is_dir():
        raise UserError(f"{folder} cannot be written: {place} is a file", "name another folder, or move the file away")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{folder} cannot be written: {place} is read-only for this user", _OTHER_FOLDER)
    n_free = shutil.disk_usage(place).free
    if n_free < n_bytes:
        problem = f"{folder} has no room: {n_free / _MB:.0f} MB are free there, and {n_bytes / _MB:.0f} MB are wanted"
        raise UserError(problem, "free some, or name a folder on another disk")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a UserError that names the path: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        hint = "free some space there" if error.errno in NO_SPACE else _OTHER_FOLDER
        raise UserError(f"{error.filename or path} cannot be written ({error.strerror or error})", hint) from error


def explain(error: OSError, folders: Sequence[Path] | None = None) -> str:
    """Return an error's sentence. That of a full disk names no path: it gets the folders whose disks are full.

    By default they are among the folders of results, of temporary files and of caches.
    """
    if error.filename or error.errno not in NO_SPACE:
        return str(error)
    if folders is None:
        folders = build_folder(), Path(tempfile.gettempdir()), Path.home() / ".cache"
    full = [str(folder) for folder in folders if folder.exists() and shutil.disk_usage(folder).free < RESULT_BYTES]
    where = f" in {' and '.join(full)}" if full else ""
    return f"{error.strerror or error}{where}: free some space, and run this again"
