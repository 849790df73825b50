"""A bench's figures: measured values with their budgets, as a table for people and as JSON for tools."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

US, TIMES, MB, MS = "us a ride", "times", "MB", "ms"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `budget` is the most it may be, or the least where the unit is `times`."""

    name: str
    value: float
    unit: str
    budget: float | None = None

    @property
    def is_kept(self) -> bool:
        """Whether the budget, if there is one, is kept."""
        if self.budget is None:
            return True
        return self.value >= self.budget if self.unit == TIMES else self.value <= self.budget

    @property
    def is_binding(self) -> bool:
        """Whether a budget that is not kept means anything on a busy machine: a ratio's and a size's do."""
        return self.unit in {TIMES, MB}


def write_figures(figures: Sequence[Figure], path: Path) -> None:
    """Writes figures as a JSON list of name, value, unit and budget."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")


def show_figures(figures: Sequence[Figure]) -> None:
    """Prints a table; a budget that is not kept is red."""
    table = Table(title="Medians; CPU on one thread", title_justify="left")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("unit")
    table.add_column("budget", justify="right")
    for figure in figures:
        budget = "" if figure.budget is None else f"{'>=' if figure.unit == TIMES else '<='} {figure.budget:g}"
        table.add_row(figure.name, f"{figure.value:.2f}", figure.unit, budget, style="" if figure.is_kept else "red")
    Console().print(table)
