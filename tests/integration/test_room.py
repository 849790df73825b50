"""A folder without room is found before work begins, and a failed write names its path."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kits.cli import Cli
from training.errors import UserError
from training.room import check_room, explain, writing

NO_MOUNT = 77
REPOSITORY = Path(__file__).parents[2]


def test_folder_with_room_passes_and_is_not_made(tmp_path: Path) -> None:
    check_room(tmp_path / "a" / "b", 1)
    assert not (tmp_path / "a").exists()


def test_disk_with_too_little_room_is_named(tmp_path: Path) -> None:
    wanted = shutil.disk_usage(tmp_path).total + (1 << 40)
    with pytest.raises(UserError, match=rf"^{tmp_path}/new has no room: \d+ MB are free there, and \d+ MB are wanted"):
        check_room(tmp_path / "new", wanted)


def test_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"{tmp_path}/file/bundles cannot be written: {tmp_path}/file is a file"):
        check_room(tmp_path / "file" / "bundles")


def test_error_of_a_full_disk_gets_a_path(tmp_path: Path) -> None:
    sentence = rf"^{tmp_path} cannot be written \(No space left on device\): free some space"
    with pytest.raises(UserError, match=sentence), writing(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    sentence = rf"{tmp_path}/none/file cannot be written \(No such file or directory\): make it writable"
    with pytest.raises(UserError, match=sentence), writing(tmp_path):
        (tmp_path / "none" / "file").write_bytes(b"")


def test_error_without_a_path_names_the_folders_whose_disks_are_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device")
    assert explain(error, [tmp_path / "none"]) == "No space left on device: free some space, and run this again"
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert explain(error, [tmp_path, tmp_path / "none"]).startswith(f"No space left on device in {tmp_path}: free")
    assert explain(FileNotFoundError(errno.ENOENT, "No such file", "a"), [tmp_path]) == "[Errno 2] No such file: 'a'"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["train", "--synthetic", "10000", "--no-track"], "--output"),
        (["backtest"], "--output"),
        (["simulate", "--synthetic"], "--out"),
        (["demo"], "--output"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_command_finds_it_before_it_begins(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    option: str,
) -> None:
    (tmp_path / "file").touch()
    sentence = Cli(monkeypatch, capsys).refuses(*command, option, tmp_path / "file" / "out")
    assert f"{tmp_path}/file is a file" in sentence


@pytest.mark.parametrize(
    ("mount", "sentence"),
    [("-o size=512k", "has no room: 0 MB are free there"), ("-o ro", "is read-only for this user")],
)
def test_full_disk_and_read_only_disk_are_found(tmp_path: Path, mount: str, sentence: str) -> None:
    code = "import pathlib, sys; from training.room import check_room; check_room(pathlib.Path(sys.argv[1]) / 'a')"
    mounted = f'mount -t tmpfs {mount} none "$1" 2>/dev/null || exit {NO_MOUNT}; shift; exec "$@"'
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh", str(tmp_path)]
    try:
        command = [*alone, sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        pytest.skip("this machine has no unshare to make a small disk with")
    if done.returncode == NO_MOUNT or done.stderr.startswith("unshare:"):
        pytest.skip(f"this machine does not allow mounting a small disk: {done.stderr.strip()[-200:]}")
    assert sentence in done.stderr
