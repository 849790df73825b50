"""A metric panel's lines, axes and key."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from infra.dashboard.body import Panel, Series
from infra.dashboard.card import SMALL, TITLE_INCHES, Card
from infra.dashboard.log import FunctionLog
from infra.dashboard.points import Bins, points
from training.report.drawing import BASELINE, MODEL, MUTED, WORSE

COLOURS = (MODEL, WORSE, "#2f8f6b", "#8a5fb0", "#b08a00", BASELINE)
"""In the order of a panel's series; the longest panel has six. Told apart by lightness too."""

_VALUES_INCHES, _EDGE_INCHES, _TIMES_INCHES, _KEY_ROW_INCHES = 0.62, 0.2, 0.3, 0.165
_MOST_MARKERS = 60
_BIN_NAMES = {1: "a second", 60: "a minute", 3600: "an hour", 86400: "a day"}

Values = NDArray[np.float64]


def draw_lines(card: Card, panel: Panel, log: FunctionLog, bins: Bins) -> None:
    """Draws what the log has of a panel, and names in its key what the log has not."""
    lines = [points(log.samples, series, bins) for series in panel.series]
    has_right = any(s.axis == "right" and values is not None for s, values in zip(panel.series, lines, strict=True))
    right_inches = _VALUES_INCHES if has_right else _EDGE_INCHES
    axes = card.axes(_VALUES_INCHES, right_inches, TITLE_INCHES, _TIMES_INCHES + len(lines) * _KEY_ROW_INCHES)
    sides = {"left": axes, "right": axes.twinx()} if has_right else {"left": axes}
    if panel.stacked:
        _draw_stack(axes, lines, bins)
    else:
        for series, values, colour in zip(panel.series, lines, COLOURS, strict=False):
            if values is not None:
                _draw_line(sides[series.axis], values, bins, colour)
    for name, unit in panel.units:
        if name in sides:
            _dress(sides[name], unit, bins)
    _draw_key(axes, panel.series, lines)


def is_aws_only(series: Series, values: Values | None) -> bool:
    """Says whether a line is not there because AWS alone counts it, and not because nothing has happened."""
    return values is None and series.namespace.startswith("AWS/")


def bin_name(bins: Bins) -> str:
    """Names the time that a point stands for.

    >>> bin_name(Bins(0, 60, 10)), bin_name(Bins(0, 300, 10))
    ('a minute', '5 min')
    """
    return _BIN_NAMES.get(bins.bin_s) or _elapsed(bins.bin_s)


def _draw_stack(axes: Axes, lines: Sequence[Values | None], bins: Bins) -> None:
    below = np.zeros(bins.n)
    for values, colour in zip(lines, COLOURS, strict=False):
        if values is not None:
            heights = np.nan_to_num(values)
            axes.bar(bins.seconds, heights, 0.7 * bins.bin_s, below, color=colour)
            below += heights


def _draw_line(axes: Axes, values: Values, bins: Bins, colour: str) -> None:
    is_there = ~np.isnan(values)
    marker = "o" if is_there.sum() <= _MOST_MARKERS else None
    axes.plot(bins.seconds[is_there], values[is_there], color=colour, marker=marker, clip_on=False, zorder=3)


def _dress(axes: Axes, unit: str, bins: Bins) -> None:
    axes.set_ylabel(unit.replace("a minute", f"in {bin_name(bins)}"), fontsize=SMALL)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda seconds, _: _elapsed(seconds))
    axes.tick_params(labelsize=SMALL)
    axes.set_xlim(-0.5 * bins.bin_s, (bins.n - 0.5) * bins.bin_s)
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))


def _draw_key(axes: Axes, all_series: Sequence[Series], lines: Sequence[Values | None]) -> None:
    size = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted())
    below = -0.45 / size.width, -(_TIMES_INCHES - 0.02) / size.height
    entries = [
        _key_entry(series, values, colour)
        for series, values, colour in zip(all_series, lines, COLOURS, strict=False)
    ]  # fmt: skip
    axes.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=below,
        fontsize=SMALL,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.2,
        labelspacing=0.25,
    )
    if all(map(is_aws_only, all_series, lines)):
        axes.text(0.5, 0.5, "only CloudWatch can tell", transform=axes.transAxes, ha="center", va="center", color=MUTED)


def _key_entry(series: Series, values: Values | None, colour: str) -> Line2D:
    if is_aws_only(series, values):
        return Line2D([], [], color=BASELINE, linestyle=":", label=f"{series.label} (only in CloudWatch)")
    label = f"{series.label} (none)" if values is None else series.label + " →" * (series.axis == "right")
    return Line2D([], [], color=colour, linewidth=3, label=label)


def _elapsed(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:  # below, the smaller unit has the rounder numbers
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:g} s"
