"""`ridecast models calibrate`: by hand, off and on again."""

from pathlib import Path

import pytest

from tests.builders import interval_bundle
from tests.kits.cli import Cli
from tests.kits.labelled_days import FIRST_DAY, in_seconds, put_days, serve_model
from training.monitoring.hours import EARLY
from training.monitoring.labelled_hour import read_labelled_hour
from training.monitoring.summary import HourSummary, encode_summary, summary_key
from training.registry.bucket import Bucket
from training.registry.folder_s3 import FolderS3

VERSION = interval_bundle().model_version


@pytest.fixture
def folder(tmp_path: Path) -> Bucket:
    """Return a folder whose channel serves the small model, with three days of labelled rides."""
    bucket = Bucket(FolderS3(tmp_path), f"file:{tmp_path}", n_threads=1)
    serve_model(bucket, interval_bundle())
    put_days(bucket, FIRST_DAY, 3)
    return bucket


@pytest.fixture
def cli(folder: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return the command with the folder as its bucket."""
    return Cli(monkeypatch, capsys, "--bucket", folder.name)


DAYS = ("models", "calibrate", "--from", "2021-02-01", "--to", "2021-02-03")


def test_days_are_learned_and_the_channel_moves(cli: Cli) -> None:
    out = cli.run(*DAYS)
    lines = out.splitlines()
    assert lines[0] == "Errors in minutes; bias is predicted minus actual"
    assert any(line.startswith("without calibration") and line.split()[2] == "40" for line in lines)
    assert "labelled rides of 3 hours; 69 hours have none" in out
    assert f"{VERSION}+2021-02-04T05" in out


def test_json_has_errors_before_and_after(cli: Cli) -> None:
    found = cli(*DAYS)
    assert found["served_version"] == f"{VERSION}+2021-02-04T05"
    assert (found["moved"], found["frozen"], found["n_hours"], found["n_missing_hours"]) == (True, None, 3, 69)
    raw, calibrated = found["last_day"]["raw"], found["last_day"]["calibrated"]
    assert calibrated["rmse_minutes"] < raw["rmse_minutes"]
    assert abs(calibrated["bias_minutes"]) < abs(raw["bias_minutes"])
    assert cli(*DAYS)["moved"] is False


def test_off_and_resume(cli: Cli) -> None:
    cli.run(*DAYS)
    off = cli("models", "calibrate", "--off")
    assert (off["served_version"], off["withdrawn"]) == (VERSION, f"{VERSION}+2021-02-04T05")
    assert "`ridecast models calibrate --resume`" in cli.refuses(*DAYS)
    assert cli(*DAYS, "--resume")["served_version"] == f"{VERSION}+2021-02-04T05"


def test_untrustworthy_outcomes_move_nothing(cli: Cli, folder: Bucket) -> None:
    put_days(folder, FIRST_DAY + 48, 1, in_seconds)
    out = cli.run(*DAYS, code=1)
    assert out.splitlines()[-1].startswith("Nothing has moved: outcomes look like seconds instead of minutes")
    found = cli(*DAYS, code=1)
    assert (found["moved"], found["served_version"]) == (False, None)


def test_hour_that_was_joined_early_is_refused(cli: Cli, folder: Bucket) -> None:
    hour = next(hour for hour in put_days(folder, FIRST_DAY, 1) if read_labelled_hour(folder, hour))
    summary = HourSummary(hour=str(hour), pass_number=EARLY, horizon_minutes=180)
    folder.write(summary_key(hour), encode_summary(summary))
    out = cli.ended(*DAYS)
    assert out[0] == 2
    assert f"{hour} was joined while outcomes were still waited for" in out[2]
    assert f"`ridecast outcomes join --from {hour} --to {hour + 1}`" in out[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "give --from and --to, --off or --resume"),
        (("--from", "2021-02-01"), "Invalid value for '--to': is needed, as 2026-11-01"),
        (("--from", "1.2.2021", "--to", "2021-02-03"), "'1.2.2021' is no day: write it as 2026-11-01"),
        (("--from", "2021-02-03", "--to", "2021-02-01"), "2021-02-01 is before --from, 2021-02-03"),
        (("--from", "2021-02-03", "--to", "2999-02-01"), "2999-02-01 is not over in New York"),
        (("--off", "--resume"), "cannot be used with --from, --to or --resume"),
        (("--from", "2021-01-03", "--to", "2021-02-01"), "was trained on rides until 2021-02-01T05"),
        (("--from", "2021-02-08", "--to", "2021-02-09"), "no labelled ride from 2021-02-08T05 to 2021-02-10T05"),
        (("--resume",), "nothing learned in the last 14 days is stored"),
        (("--off", "--channel", "candidate"), "candidate holds nothing, so it has no calibration"),
    ],
)
def test_mistakes_are_told_in_a_sentence(cli: Cli, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in cli.refuses("models", "calibrate", *words)
