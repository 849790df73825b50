"""Panels and a log → one picture, laid out as CloudWatch lays it out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.dashboard.body import Panel
from infra.dashboard.card import GRID_COLUMNS, INCHES_A_COLUMN, INCHES_A_ROW, LARGE, SMALL, Card
from infra.dashboard.lines import bin_name, draw_lines, is_aws_only
from infra.dashboard.log import FunctionLog, VersionUse
from infra.dashboard.points import Bins, points
from training.report.drawing import GRID, INK, MUTED, new_figure

_HEADER_INCHES, _HEADER_POINTS = 0.55, 12.0
_DESK = "#eef1f4"
_ALARMS_IN_A_ROW = 6
_MOST_VERSIONS = 5  # as in the dashboard's query


def draw(panels: Sequence[Panel], log: FunctionLog, image: Path) -> None:
    """Draws a dashboard from a log with at least one batch; the file's ending says in which format.

    Raises:
        OSError: The file can't be written.
    """
    bins = Bins.of(log.samples)
    n_rows = max(panel.y + panel.height for panel in panels)
    width, height = GRID_COLUMNS * INCHES_A_COLUMN, n_rows * INCHES_A_ROW + _HEADER_INCHES
    with new_figure(height, width) as figure:
        figure.set_layout_engine("none")  # the body says where everything is
        figure.set_facecolor(_DESK)
        middle = 1 - 0.5 * _HEADER_INCHES / height
        figure.text(0.006, middle, _header(log, bins), fontsize=_HEADER_POINTS, va="center", color=INK)
        for panel in panels:
            _draw_panel(Card(figure, panel, n_rows), panel, log, bins)
        image.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(image, dpi=100)


def cloudwatch_only(panels: Sequence[Panel], log: FunctionLog) -> list[str]:
    """Lists the metrics that a function's log can't tell: AWS's own, of streams, queue and runtime."""
    bins = Bins.of(log.samples)
    names = {
        f"{series.namespace} {series.metric}"
        for panel in panels
        for series in panel.series
        if is_aws_only(series, points(log.samples, series, bins))
    }
    return sorted(names)


def _header(log: FunctionLog, bins: Bins) -> str:
    first, last = (datetime.fromtimestamp(at_s, UTC) for at_s in (log.samples[0].at_s, log.samples[-1].at_s))
    batches = "1 batch" if log.n_batches == 1 else f"{log.n_batches:,} batches"
    return (
        f"From ride to prediction: {log.n_predictions:,} predictions in {batches}, "
        f"{first:%Y-%m-%d %H:%M:%S} to {last:%H:%M:%S} UTC; a point is {bin_name(bins)}"
    )


def _draw_panel(card: Card, panel: Panel, log: FunctionLog, bins: Bins) -> None:
    if panel.kind == "metric":
        draw_lines(card, panel, log, bins)
    elif panel.kind == "alarm":
        _draw_alarms(card, panel.alarms)
    else:
        _draw_versions(card, log.versions)


def _draw_alarms(card: Card, names: Sequence[str]) -> None:
    axes = card.blank_axes()
    n_rows = -(-len(names) // _ALARMS_IN_A_ROW)
    box: Mapping[str, Any] = {"boxstyle": "round,pad=0.45", "facecolor": GRID, "edgecolor": "none"}
    for number, name in enumerate(names):
        row, column = divmod(number, _ALARMS_IN_A_ROW)
        x, y = (column + 0.5) / _ALARMS_IN_A_ROW, 1 - (row + 0.5) / n_rows
        axes.text(x, y, name, ha="center", va="center", fontsize=LARGE, color=MUTED, bbox=box)
    axes.set_title("only CloudWatch can tell their states", loc="right", fontsize=SMALL, color=MUTED)


def _draw_versions(card: Card, versions: Mapping[str, VersionUse]) -> None:
    axes = card.blank_axes()
    newest = sorted(versions.items(), key=lambda item: item[1].last_s, reverse=True)[:_MOST_VERSIONS]
    used = [(name, f"{use.n_predictions:,}", f"{_clock(use.last_s)}") for name, use in newest]
    for number, row in enumerate([("model version", "predictions", "last used"), *used]):
        colour = INK if number else MUTED
        for x, text, align in zip((0.02, 0.78, 0.98), row, ("left", "right", "right"), strict=True):
            axes.text(x, 0.95 - 0.12 * number, text, ha=align, va="top", fontsize=SMALL, color=colour)


def _clock(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S}"
