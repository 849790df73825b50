"""A month's file arrives whole or not at all, and every failure is one sentence with a remedy."""

import _thread
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.builders_tlc import month_bytes
from training.data.download import Network, fetch_month
from training.data.load import load_rides
from training.data.months import Month
from training.errors import MonthUnavailableError

JANUARY = Month(2021, 1)
NAME = "green_tripdata_2021-01.parquet"
CONTENT = month_bytes()
LARGE_CONTENT = CONTENT[:4] + bytes(1 << 20) + CONTENT[4:]
REFUSED = "127.0.0.1 refused the download"
WAYS = "set TLC_DATA_DIR to a folder that contains it, or HTTPS_PROXY to a proxy that allows 127.0.0.1"
PATIENCE_S = 60.0  # a loaded machine may take long to start a thread
NO_MOUNT = 77
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """One answer of TLC; a fault is a value in the list of answers."""

    status: int = 200
    body: bytes = CONTENT
    announced_bytes: int | None = None
    halfway: Callable[[], None] | None = None


SHORT = Answer(announced_bytes=len(CONTENT) + 5)


@dataclass
class FakeTlc:
    """A server on 127.0.0.1 that gives its answers in order, and repeats the last one."""

    answers: Sequence[Answer] = (Answer(),)
    paths: list[str] = field(default_factory=list)
    sleeps_s: list[float] = field(default_factory=list)
    url: str = ""
    today: date = date(2026, 11, 30)

    def fetch(self, cache_dir: Path) -> Path:
        """Fetch January from here, and record the waits instead of waiting."""
        network = Network(sleep=self.sleeps_s.append, today=lambda: self.today, reach_timeout_s=PATIENCE_S)
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
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Print nothing: some clients here hang up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_port}/trip-data"
        yield fake
        server.shutdown()
        thread.join()


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_file_arrives_whole_under_its_own_name(
    tlc: FakeTlc, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tlc.fetch(tmp_path / "new" / "cache")
    assert path == tmp_path / "new" / "cache" / NAME
    assert path.read_bytes() == CONTENT
    assert files_in(path.parent) == [NAME]
    assert tlc.paths == [f"/trip-data/{NAME}"]
    assert tlc.sleeps_s == []
    assert capsys.readouterr() == ("", "")  # no progress bar without a terminal


def test_downloaded_month_is_loaded_and_requested_once(tlc: FakeTlc, tmp_path: Path) -> None:
    for _ in range(2):
        rides = load_rides("green", [JANUARY], cache_dir=tmp_path, fetch=lambda *_: tlc.fetch(tmp_path))
        assert len(rides) == 1
    assert len(tlc.paths) == 1


@pytest.mark.parametrize(
    "fault",
    [Answer(status=500), Answer(status=503, body=b""), Answer(status=429), SHORT],
    ids=["500", "503", "429", "short body"],
)
def test_transient_fault_is_tried_again(tlc: FakeTlc, tmp_path: Path, fault: Answer) -> None:
    (tmp_path / NAME).write_bytes(b"older")
    tlc.answers = [fault, fault, Answer()]
    assert tlc.fetch(tmp_path).read_bytes() == CONTENT
    assert len(tlc.sleeps_s) == 2
    assert tlc.sleeps_s == sorted(tlc.sleeps_s)


def test_body_that_stays_short_leaves_only_the_older_file(tlc: FakeTlc, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"older")
    tlc.answers = [SHORT]
    with pytest.raises(MonthUnavailableError, match=f"only {len(CONTENT)} of {len(CONTENT) + 5} bytes arrived"):
        tlc.fetch(tmp_path)
    assert len(tlc.paths) == 3
    assert (tmp_path / NAME).read_bytes() == b"older"
    assert files_in(tmp_path) == [NAME]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Answer(status=403), rf"{REFUSED} \(HTTP 403\), although TLC has published that month: {WAYS}"),
        (Answer(status=404), rf"{REFUSED} \(HTTP 404\), although TLC has published that month: {WAYS}"),
        (Answer(status=400), "127.0.0.1 answered HTTP 400: try again later, or set TLC_DATA_DIR"),
        (Answer(status=407), "127.0.0.1 answered HTTP 407: try again later, or set TLC_DATA_DIR .* HTTPS_PROXY"),
        (Answer(body=b"<html>log in</html>"), "sent something that is not Parquet: try again later"),
        (Answer(body=b""), "sent something that is not Parquet: try again later"),
    ],
)
def test_permanent_fault_is_reported_without_another_try(
    tlc: FakeTlc, tmp_path: Path, answer: Answer, sentence: str
) -> None:
    tlc.answers = [answer]
    with pytest.raises(MonthUnavailableError, match=f"^{NAME} is not available because .*{sentence}"):
        tlc.fetch(tmp_path)
    assert len(tlc.paths) == 1
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("today", "sentence", "n_requests"),
    [
        (date(2021, 2, 20), "TLC has not published that month yet: it .* two months late: choose an earlier month", 0),
        (date(2021, 4, 1), "refused the download .*TLC publishes a month about two months late, so that it may not", 1),
        (date(2021, 7, 1), "refused the download .*although TLC has published that month: set TLC_DATA_DIR", 1),
    ],
)
def test_refused_download_is_told_apart_from_a_month_that_is_not_published(
    tlc: FakeTlc, tmp_path: Path, today: date, sentence: str, n_requests: int
) -> None:
    tlc.answers, tlc.today = [Answer(status=403)], today
    with pytest.raises(MonthUnavailableError, match=sentence):
        tlc.fetch(tmp_path)
    assert len(tlc.paths) == n_requests


def test_month_before_tlcs_first_is_not_asked_for(tmp_path: Path) -> None:
    with pytest.raises(MonthUnavailableError, match="because TLC has no green rides before 2013-08"):
        fetch_month("green", Month(2013, 7), tmp_path)


def test_proxy_that_refuses_is_named_without_its_password(
    tlc: FakeTlc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    port = tlc.url.split(":")[2].split("/")[0]
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://ada:secret@127.0.0.1:{port}")
    for scheme in ("http", "https"):  # the proxy answers the one itself, and refuses a tunnel for the other
        network = Network(sleep=lambda _: None, today=lambda: tlc.today, reach_timeout_s=PATIENCE_S)
        tlc.answers = [Answer(status=403)]
        with pytest.raises(
            MonthUnavailableError, match=rf"tlc\.invalid, asked through the proxy 127.0.0.1:{port},"
        ) as one:
            fetch_month("green", JANUARY, tmp_path, base_url=f"{scheme}://tlc.invalid", network=network)
        assert "HTTPS_PROXY to a proxy that allows tlc.invalid" in str(one.value)
        assert "secret" not in str(one.value)


def test_interrupt_leaves_nothing_behind(tlc: FakeTlc, tmp_path: Path) -> None:
    # Too long for the sockets' buffers: once half of it is sent, the client is writing its file.
    tlc.answers = [Answer(body=bytes(1 << 25), halfway=_thread.interrupt_main)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever an earlier test has set
    try:
        with pytest.raises(KeyboardInterrupt):
            tlc.fetch(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert files_in(tmp_path) == []


def test_cache_folder_that_cannot_be_written_is_reported(tlc: FakeTlc, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(MonthUnavailableError, match="the file cannot be written into"):
        tlc.fetch(tmp_path / "cache")


# A disk without space -----------------------------------------------------------------------------------------------


def test_file_over_the_size_limit_is_reported(tlc: FakeTlc, tmp_path: Path) -> None:
    cache_dir = tmp_path / "cache"
    tlc.answers = [Answer(body=LARGE_CONTENT)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, hard))
    try:
        with pytest.raises(MonthUnavailableError, match=f"because there is no space left in {cache_dir}: free"):
            tlc.fetch(cache_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_in(cache_dir) == []


FETCH_AND_PRINT = """
import sys
from pathlib import Path
from training.data.download import Network, fetch_month
from training.data.months import Month
from training.errors import MonthUnavailableError
folder = Path(sys.argv[2])
try:
    network = Network(reach_timeout_s=60)
    fetch_month("green", Month(2021, 1), folder, base_url=sys.argv[1], network=network)
except MonthUnavailableError as error:
    print(error, *folder.iterdir())
"""


def test_full_disk_is_reported(tlc: FakeTlc, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    tlc.answers = [Answer(body=LARGE_CONTENT)]
    mount = f'mount -t tmpfs -o size=512k none "$1" 2>/dev/null || exit {NO_MOUNT}; shift; exec "$@"'
    in_a_small_disk = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(folder)]
    command = [*in_a_small_disk, sys.executable, "-c", FETCH_AND_PRINT, tlc.url, str(folder)]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        pytest.skip("this machine has no unshare to make a small disk with")
    if done.returncode == NO_MOUNT or done.stderr.startswith("unshare:"):
        pytest.skip(f"this machine does not allow mounting a small disk: {done.stderr.strip()[-200:]}")
    assert done.stdout.strip() == (
        f"{NAME} is not available because there is no space left in {folder}: free some there, or set XDG_CACHE_HOME "
        "to a folder that has room"
    )


# Offline ------------------------------------------------------------------------------------------------------------


def fetch_with_resolver(
    tmp_path: Path, resolve: Callable[[str, int], list[tuple[str, int]]], reach_timeout_s: float = PATIENCE_S
) -> None:
    fetch_month("green", JANUARY, tmp_path, network=Network(resolve=resolve, reach_timeout_s=reach_timeout_s))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that nothing listens on."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        yield unheard.getsockname()[1]


def test_refused_connection_is_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_port: int) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(MonthUnavailableError, match=r"127.0.0.1 cannot be reached .*: set TLC_DATA_DIR"):
        FakeTlc(url=f"http://127.0.0.1:{closed_port}").fetch(tmp_path)
    assert files_in(tmp_path) == []


def no_answer(host: str, port: int) -> list[tuple[str, int]]:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.mark.parametrize(
    ("resolve", "problem"),
    [(no_answer, "Temporary failure in name resolution"), (lambda host, port: [], "it has no address")],
)
def test_name_without_an_address_is_offline(tmp_path: Path, resolve: Any, problem: str) -> None:
    with pytest.raises(MonthUnavailableError, match=rf"\({problem}\): set TLC_DATA_DIR"):
        fetch_with_resolver(tmp_path, resolve)


def test_resolver_that_hangs_is_abandoned(tmp_path: Path) -> None:
    release = threading.Event()

    def resolve(host: str, port: int) -> list[tuple[str, int]]:
        release.wait()
        return []

    with pytest.raises(MonthUnavailableError, match=r"no answer in 0\.05 s"):
        fetch_with_resolver(tmp_path, resolve, reach_timeout_s=0.05)
    release.set()


def test_second_address_is_tried_if_the_first_refuses(tlc: FakeTlc, tmp_path: Path, closed_port: int) -> None:
    port = int(tlc.url.split(":")[2].split("/")[0])
    network = Network(resolve=lambda *_: [("127.0.0.1", closed_port), ("127.0.0.1", port)], reach_timeout_s=PATIENCE_S)
    assert fetch_month("green", JANUARY, tmp_path, base_url=tlc.url, network=network).exists()


def test_reachability_is_that_of_the_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def resolve(host: str, port: int) -> list[tuple[str, int]]:
        asked.append((host, port))
        return []

    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    with pytest.raises(MonthUnavailableError, match=r"proxy\.invalid cannot be reached"):
        fetch_with_resolver(tmp_path, resolve)
    assert asked == [("proxy.invalid", 3128)]
