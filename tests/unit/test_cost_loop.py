"""The cost of the loop: sums checked by hand, what the command shows, and what the docs say of all parts."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from infra.operate import prices
from infra.operate.cost import cost
from infra.operate.cost_inputs import PLAIN, read_load, read_work
from infra.operate.cost_loop import N_METRICS, PARTS, cost_loop, read_loop_settings
from infra.operate.cost_monitor import cost_monitor, read_memory_mb
from infra.operate.cost_outcomes import cost_outcomes, read_settings
from infra.stack.template import TEMPLATE, read_template
from tests.kits.cli import Cli
from training.functions.loop_telemetry import _END_METRICS

DOCS = Path(__file__).parents[2] / "docs"
SETTINGS = replace(read_loop_settings(), looper_mb=512, collector_mb=3008, trainer_mb=10_240, training_days=365)


def test_one_run_is_paid_by_the_second() -> None:
    found = cost_loop(read_load(0.1, 1), replace(SETTINGS, run_days=41))
    n_millions = 0.1 * 86_400 * 365 / 1e6
    train_gb_s = (52 + 57 * n_millions) * 10
    assert found.dollars_a_month["trainer"] == pytest.approx(train_gb_s * 0.0000133334 + 0.2 / 1e6)
    collect_gb_s = (17.3 + 2.3 * n_millions + 8760 * 0.02 / 8) * 3008 / 1024
    requests = 8760 * 0.4 / 1e6
    assert found.dollars_a_month["collector"] == pytest.approx(collect_gb_s * 0.0000133334 + 0.2 / 1e6 + requests)
    step = 1769 / 512 * 0.5 * 0.0000133334 + 0.2 / 1e6 + 2 * 8 / 1e6
    assert found.dollars_a_month["looper"] == pytest.approx(56 * step)
    assert found.dollars_a_month["loop_metrics"] == pytest.approx(N_METRICS * 0.30)
    assert not found.has_too_many


def test_more_rides_than_a_run_takes_cost_no_more() -> None:
    few, many = (cost_loop(read_load(rides_per_s, 1), SETTINGS) for rides_per_s in (1.0, 1000.0))
    assert few.has_too_many
    assert few.total == many.total > cost_loop(read_load(0.01, 1), SETTINGS).total


def test_settings_and_metrics_are_those_of_the_stack() -> None:
    template, settings = read_template(TEMPLATE), read_loop_settings()
    assert settings.trainer_mb == template["Parameters"]["TrainerMemoryMb"]["Default"]
    assert settings.n_alarm_metrics == 7
    assert 1 + len(_END_METRICS) + 2 == N_METRICS


def test_command_shows_the_loop_and_when_a_run_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    cli = Cli(monkeypatch, capsys)
    text = " ".join(cli.run("cost", "--rides-per-s", "1000").split())  # lines are folded
    assert all(part in text for part in (*PARTS.values(), "the loop", "it is refused, unless TrainingDays are fewer"))
    assert "it is refused" not in cli.run("cost", "--rides-per-s", "0.1")
    loop = cli("cost")["loop"]
    assert loop["total"] == pytest.approx(sum(loop["dollars_a_month"].values()))


@pytest.mark.parametrize(("column", "rides_per_s"), [(1, 1000.0), (2, 1.0)])
def test_docs_say_what_the_command_says(tmp_path: Path, column: int, rides_per_s: float) -> None:
    load = read_load(rides_per_s, 1)
    outcomes = cost_outcomes(load, read_settings())
    computed = {
        "**archive and join**": outcomes.total,
        "stream of outcomes": outcomes.stream,
        "the [monitor]": cost_monitor(load, read_memory_mb()).total,
        "the [loop]": cost_loop(load, read_loop_settings()).total,
        "the rest of the stack, plain output": cost(load, read_work({}, tmp_path / "none")).variants[PLAIN].total,
        "instead of both: a DynamoDB table": outcomes.table,
    }
    page = (DOCS / "outcomes.md").read_text()
    for name, dollars in computed.items():
        (row,) = re.findall(rf"^\| {re.escape(name)}.*$", page, re.MULTILINE)
        written = row.split("|")[column + 1].strip(" *").replace(",", "")
        decimals = len(written.partition(".")[2])
        assert float(written) == round(dollars, decimals), name
    assert f"us-east-1 in {prices.OLDEST} to {prices.NEWEST}" in page
