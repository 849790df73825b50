"""The life of a model by commands, on real months: training, tracking, gate, promotion and rollback."""

import os
from pathlib import Path

import pytest

from tests.builders_tlc import needs_real_months
from tests.kits.cli import Cli
from training.data.months import default_data_dir, local_months, parse_months
from training.registry.bucket import Bucket
from training.registry.folder_s3 import FolderS3
from training.registry.versions import REPORT, list_artifacts, read_manifest

MONTHS = parse_months("2022-01..2022-03,2023-01..2023-03")
FIRST = ("--train", "2022-01", "--validate", "2022-02", "--test", "2022-03")
SECOND = ("--train", "2022-01,2023-01", "--validate", "2023-02", "--test", "2023-03")
FEW_TREES, MORE_TREES = ("--set", "max_iter=20"), ("--set", "max_iter=100")

pytestmark = needs_real_months


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for all files of this test."""
    folder = default_data_dir()
    if missing := sorted(set(MONTHS) - set(local_months("green", folder, Path("none")))):
        pytest.skip(f"TLC_DATA_DIR has no green rides of {missing[0]}")
    return tmp_path_factory.mktemp("life")


@pytest.fixture
def cli(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `ridecast` in the workspace and return its JSON."""
    monkeypatch.setenv("TLC_DATA_DIR", str(Path(os.environ["TLC_DATA_DIR"]).resolve()))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(workspace)
    return Cli(monkeypatch, capsys)


def test_model_is_trained_tracked_gated_promoted_and_rolled_back(cli: Cli, workspace: Path) -> None:
    first = cli("train", *FIRST, *MORE_TREES, "--channel", "stable")
    assert first["gate"]["passed"]
    assert first["gate"]["against"] is None
    assert first["gate"]["months"] == ["2022-03"]
    assert first["channel"] == {"name": "stable", "model_version": first["model_version"]}

    # A poor model fails the gate and is not stored; by force it gets only into `candidate`.
    poor = cli("train", *SECOND, *FEW_TREES, "--channel", "stable", "--no-report", code=1)
    failed = {rule["rule"] for rule in poor["gate"]["rules"] if not rule["passed"]}
    assert "beats the model in the channel" in failed
    assert poor["channel"] is None
    assert [one["model_version"] for one in cli("models", "list")["versions"]] == [first["model_version"]]
    forced = cli("models", "release", poor["bundle"], "--test", "2023-03", "--channel", "stable", "--force")
    assert forced["model_version"] == poor["model_version"]
    refused = cli.refuses("models", "promote", poor["model_version"], "--channel", "stable")
    assert "did not pass the gate" in refused

    # A good model is trained without a channel, then released.
    second = cli("train", *SECOND, *MORE_TREES)
    released = cli("models", "release", second["bundle"], "--test", "2023-03")
    assert released["model_version"] == second["model_version"]
    assert released["previous"] == first["model_version"]

    rolled_back = cli("models", "rollback", first["model_version"])
    assert rolled_back["model_version"] == first["model_version"]
    assert cli("models", "promote", second["model_version"])["model_version"] == second["model_version"]
    history = cli("models", "history", "--channel", "stable")["moves"]
    assert [entry["why"] for entry in history] == ["promote", "promote", "rollback", "promote"]
    assert cli("models", "check")["differences"] == []
    bucket = Bucket(FolderS3(workspace / "build" / "bucket"), "b")
    artifacts = list_artifacts(bucket, read_manifest(bucket, first["model_version"]))
    assert {REPORT, "gate-stable.json", "environment.json"} <= set(artifacts)


def test_version_is_reproduced_and_reported_by_the_channels_name(cli: Cli, workspace: Path) -> None:
    assert cli("models", "reproduce", "stable")["identical"] is True
    report = Path(cli("report", "stable", "--output", "card.html")["report"])
    assert b"Model report and card" in (workspace / report).read_bytes()


def test_backtest_measures_how_models_age_and_draws_it(cli: Cli, workspace: Path) -> None:
    result = cli("backtest", "--from", "2022-01", "--to", "2022-03", "--set", "max_iter=20")
    assert [(row["month"], row["months_since_training"]) for row in result["rows"]] == [
        ("2022-02", 1),
        ("2022-03", 2),
        ("2022-03", 1),
    ]
    assert b"<svg" in (workspace / "build" / "backtest" / "green.svg").read_bytes()
