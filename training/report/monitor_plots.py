"""Plots of the monitoring page: errors and evidence by day, records by day, and today's shapes beside training."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from numpy.typing import NDArray

from training.monitoring.monitor.detectors import THRESHOLD, Alarm, Evidence
from training.report.drawing import BASELINE, INK, MODEL, MUTED, WORSE, legend_above, new_figure, to_svg
from training.report.html import MINUS
from training.report.monitor_facts import Band, DaySeries, Floats, HourSeries, MonitorFacts, Move, Shape
from training.report.monitor_names import label, value_text

ERRORS, EVIDENCE, RECORDS, HOURS = "errors by day", "evidence", "records by day", "errors by hour"
_SHAPE = "shape of "

_MAX_DOTTED_DAYS = 15
"""With more days a line is enough; fewer may be too few to see a line."""

MAX_DAILY_DAYS = 100
"""With more days, the plot of errors shows means of 7 days above faint lines by day."""

_DAYS_A_WEEK = 7
_LEAST_EVIDENCE = 0.01
_EVIDENCE_TICKS = (0.01, 1, 100, 10_000, 1_000_000)
_ALARM_STYLES: dict[str, Any] = {
    "data": {"color": WORSE, "linewidth": 1.4},
    "performance": {"color": WORSE, "linewidth": 1.4, "linestyle": "--"},
}
_MOVE_STYLE: dict[str, Any] = {"color": INK, "linewidth": 1.0, "linestyle": ":"}
_ONE_DAY = timedelta(days=1)
_N_TICKS = 4
_WHOLE_FROM = 10.0

Days = NDArray[np.datetime64]


def shape_name(quantity: str) -> str:
    """Return the name of the plot of a quantity's shape."""
    return f"{_SHAPE}{quantity}"


def draw_monitor_plots(facts: MonitorFacts) -> dict[str, bytes]:
    """Draw the plots that the facts allow, as SVG files by name. The same facts give the same bytes."""
    drawn: dict[str, bytes] = {}
    if len(facts.series):
        drawn[ERRORS] = errors_by_day(facts)
        drawn[RECORDS] = records_by_day(facts.series)
    if len(facts.hours):
        drawn[HOURS] = errors_by_hour(facts.hours)
    if facts.evidence is not None and len(facts.evidence.days):
        drawn[EVIDENCE] = evidence_by_day(facts.evidence, facts.moves)
    return drawn | {shape_name(shape.quantity): shape_of(shape) for shape in facts.shapes}


def errors_by_day(facts: MonitorFacts) -> bytes:
    """Draw RMSE, bias and coverage by day, raw and served, with alarms, moves and the band of the reference days."""
    series, alarms = facts.series, facts.evidence.alarms if facts.evidence else ()
    has_intervals = not np.isnan(series.served.coverage).all()
    panels = ("rmse", "bias", "coverage")[: 3 if has_intervals else 2]
    with new_figure(1.0 + 1.75 * len(panels)) as figure:
        axes = figure.subplots(len(panels), 1, sharex=True)
        for panel, name in zip(axes, panels, strict=True):
            _errors(panel, name, series, facts.bands.get(name))
            _mark(panel, alarms, facts.moves, series.day)
        for move in facts.moves:
            if move.is_calibration and _is_shown(move, series.day):
                axes[-1].axvline(date2num(move.at), 0, 0.05, color=MUTED, linewidth=0.8)
        axes[0].set_ylim(0, None)
        _date_axis(axes[-1], series.day)
        legend_above(axes[0], 3)
        return to_svg(figure)


def evidence_by_day(evidence: Evidence, moves: Sequence[Move]) -> bytes:
    """Draw the evidence of both groups and of each quantity by day, on a logarithmic axis, with the threshold."""
    with new_figure(4.6) as figure:
        axes = figure.subplots(2, 1, sharex=True, sharey=True)
        for panel, group in zip(axes, ("data", "performance"), strict=True):
            days, of_group = evidence.days, [own == group for own in evidence.groups]
            for column in evidence.path[:, of_group].T:
                _line(panel, days, np.maximum(column, _LEAST_EVIDENCE), color=BASELINE, linewidth=0.8, alpha=0.7)
            whole: Floats = getattr(evidence, group)
            _line(panel, days, np.maximum(whole, _LEAST_EVIDENCE), color=MODEL)
            panel.axhline(THRESHOLD, color=WORSE, linewidth=1, linestyle="-.")
            panel.set(yscale="log", ylabel=f"evidence, {group}")
            panel.set_yticks(_EVIDENCE_TICKS, [f"{tick:,}" for tick in _EVIDENCE_TICKS])
            panel.minorticks_off()
            _mark(panel, [one for one in evidence.alarms if one.group == group], moves, days)
        for text, style in (
            ("group's mean", {"color": MODEL}),
            ("each quantity", {"color": BASELINE, "linewidth": 0.8}),
            (f"alarm at {THRESHOLD:.0f}", {"color": WORSE, "linestyle": "-.", "linewidth": 1}),
        ):
            axes[0].plot([], [], label=text, **style)
        axes[0].set_ylim(_LEAST_EVIDENCE * 0.6, None)
        _date_axis(axes[-1], evidence.days)
        legend_above(axes[0], 3)
        return to_svg(figure)


def records_by_day(series: DaySeries) -> bytes:
    """Draw judged rides, the share of rides with an outcome, and how many outcomes come late, by day."""
    panels = (
        ("judged rides", series.n_judged, 0.0),
        ("% with outcome", 100 * series.outcome_share, None),
        ("% of outcomes\nover 1 h late", 100 * series.late_share, 0.0),
    )
    with new_figure(4.9) as figure:
        axes = figure.subplots(len(panels), 1, sharex=True)
        for panel, (text, values, bottom) in zip(axes, panels, strict=True):
            _line(panel, series.day, values, color=MODEL)
            panel.set_ylabel(text)
            panel.set_ylim(bottom, None)
        axes[0].yaxis.set_major_formatter("{x:,.0f}")
        axes[1].set_ylim(min(np.nanmin([*panels[1][1], 95.0]), 95.0) - 1, 101)
        _date_axis(axes[-1], series.day)
        return to_svg(figure)


def errors_by_hour(series: HourSeries) -> bytes:
    """Draw the RMSE and the number of judged rides by hour."""
    with new_figure(3.6) as figure:
        axes = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for values, name, colour, width in (
            (series.raw_rmse, "raw", MUTED, 1.1),
            (series.served_rmse, "served", MODEL, 1.8),
        ):
            _line(axes[0], series.hour, values, color=colour, linewidth=width, label=name)
        _line(axes[1], series.hour, series.n_judged, color=MODEL)
        axes[0].set(ylabel="RMSE, minutes", ylim=(0, None))
        axes[1].set(ylabel="judged rides", ylim=(0, None), xlabel="hour of arrival, UTC")
        axes[1].yaxis.set_major_formatter("{x:,.0f}")
        locator = AutoDateLocator(minticks=2, maxticks=_N_TICKS + 1)
        axes[1].xaxis.set_major_locator(locator)
        axes[1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
        legend_above(axes[0])
        return to_svg(figure)


def shape_of(shape: Shape) -> bytes:
    """Draw the shares of rides by bin: of training, of the last days, and of today."""
    is_missing_seen = max(shares[-1] for shares in (shape.reference, shape.week, shape.today)) > 0
    n_bins = len(shape.edges) + 1
    shown = n_bins + is_missing_seen
    with new_figure(2.75) as figure:
        axes = figure.subplots()
        edges = np.arange(shown + 1)
        axes.stairs(100 * shape.reference[:shown], edges, fill=True, color=BASELINE, alpha=0.35, label="training")
        axes.stairs(
            100 * shape.week[:shown], edges, color=INK, linewidth=1, linestyle=":", label="such days of the last 7"
        )
        axes.stairs(100 * shape.today[:shown], edges, color=MODEL, linewidth=1.8, label="today")
        last = n_bins - 1 - 3 * is_missing_seen  # else its text would touch that of the missing values
        at = np.unique(np.linspace(1, max(last, 1), 5).round().astype(int)) if n_bins > 1 else np.array([], int)
        texts = [_tick(shape.quantity, float(shape.edges[place - 1])) for place in at]
        missing = ([n_bins + 0.5], ["missing"]) if is_missing_seen else ([], [])
        axes.set_xticks([*at, *missing[0]], [*texts, *missing[1]])
        axes.set(xlabel=f"{label(shape.quantity)}, by twentieths of training", ylabel="% of rides")
        axes.set(xlim=(0, shown), ylim=(0, None))
        axes.grid(visible=False, axis="x")
        legend_above(axes, 3)
        return to_svg(figure)


def _errors(panel: Axes, name: str, series: DaySeries, band: Band | None) -> None:
    columns = {"rmse": "rmse_minutes", "bias": "bias_minutes", "coverage": "coverage"}
    scale = 100 if name == "coverage" else 1
    if band is not None:
        panel.axhspan(scale * band.low, scale * band.high, color=BASELINE, alpha=0.2, linewidth=0)
        panel.axhline(scale * band.mean, color=BASELINE, linewidth=0.8)
    for own, colour, width in (("raw", MUTED, 1.1), ("served", MODEL, 1.8)):
        values = scale * getattr(getattr(series, own), columns[name])
        if len(series) > MAX_DAILY_DAYS:
            _line(panel, series.day, values, color=colour, linewidth=0.6, alpha=0.35)
            values = week_means(series.day, values)
        _line(panel, series.day, values, color=colour, linewidth=width, label=own if name == "rmse" else None)
    if name == "rmse" and band is not None:
        panel.fill_between([], [], [], color=BASELINE, alpha=0.2, linewidth=0, label="90 % of training days")
    panel.set_ylabel({"rmse": "RMSE, minutes", "bias": "bias, minutes", "coverage": "% in interval"}[name])


def week_means(day: Days, values: Floats) -> Floats:
    """Return the mean of the 7 days up to each day (n,); NaN if none of them has a value.

    >>> days = np.array(["2020-03-01", "2020-03-03", "2020-03-08"], "datetime64[D]")
    >>> week_means(days, np.array([1.0, 2.0, 4.0])).tolist()
    [1.0, 1.5, 3.0]
    """
    number = (day - day[0]).astype(int)
    kept = ~np.isnan(values)
    total = np.bincount(number[kept], values[kept], minlength=number[-1] + 1).cumsum()
    n = np.bincount(number[kept], minlength=number[-1] + 1).cumsum()
    before = number - _DAYS_A_WEEK
    sums, counts = (end[number] - np.where(before >= 0, end[before.clip(0)], 0) for end in (total, n))
    means: Floats = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return means


def _line(axes: Axes, day: Days, values: Floats, **style: object) -> None:
    """Draw a line that breaks where days or hours are missing; with few of them also a dot for each."""
    unit: Any = np.datetime_data(day.dtype)[0]
    span = np.arange(day[0], day[-1] + np.timedelta64(1, unit))
    whole = np.full(len(span), np.nan)
    whole[(day - day[0]).astype(int)] = values
    marker = "o" if len(day) <= _MAX_DOTTED_DAYS else ""
    axes.plot(span, whole, marker=marker, **style)  # type: ignore[arg-type]


def _mark(axes: Axes, alarms: Iterable[Alarm], moves: Iterable[Move], day: Days) -> None:
    """Draw a line for each alarm and for each other model of the channel, named in the legend."""
    lines = [(date2num(alarm.day), f"{alarm.group} alarm", _ALARM_STYLES[alarm.group]) for alarm in alarms]
    lines += [(date2num(move.at), "another model", _MOVE_STYLE) for move in moves if _is_model(move, day)]
    first = axes.get_subplotspec() is None or axes.get_subplotspec().is_first_row()  # type: ignore[union-attr]
    named: set[str] = set()
    for at, name, style in lines:
        axes.axvline(at, **style, label=name if first and name not in named else None)
        named.add(name)


def _is_model(move: Move, day: Days) -> bool:
    return not move.is_calibration and _is_shown(move, day)


def _is_shown(move: Move, day: Days) -> bool:
    first, last = day[0].astype(date), day[-1].astype(date)
    return bool(first - _ONE_DAY <= move.at.date() <= last + _ONE_DAY)


def _date_axis(axes: Axes, day: Days) -> None:
    if len(np.arange(day[0], day[-1])) < _N_TICKS:  # of so few days, an automatic axis would show hours
        axes.set_xticks(date2num(day), [f"{one:%d %b %Y}" for one in day.tolist()])
    else:
        locator = AutoDateLocator(minticks=2, maxticks=_N_TICKS + 1)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    margin = np.timedelta64(12, "h")
    axes.set(xlim=(day[0] - margin, day[-1] + margin), xlabel="day of arrival, New York")


def _tick(quantity: str, value: float) -> str:
    if quantity == "minute_of_day":
        return value_text(quantity, value)
    rounded = round(value, 0 if abs(value) >= _WHOLE_FROM else 1) + 0.0  # no minus before a zero
    return f"{rounded:g}".replace("-", MINUS)
