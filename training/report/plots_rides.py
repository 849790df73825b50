"""Plots of rides one by one: predicted against actual, what is left over, and how wide the intervals are."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from numpy.typing import NDArray

from training.judging.gate_rules import SLICE_COVERAGE_SLACK
from training.report.drawing import BASELINE, INK, MODEL, MUTED, key_below, new_figure, to_svg
from training.report.facts import PredictedRides
from training.report.summaries import BIN_MINUTES, DurationBin

MAX_MINUTES = 60
_RESIDUAL_RANGE_MINUTES = 20
_DENSITY = LinearSegmentedColormap.from_list("density", [(0.18, 0.49, 0.82, 0.13), (0.05, 0.4, 0.78, 1.0)])
"""From faint to full, on light and on dark paper alike."""


def predicted_against_actual(rides: PredictedRides) -> bytes:
    """A map of all rides, a cell a minute: on the line, prediction and ride agree."""
    edges = np.arange(MAX_MINUTES + 1)
    counts, _, _ = np.histogram2d(rides.actual_minutes, rides.predicted_minutes, bins=(edges, edges))
    with new_figure(4.4) as figure:
        axes = figure.subplots()
        seen = np.ma.masked_equal(counts.T, 0)
        mesh = axes.pcolormesh(
            edges, edges, seen, cmap=_DENSITY, norm=LogNorm(1, max(counts.max(), 2)), rasterized=True
        )
        axes.axline((0, 0), slope=1, color=INK, linewidth=1)
        axes.set(xlabel="actual, minutes", ylabel="predicted, minutes", aspect="equal")
        axes.set(xlim=(0, MAX_MINUTES), ylim=(0, MAX_MINUTES), xticks=edges[::10], yticks=edges[::10])
        bar = figure.colorbar(mesh, ax=axes, shrink=0.7, label="rides", format="{x:,.0f}")
        bar.outline.set_visible(False)
        return to_svg(figure)


def residuals(rides: PredictedRides) -> bytes:
    """How often a prediction is off by how much, in half minutes, the baseline beside it."""
    edges = np.arange(-_RESIDUAL_RANGE_MINUTES, _RESIDUAL_RANGE_MINUTES + 0.5, 0.5)
    with new_figure(3.3) as figure:
        axes = figure.subplots()
        if rides.baseline_minutes is not None:
            axes.stairs(_shares(rides.baseline_minutes - rides.actual_minutes, edges), edges, color=BASELINE)
            axes.plot([], [], color=BASELINE, label="baseline")
        shares = _shares(rides.predicted_minutes - rides.actual_minutes, edges)
        axes.stairs(shares, edges, fill=True, color=MODEL, alpha=0.25)
        axes.stairs(shares, edges, color=MODEL)
        axes.plot([], [], color=MODEL, label="model")
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="predicted less actual, minutes", ylabel="% of rides", xlim=(edges[0], edges[-1]))
        axes.set_ylim(0, None)
        axes.grid(visible=False, axis="x")
        key_below(axes)
        return to_svg(figure)


def residuals_by_predicted(bins: tuple[DurationBin, ...]) -> bytes:
    """Where the middle and the outer tenths of the errors lie as predictions grow."""
    middle = [each.middle_minutes for each in bins]
    low, median, high = np.array([each.error_minutes for each in bins]).T
    with new_figure(3.3) as figure:
        axes = figure.subplots()
        axes.fill_between(middle, low, high, color=MODEL, alpha=0.2, linewidth=0, label="8 of 10 rides")
        axes.plot(middle, median, color=MODEL, marker="o", label="median")
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="predicted, minutes", ylabel="predicted less actual, minutes", xlim=(0, MAX_MINUTES))
        key_below(axes)
        return to_svg(figure)


def slice_band(level: float) -> tuple[float, float]:
    """Returns where the coverage of a large slice may lie, 0 to 1: what the gate wants."""
    return level - SLICE_COVERAGE_SLACK, level + SLICE_COVERAGE_SLACK


def interval_coverage(bins: tuple[DurationBin, ...], level: float) -> bytes:
    """The share of rides inside their interval as predictions grow, the level asked for as a line."""
    with new_figure(3.0) as figure:
        axes = figure.subplots()
        axes.axhspan(*(100 * end for end in slice_band(level)), color=MODEL, alpha=0.12, linewidth=0)
        axes.axhline(100 * level, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        middle = [each.middle_minutes for each in bins]
        axes.plot(middle, [100 * (each.coverage or 0) for each in bins], color=MODEL, marker="o")
        axes.set(xlabel="predicted, minutes", ylabel="% of rides inside", xlim=(0, MAX_MINUTES))
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 65), min(max(high, 95), 100))
        return to_svg(figure)


def interval_width(bins: tuple[DurationBin, ...]) -> bytes:
    """How wide the intervals are, on average, as predictions grow."""
    with new_figure(3.0) as figure:
        axes = figure.subplots()
        left = [each.low_minutes for each in bins]
        axes.bar(
            left,
            [each.width_minutes or 0 for each in bins],
            width=BIN_MINUTES * 0.86,
            align="edge",
            color=MODEL,
            alpha=0.85,
        )
        axes.set(xlabel="predicted, minutes", ylabel="mean width, minutes", xlim=(0, MAX_MINUTES))
        axes.grid(visible=False, axis="x")
        return to_svg(figure)


def _shares(errors_minutes: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the percentage of all rides in each bin; the few beyond the edges count, but are in none."""
    shares: NDArray[np.float64] = 100 * np.histogram(errors_minutes, edges)[0] / len(errors_minutes)
    return shares
