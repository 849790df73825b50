"""A model's whole life from the command line, on real months: trained, tracked, gated, promoted, rolled back."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.cli.app import main
from infra.local.s3 import FolderS3
from training.data.months import default_data_dir, local_months, parse_months
from training.registry.bucket import Bucket
from training.registry.versions import REPORT, list_artifacts, read_manifest

MONTHS = parse_months("2022-01..2022-03,2023-01..2023-03")
FIRST = ("--train", "2022-01", "--validate", "2022-02", "--test", "2022-03")
SECOND = ("--train", "2022-01..2022-03,2023-01", "--validate", "2023-02", "--test", "2023-03")
FEW_TREES = ("--set", "max_iter=20")

Run = Callable[..., Any]

pytestmark = pytest.mark.skipif(not os.environ.get("TLC_DATA_DIR"), reason="TLC_DATA_DIR names no folder of TLC months")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all of a life's files are made."""
    folder = default_data_dir()
    if missing := sorted(set(MONTHS) - set(local_months("green", folder, Path("none")))):
        pytest.skip(f"TLC_DATA_DIR has no green rides of {missing[0]}")
    return tmp_path_factory.mktemp("life")


@pytest.fixture
def ridecast(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in the workplace, expects its exit code, and returns its JSON."""
    data_dir = Path(os.environ["TLC_DATA_DIR"]).resolve()
    monkeypatch.setenv("TLC_DATA_DIR", str(data_dir))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(workplace)

    def run(*words: str, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["ridecast", *words, "--json"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        assert (ended.value.code or 0) == code, written.err
        return written.err if code == 2 else json.loads(written.out.splitlines()[-1])

    return run


def test_model_is_trained_tracked_gated_promoted_and_rolled_back(ridecast: Run, workplace: Path) -> None:
    first = ridecast("train", *FIRST, "--channel", "stable")
    assert first["gate"]["passed"]
    assert first["gate"]["against"] is None
    assert first["gate"]["months"] == ["2022-03"]
    assert first["channel"] == {"name": "stable", "model_version": first["model_version"]}

    # A poor one does not get in, leaves nothing in the bucket, and by force gets no further than `candidate`.
    poor = ridecast("train", *SECOND, *FEW_TREES, "--channel", "stable", "--no-report", code=1)
    failed = {rule["rule"] for rule in poor["gate"]["rules"] if not rule["passed"]}
    assert "beats the model in the channel" in failed
    assert poor["channel"] is None
    assert [one["model_version"] for one in ridecast("models", "list")["versions"]] == [first["model_version"]]
    forced = ridecast("train", *SECOND, *FEW_TREES, "--channel", "stable", "--force", "--no-report")
    assert forced["channel"] == {"name": "candidate", "model_version": poor["model_version"]}
    refused = ridecast("models", "promote", poor["model_version"], "--channel", "stable", code=2)
    assert "did not pass the gate" in refused

    # A good one is trained alone, judged, and then promoted.
    second = ridecast("train", *SECOND)
    assert second["rmse_minutes"] < 3.92
    published = ridecast("models", "publish", second["bundle"], "--test", "2023-03")
    assert published["model_version"] == second["model_version"]
    assert published["previous"] == first["model_version"]

    assert ridecast("models", "rollback")["model_version"] == first["model_version"]
    assert ridecast("models", "promote", second["model_version"])["model_version"] == second["model_version"]
    history = ridecast("models", "history", "--channel", "stable")["moves"]
    assert [line["why"] for line in history] == ["promote", "promote", "rollback", "promote"]
    assert ridecast("models", "check")["differences"] == []
    beside = list_artifacts(
        Bucket(FolderS3(workplace / "build" / "bucket"), "b"), stored_manifest(workplace, first["model_version"])
    )
    assert {REPORT, "gate-stable.json", "environment.json"} <= set(beside)


def test_version_is_reproduced_and_reported_by_the_channels_name(ridecast: Run, workplace: Path) -> None:
    assert ridecast("models", "reproduce", "stable")["identical"] is True
    report = Path(ridecast("report", "stable", "--output", "card.html")["report"])
    assert b"Model report and card" in (workplace / report).read_bytes()


def stored_manifest(workplace: Path, version: str) -> Any:
    return read_manifest(Bucket(FolderS3(workplace / "build" / "bucket"), "b"), version)


def test_months_age_a_model_and_the_plot_says_so(ridecast: Run, workplace: Path) -> None:
    result = ridecast("backtest", "--from", "2022-01", "--to", "2022-03", "--set", "max_iter=20")
    assert [(row["month"], row["months_since_training"]) for row in result["rows"]] == [
        ("2022-02", 1),
        ("2022-03", 2),
        ("2022-03", 1),
    ]
    assert b"<svg" in (workplace / "build" / "backtest" / "green.svg").read_bytes()
