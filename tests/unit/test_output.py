"""Results on standard output, as text or JSON; progress on standard error."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from infra.cli.output import counting, live_display, show_result, write_table
from infra.local.demo.replay import Ledger, Replay
from lambda_function.core.events import encode_predictions
from tests.builders import small_rides

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


def test_progress_shows_what_is_sent_and_done_and_how_good_it_is() -> None:
    rides = small_rides().head(4)
    ledger = Ledger(Replay(rides, 0), rides.duration_minutes + 2.0)
    ledger.n_sent = 4
    ledger.add_predictions(
        encode_predictions("v1", [minutes + 1.0], [ride], [str(ride)])[0]
        for ride, minutes in enumerate(rides.duration_minutes[:3].tolist())
    )
    console, written = terminal()
    with live_display(console) as display:
        display.step("replaying")
        display.progress(n_events=4, ledger=ledger, seconds=0.5)

    assert np.isclose(ledger.rmse_minutes, 1.0)
    for figure in ("3/4", "sent 4", "predicted 3", "rejected 0", "6 rides/s", "RMSE 1.00 min", "baseline 2.00"):
        assert figure in written.getvalue()
