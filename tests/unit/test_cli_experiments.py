"""`ridecast experiments` on a bucket in a folder."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.builders_channels import bucket_of_three, version
from tests.builders_experiments import NAME, decided_experiment, experiment_of
from tests.kits.cli import Cli
from training.experiments.experiment import Experiment, encode_experiment, experiment_key
from training.registry.bucket import Bucket
from training.registry.folder_s3 import FolderS3


class Experiments(Cli):
    """`ridecast experiments` on a folder that holds three models; the channel `stable` holds one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        super().__init__(monkeypatch, capsys, "--bucket", f"file:{folder}")
        self.bucket = Bucket(FolderS3(folder), "folder")
        models = bucket_of_three()
        for stored in models.read_all(models.keys("")):
            self.bucket.write(stored.key, stored.body)

    def ended(self, *words: object) -> tuple[int, str, str]:
        """Run a command of the group."""
        return super().ended("experiments", *words)

    def store(self, experiment: Experiment) -> None:
        """Store an experiment."""
        self.bucket.write(experiment_key(experiment.name), encode_experiment(experiment))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Experiments:
    return Experiments(monkeypatch, capsys, tmp_path)


CANDIDATE = version(2)
"""The channel holds the first model."""


def test_start_status_and_stop(cli: Experiments) -> None:
    made = cli("start", "--candidate", CANDIDATE, "--margin", "1.5%", "--budget", "14d", "--name", NAME)
    assert (made["candidates"], made["rules"]["margin_percent"], made["rules"]["budget_days"]) == ([CANDIDATE], 1.5, 14)
    assert made["is_running"]
    assert cli("start", "--candidate", CANDIDATE, "--margin", "1.5%", "--budget", "14d", "--name", NAME) == made
    assert made["champion"] in cli.run("status", NAME)
    assert cli("stop", NAME, "--why", "enough")["stopped"]["why"] == "enough"
    assert "stopped by" in cli.run("status")


def test_status_without_experiments_names_the_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    empty = Cli(monkeypatch, capsys, "--bucket", f"file:{tmp_path}")
    assert "`ridecast experiments start`" in empty.run("experiments", "status")
    assert empty("experiments", "status") == {"experiments": [], "damaged": {}}
    for words in (("status", "a/../b"), ("stop", "../x")):
        assert f"there is no experiment '{words[1]}'" in empty.refuses("experiments", *words)


def test_names_are_the_candidates_and_versions_may_be_beginnings(cli: Experiments) -> None:
    assert cli("start", "--candidate", CANDIDATE[:-3])["name"] == CANDIDATE


def test_status_shows_errors_interval_answer_and_the_sequence_by_day(cli: Experiments) -> None:
    experiment = decided_experiment()
    cli.store(experiment)
    text = cli.run("status", NAME)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    (row,) = (line for line in lines if line.startswith(experiment.candidates[0]) and line.endswith(" better"))
    assert " 4.00 3.83 " in row
    assert f"· {experiment.candidates[0]} needs nothing: the answer stands since day 7" in lines
    assert any(line.startswith("2026-08-09 +8.0% +") for line in lines)
    assert "ended" in cli.run("status")
    found = cli("status", NAME)
    assert found["verdicts"][experiment.candidates[0]]["answer"] == "better"
    assert found["days"] == json.loads(msgspec.json.encode(experiment.days))


def test_status_of_an_experiment_without_days(cli: Experiments) -> None:
    cli.store(experiment_of([]))
    text = cli.run("status", NAME)
    assert "7 more days with rides until the first look" in text
    assert "none yet" in text


def test_a_damaged_experiment_is_named_beside_the_others(cli: Experiments) -> None:
    cli.store(decided_experiment())
    cli.bucket.write(experiment_key("bad"), b"{")
    text = cli.run("status", code=1)
    assert "bad.json is no experiment" in text
    assert "better" in text
    assert cli("status", code=1)["damaged"].keys() == {"bad"}


def test_a_plot_is_written(cli: Experiments, tmp_path: Path) -> None:
    cli.store(decided_experiment())
    path = tmp_path / "plots" / "trial.svg"
    cli.run("status", NAME, "--svg", path)
    assert b"<svg" in path.read_bytes()
    assert b"gain, % of MSE" in path.read_bytes()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("status", "none"), "there is no experiment 'none': `ridecast experiments status` lists them"),
        (("stop", "none"), "there is no experiment 'none'"),
        (("status", "--svg", "plot.svg"), "draws one experiment: name it"),
        (("start", "--candidate", "x", "--margin", "0.02"), "'0.02' is no percentage: write it as 2%"),
        (("start", "--candidate", "x", "--budget", "4 weeks"), "'4 weeks' is no number of days: write it as 28d"),
        (("start", "--candidate", "x", "--budget", "4d"), "no answer comes in fewer than 5 days: give 28d"),
        (("start", "--candidate", "x", "--margin", "100%"), "'100%' would call every candidate equivalent"),
        (("start", "--candidate", "nothing"), "holds no version and no channel 'nothing'"),
    ],
)
def test_errors_are_a_sentence(cli: Experiments, words: tuple[Any, ...], problem: str) -> None:
    code, _, error = cli.ended(*words)
    assert code == 2
    assert problem in " ".join(error.split())
