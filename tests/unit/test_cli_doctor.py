"""The doctor's findings on terminals of several widths, without a terminal, and as JSON."""

import json

import pytest

from infra.cli.operate import show_findings
from infra.operate.doctor.facts import bad, good, warning

FINDINGS = (
    bad("model", "channel stable of s3://rides holds no model yet", "`ridecast models release` " + "x" * 70),
    warning("release", "two\nlines and \x1b[31m a colour from elsewhere", "deploy again"),
    warning("alarm", "actions are off", "`aws cloudwatch enable-alarm-actions --alarm-names one-of-them-all`"),
    good("stack", "ridecast is UPDATE_COMPLETE"),
)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    show_findings("ridecast", FINDINGS, as_json=False)
    return capsys.readouterr().out


def test_finding_is_followed_by_its_remedy_and_the_counts_are_last(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = shown(capsys).splitlines()
    assert lines[0] == "✗ model: channel stable of s3://rides holds no model yet"
    assert lines[1].startswith("  → `ridecast models release` xxx")
    assert lines[2] == r"! release: two lines and \x1b[31m a colour from elsewhere"
    assert lines[-2:] == ["✓ stack: ridecast is UPDATE_COMPLETE", "ridecast: 1 bad, 2 warnings, 1 good"]
    assert len(lines) == 8


@pytest.mark.parametrize("width", [40, 67, 80, 120])
def test_lines_fit_the_terminal_and_no_word_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = shown(capsys)
    words = {word for one in FINDINGS if "\n" not in one.what for word in f"{one.what} {one.remedy}".split()}
    assert words <= set(text.split())
    assert all(len(line) <= width or "x" * 70 in line for line in text.splitlines())


def test_json_counts_every_severity(capsys: pytest.CaptureFixture[str]) -> None:
    show_findings("ridecast", FINDINGS[3:], as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "stack": "ridecast",
        "bad": 0,
        "warning": 0,
        "good": 1,
        "findings": [{"check": "stack", "severity": "good", "what": "ridecast is UPDATE_COMPLETE", "remedy": ""}],
    }
