"""How the doctor's findings look: on terminals of two widths, where none is, and as JSON."""

import io
import json

import pytest
from rich.console import Console

from infra.cli.operate import json_result, show
from infra.operate.doctor.facts import Finding, bad, good, warning

FINDINGS = (
    bad(
        "model", "channel stable of s3://rides holds no model yet: rides wait", "`ridecast models publish` " + "x" * 70
    ),
    warning("release", "two\nlines and \x1b[31m a colour that somebody else chose", "deploy again"),
    good("stack", "ridecast is UPDATE_COMPLETE"),
)
MUTED = warning("alarm", "nobody is told of all", "`aws cloudwatch enable-alarm-actions --alarm-names one-of-them-all`")


def shown(width: int, *more: Finding, is_terminal: bool) -> str:
    out = io.StringIO()
    show(Console(file=out, width=width, force_terminal=is_terminal, no_color=True), "ridecast", (*FINDINGS, *more))
    return out.getvalue()


def test_each_finding_stands_with_its_remedy_below_it_and_the_count_last() -> None:
    lines = shown(120, is_terminal=False).splitlines()

    assert lines[0] == "✗ model: channel stable of s3://rides holds no model yet: rides wait"
    assert lines[1].startswith("  → `ridecast models publish` xxx")
    assert lines[-2:] == ["✓ stack: ridecast is UPDATE_COMPLETE", "ridecast: 1 bad, 1 to look at, 1 well"]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_lines_fit_the_window_and_no_word_is_cut(width: int) -> None:
    text = shown(width, is_terminal=True)

    said = " ".join(f"{one.what} {one.remedy}" for one in FINDINGS if "\n" not in one.what)
    assert set(said.split()) <= set(text.split())
    assert all(len(line) <= width or "x" * 70 in line for line in text.splitlines())
    assert all(line.startswith(("✗ ", "! ", "✓ ", "  ", "ridecast")) for line in text.splitlines())


@pytest.mark.parametrize("width", range(60, 80))
def test_options_and_names_to_copy_are_never_cut_at_a_hyphen(width: int) -> None:
    assert set(MUTED.remedy.split()) <= set(shown(width, MUTED, is_terminal=True).split())


def test_line_for_no_terminal_is_never_folded() -> None:
    assert len(shown(20, is_terminal=False).splitlines()) == 6  # three findings, two remedies, a count


def test_text_of_others_moves_no_cursor_and_breaks_no_line() -> None:
    assert r"two lines and \x1b[31m a colour" in shown(120, is_terminal=False)


def test_json_has_the_same_keys_whatever_was_found() -> None:
    assert json.loads(json.dumps(json_result("ridecast", FINDINGS[2:]))) == {
        "stack": "ridecast",
        "bad": 0,
        "warning": 0,
        "good": 1,
        "findings": [{"check": "stack", "severity": "good", "what": "ridecast is UPDATE_COMPLETE", "remedy": ""}],
    }
    assert json_result("ridecast", ()) == {"stack": "ridecast", "bad": 0, "warning": 0, "good": 0, "findings": []}
