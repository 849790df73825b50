"""A walk forward over the months in hand, its figures and its plot written into a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from training.data.load import tlc_months
from training.data.months import Month, Service, default_data_dir, months_in_hand
from training.evaluation.backtest import BacktestResult, backtest
from training.report.plots import backtest_figure
from training.workflows.config import build_config


class BacktestFiles(NamedTuple):
    """Where a walk's figures and plot are."""

    figures: Path
    plot: Path


def run_backtest(
    service: Service,
    first: Month | None,
    last: Month | None,
    train_window: int,
    parameters: Sequence[str],
    folder: Path,
    on_step: Callable[[str], None],
) -> tuple[BacktestResult, BacktestFiles]:
    """Walks through the months from first to last, both included, that are in hand.

    Raises:
        TooFewMonthsError: After the first window there is no month to measure on.
        ConfigError: A parameter is no name and value.
    """
    months = [
        month
        for month in months_in_hand(service, default_data_dir())
        if (first is None or first <= month) and (last is None or month <= last)
    ]
    chosen = build_config(None, {}, parameters).parameters
    result = backtest(
        service, months, tlc_months(service), train_window=train_window, parameters=chosen, on_step=on_step
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = BacktestFiles(folder / f"{service}.json", folder / f"{service}.svg")
    files.figures.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    files.plot.write_bytes(backtest_figure(result))
    return result, files
