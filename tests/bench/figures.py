"""A bench's figures: measured values with their budgets, as a table, as JSON, and plots as SVG."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

US, TIMES, MB, MS, BYTES = "us a ride", "times", "MB", "ms", "bytes a record"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `budget` is its maximum, or its minimum if the unit is `times`."""

    name: str
    value: float
    unit: str
    budget: float | None = None

    @property
    def is_within_budget(self) -> bool:
        """Whether the figure is within its budget, if it has one."""
        if self.budget is None:
            return True
        return self.value >= self.budget if self.unit == TIMES else self.value <= self.budget

    @property
    def is_binding(self) -> bool:
        """Whether the budget counts on a busy machine: a ratio's and a size's do."""
        return self.unit in {TIMES, MB, BYTES}


def write_figures(figures: Sequence[Figure], path: Path) -> None:
    """Write figures as a JSON list of name, value, unit and budget."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")


def show_figures(figures: Sequence[Figure]) -> None:
    """Print a table; figures out of budget are red."""
    table = Table(title="Medians; CPU on one thread", title_justify="left")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("unit")
    table.add_column("budget", justify="right")
    for figure in figures:
        budget = "" if figure.budget is None else f"{'>=' if figure.unit == TIMES else '<='} {figure.budget:g}"
        table.add_row(
            figure.name, f"{figure.value:.2f}", figure.unit, budget, style="" if figure.is_within_budget else "red"
        )
    Console().print(table)


BUDGET_LINE = {"color": "0.5", "linestyle": "--", "linewidth": 1.2}
COMPARATOR_LINE = {"color": "#b35806", "linestyle": "-.", "linewidth": 1.2}
"""How plots show a budget, and what something else takes."""


@contextmanager
def svg_axes(path: Path, n: int, width: float) -> Iterator[list[Any]]:
    """Give n axes side by side to the block, and write them as SVG, reproducibly, at its end."""
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second, and only plots need it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "ridecast"
    figure, axes = plt.subplots(1, n, figsize=(width, 3.4), layout="constrained")
    yield list(axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
