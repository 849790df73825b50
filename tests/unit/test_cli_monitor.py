"""`ridecast monitor` on a bucket in a folder."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.cli.monitor_view import status_table
from tests.builders_status import VERSION, group_status, monitor_status
from tests.kits.cli import Cli
from training.monitoring.calibration.status import CalibrationMode, CalibrationStatus
from training.monitoring.monitor.quantities import DATA_QUANTITIES, PERFORMANCE_QUANTITIES
from training.monitoring.monitor.status import STATUS_KEY, Latest, QuantityStatus, encode_status
from training.registry.bucket import Bucket
from training.registry.folder_s3 import FolderS3


class Monitor(Cli):
    """`ridecast monitor` on a folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        super().__init__(monkeypatch, capsys, "--bucket", f"file:{folder}")
        self.bucket = Bucket(FolderS3(folder), "folder")

    def ended(self, *words: object) -> tuple[int, str, str]:
        """Run a command of the group."""
        return super().ended("monitor", *words)

    def store(self, **changes: Any) -> None:
        """Store a status in which all is well, with other values of some fields."""
        self.bucket.write(STATUS_KEY, encode_status(monitor_status(**changes)))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Monitor:
    return Monitor(monkeypatch, capsys, tmp_path)


def test_status_prints_a_line_a_quantity_and_ends_with_0_if_all_is_well(cli: Monitor) -> None:
    cli.store()
    lines = [" ".join(line.split()) for line in cli.run("status").splitlines()]
    assert lines[0] == f"Channel stable: {VERSION}+2026-11-29T05"
    assert "time of day 14:35 14:28 14:10 to 14:50 0.4 ok" in lines
    assert "straight line, miles 1.20 1.60 1.50 to 1.70 812 ok" in lines
    assert "bias, minutes -0.30 0.00 none <0.1 ok" in lines
    assert "RMSE (served), minutes 3.90 3.80 to 4.00 4.05" in lines
    assert "· calibration: learned from 1,200 rides" in lines


@pytest.mark.parametrize("group", ["data", "performance"])
def test_status_ends_with_1_and_shows_the_sentence_if_an_alarm_sounds(cli: Monitor, group: str) -> None:
    cli.store(groups=group_status(group, "alarm", "distances fell since Monday"))
    assert f"✗ {group}: alarm, evidence 401 of 365. distances fell since Monday" in cli.run("status", code=1)
    assert cli("status", code=1)["groups"][group == "performance"]["state"] == "alarm"


def test_status_ends_with_1_if_calibration_is_frozen(cli: Monitor) -> None:
    cli.store(
        calibration=CalibrationStatus(mode=CalibrationMode.DAILY, state="frozen", text="outcomes look like seconds")
    )
    assert "✗ calibration: outcomes look like seconds" in cli.run("status", code=1)


def test_status_ends_with_3_if_a_group_is_not_judged(cli: Monitor) -> None:
    cli.store(groups=group_status("data", "unknown", "one day"), missing=("the model has no reference",))
    text = cli.run("status", code=3)
    assert "? data: unknown" in text
    assert "! missing: the model has no reference" in text


def test_status_that_nobody_writes_any_more_is_not_taken_for_a_good_one(cli: Monitor) -> None:
    written = datetime.now(UTC) - timedelta(hours=5)
    cli.store(written_at=written.isoformat())
    assert f"this status is old: it was written at {written:%Y-%m-%d %H:%M}Z" in cli.run("status", code=3)
    assert cli("status", code=3)["is_stale"]


def test_json_is_the_stored_status(cli: Monitor) -> None:
    cli.store()
    found = cli("status")
    assert found.pop("is_stale") is False
    stored = cli.bucket.read(STATUS_KEY)
    assert stored
    assert found == msgspec.json.decode(stored.body)


def test_status_without_a_day_or_a_model_is_shown(cli: Monitor) -> None:
    nothing: dict[str, Any] = {"groups": (), "quantities": (), "recent": (), "missing": ("no labelled rides yet",)}
    cli.store(model_version=None, served_version=None, last_day=None, n_days=0, **nothing)
    text = cli.run("status", code=3)
    assert "no model\ntoday is no whole day yet" in text
    assert "no labelled rides yet" in text


def test_bucket_without_status_is_one_sentence(cli: Monitor) -> None:
    assert "has no monitor/status.json: the monitor function writes it" in cli.refuses("status")
    cli.bucket.write(STATUS_KEY, b"{}")
    assert "monitor/status.json is no status" in cli.refuses("status")


@pytest.mark.parametrize(
    "changes", [{"written_at": "yesterday"}, {"written_at": "2026-11-28"}, {"last_judged": "x"}], ids=str
)
def test_status_whose_times_are_none_is_damaged(cli: Monitor, changes: dict[str, str]) -> None:
    cli.store(**changes)
    assert "monitor/status.json is no status" in cli.refuses("status")


def test_other_channel_than_the_watched_one_is_refused(cli: Monitor) -> None:
    cli.store()
    assert cli("status", "--channel", "stable")["channel"] == "stable"
    assert "channel stable is watched, not candidate" in cli.refuses("status", "--channel", "candidate")


def test_no_control_character_of_a_bucket_reaches_the_terminal(cli: Monitor) -> None:
    cli.store(missing=("a\x1b[31mb",), groups=group_status("data", "alarm", "c\x07d"))
    text = cli.run("status", code=1)
    assert "\x1b" not in text
    assert "\x07" not in text


def test_table_of_all_quantities_fits_a_terminal_of_80_columns(cli: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    known = {one.name: one for one in monitor_status().quantities}
    quantities = [
        known.get(name, QuantityStatus(name=name, group="data", unit="miles", today=-1.23, reference=-1.23))
        for name in (*DATA_QUANTITIES, *PERFORMANCE_QUANTITIES)
    ]
    longest = {"usual_low": -1.51, "usual_high": -1.41, "evidence": 1e6, "state": "unknown"}
    cli.store(quantities=tuple(msgspec.structs.replace(one, **longest) for one in quantities))
    lines = cli.run("status").splitlines()
    assert sum(line.endswith("unknown") for line in lines) == len(quantities)


def test_short_table_has_four_columns_and_few_rows() -> None:
    rows = status_table(monitor_status())
    assert ("rides in interval", "80.5 %", "80.0 %", "ok") in rows
    assert len(rows) <= 8


def test_acknowledge_stores_who_knows_of_the_alarm(cli: Monitor) -> None:
    cli.store(groups=group_status("data", "alarm", "distances fell"))
    found = cli("acknowledge", "data")
    assert (found["group"], found["day"], found["model_version"]) == ("data", "2026-11-28", VERSION)
    assert "evidence starts at 0" in cli.run("acknowledge", "data")
    assert cli("acknowledge", "data") == found
    assert cli.bucket.read(f"monitor/acknowledged/{VERSION}/data-2026-11-28.json")


def test_nothing_is_acknowledged_without_an_alarm(cli: Monitor) -> None:
    assert "so there is no alarm" in cli.refuses("acknowledge", "data")
    cli.store()
    assert "performance has no alarm: its state is ok" in cli.refuses("acknowledge", "performance")
    assert "'weather' is not one of 'data', 'performance'" in cli.refuses("acknowledge", "weather")


def test_report_is_written_where_it_is_said(cli: Monitor, tmp_path: Path) -> None:
    cli.store(model_version=None, served_version=None, last_day=None)
    path = tmp_path / "pages" / "monitor.html"
    assert cli("report", "--out", path) == {"channel": "stable", "model_version": None, "report": str(path)}
    assert b"no model serves" in path.read_bytes()


def test_report_of_a_bucket_without_status_is_one_sentence(cli: Monitor, tmp_path: Path) -> None:
    assert "has no monitor/status.json" in cli.refuses("report", "--out", tmp_path / "monitor.html")
    assert not list(tmp_path.glob("*.html"))


def test_hours_of_a_day_that_is_not_over_are_shown_and_not_judged(cli: Monitor) -> None:
    latest = Latest(first="2026-11-29T05", last="2026-11-29T09", n_hours=5, n_rides=1200, n_judged=1100)
    latest = msgspec.structs.replace(latest, rmse_raw=4.2, rmse_served=3.9, bias_served=0.1, coverage_served=0.79)
    cli.store(latest=latest)
    sentence = "1,200 rides of 2026-11-29T05 to 2026-11-29T09 UTC, 1,100 of them with an outcome that counts"
    assert f"Not judged yet: {sentence}; RMSE 3.90 minutes served, 4.20 raw." in cli.run("status")
    rows = status_table(monitor_status(latest=latest, quantities=()))
    assert ("RMSE (served), minutes", "3.90", "none", "unknown") in rows
