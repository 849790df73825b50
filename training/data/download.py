"""Download one month's file from TLC's public address into the cache: whole, or not at all."""

import contextlib
import errno
import http.client
import os
import queue
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import build_opener, getproxies, proxy_bypass

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from training.data.months import Month, Service, tlc_file_name
from training.data.tlc_file import MAGIC
from training.errors import MonthUnavailableError
from training.room import NO_SPACE

TLC_URL = "https://d37ci6vzurychx.cloudfront.net/trip-data"
"""The address of the TLC trip record data."""

REACH_TIMEOUT_S = 3.0
"""For resolving the name and connecting, together: enough on a slow line, short enough for a demo offline."""

RETRY_DELAYS_S = (1.0, 3.0)
"""Waits between tries: three tries in all."""

_STALL_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 18
_NO_SUCH_FILE = {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}  # CloudFront answers 403 for a key that does not exist
_FIRST_MONTHS: dict[Service, Month] = {"green": Month(2013, 8), "yellow": Month(2009, 1)}
_SOONEST, _SURELY = timedelta(days=30), timedelta(days=120)
"""After the end of a month: TLC publishes it about two months later, never within the first, surely within four."""

_TRANSIENT = (ConnectionError, TimeoutError, http.client.HTTPException)
_TRY_LATER = "try again later, or set TLC_DATA_DIR to a folder that contains it"


class _InterruptedError(MonthUnavailableError):
    """A failure that another try may solve."""


class _NoSuchFileError(MonthUnavailableError):
    """The answer that there is no such file, or that it is forbidden; `status` is HTTP's."""

    def __init__(self, name: str, status: int) -> None:
        self.status = status
        super().__init__(name, f"the answer was HTTP {status}", _TRY_LATER)


def resolve_host(host: str, port: int) -> list[tuple[str, int]]:
    """Return the addresses and ports of a host. May block for long; run it in a thread."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(address[0]), int(address[1])) for *_, address in found]


@dataclass(frozen=True, slots=True)
class Network:
    """The parts of a download that tests replace; `resolve` raises OSError for a host without an address."""

    resolve: Callable[[str, int], Sequence[tuple[str, int]]] = resolve_host
    sleep: Callable[[float], None] = time.sleep
    today: Callable[[], date] = lambda: datetime.now(UTC).date()
    reach_timeout_s: float = REACH_TIMEOUT_S


NETWORK = Network()


def fetch_month(
    service: Service, month: Month, cache_dir: Path, *, base_url: str = TLC_URL, network: Network = NETWORK
) -> Path:
    """Download a month's file into the cache folder, over an existing one, and return its path.

    The file is complete: it has the announced length, and is Parquet at both ends.

    Raises:
        MonthUnavailableError: TLC has not published the month or cannot be reached, every try broke off, the answer was
            no such file, or the file cannot be written.
    """
    name = tlc_file_name(service, month)
    _check_published(service, month, network.today())
    url = f"{base_url}/{name}"
    _check_reachable(name, url, network)
    try:
        for delay_s in RETRY_DELAYS_S:
            try:
                return _download(url, cache_dir / name)
            except _InterruptedError:
                network.sleep(delay_s)
        return _download(url, cache_dir / name)
    except _NoSuchFileError as error:
        raise _refusal(error, name, url, month, network.today()) from error


def _check_published(service: Service, month: Month, today: date) -> None:
    """Raise MonthUnavailableError if a month is one that TLC can't have published."""
    name, first = tlc_file_name(service, month), _FIRST_MONTHS[service]
    if month < first:
        problem = f"TLC has no {service} rides before {first}"
        raise MonthUnavailableError(name, problem, "choose a later month")
    if today < month.last_date + _SOONEST:
        problem = "TLC has not published that month yet: it publishes about two months late"
        raise MonthUnavailableError(name, problem, "choose an earlier month")


def _refusal(error: "_NoSuchFileError", name: str, url: str, month: Month, today: date) -> MonthUnavailableError:
    """Return what a refusal means: an old month is published, so that something between here and TLC refuses it."""
    refused = f"{_where(url)} refused the download (HTTP {error.status})"
    if today > month.last_date + _SURELY:
        return MonthUnavailableError(name, f"{refused}, although TLC has published that month", _ways(url))
    problem = f"{refused}: TLC publishes a month about two months late, so that it may not be there yet"
    return MonthUnavailableError(name, problem, f"choose an earlier month, or {_ways(url)}")


def _where(url: str) -> str:
    """Name the host of a URL, and the proxy if there is one, without its password."""
    host = urlsplit(url).hostname or url
    hop, port = _first_hop(url)
    return host if hop == host else f"{host}, asked through the proxy {hop}:{port},"


def _ways(url: str) -> str:
    """Say how to get a file that cannot be downloaded."""
    host = urlsplit(url).hostname or url
    return f"set TLC_DATA_DIR to a folder that contains it, or HTTPS_PROXY to a proxy that allows {host}"


def _first_hop(url: str) -> tuple[str, int]:
    """Return the host and port that a connection to the URL goes to: its own, or those of a proxy."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _check_reachable(name: str, url: str, network: Network) -> None:
    """Raise MonthUnavailableError unless one connection succeeds in time.

    A resolver without a network can block for half a minute and takes no timeout, and addresses are tried one after the
    other. So both happen in a thread that is abandoned when its time is up.
    """
    outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    address = _first_hop(url)

    def probe() -> None:
        error: Exception | None = OSError("it has no address")
        try:
            for found in network.resolve(*address):
                error = _connection_error(found, network.reach_timeout_s)
                if error is None:
                    break
        except (OSError, UnicodeError) as unresolved:
            error = unresolved
        outcome.put(error)

    threading.Thread(target=probe, daemon=True).start()
    try:
        error = outcome.get(timeout=network.reach_timeout_s)
    except queue.Empty:
        error = TimeoutError(f"no answer in {network.reach_timeout_s:g} s")
    if error is not None:
        is_proxy = address[0] != urlsplit(url).hostname
        raise _offline(name, url, f"the proxy {address[0]}" if is_proxy else address[0], error) from error


def _connection_error(address: tuple[str, int], timeout_s: float) -> OSError | None:
    try:
        socket.create_connection(address, timeout_s).close()
    except OSError as error:
        return error
    return None


def _download(url: str, target: Path) -> Path:
    """Try once: write the body into a temporary file beside the target, check it, then rename it in one step."""
    with contextlib.closing(_open(url, target.name)) as response:
        path = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _store(response, path, target.name)
            path.replace(target)
        except _TRANSIENT as error:
            raise _InterruptedError(target.name, f"the download broke off ({_reason(error)})", _TRY_LATER) from error
        except OSError as error:
            raise _write_error(error, target) from error
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
    return target


def _write_error(error: OSError, target: Path) -> MonthUnavailableError:
    if error.errno in NO_SPACE:
        hint = "free some there, or set XDG_CACHE_HOME to a folder that has room"
        return MonthUnavailableError(target.name, f"there is no space left in {target.parent}", hint)
    problem = f"the file cannot be written into {target.parent} ({_reason(error)})"
    hint = "set XDG_CACHE_HOME to a folder that can be written, or TLC_DATA_DIR to one that contains it"
    return MonthUnavailableError(target.name, problem, hint)


def _open(url: str, name: str) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = build_opener().open(url, timeout=_STALL_TIMEOUT_S)
    except HTTPError as error:
        error.close()
        raise _status_error(error.code, name, url) from error
    except (URLError, *_TRANSIENT) as error:
        reason = error.reason if isinstance(error, URLError) else error
        cause = reason if isinstance(reason, Exception) else error
        if isinstance(cause, _TRANSIENT):
            raise _InterruptedError(name, f"the connection broke ({_reason(cause)})", _TRY_LATER) from error
        raise _offline(name, url, _where(url), cause) from error
    return response


def _status_error(status: int, name: str, url: str) -> MonthUnavailableError:
    if status in _NO_SUCH_FILE:
        return _NoSuchFileError(name, status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return _InterruptedError(name, f"{_where(url)} answered HTTP {status}", _TRY_LATER)
    return MonthUnavailableError(name, f"{_where(url)} answered HTTP {status}", f"try again later, or {_ways(url)}")


def _offline(name: str, url: str, who: str, error: Exception) -> MonthUnavailableError:
    problem = f"{who} cannot be reached ({_reason(error)})"
    return MonthUnavailableError(name, problem, f"{_ways(url)}, or connect to the internet")


def _store(response: http.client.HTTPResponse, path: Path, name: str) -> None:
    """Write the body through to the disk and check that it is complete, and Parquet."""
    announced = response.headers.get("Content-Length")
    n_expected = int(announced) if announced else None
    if n_expected is not None and shutil.disk_usage(path.parent).free < n_expected:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # before a long download, not after most of it
    n_bytes, head, tail = 0, b"", b""
    with path.open("xb") as file, _progress_bar(name, n_expected) as advance:
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            advance(len(chunk))
            n_bytes += len(chunk)
            head, tail = (head + chunk)[:4], (tail + chunk)[-4:]
        file.flush()
        os.fsync(file.fileno())
    if n_expected is not None and n_bytes != n_expected:
        raise _InterruptedError(name, f"only {n_bytes} of {n_expected} bytes arrived", _TRY_LATER)
    if (head, tail) != (MAGIC, MAGIC):
        problem = f"{urlsplit(response.url).hostname} sent something that is not Parquet"
        raise MonthUnavailableError(name, problem, f"try again later, or {_ways(response.url)}")


@contextlib.contextmanager
def _progress_bar(name: str, n_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar if standard error is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=n_bytes)
        yield lambda n_more: progress.advance(task, n_more)


def _reason(error: Exception) -> str:
    """Return an error's cause in a few words."""
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error) or type(error).__name__
