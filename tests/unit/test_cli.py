"""The command line: help everywhere, one sentence for each mistake, and nothing heavy before it is needed."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from infra.cli.app import app, main
from infra.cli.demo import show_demo
from infra.local.demo.demo import DemoReport

KEYS = [
    "rides",
    "predicted",
    "rejected",
    "lost",
    "repeated",
    "rides_per_s",
    "rmse_minutes",
    "mae_minutes",
    "baseline_rmse_minutes",
    "model_version",
    "data",
]
MODEL_VERBS = [
    "list", "show", "compare", "promote", "rollback", "history", "reproduce", "gate", "publish", "sign", "track",
    "check",
]  # fmt: skip
COMMANDS = [
    "demo",
    "train",
    "backtest",
    "report",
    "publish",
    "tail",
    "cost",
    "serve",
    "smoke",
    "doctor",
    *(f"models {verb}" for verb in MODEL_VERBS),
    *(f"{kind} {verb}" for kind in ("rejects", "failures") for verb in ("list", "show", "redrive")),
]
HEAVY = {"boto3", "moto", "pandas", "pyarrow", "sklearn"}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs `ridecast` as the script does; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["ridecast", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Walks the commands below a group: name and command."""
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from leaves(child, f"{path}{name} ")
        else:
            yield path + name, child


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def report(*, lost: int = 0, data: str = "tlc") -> DemoReport:
    return DemoReport(
        rides=100,
        predicted=95 - lost,
        rejected=5,
        lost=lost,
        repeated=0,
        rides_per_s=5000.0,
        rmse_minutes=5.1,
        mae_minutes=3.4,
        baseline_rmse_minutes=7.7,
        model_version="green-2021-01-3f2a9c1d0b7e",
        data="tlc" if data == "tlc" else "synthetic",
    )


def test_commands_are_those_of_the_design() -> None:
    assert [name for name, _ in leaves(typer.main.get_command(app))] == COMMANDS


def test_every_command_has_json_and_every_option_a_help() -> None:
    for name, command in leaves(typer.main.get_command(app)):
        assert any("--json" in parameter.opts for parameter in command.params), name
        assert all(parameter.help for parameter in command.params), name
        assert not any("[" in parameter.help for parameter in command.params), f"{name}: Rich takes [this] for markup"
        assert command.help, name


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_ends_well(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, *command.split(), "--help") == 0
    written = capsys.readouterr()
    assert f"Usage: ridecast {command}".rstrip() in plain(written.out)
    assert written.err == ""


@pytest.mark.parametrize("group", ["", "models", "rejects", "failures"])
def test_bare_command_shows_its_help(
    group: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *group.split()) == 2
    written = capsys.readouterr()
    assert "Usage: ridecast" in plain(written.out)
    assert written.err == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train --train 2021-13", "'2021-13' is not a month: write months as 2021-01"),
        ("demo --validate 2021-03..2021-02", "'2021-03..2021-02' runs backwards: write months as"),
        ("train --train 2021-01 --validate 2021-01", "--validate names 2021-01, which is learnt from already: choose"),
        ("train --train 2021-02 --validate 2021-01", "--validate names 2021-01, which lies before: choose months"),
        ("train --test 2021-02", "--test names 2021-02, which is validated on: choose months of their own"),
        ("train --set max_itre=3", "max_itre is no parameter: did you mean max_iter?"),
        ("train --set max_iter=many", "--set gives max_iter the value 'many': write a number"),
        ("train --config no-such.toml", "no-such.toml cannot be read: name a TOML file"),
        ("train --channel Stable", "'Stable' is no channel's name"),
        ("train --allow colour", "no rule 'colour': choose among rows"),
        ("demo --train 2023-01..2023-03 --validate 2023-03,2023-04", "2023-03 is learnt from already"),
        ("publish --months January", "'January' is not a month"),
        ("train --service blue", "'blue' is not one of 'green', 'yellow'"),
        ("demo --rides 0", "Invalid value for '--rides'"),
        ("demo --rides", "Option '--rides' requires an argument"),
        ("train --no-such-option", "No such option: --no-such-option"),
        ("fly", "No such command 'fly'"),
        ("models publish", "Missing argument"),
        ("models publish no/such/bundle --bucket b", "bundle bundle, manifest.json: is missing"),
        ("tail --endpoint-url nowhere", "Invalid endpoint: nowhere: write it as http://127.0.0.1:5000"),
        ("tail --profile no-such-profile", "no-such-profile"),
    ],
)
def test_mistake_is_one_sentence_and_exit_code_2(
    arguments: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments.split()) == 2
    written = capsys.readouterr()
    (line,) = written.err.splitlines()
    assert line.startswith("ridecast: ")
    assert sentence in line
    assert written.out == ""


def test_missing_data_folder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLC_DATA_DIR", str(tmp_path / "nowhere"))
    assert run(monkeypatch, "publish") == 2
    assert capsys.readouterr().err == (
        f"ridecast: there is no data folder {tmp_path / 'nowhere'}:"
        " set TLC_DATA_DIR to a folder of TLC months, or unset it\n"
    )


def test_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(monkeypatch, "demo", "--output", str(tmp_path / "file" / "build")) == 2
    written = capsys.readouterr()
    assert re.fullmatch(r"\s*ridecast: .*Not a directory.*file/build'\n", written.err)
    assert written.out == ""


@pytest.mark.parametrize("data", ["tlc", "synthetic"])
def test_demo_without_a_lost_ride_ends_well(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_demo(report(data=data), Path("build"), as_json=False)
    *table, last = capsys.readouterr().out.splitlines()
    assert list(json.loads(last)) == KEYS
    assert ("made up" in "\n".join(table)) == (data == "synthetic")


@pytest.fixture
def losing_command() -> Iterator[str]:
    """A command that ends as a demo does that has lost a ride."""
    app.command("lose")(lambda: show_demo(report(lost=1), Path("build"), as_json=True))
    yield "lose"
    app.registered_commands.pop()


def test_demo_with_a_lost_ride_ends_with_1_and_still_reports(
    losing_command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, losing_command) == 1
    written = capsys.readouterr()
    assert json.loads(written.out)["lost"] == 1
    assert written.err == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", ["--help", "demo --help", "models publish --help", "fly", "train --train 2021-13"]
)
def test_nothing_heavy_is_imported_for_help_or_a_mistake(arguments: str) -> None:
    program = (
        "import sys; sys.argv = ['ridecast', *sys.argv[1:]]; from infra.cli.app import main\n"
        "try: main()\n"
        "finally: print('IMPORTED', *{name.partition('.')[0] for name in sys.modules})"
    )
    ended = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", program, *arguments.split()], capture_output=True, text=True, check=False
    )
    _, _, imported = ended.stdout.rpartition("IMPORTED")
    assert "infra" in imported.split()
    assert HEAVY.isdisjoint(imported.split())
