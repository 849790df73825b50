"""AWS's runtime interface emulator as a process on the loopback interface that ends with its parent at the latest."""

import importlib.util
import os
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from infra.local.ports import HOST, LISTENS, open_files
from training.errors import UserError

_STARTS = 5  # another process may take a port between its choice and its use
_READY_WITHIN_S = 60.0  # generous, as the machine may be busy
_STOP_WITHIN_S = 5.0
_POLL_S = 0.005

_GUARDED = 'exec 3<&0 </dev/null; { read -r _ <&3; kill -TERM 0; } & exec 3<&-; exec "$@"'
"""A shell script that becomes the emulator. A guard in its process group ends both when the parent closes its end of
the pipe or dies. The emulator ends the function's process, which has its own group."""


def find_rie() -> Path | None:
    """Return the path of the emulator in aws-sam-cli for this machine's processor; None if it is not available."""
    spec = importlib.util.find_spec("samcli")
    architecture = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
    if spec is None or spec.origin is None or architecture is None or platform.system() != "Linux":
        return None
    path = Path(spec.origin).parent / "local" / "rapid" / f"aws-lambda-rie-{architecture}"
    return path if path.is_file() else None


def free_ports() -> tuple[int, int]:
    """Return two ports that are free at present."""
    with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as two:
        return one.getsockname()[1], two.getsockname()[1]


class RieProcess:
    """The emulator with a runtime's command; it runs inside its `with` block.

    Args:
        command: Starts the runtime, which is the function's process; the emulator runs it at the first invocation.
        environment: The complete environment of both.
        folder: Their working directory.
        log_path: The output of both is appended here.
        ports: Chooses a port for invocations and one for the runtime client's API.

    Attributes:
        port: The port for invocations.

    Raises:
        UserError: On entering: the emulator is not available, or does not start.
    """

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        folder: Path,
        log_path: Path,
        ports: Callable[[], tuple[int, int]] = free_ports,
    ) -> None:
        self._command = command
        self._environment = environment
        self._folder = folder
        self._log_path = log_path
        self._ports = ports

    def __enter__(self) -> Self:
        rie = find_rie()
        if rie is None:
            raise UserError("the runtime interface emulator is not available", "it comes with aws-sam-cli, for Linux")
        for _ in range(_STARTS):
            self.port, api_port = self._ports()
            self._process = self._start(rie, api_port)
            try:
                if self._is_ready(api_port):
                    return self
            except BaseException:
                self._stop()
                raise
            self._stop()
        raise UserError("the runtime interface emulator does not start", f"see {self._log_path}")

    def __exit__(self, *_: object) -> None:
        self._stop()

    def peak_rss_bytes(self) -> int:
        """Return the peak memory of the function's process, 0 if there is none.

        The emulator reports the configured memory instead, and does not enforce it.
        """
        peaks = (_peak_rss_bytes(pid) for pid, parent, _ in _processes() if parent == self._process.pid)
        return max(peaks, default=0)

    def _start(self, rie: Path, api_port: int) -> subprocess.Popen[bytes]:
        listen = ["--runtime-interface-emulator-address", f"{HOST}:{self.port}"]  # its default is every interface
        listen += ["--runtime-api-address", f"{HOST}:{api_port}", "--log-level", "info"]
        with self._log_path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the emulator's path and our own arguments
                ["/bin/sh", "-c", _GUARDED, "sh", str(rie), *listen, *self._command],
                cwd=self._folder,
                env=dict(self._environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to the parent only
            )

    def _is_ready(self, api_port: int) -> bool:
        """Wait until this process, and no other, listens on both ports; return False if it ended."""
        give_up_s = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < give_up_s and self._process.poll() is None:
            if {self.port, api_port} <= _listening_ports(self._process.pid):
                return True
            time.sleep(_POLL_S)
        return False

    def _stop(self) -> None:
        """End the emulator, and then any function process that remains in its session."""
        assert self._process.stdin is not None  # noqa: S101 - for mypy: it is a pipe
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid, _, session in _processes():
            if session == self._process.pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _listening_ports(pid: int) -> set[int]:
    """Return the ports of HOST on which a process listens, from /proc."""
    address = socket.inet_aton(HOST)[::-1].hex().upper()
    lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    ports = {
        f"socket:[{line[9]}]": int(line[1].partition(":")[2], 16)
        for line in lines
        if line[1].startswith(f"{address}:") and line[3] == LISTENS
    }
    return {ports[name] for name in open_files(Path(f"/proc/{pid}")) if name in ports}


def _processes() -> Iterator[tuple[int, int, int]]:
    """Yield every process: its id, its parent's id and its session's id."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            _, parent, _, session = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[:4]
            yield int(folder.name), int(parent), int(session)


def _peak_rss_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
