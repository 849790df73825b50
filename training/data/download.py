"""One month's file from TLC's public address into the cache: whole, or not at all."""

import contextlib
import errno
import http.client
import os
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import build_opener, getproxies, proxy_bypass

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from training.data.months import Month, Service, tlc_file_name
from training.errors import DownloadError, InterruptedDownloadError, MonthNotFoundError, NoSpaceError, OfflineError

TLC_URL = "https://d37ci6vzurychx.cloudfront.net/trip-data"
"""Where the TLC trip record data is published."""

REACH_TIMEOUT_S = 3.0
"""For resolving the name and connecting, together: enough on a slow line, bearable for a demo offline."""

RETRY_DELAYS_S = (1.0, 3.0)
"""Waits between tries: three tries in all."""

_STALL_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 18
_PARQUET_MAGIC = b"PAR1"
_NOT_PUBLISHED = {
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
}  # CloudFront answers 403 for a key that is not there
_PASSING = (ConnectionError, TimeoutError, http.client.HTTPException)
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # full, over quota, larger than the file system or ulimit lets


def resolve_host(host: str, port: int) -> list[tuple[str, int]]:
    """Asks the system's resolver. It may block for long: call it where that does no harm."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(address[0]), int(address[1])) for *_, address in found]


@dataclass(frozen=True, slots=True)
class Network:
    """What a download needs of the world outside, replaceable in tests.

    Attributes:
        resolve: Host and port to the addresses and ports to connect to; raises OSError where there are none.
        sleep: Waits so many seconds between two tries.
        reach_timeout_s: How long resolving and connecting may take before the machine counts as offline.
    """

    resolve: Callable[[str, int], Sequence[tuple[str, int]]] = resolve_host
    sleep: Callable[[float], None] = time.sleep
    reach_timeout_s: float = REACH_TIMEOUT_S


NETWORK = Network()


def fetch_month(
    service: Service,
    month: Month,
    cache_dir: Path,
    *,
    base_url: str = TLC_URL,
    network: Network = NETWORK,
) -> Path:
    """Downloads a month's file into the cache, over one that is there already.

    Args:
        service: Whose rides.
        month: Which month.
        cache_dir: The folder for the file; made if it is not there.
        base_url: The address that TLC's file names follow.
        network: How hosts are found and how long is waited.

    Returns:
        The file, complete: as long as announced, and Parquet at both ends.

    Raises:
        MonthNotFoundError: TLC has not published the month.
        OfflineError: TLC cannot be reached.
        NoSpaceError: There is no room for it in the cache.
        DownloadError: Every try broke off, or the answer was no such file, or it cannot be written.
    """
    name = tlc_file_name(service, month)
    url = f"{base_url}/{name}"
    _check_reachable(name, _first_hop(url), network)
    for delay_s in RETRY_DELAYS_S:
        try:
            return _download(url, cache_dir / name)
        except InterruptedDownloadError:
            network.sleep(delay_s)
    return _download(url, cache_dir / name)


def _first_hop(url: str) -> tuple[str, int]:
    """Host and port that a connection to the URL goes to: its own, or those of the proxy in the way."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _check_reachable(name: str, address: tuple[str, int], network: Network) -> None:
    """Raises OfflineError unless one connection succeeds in time.

    A resolver without a network can block for half a minute and takes no timeout, and addresses are tried one
    after the other: so both happen in a thread that is left behind when its time is up.
    """
    outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def probe() -> None:
        try:
            _connect_to_any(network.resolve(*address), network.reach_timeout_s)
        except (OSError, UnicodeError) as error:
            outcome.put(error)
        else:
            outcome.put(None)

    threading.Thread(target=probe, daemon=True).start()
    try:
        error = outcome.get(timeout=network.reach_timeout_s)
    except queue.Empty:
        error = TimeoutError(f"no answer in {network.reach_timeout_s:g} s")
    if error is not None:
        raise OfflineError(name, address[0], _reason(error)) from error


def _connect_to_any(addresses: Sequence[tuple[str, int]], timeout_s: float) -> None:
    error = OSError("it has no address")
    for address in addresses:
        try:
            socket.create_connection(address, timeout_s).close()
        except OSError as refused:
            error = refused
        else:
            return
    raise error


def _download(url: str, target: Path) -> Path:
    """One try: the body into a temporary file beside the target, checked, then renamed in one step."""
    with contextlib.closing(_open(url, target.name)) as response:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _temporary_file(target) as path:
                _store(response, path, target.name)
                path.replace(target)
        except _PASSING as error:
            raise InterruptedDownloadError(target.name, f"the download broke off ({_reason(error)})") from error
        except OSError as error:
            raise _write_error(error, target) from error
    return target


def _write_error(error: OSError, target: Path) -> DownloadError:
    if error.errno in _NO_SPACE:
        return NoSpaceError(target.name, target.parent)
    return DownloadError(target.name, f"{target.parent} took no file ({_reason(error)})")


def _open(url: str, name: str) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = build_opener().open(url, timeout=_STALL_TIMEOUT_S)
    except HTTPError as error:
        error.close()
        raise _error_for(error.code, name) from error
    except URLError as error:
        cause = error.reason if isinstance(error.reason, Exception) else error
        if isinstance(cause, _PASSING):
            raise InterruptedDownloadError(name, f"the connection broke ({_reason(cause)})") from error
        raise OfflineError(name, urlsplit(url).hostname or url, _reason(cause)) from error
    except _PASSING as error:
        raise InterruptedDownloadError(name, f"the connection broke ({_reason(error)})") from error
    return response


def _error_for(status: int, name: str) -> MonthNotFoundError | DownloadError:
    if status in _NOT_PUBLISHED:
        return MonthNotFoundError(name, status)
    passing = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
    return (InterruptedDownloadError if passing else DownloadError)(name, f"TLC answered HTTP {status}")


@contextlib.contextmanager
def _temporary_file(target: Path) -> Iterator[Path]:
    """A name of our own in the target's folder; what it holds at the end is removed, unless it was renamed."""
    path = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _store(response: http.client.HTTPResponse, path: Path, name: str) -> None:
    """Writes the body through to the disk and checks that it is all there, and Parquet."""
    announced = response.headers.get("Content-Length")
    n_expected = int(announced) if announced else None
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
        raise InterruptedDownloadError(name, f"only {n_bytes} of {n_expected} bytes came")
    if (head, tail) != (_PARQUET_MAGIC, _PARQUET_MAGIC):
        raise DownloadError(name, f"{urlsplit(response.url).hostname} sent something that is not Parquet")


@contextlib.contextmanager
def _progress_bar(name: str, n_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's standard error, and nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=n_bytes)
        yield lambda n_more: progress.advance(task, n_more)


def _reason(error: Exception) -> str:
    """An error's cause in a few words, for a sentence."""
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error) or type(error).__name__
