"""The demo as a user runs it: on real months, on made-up rides, offline, in AWS's own runtime, with a lost ride."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from infra.cli.output import ConsoleDisplay
from infra.local.demo.demo import DemoOptions, DemoReport, run_demo
from infra.stack.package import build_for_host
from infra.stack.template import TEMPLATE
from tests.builders import FEBRUARY, JANUARY
from tests.kits.emulator import needs_emulator

needs_tlc = pytest.mark.skipif(not os.environ.get("TLC_DATA_DIR"), reason="TLC_DATA_DIR names no folder of TLC months")

RIDECAST = Path(sys.executable).with_name("ridecast")
KEYS = [one.name for one in fields(DemoReport)]
DEAD_PROXY = "http://127.0.0.1:9"


class Ended(NamedTuple):
    """The exit code and output of a `ridecast` command."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object on the last line."""
        result: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return result

    @property
    def messages(self) -> str:
        """Standard error without line breaks."""
        return " ".join(self.err.split())


def ridecast(*arguments: str, environment: Mapping[str, str] = os.environ) -> Ended:
    ended = subprocess.run(  # noqa: S603 - our own words
        [RIDECAST, *arguments], capture_output=True, text=True, check=False, env=dict(environment)
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def demo(folder: Path, environment: Mapping[str, str] = os.environ) -> Ended:
    return ridecast("demo", "--rides", "3000", "--json", "--output", str(folder), environment=environment)


def offline(cache: Path) -> dict[str, str]:
    """Return an environment without TLC data and network, and with AWS settings of no AWS."""
    others = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    others.pop("TLC_DATA_DIR", None)
    return {
        **others,
        "XDG_CACHE_HOME": str(cache),
        "HTTPS_PROXY": DEAD_PROXY,
        "HTTP_PROXY": DEAD_PROXY,
        "AWS_PROFILE": "no-such-profile",
        "AWS_ENDPOINT_URL_S3": DEAD_PROXY,
    }


def check_nothing_is_lost(result: Mapping[str, Any], n_rides: int) -> None:
    assert list(result) == KEYS
    assert result["rides"] == result["predicted"] + result["rejected"] == n_rides
    assert (result["rejected"], result["lost"], result["repeated"]) == (5, 0, 0)
    assert result["rides_per_s"] > 0
    assert result["labelled"] == result["predicted"]
    assert (result["audit_lost"], result["audit_conflicting"], result["audit_skewed"]) == (0, 0, 0)
    assert 0.5 < result["coverage"] < 1
    monitor = result["monitor"]
    assert {one["state"] for one in (*monitor["groups"], *monitor["quantities"])} == {"unknown"}  # no whole day yet
    assert all(one["today"] is not None for one in monitor["quantities"])
    assert monitor["latest"]["n_judged"] == result["labelled"]
    assert monitor["calibration"]["state"] == "learning"
    assert result["mae_minutes"] < result["rmse_minutes"] <= 0.72 * result["baseline_rmse_minutes"]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A demo without TLC data: its folder and its output."""
    folder = tmp_path_factory.mktemp("made-up")
    return folder, demo(folder, offline(folder / "empty"))


@needs_tlc
def test_demo_on_real_rides_loses_nothing_and_trains_once(tmp_path: Path) -> None:
    first = demo(tmp_path)
    assert first.code == 0, first.err
    check_nothing_is_lost(first.result, 3000)
    assert first.out.count("\n") == 1
    assert first.result["data"] == "tlc"
    assert first.result["model_version"].startswith("green-2021-01-")
    assert "fitting the forest" in first.err

    second = demo(tmp_path)
    assert second.code == 0, second.err
    assert second.result["model_version"] == first.result["model_version"]
    assert second.result["rmse_minutes"] == first.result["rmse_minutes"]
    assert second.result["baseline_rmse_minutes"] == first.result["baseline_rmse_minutes"]
    assert "fitting" not in second.err


def test_demo_without_data_or_network_uses_made_up_rides_with_a_warning(made_up: tuple[Path, Ended]) -> None:
    _, ended = made_up
    assert ended.code == 0, ended.err
    check_nothing_is_lost(ended.result, 3000)
    assert ended.result["data"] == "synthetic"
    assert "green_tripdata_2021-01.parquet is not available" in ended.messages
    assert "set TLC_DATA_DIR to a folder that contains it" in ended.messages
    assert "Made-up rides are used instead: their errors say nothing about New York" in ended.messages


def test_functions_log_is_in_a_file_and_not_on_the_terminal(made_up: tuple[Path, Ended]) -> None:
    folder, ended = made_up
    assert len(ended.out.splitlines()) == 1
    assert '"n_records":' in (folder / "function.log").read_text()


def test_labelled_rides_and_summaries_of_the_last_run_are_left_in_the_folder(made_up: tuple[Path, Ended]) -> None:
    folder, ended = made_up
    rides = pd.read_parquet(folder / "demo" / "labelled")
    error = rides.predicted_minutes - rides.duration_minutes
    assert len(rides) == ended.result["labelled"]
    assert np.sqrt((error**2).mean()) == pytest.approx(ended.result["rmse_minutes"], abs=1e-4)
    summaries = [json.loads(path.read_bytes()) for path in (folder / "demo" / "monitor").rglob("*.json")]
    assert sum(one["n_labelled"] for one in summaries) == len(rides)
    squares = sum(sums["sum_squared_error"] for one in summaries for sums in one["by_version"].values())
    assert np.sqrt(squares / len(rides)) == pytest.approx(ended.result["rmse_minutes"], abs=1e-4)


@needs_emulator
def test_demo_in_the_emulator_loses_nothing(tmp_path: Path) -> None:
    build_for_host()  # while there is a network
    options = ["--runtime", "emulator", "--rides", "2000", "--output", str(tmp_path), "--json"]
    ended = ridecast("demo", *options, environment=offline(tmp_path / "empty"))

    assert ended.code == 0, ended.err
    check_nothing_is_lost(ended.result, 2000)
    for log in ("function.log", "archiver.log"):
        assert "REPORT RequestId" in (tmp_path / log).read_text()


def test_train_without_data_or_network_fails_with_one_sentence(tmp_path: Path) -> None:
    ended = ridecast("train", "--output", str(tmp_path / "bundles"), "--json", environment=offline(tmp_path))
    assert ended.code == 2
    assert ended.out == ""
    (sentence,) = [line for line in ended.err.splitlines() if line.startswith("ridecast: ")]
    assert "green_tripdata_2021-01.parquet is not available" in sentence
    assert "set TLC_DATA_DIR" in sentence
    assert "Traceback" not in ended.err
    assert not (tmp_path / "bundles").exists()


class QuietDisplay(ConsoleDisplay):
    """A display that only stores warnings."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Store a warning."""
        self.warnings.append(text)


def options_with_handler(folder: Path, handler: str) -> DemoOptions:
    """Return options of a small demo with the folder's bundle and another function."""
    template = folder / "template.yaml"
    template.write_text(TEMPLATE.read_text().replace("lambda_function.handler.lambda_handler", handler))
    return DemoOptions(
        service="green",
        train_months=(JANUARY,),
        validate_months=(FEBRUARY,),
        n_events=2000,
        folder=folder,
        template=template,
        stall_s=8.0,
    )


@pytest.fixture
def made_up_folder(made_up: tuple[Path, Ended], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the bundle of the made-up rides, in a process without data and network."""
    folder, _ = made_up
    environment = offline(folder / "empty")
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return folder


def test_ride_that_a_function_drops_is_counted_as_lost(made_up_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = run_demo(
        options_with_handler(made_up_folder, "tests.integration.lossy_function.lambda_handler"), QuietDisplay()
    )

    assert report.lost == report.audit_lost > 0
    assert report.rides == report.predicted + report.rejected + report.lost == 2000
    assert report.predicted > 0
    assert "failing once, on purpose" in (made_up_folder / "function.log").read_text()
    assert capfd.readouterr() == ("", "")


def test_function_that_never_works_loses_every_ride_with_a_warning(
    made_up_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    display = QuietDisplay()
    report = run_demo(options_with_handler(made_up_folder, "json.dumps"), display)

    assert report.lost == report.audit_lost == report.rides
    assert report.labelled == 0
    assert report.rmse_minutes is None
    assert "no new result for 8 s; last error: TypeError: " in display.warnings[-1]
    assert str(made_up_folder / "function.log") in display.warnings[-1]
    assert capfd.readouterr() == ("", "")
