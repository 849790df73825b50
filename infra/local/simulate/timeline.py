"""The timeline of a simulation as SVG: errors and coverage by day, alarms, models that served, runs of the loop."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from numpy.typing import NDArray

from infra.local.simulate.measure import Figures
from infra.local.simulate.result import Move, Run, SimulationResult
from training.report.drawing import BASELINE, INK, MODEL, MUTED, PAGE, WORSE, legend_above, new_figure, to_svg
from training.report.monitor_plots import week_means

LEVEL_PERCENT = 80
"""The share of rides that an interval should hold."""

NARROW_INCHES = 5.0
"""A phone shows it at full size."""

_HEIGHT_INCHES, _WIDTH_INCHES = 6.2, 8.2
_N_RUN_LANES = 2  # runs alternate between them, so that their texts do not overlap
_SERIES: tuple[tuple[str, str, str, str], ...] = (
    ("course", "course's forest", BASELINE, "--"),
    ("frozen", "first model, frozen", WORSE, "-"),
    ("served", "served by ridecast", MODEL, "-"),
)
_ALARM_STYLES: dict[str, dict[str, Any]] = {
    "data": {"color": INK, "linewidth": 1.1, "linestyle": ":"},
    "performance": {"color": INK, "linewidth": 1.1, "linestyle": "-."},
}
_GOOD, _LONGEST_TEXT = {"promoted"}, 12

Floats = NDArray[np.float64]


class Span(NamedTuple):
    """A bar on the timeline: aware times, a text, and whether it is marked."""

    begin: datetime
    end: datetime
    text: str
    is_marked: bool


def draw_timeline(result: SimulationResult, width_inches: float = _WIDTH_INCHES) -> bytes:
    """Draw a timeline. The same result gives the same bytes; a narrow one is for phones."""
    days = np.array([one.period for one in result.days], "datetime64[D]")
    begin, end = days[0].astype(datetime), days[-1].astype(datetime) + timedelta(days=1)
    models, runs = model_spans(result), run_spans(result)
    n_lanes = max(1, len({one.text for one in models})) + (_N_RUN_LANES if result.retraining else 0)
    with new_figure(_HEIGHT_INCHES, width_inches) as figure:
        figure.set_facecolor(PAGE)
        axes = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.7, 0.28 * n_lanes + 0.25))
        _lines(axes[0], days, result.days, "rmse", 1.0)
        _lines(axes[1], days, result.days, "coverage", 100.0)
        axes[0].set(ylabel="RMSE, minutes", ylim=(0, None))
        axes[1].axhline(LEVEL_PERCENT, color=MUTED, linewidth=0.8, linestyle="--")
        axes[1].set(ylabel="% in interval", ylim=(_least(result.days), 100))
        _lanes(axes[2], models, runs if result.retraining else None)
        for panel in axes:
            _mark_alarms(panel, result)
        locator = AutoDateLocator(minticks=3, maxticks=8)
        axes[2].xaxis.set_major_locator(locator)
        axes[2].xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes[2].set(xlim=(begin, end))
        legend_above(axes[0], 3 if width_inches > NARROW_INCHES else 2)
        return to_svg(figure)


def model_spans(result: SimulationResult) -> list[Span]:
    """Return when each model served, without its calibrations, in the order of time."""
    moves = [one for one in result.moves if one.why not in {"calibration", "calibration off"}]
    ends = [*(_time(one.at) for one in moves[1:]), _end_of(result)]
    return [
        Span(_time(one.at), end, model_name(one), one.why == "rollback")
        for one, end in zip(moves, ends, strict=True)
        if end > _time(one.at)
    ]


def model_name(move: Move) -> str:
    """Return the short name of a move's model, without its service.

    >>> model_name(Move("", "", "yellow-2019-12-d091c347789b+2020-01-03T05", "promote", "ada"))
    '2019-12-d091'
    """
    _, _, rest = move.version.partition("+")[0].partition("-")
    return rest[:_LONGEST_TEXT]


def run_spans(result: SimulationResult) -> list[Span]:
    """Return the runs of the loop that trained a model."""
    end = _end_of(result)
    return [
        Span(_time(one.started_at), _time(one.ended_at) if one.ended_at else end, _said(one), one.outcome not in _GOOD)
        for one in result.runs
        if one.candidate
    ]


def _said(run: Run) -> str:
    return run.outcome or "goes on"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _end_of(result: SimulationResult) -> datetime:
    return datetime.fromisoformat(result.days[-1].period).replace(tzinfo=UTC) + timedelta(days=1)


def _lines(panel: Axes, days: NDArray[np.datetime64], figures: Sequence[Figures], unit: str, scale: float) -> None:
    for name, text, colour, style in _SERIES:
        values = np.array([_value(one, f"{name}_{unit}") for one in figures], np.float64) * scale
        if np.isnan(values).all():
            continue
        width = 2.0 if name == "served" else 1.5
        panel.plot(days, values, color=colour, linewidth=0.5, alpha=0.35)
        label = text if unit == "rmse" else None
        panel.plot(days, week_means(days, values), color=colour, linewidth=width, linestyle=style, label=label)


def _value(figures: Figures, name: str) -> float:
    value = getattr(figures, name, None)
    return np.nan if value is None else value


def _least(figures: Sequence[Figures]) -> float:
    values = [
        100 * value for one in figures for value in (one.served_coverage, one.frozen_coverage) if value is not None
    ]
    return max(0.0, min(values, default=0.0) - 5)


def _lanes(panel: Axes, models: Sequence[Span], runs: Sequence[Span] | None) -> None:
    """Draw a lane for each model that served, and one for the runs of the loop."""
    names = list(dict.fromkeys(one.text for one in models))
    lanes = [*names, *(["loop", ""] if runs is not None else [])]
    for span in models:
        _bar(panel, span, lanes.index(span.text), MODEL, "")
    for number, span in enumerate(runs or ()):
        _bar(panel, span, len(names) + number % _N_RUN_LANES, BASELINE, span.text)
    panel.set_yticks(range(len(lanes)), lanes)
    panel.set(ylim=(len(lanes) - 0.4, -0.6))
    panel.grid(visible=False, axis="y")


def _bar(panel: Axes, span: Span, lane: int, colour: str, text: str) -> None:
    begin = date2num(span.begin)
    panel.barh(
        lane,
        date2num(span.end) - begin,
        left=begin,
        height=0.55,
        color=colour,
        alpha=0.85,
        linewidth=1,
        edgecolor=colour,
    )
    if text:
        panel.annotate(text, (begin, lane), xytext=(3, 0), textcoords="offset points", va="center", color=INK)


def _mark_alarms(panel: Axes, result: SimulationResult) -> None:
    first = panel.get_subplotspec() is None or panel.get_subplotspec().is_first_row()  # type: ignore[union-attr]
    named: set[str] = set()
    for alarm in result.alarms:
        label = f"{alarm.group} alarm" if first and alarm.group not in named else None
        panel.axvline(date2num(_time(alarm.at)), **_ALARM_STYLES[alarm.group], label=label)
        named.add(alarm.group)
