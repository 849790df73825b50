"""Draw an experiment: the confidence sequence of each candidate as it narrows from day to day."""

from datetime import timedelta

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

from training.experiments.experiment import Experiment, looks_of, verdict_of
from training.experiments.verdict import Look
from training.report.drawing import BASELINE, INK, MODEL, WORSE, legend_above, new_figure, to_svg

_PANEL_INCHES, _MARGIN_INCHES = 2.4, 0.7
_N_TICKS = 6


def draw_experiment(experiment: Experiment) -> bytes:
    """Return an SVG file with a panel for each candidate: the mean difference by day, its interval and the margin."""
    candidates = experiment.candidates
    with new_figure(_MARGIN_INCHES + _PANEL_INCHES * len(candidates)) as figure:
        panels = figure.subplots(len(candidates), 1, sharex=True, squeeze=False)[:, 0]
        for panel, candidate in zip(panels, candidates, strict=True):
            _draw(panel, experiment, candidate)
        if any(looks_of(experiment, candidate) for candidate in candidates):
            locator = AutoDateLocator(minticks=2, maxticks=_N_TICKS)
            panels[-1].xaxis.set_major_locator(locator)
            panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
        panels[-1].set_xlabel("day of arrival, New York")
        legend_above(panels[0], 4)
        return to_svg(figure)


def _draw(panel: Axes, experiment: Experiment, candidate: str) -> None:
    seen = looks_of(experiment, candidate)
    verdict, margin = verdict_of(experiment, candidate), experiment.rules.margin_percent
    days = date2num([one.day for one in seen])
    low, high = (np.array([_bound(one, name) for one in seen], np.float64) for name in ("low_percent", "high_percent"))
    panel.fill_between(days, low, high, color=MODEL, alpha=0.2, linewidth=0, label="interval")
    panel.plot(days, [one.mean_percent for one in seen], color=MODEL, marker="o", markersize=3, label="mean so far")
    panel.axhline(0, color=INK, linewidth=0.8)
    for value in (-margin, margin):
        panel.axhline(value, color=BASELINE, linewidth=1, linestyle="--", label="margin" if value > 0 else None)
    if verdict.decided_on_day is not None:
        at = experiment.first_day + timedelta(days=verdict.decided_on_day - 1)
        panel.axvline(date2num(at), color=WORSE, linewidth=1, linestyle="-.", label="answer")
    panel.set_title(f"{candidate}: {verdict.answer}", loc="left")
    panel.set_ylabel("gain, % of MSE")
    panel.grid(visible=False, axis="x")


def _bound(look: Look, name: str) -> float:
    value: float | None = getattr(look, name)
    return np.nan if value is None else value
