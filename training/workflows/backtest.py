"""Backtest a model over local months, and write the figures and the plot into a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from training.data.load import tlc_months
from training.data.month_folders import passed_over
from training.data.months import Month, Service, default_data_dir, local_months
from training.data.tlc_file import Timestamps
from training.evaluation.backtest import BacktestResult, backtest
from training.report.plots_model import ageing
from training.room import check_room, writing
from training.workflows.config import build_config


def run_backtest(
    service: Service,
    span: tuple[Month | None, Month | None],
    train_window: int,
    parameters: Sequence[str],
    folder: Path,
    on_step: Callable[[str], None],
    timestamps: Timestamps | None = None,
) -> tuple[BacktestResult, Path, Path]:
    """Backtest over the local months of a span, in which None is no end.

    Returns the result, and the files of its figures and plot.

    Raises:
        UserError: No month follows the first training window, or a parameter is not valid.
    """
    check_room(folder)
    first, last = span
    data_dir = default_data_dir()
    if data_dir and (names := passed_over(service, data_dir)):
        on_step(f"passing over {', '.join(names)}: not named as TLC names a month")
    months = [
        month
        for month in local_months(service, data_dir)
        if (first is None or first <= month) and (last is None or month <= last)
    ]
    chosen = build_config(None, {}, parameters).parameters
    load = tlc_months(service, timestamps)
    result = backtest(service, months, load, train_window=train_window, parameters=chosen, on_step=on_step)
    figures, plot = folder / f"{service}.json", folder / f"{service}.svg"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        figures.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        plot.write_bytes(ageing(result.rows))
    return result, figures, plot
