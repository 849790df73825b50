"""The cost of the monitor: sums checked by hand, and what the command shows."""

from pathlib import Path

import pytest

from infra.operate.cost_inputs import Load
from infra.operate.cost_monitor import N_METRICS, PARTS, cost_monitor, read_memory_mb
from infra.stack.template import TEMPLATE, read_template
from tests.kits.cli import Cli


def test_rides_are_paid_by_the_second_and_the_rest_by_the_run() -> None:
    found = cost_monitor(Load(1000.0, 1), memory_mb=1769)
    runs = 4 * 730
    assert found.monitor_s == pytest.approx(3.6 * (2.8 + 1.9))
    gb_s = runs * (found.monitor_s / 4 + 0.15 + 73 * 0.02 / 8) * 1769 / 1024
    assert found.dollars_a_month["monitor_function"] == pytest.approx(runs * 0.2 / 1e6 + gb_s * 0.0000133334)
    assert found.dollars_a_month["monitor_requests"] == pytest.approx(runs * (60 * 0.4 + 13 * 5) / 1e6)
    assert found.dollars_a_month["monitor_metrics"] == pytest.approx(N_METRICS * 0.30)
    assert cost_monitor(Load(2000.0, 1), 1769).total > found.total


def test_memory_is_the_templates() -> None:
    assert read_memory_mb() == read_template(TEMPLATE)["Parameters"]["MonitorMemoryMb"]["Default"]


def test_command_shows_the_monitor_beside_the_stack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    cli = Cli(monkeypatch, capsys)
    text = cli.run("cost", "--rides-per-s", "1")
    assert all(part in text for part in (*PARTS.values(), "the monitor"))
    monitor = cli("cost")["monitor"]
    assert monitor["total"] == pytest.approx(sum(monitor["dollars_a_month"].values()))
