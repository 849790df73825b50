"""Where the stack of `ridecast up` runs: a file that other commands read, and that goes with the stack."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

FOLDER = "local"
"""The folder of the stack's state in the build folder."""

RUNNING = "running.json"
"""The file in that folder."""

_ANSWERS_WITHIN_S = 2.0


class RunningStack(msgspec.Struct, frozen=True, kw_only=True):
    """A stack that runs on this machine.

    Attributes:
        pid: The process of `ridecast up`.
        endpoint_url: The local AWS, for every service.
        api_url: The stack's HTTP API.
        stack: The stack's name.
        started_at: ISO 8601, UTC.
    """

    pid: int
    endpoint_url: str
    api_url: str
    stack: str
    bucket: str
    input_stream: str
    output_stream: str
    outcomes_stream: str
    started_at: str


def find_running(folder: Path) -> RunningStack | None:
    """Return the stack that runs with its state in a folder; None unless its process lives and its AWS listens."""
    try:
        found = msgspec.json.decode((folder / RUNNING).read_bytes(), type=RunningStack)
    except (OSError, msgspec.DecodeError):  # written as a whole: a damaged one is of no running stack
        return None
    return found if _lives(found.pid) and _listens(found.endpoint_url) else None


def write_running(folder: Path, running: RunningStack) -> None:
    """Store where a stack runs, once it is ready."""
    new = folder / f"{RUNNING}.new"
    new.write_bytes(msgspec.json.encode(running))
    new.replace(folder / RUNNING)


def remove_running(folder: Path) -> None:
    """Remove what `write_running` has stored, when the stack ends."""
    (folder / RUNNING).unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return pid > 0


def _listens(url: str) -> bool:
    try:
        address = urlsplit(url)
        with socket.create_connection((address.hostname or "", address.port or 0), _ANSWERS_WITHIN_S):
            return True
    except (OSError, ValueError):
        return False
