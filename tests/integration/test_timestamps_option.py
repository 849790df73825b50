"""Commands that read months take `--timestamps`, and refuse times with a zone without it."""

from pathlib import Path

import pyarrow as pa
import pytest

from tests.builders_tlc import Schema, row_at, write_month
from tests.kits.cli import Cli
from training.data.months import Month

MONTHS = [Month(2021, month) for month in (1, 2, 3)]
TRAIN = ["train", "--train", "2021-01", "--validate", "2021-02", "--no-track", "--output"]
COMMANDS = {
    "train": TRAIN,
    "backtest": ["backtest", "--output"],
    "simulate": [
        "simulate",
        "--service",
        "green",
        "--train",
        "2021-01,2021-02",
        "--from",
        "2021-03",
        "--to",
        "2021-03",
        "--out",
    ],
}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    schema = Schema(time=pa.timestamp("us", "UTC"))
    for month in MONTHS:
        write_month(tmp_path, [row_at(f"{month}-05T08:15:00"), row_at(f"{month}-06T08:15:00")], month, schema=schema)
    monkeypatch.setenv("TLC_DATA_DIR", str(tmp_path))
    return Cli(monkeypatch, capsys)


def refusal(cli: Cli, *words: object) -> str:
    code, _, err = cli.ended(*words)
    assert code == 2
    return err.splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_times_with_a_zone_are_refused_without_the_option(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    assert "give --timestamps local or --timestamps utc, or set TLC_TIMESTAMPS" in refusal(
        cli, *command, tmp_path / "o"
    )


def test_option_and_variable_let_the_months_load(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_rows = "2021-01 breaks rows: it has 2 rows, wanted at least 5,000"  # so the times were read
    assert few_rows in refusal(cli, *TRAIN, tmp_path / "o", "--timestamps", "local")
    monkeypatch.setenv("TLC_TIMESTAMPS", "utc")
    assert few_rows in refusal(cli, *TRAIN, tmp_path / "o")
    assert "local" in refusal(cli, *TRAIN, tmp_path / "o", "--timestamps", "paris")
