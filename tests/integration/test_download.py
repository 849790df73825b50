"""A month's file arrives whole or not at all, and every failure is one sentence that says what to do."""

import _thread
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter

import pytest

from tests.builders_tlc import month_bytes
from training.data.download import Network, fetch_month
from training.data.load import load_rides
from training.data.months import Month
from training.errors import (
    DownloadError,
    InterruptedDownloadError,
    MonthNotFoundError,
    MonthUnavailableError,
    OfflineError,
)

JANUARY = Month(2021, 1)
NAME = "green_tripdata_2021-01.parquet"
CONTENT = month_bytes()


@dataclass(frozen=True)
class Answer:
    """What TLC answers once: a fault is a value in the list of answers."""

    status: int = 200
    body: bytes = CONTENT
    announced_bytes: int | None = None
    halfway: Callable[[], None] | None = None


@dataclass
class FakeTlc:
    """Answers on 127.0.0.1 in the order of its list; the last one again and again."""

    answers: Sequence[Answer] = (Answer(),)
    paths: list[str] = field(default_factory=list)
    sleeps_s: list[float] = field(default_factory=list)
    url: str = ""

    def fetch(self, cache_dir: Path) -> Path:
        """Fetches January from here, and notes the waits instead of waiting."""
        network = Network(sleep=self.sleeps_s.append)
        return fetch_month("green", JANUARY, cache_dir, base_url=self.url, network=network)


@pytest.fixture
def tlc(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTlc]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fake = FakeTlc()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = fake.answers[min(len(fake.paths), len(fake.answers) - 1)]
            fake.paths.append(self.path)
            self.send_response(answer.status)
            self.send_header("Content-Length", str(answer.announced_bytes or len(answer.body)))
            self.end_headers()
            half = len(answer.body) // 2
            self.wfile.write(answer.body[:half])
            if answer.halfway:
                answer.halfway()
            self.wfile.write(answer.body[half:])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Says nothing: a client that hangs up is part of the play."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_port}/trip-data"
        yield fake
        server.shutdown()
        thread.join()


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_file_arrives_whole_under_its_own_name(tlc: FakeTlc, tmp_path: Path) -> None:
    path = tlc.fetch(tmp_path / "new" / "cache")
    assert path == tmp_path / "new" / "cache" / NAME
    assert path.read_bytes() == CONTENT
    assert files_in(path.parent) == [NAME]
    assert tlc.paths == [f"/trip-data/{NAME}"]
    assert tlc.sleeps_s == []


def test_download_goes_over_an_older_file(tlc: FakeTlc, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"older")
    assert tlc.fetch(tmp_path).read_bytes() == CONTENT


def test_downloaded_month_is_loaded_and_asked_for_once(tlc: FakeTlc, tmp_path: Path) -> None:
    for _ in range(2):
        rides = load_rides("green", [JANUARY], cache_dir=tmp_path, fetch=lambda *_: tlc.fetch(tmp_path))
        assert len(rides) == 1
    assert len(tlc.paths) == 1


@pytest.mark.parametrize(
    "fault",
    [Answer(status=500), Answer(status=503, body=b""), Answer(status=429), Answer(announced_bytes=len(CONTENT) + 5)],
    ids=["500", "503", "429", "short body"],
)
def test_passing_fault_is_tried_again(tlc: FakeTlc, tmp_path: Path, fault: Answer) -> None:
    tlc.answers = [fault, fault, Answer()]
    assert tlc.fetch(tmp_path).read_bytes() == CONTENT
    assert len(tlc.sleeps_s) == 2
    assert tlc.sleeps_s == sorted(tlc.sleeps_s)


def test_short_body_leaves_nothing_behind_when_it_stays_short(tlc: FakeTlc, tmp_path: Path) -> None:
    tlc.answers = [Answer(announced_bytes=len(CONTENT) + 5)]
    with pytest.raises(InterruptedDownloadError, match=f"only {len(CONTENT)} of {len(CONTENT) + 5} bytes came"):
        tlc.fetch(tmp_path)
    assert len(tlc.paths) == 3
    assert files_in(tmp_path) == []


def test_failed_download_keeps_the_older_file(tlc: FakeTlc, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"older")
    tlc.answers = [Answer(announced_bytes=len(CONTENT) + 5)]
    with pytest.raises(DownloadError):
        tlc.fetch(tmp_path)
    assert (tmp_path / NAME).read_bytes() == b"older"
    assert files_in(tmp_path) == [NAME]


@pytest.mark.parametrize("status", [403, 404])
def test_unpublished_month_is_told_without_another_try(tlc: FakeTlc, tmp_path: Path, status: int) -> None:
    tlc.answers = [Answer(status=status)]
    with pytest.raises(MonthNotFoundError, match="TLC has not published that month yet") as caught:
        tlc.fetch(tmp_path)
    assert caught.value.status == status
    assert len(tlc.paths) == 1
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("answer", [Answer(status=400), Answer(body=b"<html>log in</html>"), Answer(body=b"")])
def test_lasting_fault_is_told_without_another_try(tlc: FakeTlc, tmp_path: Path, answer: Answer) -> None:
    tlc.answers = [answer]
    with pytest.raises(DownloadError, match=f"^{NAME} cannot be had, for .*: try again later, or set TLC_DATA_DIR"):
        tlc.fetch(tmp_path)
    assert len(tlc.paths) == 1
    assert files_in(tmp_path) == []


def test_interrupt_leaves_nothing_behind(tlc: FakeTlc, tmp_path: Path) -> None:
    # Too long for the sockets' buffers: once half of it is sent, the client is in the midst of writing its file.
    tlc.answers = [Answer(body=bytes(1 << 25), halfway=_thread.interrupt_main)]
    with pytest.raises(KeyboardInterrupt):
        tlc.fetch(tmp_path)
    assert files_in(tmp_path) == []


def test_cache_that_takes_no_file_is_told(tlc: FakeTlc, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match="took no file"):
        tlc.fetch(tmp_path / "cache")


def test_no_bar_is_drawn_where_there_is_no_terminal(
    tlc: FakeTlc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tlc.fetch(tmp_path)
    assert capsys.readouterr() == ("", "")


def test_refused_connection_is_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(OfflineError, match=r"127.0.0.1 cannot be reached .*: set TLC_DATA_DIR"):
            fetch_month("green", JANUARY, tmp_path, base_url=base_url)
    assert files_in(tmp_path) == []


def fetch_with_resolver(tmp_path: Path, resolve: Callable[[str, int], list[tuple[str, int]]]) -> None:
    fetch_month("green", JANUARY, tmp_path, network=Network(resolve=resolve, reach_timeout_s=0.05))


def test_name_that_does_not_resolve_is_offline(tmp_path: Path) -> None:
    def resolve(host: str, port: int) -> list[tuple[str, int]]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.raises(OfflineError, match=r"Temporary failure in name resolution.*set TLC_DATA_DIR"):
        fetch_with_resolver(tmp_path, resolve)


def test_name_without_an_address_is_offline(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match="it has no address"):
        fetch_with_resolver(tmp_path, lambda *_: [])


def test_resolver_that_hangs_is_left_behind(tmp_path: Path) -> None:
    release = threading.Event()

    def resolve(host: str, port: int) -> list[tuple[str, int]]:
        release.wait()
        return []

    start = perf_counter()
    with pytest.raises(OfflineError, match=r"no answer in 0\.05 s"):
        fetch_with_resolver(tmp_path, resolve)
    assert perf_counter() - start < 2
    release.set()


def test_second_address_is_tried_where_the_first_refuses(tlc: FakeTlc, tmp_path: Path) -> None:
    port = int(tlc.url.split(":")[2].split("/")[0])
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        dead = ("127.0.0.1", unheard.getsockname()[1])
        network = Network(resolve=lambda *_: [dead, ("127.0.0.1", port)])
        assert fetch_month("green", JANUARY, tmp_path, base_url=tlc.url, network=network).exists()


def test_proxy_in_the_way_is_what_must_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def resolve(host: str, port: int) -> list[tuple[str, int]]:
        asked.append((host, port))
        return []

    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    with pytest.raises(OfflineError, match=r"proxy\.invalid cannot be reached"):
        fetch_with_resolver(tmp_path, resolve)
    assert asked == [("proxy.invalid", 3128)]


def test_every_failure_is_a_month_that_cannot_be_had() -> None:
    for kind in (MonthNotFoundError, OfflineError, DownloadError, InterruptedDownloadError):
        assert issubclass(kind, MonthUnavailableError)
