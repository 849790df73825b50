"""`ridecast cost`: a table, what it rests on, and one JSON object on the last line."""

import json
import sys
from pathlib import Path

import pytest

from infra.cli.app import main
from infra.operate.cost_inputs import VARIANTS


def run_cost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Runs the command and returns its lines."""
    monkeypatch.setattr(sys, "argv", ["ridecast", "cost", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return capsys.readouterr().out.splitlines()


def test_cost_shows_a_table_what_it_rests_on_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # no bench has run here
    monkeypatch.setenv("COLUMNS", "80")
    words = ("--rides-per-s", "1000", "--shards", "2", "--us-per-ride", "7", "--api-requests-per-s", "1")
    *shown, last = run_cost(monkeypatch, capsys, *words)
    assert max(map(len, shown)) <= 80
    text = " ".join(" ".join(shown).split())
    for part in ("predictions", "kept over 24 hours", "alarms, dashboard", "HTTP API", "total", "the course's"):
        assert part in text
    for line in ("7.00 us a ride", "as given", "a default, not measured", "alarms look at", "7 metrics at most"):
        assert line in text
    result = json.loads(last)
    dollars = result["dollars_per_million_rides"]
    assert dollars["packed output"] < dollars["plain"] < dollars["the course's"]
    plain = result["variants"]["plain"]
    assert sum(plain["dollars_a_month"].values()) == pytest.approx(plain["total"])
    assert result["dollars_a_month"]["plain"] == plain["total"]
    assert result["load"]["inventory"]["n_keys"] == 2
    assert {price["as_of"] for price in result["prices"]["table"]} >= {"2026-09"}


def test_part_that_the_course_has_not_is_a_dash(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = {line.split("  ")[1]: line.split() for line in run_cost(monkeypatch, capsys) if line.startswith("  ")}
    assert rows["keys"] == ["keys", "2.00", "2.00", "2.00", "-"]
    assert rows["HTTP API"] == ["HTTP", "API", "-", "-", "-", "-"]
    assert "-" not in rows["function"]


def test_json_alone_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = run_cost(monkeypatch, capsys, "--json")
    assert set(json.loads(line)["dollars_a_month"]) == set(VARIANTS)
