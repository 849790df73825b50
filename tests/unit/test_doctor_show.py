"""The doctor's findings as text, at several widths, and as JSON."""

import json

import pytest

from infra.cli.operate import json_result, show_findings
from infra.operate.doctor.facts import bad, good, warning

NAMES = "one-of-them-all"
FINDINGS = (
    bad(
        "model", "channel stable of s3://rides holds no model yet: rides wait", "`ridecast models release` " + "x" * 70
    ),
    warning("alarm", "nobody is notified", f"`aws cloudwatch enable-alarm-actions --alarm-names {NAMES}`"),
    good("stack", "ridecast is UPDATE_COMPLETE"),
)


@pytest.mark.parametrize("width", [40, 60, 66, 72, 80, 120])
def test_findings_have_a_mark_and_their_remedy_below_and_no_word_is_cut(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show_findings("ridecast", FINDINGS)
    text = capsys.readouterr().out

    said = " ".join(f"{one.what} {one.remedy}" for one in FINDINGS)
    assert set(said.split()) <= set(text.split())
    assert all(line.startswith(("✗ ", "! ", "✓ ", "  ", "ridecast: 1 bad, 1 warning")) for line in text.splitlines())


def test_text_of_others_moves_no_cursor_and_breaks_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings("ridecast", [warning("release", "two\nlines and \x1b[31m a colour", "deploy again")])
    assert r"two lines and \x1b[31m a colour" in capsys.readouterr().out


def test_json_has_the_same_keys_whatever_was_found() -> None:
    assert json.loads(json.dumps(json_result("ridecast", FINDINGS[2:]))) == {
        "stack": "ridecast",
        "bad": 0,
        "warning": 0,
        "good": 1,
        "findings": [{"check": "stack", "severity": "good", "what": "ridecast is UPDATE_COMPLETE", "remedy": ""}],
    }
    assert json_result("ridecast", ()) == {"stack": "ridecast", "bad": 0, "warning": 0, "good": 0, "findings": []}
