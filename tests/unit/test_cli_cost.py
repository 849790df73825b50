"""`ridecast cost`: a table and its assumptions, or one JSON object."""

from pathlib import Path

import pytest

from infra.operate.cost_inputs import VARIANTS
from tests.kits.cli import Cli


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The command line, in a folder without a bench's results."""
    monkeypatch.chdir(tmp_path)
    return Cli(monkeypatch, capsys)


def test_cost_shows_a_table_and_the_assumptions(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = ("--rides-per-s", "1000", "--shards", "2", "--us-per-ride", "7", "--api-requests-per-s", "1")
    lines = cli.run("cost", *words).splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for part in ("predictions", "retention over 24 hours", "alarms, dashboard", "HTTP API", "total", "the course's"):
        assert part in text
    for line in ("7.00 us a ride", "as given", "a default, not measured", "alarms watch", "7 metrics at most"):
        assert line in text


def test_json_has_all_figures(cli: Cli) -> None:
    result = cli("cost")
    assert set(result["dollars_a_month"]) == set(VARIANTS)
    dollars = result["dollars_per_million_rides"]
    assert dollars["packed output"] < dollars["plain"] < dollars["the course's"]
    plain = result["variants"]["plain"]
    assert sum(plain["dollars_a_month"].values()) == pytest.approx(plain["total"])
    assert result["dollars_a_month"]["plain"] == plain["total"]
    assert result["load"]["inventory"]["n_keys"] == 2
    assert {price["as_of"] for price in result["prices"]["table"]} >= {"2026-09"}
