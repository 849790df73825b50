"""Plots of slices: the model beside the baseline, and the coverage of the intervals."""

from collections.abc import Sequence

from training.evaluation import SliceResult
from training.judging.gate_rules import JUDGED_RIDES
from training.report.drawing import BASELINE, GRID, MODEL, MUTED, PAPER, WORSE, key_below, new_figure, to_svg
from training.report.plots_rides import slice_band

MIN_COVERAGE_RIDES = 100
"""Of fewer, chance alone moves the share inside by more than the band is wide."""

_ROW_INCHES, _AROUND_INCHES = 0.235, 0.75


def slice_errors(slices: Sequence[SliceResult]) -> bytes:
    """One kind of slice: a line over hours, else a row a slice."""
    if is_by_number(slices):
        return _by_number(slices)
    return _by_row(slices)


def is_by_number(slices: Sequence[SliceResult]) -> bool:
    """Says whether slices are steps of one scale, like hours; two points would make no line."""
    return len(slices) > 2 and all(each.name.isdecimal() for each in slices)  # noqa: PLR2004


def slice_coverage(slices: Sequence[SliceResult], level: float) -> bytes:
    """Slices that are not tiny, a dot each in the row of its kind; in the band is where large ones belong."""
    slices = [each for each in slices if each.model.n_rides >= MIN_COVERAGE_RIDES]
    kinds = list(dict.fromkeys(each.by for each in slices))
    with new_figure(_AROUND_INCHES + 0.32 * len(kinds)) as figure:
        axes = figure.subplots()
        axes.axvspan(*(100 * end for end in slice_band(level)), color=MODEL, alpha=0.12, linewidth=0)
        axes.axvline(100 * level, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        for each in slices:
            if each.coverage is not None:
                full = each.model.n_rides >= JUDGED_RIDES
                axes.plot(
                    100 * each.coverage,
                    kinds.index(each.by),
                    "o",
                    color=MODEL,
                    markerfacecolor=MODEL if full else PAPER,
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
        key_below(errors)
        return to_svg(figure)


def _by_row(slices: Sequence[SliceResult]) -> bytes:
    with new_figure(_AROUND_INCHES + _ROW_INCHES * len(slices)) as figure:
        axes = figure.subplots()
        for row, each in enumerate(slices):
            model, baseline = each.model.rmse_minutes, each.baseline.rmse_minutes
            colour = WORSE if model > baseline else MODEL
            face = colour if each.model.n_rides >= JUDGED_RIDES else PAPER
            axes.plot([model, baseline], [row, row], color=GRID, linewidth=2.4, zorder=1)
            axes.plot(baseline, row, "o", color=BASELINE, markersize=4.5)
            axes.plot(model, row, "o", color=colour, markerfacecolor=face, markersize=6.5)
        _row_keys(axes, slices)
        axes.set(yticks=range(len(slices)), yticklabels=[_short(each.name) for each in slices])
        axes.set(ylim=(len(slices) - 0.4, -0.6), xlim=(0, None), xlabel="RMSE, minutes")
        axes.grid(visible=False, axis="y")
        key_below(axes, 3)
        return to_svg(figure)


def _row_keys(axes: object, slices: Sequence[SliceResult]) -> None:
    """Names what stands in the plot, and nothing else."""
    worse = any(each.model.rmse_minutes > each.baseline.rmse_minutes for each in slices)
    keys = {"model": (MODEL, 6.5), "baseline": (BASELINE, 4.5), **({"model, worse": (WORSE, 6.5)} if worse else {})}
    for label, (colour, size) in keys.items():
        axes.plot([], [], "o", color=colour, markersize=size, label=label)  # type: ignore[attr-defined]


def _short(name: str, n_letters: int = 28) -> str:
    """Cuts a name to the room there is; what cannot be drawn in any font becomes a question mark."""
    drawn = "".join(letter if letter.isprintable() and letter.isascii() else "?" for letter in name)
    return drawn if len(drawn) <= n_letters else f"{drawn[: n_letters - 1]}…"
