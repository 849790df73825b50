"""The command line: help for every command, one sentence for each mistake, no heavy import before it is needed."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from infra.cli.app import app
from infra.cli.demo import show_demo
from infra.cli.output import counting, live_display, show_result, write_table
from infra.cli.resume import ResumeFile
from infra.cli.sending import SendState
from infra.local.demo.demo import DemoReport
from infra.operate.stream_replay import ReplayState
from tests.builders import small_bundle
from tests.builders_status import monitor_status
from tests.kits.cli import Cli
from training.monitoring.monitor.status import GroupStatus
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.registry.folder_s3 import FolderS3

GROUPS = {
    "": "demo up simulate train backtest report serve invoke doctor smoke cost",
    "models": "list show compare release promote rollback restore calibrate history reproduce sign sync check",
    "rides": "send tail replay",
    "outcomes": "send join audit forget",
    "monitor": "status report acknowledge",
    "experiments": "start status stop",
    "loop": "start status approve stop",
    "records": "list show redrive",
}
COMMANDS = [f"{group} {verb}".strip() for group, verbs in GROUPS.items() for verb in verbs.split()]
WITHOUT_AWS = {"demo", "up", "simulate", "backtest", "cost"}
HEAVY = {"boto3", "matplotlib", "mlflow", "moto", "pandas", "pyarrow", "scipy", "sklearn"}


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line."""
    return Cli(monkeypatch, capsys)


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name and the command of everything below a group."""
    for name, child in command.commands.items():
        if hasattr(child, "commands"):
            yield from leaves(child, f"{path}{name} ")
        else:
            yield path + name, child


ALL = dict(leaves(typer.main.get_command(app)))


def report(*, lost: int = 0, unlabelled: int = 0, audit_skewed: int = 0) -> DemoReport:
    return DemoReport(
        rides=100,
        predicted=95 - lost,
        rejected=5,
        lost=lost,
        repeated=0,
        rides_per_s=5000.0,
        labelled=95 - lost - unlabelled,
        rmse_minutes=5.1,
        mae_minutes=3.4,
        coverage=0.754,
        baseline_rmse_minutes=7.7,
        audit_lost=lost,
        audit_conflicting=0,
        audit_skewed=audit_skewed,
        model_version="green-2021-01-3f2a9c1d0b7e",
        data="synthetic",
        monitor=monitor_status(groups=(GroupStatus(group="data", text="Not judged: no whole day yet."),)),
    )


def test_commands_are_those_of_the_design() -> None:
    assert set(ALL) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_an_example_and_a_help_for_every_option(name: str) -> None:
    command = ALL[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    assert ({"--stack", "--endpoint-url", "--profile", "--region"} <= options) == (name not in WITHOUT_AWS)
    assert all(parameter.help for parameter in command.params)
    assert f"Example: ridecast {name}" in command.help


@pytest.mark.parametrize("command", ["", *GROUPS, *COMMANDS])
def test_help_ends_with_0(cli: Cli, command: str) -> None:
    code, out, err = cli.ended(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert f"Usage: ridecast {command}".rstrip() in out


@pytest.mark.parametrize("group", GROUPS)
def test_group_without_a_command_shows_its_help(cli: Cli, group: str) -> None:
    code, out, err = cli.ended(*group.split())
    assert (code, err) == (2, "")
    assert "Usage: ridecast" in out


def test_version_is_printed(cli: Cli) -> None:
    assert re.fullmatch(r"ridecast \d+\.\d+\.\d+\S*\n", cli.run("--version"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train --train 2021-13", "'2021-13' is not a month: write months as 2021-01"),
        ("demo --validate 2021-03..2021-02", "'2021-03..2021-02' runs backwards: write months as"),
        ("train --train 2021-01 --validate 2021-01", "--validate names 2021-01"),
        ("train --train 2021-02 --validate 2021-01", "--validate names 2021-01"),
        ("train --test 2021-02", "--test names 2021-02"),
        ("train --set max_itre=3", "did you mean max_iter?"),
        ("train --set max_iter=many", "--set gives max_iter the value 'many': write a number"),
        ("train --config no-such.toml", "no-such.toml cannot be read: name a TOML file"),
        ("train --channel Stable", "'Stable' is not a channel name"),
        ("train --allow colour", "'colour'"),
        ("demo --train 2023-01..2023-03 --validate 2023-03,2023-04", "2023-03 is a training month already"),
        ("rides send --months January", "'January' is not a month"),
        ("rides replay --from 1h --to 2h --stream s", "is not before --to"),
        ("train --service blue", "'blue' is not one of 'green', 'yellow'"),
        ("up --replay 2023-02 --speed inf", "Invalid value for '--speed'"),
        ("up --port 4700 --api-port 4700", "4700 is also --api-port"),
        ("demo --rides 0", "Invalid value for '--rides'"),
        ("demo --rides", "Option '--rides' requires an argument"),
        ("train --no-such-option", "No such option: --no-such-option"),
        ("fly", "No such command 'fly'"),
        ("models release", "Missing argument"),
        ("models release no/such/bundle --bucket b", "bundle bundle, manifest.json: is missing"),
        ("models release x --judge-only --force", "'--force'"),
        ("models sign stable", "no signing key is named: give --signing-key"),
        ("records list", "no bucket is named: give --stack, --local, or --bucket"),
        ("rides tail --endpoint-url nowhere", "Invalid endpoint: nowhere: write it as http://127.0.0.1:5000"),
        ("rides tail --profile no-such-profile", "no-such-profile"),
    ],
)
def test_mistake_is_one_sentence_and_exit_code_2(cli: Cli, arguments: str, sentence: str) -> None:
    assert sentence in cli.refuses(*arguments.split())


@pytest.mark.parametrize("command", ["send", "replay"])
def test_resume_refuses_another_stream(cli: Cli, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    now = datetime.now(UTC)
    ResumeFile("rides send").store(SendState("dev", "green", "2021-02", None))
    ResumeFile("rides replay").store(ReplayState("dev", now, now))
    problem = cli.refuses("rides", command, "--resume", "--stream", "prod")
    assert "the interrupted run is about dev, not prod" in problem


def test_missing_data_folder_is_one_sentence(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLC_DATA_DIR", str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in cli.refuses("rides", "send")


@pytest.mark.parametrize("command", ["send", "replay"])
def test_resume_without_an_interrupted_run_or_with_a_damaged_file_is_one_sentence(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is nothing to resume" in cli.refuses("rides", command, "--resume")
    file = tmp_path / "build" / f"rides-{command}.json"
    file.parent.mkdir()
    file.write_bytes(b'{"stream": ')
    assert "cannot be read" in cli.refuses("rides", command, "--resume")


def test_folder_that_cannot_be_made_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is a file: name another folder" in cli.refuses("demo", "--output", tmp_path / "file" / "build")


def test_demo_with_a_lost_ride_ends_with_1_and_still_reports(capsys: pytest.CaptureFixture[str]) -> None:
    show_demo(report(), Path("build"), as_json=False)
    out = capsys.readouterr().out
    assert "not from New York" in out
    with pytest.raises(typer.Exit) as ended:
        show_demo(report(lost=1), Path("build"), as_json=True)
    assert ended.value.exit_code == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["lost"], result["monitor"]["channel"]) == (1, "stable")


def test_demo_ends_with_what_the_monitor_says_so_far_and_with_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    show_demo(report(), Path("build"), as_json=False)
    *_, title, names, _, _miles, bias, coverage, why, _, following = capsys.readouterr().out.splitlines()
    assert "`ridecast up`" in following
    assert title.startswith("The monitor, on the rides so far; reference: ")
    assert names.split() == ["quantity", "today", "reference", "state"]
    assert (bias.split()[:2], coverage.split()[-1]) == (["bias,", "minutes"], "ok")
    assert why == "Not judged: no whole day yet."


def test_demo_with_a_predicted_ride_that_is_not_labelled_ends_with_1() -> None:
    with pytest.raises(typer.Exit) as ended:
        show_demo(report(unlabelled=1), Path("build"), as_json=False)
    assert ended.value.exit_code == 1


def test_demo_whose_audit_finds_something_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        show_demo(report(audit_skewed=2), Path("build"), as_json=False)
    assert ended.value.exit_code == 1
    out = capsys.readouterr().out
    assert "0 lost, 0 conflicting, 2 skewed" in out
    assert "75.4%" in out


def imported_by(words: str, *, folder: Path) -> set[str]:
    """Run a command in a process of its own and return the top-level modules that it has imported."""
    program = (
        "import atexit, sys; sys.argv = ['ridecast', *sys.argv[1:]]\n"
        "atexit.register(lambda: print('IMPORTED', *{name.partition('.')[0] for name in sys.modules}))\n"
        "from infra.cli.app import main; main()"
    )
    ended = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", program, *words.split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    _, _, imported = ended.stdout.rpartition("IMPORTED")
    assert "infra" in imported.split(), ended.stderr
    return set(imported.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", ["--help", "demo --help", "models release --help", "fly", "train --train 2021-13"]
)
def test_help_and_mistakes_import_nothing_heavy(arguments: str, tmp_path: Path) -> None:
    assert not imported_by(arguments, folder=tmp_path) & {*HEAVY, "rich"}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["list", "history", "promote", "rollback"])
def test_commands_on_channels_import_nothing_heavy(command: str, tmp_path: Path) -> None:
    bucket = Bucket(FolderS3(tmp_path), "b")
    first, second = small_bundle(1), small_bundle(2)
    for bundle in (first, second):
        store_bundle(bucket, bundle)
        move_channel(bucket, "stable", bundle.model_version, bundle.manifest_sha256)
    version = first.model_version if command in {"promote", "rollback"} else ""
    assert not imported_by(f"models {command} {version} --bucket file:{tmp_path}", folder=tmp_path) & HEAVY


RESULT = {"model_version": "green-2021-01-3f2a9c1d0b7e", "lost": 0, "rmse_minutes": 5.1}


def terminal() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=True, width=200, color_system=None), written


def test_facts_are_for_people_and_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    result = {**RESULT, **{f"figure_{number}": number for number in range(100)}}
    show_result("A title", RESULT, as_json=False)
    assert (
        capsys.readouterr().out
        == "A title\nmodel version  green-2021-01-3f2a9c1d0b7e\nlost           0\nrmse minutes   5.1\n"
    )
    show_result("A title", result, as_json=False, shown={"lost": None, "signed": True, "rides": [1000, "two"]})
    assert capsys.readouterr().out == "A title\nlost    none\nsigned  yes\nrides   1000\n        two\n"
    show_result("A title", result, as_json=True, shown={"lost": "none"})
    written = capsys.readouterr()
    assert json.loads(written.out) == result
    assert (written.out.count("\n"), written.err) == (1, "")


LONG = "green-2021-01-2021-02-2021-03-3f2a9c1d0b7e"
REASON = "it failed the gate: rmse_minutes is 5.41 and the limit is 5.10"


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_table_is_one_line_or_one_block_per_row_and_cuts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    write_table("Models", ("version", "RMSE", "why"), [(LONG, "5.10", REASON), ("short", "12.00", "")], {"RMSE"})
    text = capsys.readouterr().out
    lines = text.splitlines()
    if columns == 200:
        assert lines[3] == f"{LONG}   5.10  {REASON}"
        assert lines[4].split() == ["short", "12.00"]
        return
    assert all(len(line) <= columns or LONG in line for line in lines)
    assert {LONG, "5.10", "12.00"} <= set(text.split())
    assert REASON in " ".join(text.split())
    assert lines.count("") == 2


def test_control_characters_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b]0;owned\x07\x9b31m"
    show_result(hostile, {"name": hostile}, as_json=False)
    with live_display() as display:
        display.step(hostile)
        display.warn(hostile)
    written = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b"} & set(written.out + written.err)
    assert "\\x1b]0;owned" in written.out


def test_steps_and_warnings_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with live_display() as display:
        display.step("loading rides")
        display.warn("the rides are made up")
    written = capsys.readouterr()

    assert written.out == ""
    assert "loading rides" in written.err
    assert "the rides are made up" in written.err


@pytest.mark.parametrize("text", ["data[old]/x.parquet", "[/data] is not there", "[Errno 2] [red]no[/red]"])
def test_brackets_are_text_not_markup(text: str) -> None:
    console, written = terminal()
    with live_display(console) as display:
        display.warn(text)
        display.step(text)
    with counting(console, text, 3) as count:
        count(1)
    lines = [line for line in written.getvalue().splitlines() if text in line]
    assert lines[0].endswith(f"! {text}")
    assert any(line.endswith(f"· {text}") for line in lines)
    assert "1/3" in lines[-1]


def test_progress_shows_how_much_is_done_and_the_figures() -> None:
    console, written = terminal()
    with live_display(console) as display:
        display.step("replaying")
        display.progress(3, 4, "6 rides/s")
    assert "3/4" in written.getvalue()
    assert "6 rides/s" in written.getvalue()
