"""`ridecast outcomes join` and `audit` on a bucket in a folder."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders import interval_bundle
from tests.builders_archive import HOUR, ArchivedStreams
from tests.kits.cli import Cli
from training.monitoring.hours import Hour
from training.monitoring.join.join import labelled_key
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle
from training.registry.folder_s3 import FolderS3

FROM, TO = "2026-08-01T09", "2026-08-01T10"


class Outcomes(Cli):
    """`ridecast outcomes` on a folder with the archive of HOUR: a ride with outcome, one without, one that is lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        super().__init__(monkeypatch, capsys, "--bucket", f"file:{folder}")
        self.bucket = Bucket(FolderS3(folder), "folder")
        store_bundle(self.bucket, interval_bundle())
        self.streams = ArchivedStreams()
        self.streams.ride("a", 1)
        self.streams.outcome("a", 20, 17.0)
        self.streams.ride("b", 2)

    def ended(self, *words: object) -> tuple[int, str, str]:
        """Run a command of the group."""
        return super().ended("outcomes", *words)

    def store(self) -> None:
        """Store the archive."""
        for stored in self.streams.store().read_all(self.streams.store().keys("")):
            self.bucket.write_once(stored.key, stored.body)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Outcomes:
    return Outcomes(monkeypatch, capsys, tmp_path)


def test_join_stores_labelled_rides_and_prints_a_line_an_hour(cli: Outcomes) -> None:
    cli.store()
    text = cli.run("join", "--from", FROM, "--to", "2026-08-01T11")
    lines = [line.split() for line in text.splitlines()]
    assert [FROM, "2", "1", "1", "0.98", "0", "0", "0"] in lines
    assert ["2026-08-01T10", "0", "0", "0", "none", "0", "0", "0"] in lines
    assert cli.bucket.read(labelled_key(HOUR))
    joined = cli("join", "--from", FROM, "--to", TO)
    assert ([one["hour"] for one in joined["hours"]], joined["judged_early"]) == ([FROM], False)
    assert joined["hours"][0]["pass"] == 2  # two days have passed


def test_hour_that_has_not_begun_is_not_joined(cli: Outcomes) -> None:
    hour = Hour.of(datetime.now(UTC)) + 1
    assert cli("join", "--from", hour, "--to", hour + 2, "--now") == {"hours": [], "judged_early": False}


def test_audit_adds_up_hours_and_names_those_that_are_not_joined(cli: Outcomes) -> None:
    cli.store()
    cli("join", "--from", FROM, "--to", TO)
    found = cli("audit", "--from", FROM, "--to", "2026-08-01T12")
    assert (found["hours"], found["ride_events"], found["labelled"]) == (1, 2, 1)
    assert (found["lost"], found["conflicting"], found["skewed"]) == (0, 0, 0)
    assert found["not_joined"] == ["2026-08-01T10", "2026-08-01T11"]
    assert "2026-08-01T10 to 2026-08-01T11" in cli.run("audit", "--from", FROM, "--to", "2026-08-01T12")


def test_hours_before_the_first_archived_ride_are_not_missing(cli: Outcomes) -> None:
    assert "no ride is archived" in cli.run("audit", "--from", HOUR + -5, "--to", HOUR + 2)
    cli.store()
    assert cli("audit", "--from", HOUR + -5, "--to", HOUR + 2)["not_joined"] == [str(HOUR), str(HOUR + 1)]
    assert cli("audit", "--from", HOUR + -5, "--to", HOUR)["not_joined"] == []


def test_audit_tells_hours_that_should_be_joined_from_those_that_are_not_complete(cli: Outcomes) -> None:
    hour = Hour.of(datetime.now(UTC))
    found = cli("audit", "--from", hour + -5, "--to", hour)
    assert (found["not_joined"][0], found["not_complete_yet"][-1]) == (str(hour + -5), str(hour + -1))
    assert len(found["not_joined"]) + len(found["not_complete_yet"]) == 5


def test_audit_ends_with_1_if_a_ride_is_lost(cli: Outcomes) -> None:
    cli.streams.ride("c", 3, is_predicted=False)
    cli.streams.ride("d", 4)
    cli.store()
    cli("join", "--from", FROM, "--to", TO)
    words = ("audit", "--from", FROM, "--to", TO, "--show", "lost")
    found = cli(*words, code=1)
    assert (found["lost"], [one["ride_id"] for one in found["records"]]) == (1, ["c"])
    assert json.loads(found["records"][0]["data"])["ride_id"] == "c"
    assert found["records"][0]["event_id"] in cli.run(*words, code=1)
    assert cli(*words[:-1], "skew", code=1)["records"] == []


def test_damaged_object_of_the_archive_is_named_by_both(cli: Outcomes) -> None:
    key = f"archive/rides/{HOUR.partition}/shardId-000000000000-1-00.ndjson.gz"
    cli.bucket.write(key, b"no gzip")
    cli.store()
    assert f"left out, damaged: {key}" in cli.run("join", "--from", FROM, "--to", TO)
    assert list(cli("audit", "--from", FROM, "--to", TO)["damaged_objects"]) == [key]


def test_hour_whose_outcomes_are_waited_for_is_joined_with_now_only_and_that_is_said(cli: Outcomes) -> None:
    hour = Hour.of(datetime.now(UTC) - timedelta(hours=2))
    words: tuple[Any, ...] = ("join", "--from", hour, "--to", hour + 1)
    assert f"outcomes of {hour} are waited for until {hour.end + timedelta(hours=3):%Y-%m-%dT%H:%MZ}" in cli.refuses(
        *words
    )
    assert "judged early" in cli.run(*words, "--now")
    assert cli(*words, "--now")["judged_early"]
    assert cli(*words, "--outcome-delay", 0)["hours"][0]["horizon_minutes"] == 60
    assert [one["hour"] for one in cli("join", "--from", hour + -3)["hours"]] == [str(hour + -3), str(hour + -2)]


def test_join_says_so_if_no_hour_is_complete(cli: Outcomes) -> None:
    assert "no hour of this time is complete" in cli.run("join", "--from", "1h")
    assert cli("join", "--from", "1h")["hours"] == []


def test_join_needs_a_first_hour_and_a_bucket(cli: Outcomes) -> None:
    assert "'--from'" in cli.refuses("join")
    cli.options = ()
    assert "no bucket is named" in cli.refuses("join", "--from", FROM)
