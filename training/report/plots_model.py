"""Plots of the model: feature importance, maps of errors, and ageing."""

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import CenteredNorm, Normalize
from numpy.typing import NDArray

from lambda_function.core.features import MILES_PER_DEGREE_LATITUDE, MILES_PER_DEGREE_LONGITUDE
from training.evaluation.backtest import AgeRow, summarise
from training.report.drawing import (
    BASELINE,
    GRID,
    INK,
    MINUTES,
    MODEL,
    MUTED,
    SIGNED_MINUTES,
    legend_above,
    new_figure,
    to_svg,
)
from training.report.measures import FeatureImportance, ZoneErrors

_MARGIN_MILES = 1.2
_MAX_DOT_POINTS2, _MIN_DOT_POINTS2 = 330.0, 14.0


def importance(features: Sequence[FeatureImportance]) -> bytes:
    """Draw a bar for each group and for each feature without a group, the most important on top."""
    grouped = {feature for each in features if len(each.features) > 1 for feature in each.features}
    ranked = sorted((each for each in features if each.name not in grouped), key=lambda each: -each.rise_minutes)
    with new_figure(0.75 + 0.3 * len(ranked)) as figure:
        axes = figure.subplots()
        rows = range(len(ranked))
        axes.barh(rows, [each.rise_minutes for each in ranked], height=0.62, color=MODEL, alpha=0.85)
        axes.hlines(rows, [each.low_minutes for each in ranked], [each.high_minutes for each in ranked], color=INK)
        axes.set(yticks=rows, yticklabels=[each.name.replace("_", " ") for each in ranked])
        axes.set(ylim=(len(ranked) - 0.5, -0.5), xlabel="rise of the RMSE, minutes")
        axes.grid(visible=False, axis="y")
        return to_svg(figure)


def map_rmse(zones: Sequence[ZoneErrors], outlines: Sequence[NDArray[np.float64]]) -> bytes:
    """Draw the size of the errors by pickup zone."""
    values = np.array([zone.errors.rmse_minutes for zone in zones])
    low, high = np.percentile(values, (5, 95))
    return _map(zones, outlines, values, Normalize(low, max(high, low + 0.1)), MINUTES, "RMSE, minutes")


def map_bias(zones: Sequence[ZoneErrors], outlines: Sequence[NDArray[np.float64]]) -> bytes:
    """Draw by pickup zone where predictions are too long or too short."""
    values = np.array([zone.errors.bias_minutes for zone in zones])
    half = max(float(np.percentile(np.abs(values), 95)), 0.1)
    norm = CenteredNorm(0, half)
    return _map(zones, outlines, values, norm, SIGNED_MINUTES, "bias, minutes: below 0 too short, above too long")


def ageing(rows: Sequence[AgeRow]) -> bytes:
    """Draw the RMSE by months since training; below, if there are models of different ages, the loss to the newest."""
    ages = summarise(rows)
    where = [age.months_since_training for age in ages]
    compared = has_newer_models(rows)
    with new_figure(4.6 if compared else 3.3) as figure:
        ratios = (2, 1) if compared else (1,)
        panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)
        errors, lowest = panels[0, 0], panels[-1, 0]
        months = [row.months_since_training for row in rows]
        for label, colour, dots, line in (
            ("baseline", BASELINE, [r.baseline.rmse_minutes for r in rows], [a.baseline_rmse_minutes for a in ages]),
            ("model", MODEL, [r.model.rmse_minutes for r in rows], [a.rmse_minutes for a in ages]),
        ):
            errors.plot(months, dots, "o", color=colour, alpha=0.4, markersize=4)
            errors.plot(where, line, color=colour, label=label, marker="" if compared else "o")
        if compared:
            lowest.axhline(0, color=MUTED, linewidth=0.9)
            lowest.plot(where, [100 * (age.ratio_to_newest - 1) for age in ages], color=MODEL, marker="o")
            lowest.set_ylabel("% above the\nnewest model")
        errors.set(ylabel="RMSE, minutes", ylim=(0, None))
        lowest.set(xlabel="months since training", xlim=(min(where) - 0.5, max(where) + 0.5))
        lowest.xaxis.get_major_locator().set_params(integer=True)
        legend_above(errors)
        return to_svg(figure)


def has_newer_models(rows: Sequence[AgeRow]) -> bool:
    """Return whether models of different ages predict the same month."""
    return len({row.month for row in rows}) < len(rows)


def _map(
    zones: Sequence[ZoneErrors],
    outlines: Sequence[NDArray[np.float64]],
    values: NDArray[np.float64],
    norm: Normalize,
    colours: str,
    label: str,
) -> bytes:
    with new_figure(5.9) as figure:
        axes = figure.subplots()
        axes.add_collection(LineCollection(_coarse(outlines), colors=BASELINE, linewidths=0.35, alpha=0.8))
        n_rides = np.array([zone.errors.n_rides for zone in zones])
        order = np.argsort(-n_rides, kind="stable")  # small dots last, above the large ones
        dots = axes.scatter(
            np.array([zone.longitude for zone in zones])[order],
            np.array([zone.latitude for zone in zones])[order],
            s=_MAX_DOT_POINTS2 * n_rides[order] / n_rides.max() + _MIN_DOT_POINTS2,
            c=values[order],
            cmap=colours,
            norm=norm,
            alpha=0.9,
            edgecolors=MUTED,
            linewidths=0.5,
        )
        axes.set(**_window(zones))
        axes.set(aspect=MILES_PER_DEGREE_LATITUDE / MILES_PER_DEGREE_LONGITUDE)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(
            dots, ax=axes, orientation="horizontal", shrink=0.75, aspect=32, label=label, extend="both"
        )
        bar.outline.set_edgecolor(GRID)
        return to_svg(figure)


def _window(zones: Sequence[ZoneErrors]) -> dict[str, tuple[float, float]]:
    """Return a map's ranges of longitude and latitude: a square, in miles, around the pickup zones."""
    places = np.array([(zone.longitude, zone.latitude) for zone in zones])
    low, high = places.min(axis=0), places.max(axis=0)
    scale = np.array([MILES_PER_DEGREE_LONGITUDE, MILES_PER_DEGREE_LATITUDE])
    half = (max((high - low) * scale) / 2 + _MARGIN_MILES) / scale
    (west, south), (east, north) = (low + high) / 2 - half, (low + high) / 2 + half
    return {"xlim": (west, east), "ylim": (south, north)}


def _coarse(outlines: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Drop details that are too small to see: points within half a thousandth of a degree become one."""
    coarse = []
    for ring in outlines:
        cell = np.round(ring * 2000)
        moved = np.ones(len(ring), np.bool_)
        moved[1:] = np.any(cell[1:] != cell[:-1], axis=1)
        coarse.append(ring[moved])
    return coarse
