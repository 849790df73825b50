"""A download for which there is no room says so, names the folder, and leaves nothing behind."""

import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.builders_tlc import month_bytes
from training.data.download import fetch_month
from training.data.months import Month
from training.errors import NoSpaceError

NAME = "green_tripdata_2021-01.parquet"
NO_MOUNT = 77
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def tlc_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a month of a megabyte can be had."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "tlc"
    folder.mkdir()
    content = month_bytes()
    (folder / NAME).write_bytes(content[:4] + bytes(1 << 20) + content[4:])

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Says nothing: a client that hangs up is part of the play."""

    with Server(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_file_that_may_not_grow_so_large_is_told(tlc_url: str, tmp_path: Path) -> None:
    cache_dir = tmp_path / "cache"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, hard))
    try:
        with pytest.raises(
            NoSpaceError, match=f"^{NAME} cannot be had, for there is no space left in {cache_dir}: free"
        ):
            fetch_month("green", Month(2021, 1), cache_dir, base_url=tlc_url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(cache_dir.iterdir()) == []


FETCH_AND_TELL = """
import sys
from pathlib import Path
from training.data.download import fetch_month
from training.errors import NoSpaceError
from training.data.months import Month
folder = Path(sys.argv[2])
try:
    fetch_month("green", Month(2021, 1), folder, base_url=sys.argv[1])
except NoSpaceError as error:
    print(error, *folder.iterdir())
"""


def test_full_disk_is_told(tlc_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    mount = f'mount -t tmpfs -o size=512k none "$1" 2>/dev/null || exit {NO_MOUNT}; shift; exec "$@"'
    in_a_small_disk = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(folder)]
    command = [*in_a_small_disk, sys.executable, "-c", FETCH_AND_TELL, tlc_url, str(folder)]
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        pytest.skip("this machine has no unshare to make a small disk with")
    if done.returncode == NO_MOUNT or done.stderr.startswith("unshare:"):
        pytest.skip(f"this machine lets nobody mount a small disk: {done.stderr.strip()[-200:]}")
    assert done.stdout.strip() == (
        f"{NAME} cannot be had, for there is no space left in {folder}: free some there, or set XDG_CACHE_HOME to a "
        "folder that has room"
    )
