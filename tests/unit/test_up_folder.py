"""The folder of `ridecast up`: what it keeps, what goes, and what is refused with a remedy."""

import os
import sqlite3
import time
from pathlib import Path

import pytest

from infra.local.moto.state_file import DamagedStateError, SavedRecord, StateFile, state_error
from infra.local.up.folder import RETENTION_S, opened_folder
from training.errors import UserError

NOW_S = time.time()


def fill(path: Path, *ages_s: float) -> None:
    """Store records of these ages, numbered from 1 on."""
    with StateFile(path / "state.db") as state:
        for number, age_s in enumerate(ages_s, 1):
            state.add_record("rides", "shard", SavedRecord(str(number), NOW_S - age_s, "key", "ZGF0YQ=="))
        state.commit()


def kept(path: Path) -> list[str]:
    with StateFile(path / "state.db") as state:
        return [one.number for one in state.records("rides", "shard")]


def test_positions_and_feed_are_read_again(tmp_path: Path) -> None:
    with opened_folder(tmp_path / "local") as folder:
        folder.write_positions({"predictor": {"rides": {"shard": "7"}}})
        folder.write_feed({"green-2023-02": 12.5})

    with opened_folder(tmp_path / "local") as folder:
        assert folder.read_positions() == {"predictor": {"rides": {"shard": "7"}}}
        assert folder.read_feed() == {"green-2023-02": 12.5}


def test_old_records_go_once_every_mapping_has_settled_them(tmp_path: Path) -> None:
    old_s = RETENTION_S + 60
    fill(tmp_path, old_s, old_s, old_s, 60.0)
    with opened_folder(tmp_path) as folder:
        folder.write_positions({"predictor": {"rides": {"shard": "4"}}, "archive": {"rides": {"shard": "2"}}})

    with opened_folder(tmp_path):
        pass

    assert kept(tmp_path) == ["3", "4"]


def test_records_of_a_stream_that_nobody_has_read_stay(tmp_path: Path) -> None:
    fill(tmp_path, RETENTION_S + 60)
    with opened_folder(tmp_path):
        pass
    assert kept(tmp_path) == ["1"]


def test_fresh_starts_without_what_was_kept(tmp_path: Path) -> None:
    fill(tmp_path, 60.0)
    (tmp_path / "labelled").mkdir()
    (tmp_path / "positions.json").write_text("{")
    with opened_folder(tmp_path, is_fresh=True) as folder:
        assert folder.read_positions() == {}
    assert kept(tmp_path) == []
    assert not (tmp_path / "labelled").exists()


@pytest.mark.parametrize("name", ["state.db", "positions.json", "feed.json"])
@pytest.mark.parametrize("damage", [b"{", b"\x00" * 5000])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, name: str, damage: bytes) -> None:
    (tmp_path / name).write_bytes(damage)
    with pytest.raises(DamagedStateError, match=rf"{name} is damaged: .*--fresh"), opened_folder(tmp_path):
        pass


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "positions.json", "feed.json.new", "running.json"])
def test_a_folder_in_a_files_place_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "inside").mkdir(parents=True)
    with (
        pytest.raises(DamagedStateError, match=rf"{name} is damaged: it is a folder: .*--fresh"),
        opened_folder(tmp_path),
    ):
        pass
    with opened_folder(tmp_path, is_fresh=True) as folder:
        assert folder.read_positions() == {}


@pytest.mark.parametrize("name", ["labelled", "logs"])
def test_a_file_in_a_folders_place_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DamagedStateError, match=f"{name} is damaged: it is a file"), opened_folder(tmp_path):
        pass


@pytest.mark.parametrize("mode", [0o400, 0o000])
@pytest.mark.parametrize("name", ["state.db", "positions.json", "logs"])
def test_what_this_user_may_not_use_is_named(tmp_path: Path, name: str, mode: int) -> None:
    if name == "logs":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).touch()
    (tmp_path / name).chmod(mode)
    if os.access(tmp_path / name, os.W_OK):
        pytest.skip("this user may write everything")
    with pytest.raises(UserError, match=f"{name} cannot be read and written by this user"), opened_folder(tmp_path):
        pass


def test_a_position_that_is_no_sequence_number_is_damage(tmp_path: Path) -> None:
    (tmp_path / "positions.json").write_text('{"predictor": {"rides": {"shard": "all"}}}')
    with pytest.raises(DamagedStateError, match=r"positions\.json is damaged"), opened_folder(tmp_path):
        pass


@pytest.mark.parametrize("problem", ["database or disk is full", "disk I/O error", "database is locked"])
def test_a_full_disk_or_a_locked_file_is_not_called_damage(tmp_path: Path, problem: str) -> None:
    error = state_error(tmp_path / "state.db", sqlite3.OperationalError(problem))
    assert f"state.db cannot be used ({problem}): see that its disk has room" in str(error)
    assert "--fresh" not in str(error)


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    with StateFile(tmp_path / "state.db") as state:
        state._db.execute("PRAGMA user_version = 99")
    with pytest.raises(DamagedStateError, match="it has format 99"), opened_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"), opened_folder(tmp_path / "file" / "local"):
        pass


def test_a_second_process_is_refused_with_the_first_ones_id(tmp_path: Path) -> None:
    with (
        opened_folder(tmp_path),
        pytest.raises(UserError, match=r"another `ridecast up` uses .* \(process \d+\)"),
        opened_folder(tmp_path, lock_wait_s=0.0),
    ):
        pass
