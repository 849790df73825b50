"""Listen on a port of this machine; if it is taken, say by whom."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from training.errors import UserError

HOST = "127.0.0.1"

_PROC = Path("/proc")
LISTENS = "0A"
"""A socket's state in /proc/net/tcp."""


def listen(port: int, option: str = "--port") -> socket.socket:
    """Return a socket that listens on a port of HOST; 0 for any free one.

    Raises:
        UserError: The port is taken, or may not be used; the hint names the option that chooses another one.
    """
    try:
        return socket.create_server((HOST, port), backlog=128)
    except OSError as error:
        raise listen_error(port, error, option) from error


def listen_error(port: int, error: OSError, option: str = "--port") -> UserError:
    """Return the error of a port on which a server could not listen, with the process that has it."""
    problem = os.strerror(error.errno) if error.errno else str(error)
    by = f" by {holder}" if (holder := port_holder(port)) else ""
    return UserError(
        f"cannot listen on {HOST}:{port}: {problem}{by}", f"choose another port with {option}, or 0 for a free one"
    )


def port_holder(port: int, proc: Path = _PROC) -> str:
    """Return the process that listens on a port, as in ``python3 (process 123)``; "" if the system doesn't tell.

    Args:
        port: The port.
        proc: Linux's folder of processes.
    """
    with suppress(OSError):
        sockets = {f"socket:[{inode}]" for inode in _listening(port, proc)}
        for folder in proc.glob("[0-9]*"):
            if sockets and sockets & open_files(folder):
                return f"{(folder / 'comm').read_text().strip()} (process {folder.name})"
    return ""


def _listening(port: int, proc: Path) -> set[str]:
    """Return the inodes of the sockets that listen on a port."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in (proc / "net" / name).read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == LISTENS and int(row[1].rpartition(":")[2], 16) == port}


def open_files(process: Path) -> set[str]:
    """Return what a process has open, by its folder in /proc; nothing of it if this user may not see that."""
    found = set()
    with suppress(OSError):  # another user's process, or one that has just ended
        for one in (process / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.add(str(one.readlink()))
    return found
