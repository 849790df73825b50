"""Plots of rides and slices: predicted against actual, residuals, intervals, and errors by slice."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from numpy.typing import NDArray

from training.evaluation.gate_rules import MIN_SLICE_RIDES, SLICE_COVERAGE_SLACK
from training.model.results import SliceResult
from training.report.drawing import BASELINE, GRID, INK, MODEL, MUTED, PAGE, WORSE, legend_above, new_figure, to_svg
from training.report.measures import BIN_MINUTES, DurationBin, PredictedRides

MIN_COVERAGE_RIDES = 100
"""With fewer rides, chance alone changes the coverage by more than the width of the band."""

_ROW_INCHES, _AROUND_INCHES = 0.235, 0.75

MAX_MINUTES = 60
_RESIDUAL_RANGE_MINUTES = 20
_DENSITY = LinearSegmentedColormap.from_list("density", [(0.18, 0.49, 0.82, 0.13), (0.05, 0.4, 0.78, 1.0)])
"""From faint to full, on light and on dark pages."""


def predicted_against_actual(rides: PredictedRides) -> bytes:
    """Draw the number of rides by actual and predicted minute; on the line, both agree."""
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
        bar.minorticks_off()  # their labels would be TeX
        bar.outline.set_visible(False)
        return to_svg(figure)


def residuals(rides: PredictedRides) -> bytes:
    """Draw the distribution of the errors in half minutes, beside that of the baseline."""
    edges = np.arange(-_RESIDUAL_RANGE_MINUTES, _RESIDUAL_RANGE_MINUTES + 0.5, 0.5)
    with new_figure(3.3) as figure:
        axes = figure.subplots()
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
        legend_above(axes)
        return to_svg(figure)


def residuals_by_predicted(bins: tuple[DurationBin, ...]) -> bytes:
    """Draw the median and the 10th and 90th percentile of the errors by predicted duration."""
    middle = [each.middle_minutes for each in bins]
    low, median, high = np.array([each.error_minutes for each in bins]).T
    with new_figure(3.3) as figure:
        axes = figure.subplots()
        axes.fill_between(middle, low, high, color=MODEL, alpha=0.2, linewidth=0, label="8 of 10 rides")
        axes.plot(middle, median, color=MODEL, marker="o", label="median")
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set(xlabel="predicted, minutes", ylabel="predicted less actual, minutes", xlim=(0, MAX_MINUTES))
        legend_above(axes)
        return to_svg(figure)


def slice_band(level: float) -> tuple[float, float]:
    """Return the range that the gate allows for the coverage of a large slice, 0 to 1."""
    return level - SLICE_COVERAGE_SLACK, level + SLICE_COVERAGE_SLACK


def interval_coverage(bins: tuple[DurationBin, ...], level: float) -> bytes:
    """Draw the share of rides inside their interval by predicted duration; the line is the wanted share."""
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
    """Draw the mean width of the intervals by predicted duration."""
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
    """Return the percentage of all rides in each bin; rides beyond the edges count as rides, but are in no bin."""
    shares: NDArray[np.float64] = 100 * np.histogram(errors_minutes, edges)[0] / len(errors_minutes)
    return shares


def slice_errors(slices: Sequence[SliceResult]) -> bytes:
    """Draw one kind of slice: a line over hours, else a row for each slice."""
    return _by_number(slices) if is_by_number(slices) else _by_row(slices)


def is_by_number(slices: Sequence[SliceResult]) -> bool:
    """Return whether slices are steps of a scale, like hours, and enough of them for a line."""
    return len(slices) > 2 and all(each.name.isdecimal() for each in slices)  # noqa: PLR2004


def slice_coverage(slices: Sequence[SliceResult], level: float) -> bytes:
    """Draw a dot for each slice that is not tiny, in the row of its kind; large slices belong in the band."""
    slices = [each for each in slices if each.model.n_rides >= MIN_COVERAGE_RIDES]
    kinds = list(dict.fromkeys(each.by for each in slices))
    with new_figure(_AROUND_INCHES + 0.32 * len(kinds)) as figure:
        axes = figure.subplots()
        axes.axvspan(*(100 * end for end in slice_band(level)), color=MODEL, alpha=0.12, linewidth=0)
        axes.axvline(100 * level, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for each in slices:
            if each.coverage is not None:
                full = each.model.n_rides >= MIN_SLICE_RIDES
                axes.plot(
                    100 * each.coverage,
                    kinds.index(each.by),
                    "o",
                    color=MODEL,
                    markerfacecolor=MODEL if full else PAGE,
                    markersize=5,
                    alpha=0.85 if full else 0.55,
                )
        axes.set(yticks=range(len(kinds)), yticklabels=[kind.replace("_", " ") for kind in kinds])
        axes.set(ylim=(len(kinds) - 0.4, -0.6), xlabel="% of rides inside their interval")
        axes.grid(visible=False, axis="y")
        return to_svg(figure)


def _by_number(slices: Sequence[SliceResult]) -> bytes:
    slices = sorted(slices, key=lambda each: int(each.name))
    where = [int(each.name) for each in slices]
    with new_figure(3.5) as figure:
        errors, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        errors.plot(where, [each.baseline.rmse_minutes for each in slices], color=BASELINE, label="baseline")
        errors.plot(where, [each.model.rmse_minutes for each in slices], color=MODEL, marker="o", label="model")
        errors.set(ylabel="RMSE, minutes", ylim=(0, None))
        counts.bar(where, [each.model.n_rides / 1000 for each in slices], color=BASELINE, alpha=0.5)
        counts.set(ylabel="rides, k", xlabel=slices[0].by.replace("_", " "), xticks=where[:: max(1, len(where) // 8)])
        for axes in (errors, counts):
            axes.grid(visible=False, axis="x")
        legend_above(errors)
        return to_svg(figure)


def _by_row(slices: Sequence[SliceResult]) -> bytes:
    with new_figure(_AROUND_INCHES + _ROW_INCHES * len(slices)) as figure:
        axes = figure.subplots()
        for row, each in enumerate(slices):
            model, baseline = each.model.rmse_minutes, each.baseline.rmse_minutes
            colour = WORSE if model > baseline else MODEL
            face = colour if each.model.n_rides >= MIN_SLICE_RIDES else PAGE
            axes.plot([model, baseline], [row, row], color=GRID, linewidth=2.4, zorder=1)
            axes.plot(baseline, row, "o", color=BASELINE, markersize=4.5)
            axes.plot(model, row, "o", color=colour, markerfacecolor=face, markersize=6.5)
        _row_keys(axes, slices)
        axes.set(yticks=range(len(slices)), yticklabels=[_short(each.name) for each in slices])
        axes.set(ylim=(len(slices) - 0.4, -0.6), xlim=(0, None), xlabel="RMSE, minutes")
        axes.grid(visible=False, axis="y")
        legend_above(axes, 3)
        return to_svg(figure)


def _row_keys(axes: object, slices: Sequence[SliceResult]) -> None:
    """Add the legend of the marks that the plot contains."""
    worse = any(each.model.rmse_minutes > each.baseline.rmse_minutes for each in slices)
    keys = {"model": (MODEL, 6.5), "baseline": (BASELINE, 4.5), **({"model, worse": (WORSE, 6.5)} if worse else {})}
    for label, (colour, size) in keys.items():
        axes.plot([], [], "o", color=colour, markersize=size, label=label)  # type: ignore[attr-defined]


def _short(name: str, n_letters: int = 28) -> str:
    """Cut a name to the available space; characters that a font may lack become a question mark."""
    drawn = "".join(letter if letter.isprintable() and letter.isascii() else "?" for letter in name)
    return drawn if len(drawn) <= n_letters else f"{drawn[: n_letters - 1]}…"
