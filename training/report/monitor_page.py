"""The monitoring page: one HTML file of what monitoring knows about the served model. Equal facts give equal bytes."""

from collections.abc import Callable, Sequence
from datetime import date

import numpy as np

from training.monitoring.monitor.detectors import THRESHOLD
from training.monitoring.monitor.status import GroupStatus
from training.report.document import Tile, build_document, contents, section, tiles, whole
from training.report.drawing import Plots
from training.report.html import Html, element, facts_list, figure, join, paragraph, percent, table
from training.report.monitor_facts import N_HOURLY_DAYS, N_RECENT_DAYS, DaySeries, Floats, MonitorFacts, Move
from training.report.monitor_names import NO_VALUE, evidence_text, label, latest_text, range_text, value_text
from training.report.monitor_plots import (
    ERRORS,
    EVIDENCE,
    HOURS,
    MAX_DAILY_DAYS,
    RECORDS,
    draw_monitor_plots,
    shape_name,
)

N_SLICES_SHOWN = 15
MIN_SLICE_RIDES = 100
"""With fewer rides, the error of a slice says little: it is only in the table of all slices."""

_NO_DAYS = "No whole day has figures yet: a day is stored once all of its hours are joined."
_NO_REFERENCE = "The served model has no reference, so nothing is compared with training: train it again."
_NOT_WHOLE = "Every day so far lacks hours, so none is compared with training."
_STATES = {"ok": "pass", "active": "pass", "alarm": "fail", "frozen": "fail"}
_N_MOVES_SHOWN = 20

_Section = tuple[str, str, Callable[[MonitorFacts, Plots], Html]]


def build_monitor_page(facts: MonitorFacts, plots: Plots | None = None) -> bytes:
    """Build the page, UTF-8.

    Args:
        facts: The content.
        plots: The result of `draw_monitor_plots` for these facts, if it exists already.
    """
    drawn = draw_monitor_plots(facts) if plots is None else plots
    status = facts.status
    minute = status.written_at[:16].replace("T", " ")
    return build_document(
        f"Monitoring of {status.channel}: {status.model_version or 'no model'}",
        element(
            "header",
            paragraph(f"Monitoring of channel {status.channel}, status of {minute} UTC", class_="kind"),
            element("h1", status.model_version or "no model serves"),
            paragraph(_lead(facts), class_="lead"),
            tiles(_tiles(facts)),
            contents([(anchor, title) for anchor, title, _ in SECTIONS]),
        ),
        element("main", *(section(anchor, title, content(facts, drawn)) for anchor, title, content in SECTIONS)),
        element("footer", paragraph("Written by ridecast from monitor/ of the stack's bucket.")),
    )


def state(facts: MonitorFacts, _: Plots) -> Html:
    """Show what the groups and the calibration say, what is missing, and every quantity on the last day."""
    status = facts.status
    said = [_said(group.group, group.state, group.text) for group in status.groups]
    said.append(_said("calibration", status.calibration.state, status.calibration.text))
    rows = [
        (
            label(one.name),
            value_text(one.name, one.today),
            value_text(one.name, one.reference),
            range_text(one.name, one.usual_low, one.usual_high),
            evidence_text(one.evidence),
            one.state,
        )
        for one in status.quantities
    ]
    heads = ("quantity", "today", "training", "90 % of training days", "evidence", "state")
    marked = [row for row, one in enumerate(status.quantities) if one.state == "alarm"]
    return join(
        element("ul", *said, class_="rules states"),
        *(paragraph(text, class_="missing") for text in status.missing),
        table(f"{_today(facts)} beside training days of its kind", heads, rows, kinds="tnnnnt", marked=marked)
        if rows
        else None,
        paragraph(latest_text(status.latest)) if status.latest else None,
    )


def errors(facts: MonitorFacts, plots: Plots) -> Html:
    """Show errors by day, and those of the last days beside training."""
    if ERRORS not in plots:
        return paragraph(_NO_DAYS, class_="missing")
    caption = (
        "Raw is the model's own prediction, served the published one, after live calibration. The band holds 90 % of "
        "the training days, which the model predicted without having learned from them. Ticks at the bottom are "
        "calibrations."
    )
    if len(facts.series) > MAX_DAILY_DAYS:
        caption += " Thick lines are means of 7 days, faint ones days."
    return element("div", figure(plots[ERRORS], ERRORS, caption), _recent(facts), class_="pair")


def evidence(facts: MonitorFacts, plots: Plots) -> Html:
    """Show the evidence of both groups by day, and the alarms."""
    if EVIDENCE not in plots or facts.evidence is None:
        return paragraph(_why_not_compared(facts), class_="missing")
    caption = (
        "Evidence that days differ from training, a million at most. It is small while nothing changes. At the end of "
        f"a day on which a group's mean reaches {THRESHOLD:.0f}, an alarm begins. It stays until a new model serves "
        "or somebody acknowledges it. False alarms of both groups together are at least 180 days apart in the mean."
    )
    alarms = facts.evidence.alarms
    rows = [(one.day, one.group, label(one.quantity), one.since, evidence_text(one.evidence)) for one in alarms]
    heads = ("day", "group", "most evidence", "changed since", "evidence")
    listed = table("Alarms", heads, rows, kinds="ttttn") if rows else paragraph("No alarm on these days.")
    return element("div", figure(plots[EVIDENCE], EVIDENCE, caption), listed, class_="pair")


def shapes(facts: MonitorFacts, plots: Plots) -> Html:
    """Show today's rides beside training, per feature."""
    if not facts.shapes:
        return paragraph(_why_not_compared(facts), class_="missing")
    drawn = (
        figure(
            plots[shape_name(one.quantity)],
            shape_name(one.quantity),
            f"{label(one.quantity).capitalize()}: share of rides in each twentieth of the training rides.",
        )
        for one in facts.shapes
    )
    text = (
        f"Today is {_last_tested(facts)}. It and the last 7 days are compared with training days of the same kind: "
        "weekdays, weekends or holidays. Bins hold a twentieth of all training rides each."
    )
    return join(paragraph(text), element("div", *drawn, class_="pair"))


def slices(facts: MonitorFacts, _: Plots) -> Html:
    """Show the errors of published predictions by slice, the largest first."""
    if not facts.slices:
        return paragraph(_NO_DAYS, class_="missing")
    ordered = sorted(facts.slices, key=lambda one: (-one.rmse, one.by, one.name))
    large = [one for one in ordered if one.n_judged >= MIN_SLICE_RIDES]
    heads = ("slice", "by", "rides", "RMSE", "raw RMSE", "bias", "in interval")
    rows = {
        id(one): (
            one.name,
            one.by,
            f"{one.n_judged:,}",
            value_text("rmse", one.rmse),
            value_text("rmse", one.raw_rmse),
            value_text("bias", one.bias),
            percent(one.coverage),
        )
        for one in ordered
    }
    days = _last_days(facts)
    worst = [rows[id(one)] for one in large[:N_SLICES_SHOWN]]
    caption = f"Largest RMSE of published predictions, {days}, slices of {MIN_SLICE_RIDES} rides or more; minutes"
    every = table(f"All slices, {days}, in minutes", heads, list(rows.values()), kinds="ttnnnnn")
    return join(
        table(caption, heads, worst, kinds="ttnnnnn") if worst else None,
        element("details", element("summary", f"All {len(rows)} slices"), every),
    )


def records(facts: MonitorFacts, plots: Plots) -> Html:
    """Show how many rides have an outcome and how late it comes, rides without pickup time, and rejects."""
    if RECORDS not in plots:
        return paragraph(_NO_DAYS, class_="missing")
    series = facts.series
    heads = ("published minutes", "rides", "with outcome")
    rows = [
        (one.name, f"{one.n_predicted:,}", percent(one.n_with_outcome / one.n_predicted if one.n_predicted else None))
        for one in facts.outcomes
    ]
    return element(
        "div",
        figure(plots[RECORDS], RECORDS, "Judged rides have an outcome of 1 to 60 minutes and a pickup time."),
        element(
            "div",
            paragraph(
                "Outcomes that are missing more often for long rides than for short ones make errors look smaller, and "
                "freeze the calibration."
            ),
            table(f"Outcomes by predicted duration, {_last_days(facts)}", heads, rows) if rows else None,
            facts_list(_counts(series)),
        ),
        class_="pair",
    )


def recent_days(facts: MonitorFacts, plots: Plots) -> Html:
    """Show the last days by hour, and a row a day, newest first."""
    series = facts.series
    if not len(series):
        return paragraph(_NO_DAYS, class_="missing")
    rows, marked = _day_rows(facts)
    heads = (
        "day",
        "rides",
        "judged",
        "RMSE raw",
        "served",
        "bias raw",
        "served",
        "interval raw",
        "served",
        "data",
        "performance",
    )
    note = paragraph("The last two columns are the groups' evidence. ▲ An alarm began.", class_="note")
    every = table(f"{_last_days(facts).capitalize()}, errors in minutes", heads, rows, marked=marked)
    hours = None
    if HOURS in plots:
        hours = figure(plots[HOURS], HOURS, f"Errors by hour, {_last(min(len(series), N_HOURLY_DAYS))} with rides.")
    return join(every, note, _gaps(series), hours)


def moves(facts: MonitorFacts, _: Plots) -> Html:
    """Show the models that served, and how often they were calibrated."""
    if not facts.moves:
        return paragraph("No model serves on this channel.", class_="missing")
    rows = _folded(facts.moves)[-_N_MOVES_SHOWN:][::-1]
    return table("Versions of the channel, newest first", ("from, UTC", "served version", "what"), rows, kinds="ttt")


SECTIONS: tuple[_Section, ...] = (
    ("state", "State", state),
    ("errors", "Errors by day", errors),
    ("evidence", "Evidence of a change", evidence),
    ("shapes", "Today beside training", shapes),
    ("slices", "Errors by slice", slices),
    ("records", "Outcomes and rejects", records),
    ("days", "The last days", recent_days),
    ("moves", "Models that served", moves),
)
"""Anchor, heading and content of every section, in the order of the page."""


def _lead(facts: MonitorFacts) -> str:
    status = facts.status
    alarms = [group for group in status.groups if group.state == "alarm"]
    if alarms:
        named = " and ".join(f"{group.group} since {group.since}" for group in alarms)
        return f"An alarm sounds: {named}. The section State says what moved and what to do."
    if status.calibration.state == "frozen":
        return "Calibration is frozen, and the last one serves. The section State says why."
    if not status.groups or any(group.state == "unknown" for group in status.groups):
        return "Not everything is judged yet: see what is missing below."
    return "No alarm sounds."


def _tiles(facts: MonitorFacts) -> list[Tile]:
    status = facts.status
    shown: list[Tile] = [(group.group.capitalize(), group.state, _evidence_note(group)) for group in status.groups]
    calibration = status.calibration
    learned = f"with outcomes until {calibration.as_of}" if calibration.as_of else "nothing learned yet"
    shown.append(("Calibration", calibration.state, learned))
    recent = {one.quantity: one for one in status.recent}
    for quantity, name in (("rmse_served", "RMSE, minutes"), ("coverage_served", "Rides inside interval")):
        one = recent.get(quantity)
        if one is not None and one.value is not None:
            note = f"{_last(one.n_days)}; training {value_text(quantity, one.reference)}"
            shown.append((name, value_text(quantity, one.value), note))
    return shown


def _evidence_note(group: GroupStatus) -> str:
    if group.state == "unknown":
        return "not judged"
    return f"evidence {evidence_text(group.evidence)} of {evidence_text(group.threshold)}"


def _last(n_days: int) -> str:
    """Return the last days in words.

    >>> _last(28), _last(1)
    ('last 28 days', 'last day')
    """
    return "last day" if n_days == 1 else f"last {n_days} days"


def _last_days(facts: MonitorFacts) -> str:
    return _last(min(len(facts.series), N_RECENT_DAYS))


def _why_not_compared(facts: MonitorFacts) -> str:
    if not len(facts.series):
        return _NO_DAYS
    return _NOT_WHOLE if facts.bands else _NO_REFERENCE


def _said(name: str, state: str, text: str) -> Html:
    mark = element("span", state, class_=_STATES.get(state))
    return element("li", mark, element("div", element("b", name), paragraph(_with_code(text or NO_VALUE))))


def _with_code(text: str) -> Html:
    """Return a text in which what stands between backticks is code.

    >>> _with_code("run `a < b` now")
    'run <code>a &lt; b</code> now'
    """
    return join(*(element("code", part) if place % 2 else part for place, part in enumerate(text.split("`"))))


def _today(facts: MonitorFacts) -> str:
    return f"{facts.status.last_day:%A %Y-%m-%d}" if facts.status.last_day else "Today so far, not a whole day yet,"


def _last_tested(facts: MonitorFacts) -> str:
    return f"{facts.evidence.days[-1].item():%A %Y-%m-%d}" if facts.evidence else "no day"


def _recent(facts: MonitorFacts) -> Html | None:
    recent = facts.status.recent
    if not recent:
        return None
    rows = [
        (
            label(one.quantity),
            value_text(one.quantity, one.value),
            range_text(one.quantity, one.low, one.high),
            value_text(one.quantity, one.reference),
        )
        for one in recent
    ]
    days = _last(max(one.n_days for one in recent))
    text = (
        "A slow decay raises no alarm: each day is hardly worse than the one before. It shows here. The interval holds "
        "the mean of such days with 95 %."
    )
    heads = ("quantity", "mean", "interval", "training")
    return element("div", table(f"{days.capitalize()} beside training", heads, rows), paragraph(text))


def _counts(series: DaySeries) -> list[tuple[str, object]]:
    """Return counts of the last days that no plot shows."""
    last = slice(max(0, len(series) - N_RECENT_DAYS), None)
    without = _weighted(series.without_pickup_share[last], series.n_rides[last])
    rejected = [
        f"{name}: {counts[last].sum():,.0f}" for name, counts in sorted(series.n_rejected.items()) if counts[last].any()
    ]
    return [
        ("without a pickup time", percent(without)),
        ("rejects", "; ".join(rejected) or "none"),
        ("hours not joined", f"{series.n_missing_hours[last].sum():,.0f}"),
    ]


def _weighted(shares: Floats, weights: Floats) -> float | None:
    known = ~np.isnan(shares) & (weights > 0)
    return float(np.average(shares[known], weights=weights[known])) if known.any() else None


def _day_rows(facts: MonitorFacts) -> tuple[list[tuple[object, ...]], list[int]]:
    """Return a row for each of the last days, newest first, and the places of those on which an alarm began."""
    series, found, alarms = facts.series, dict[date, tuple[float, float]](), set[date]()
    if facts.evidence:
        of_groups = zip(facts.evidence.data.tolist(), facts.evidence.performance.tolist(), strict=True)
        found = dict(zip(facts.evidence.days.tolist(), of_groups, strict=True))
        alarms = {alarm.day for alarm in facts.evidence.alarms}
    days: list[tuple[int, date]] = list(enumerate(series.day.tolist()))[-N_RECENT_DAYS:][::-1]
    rows: list[tuple[object, ...]] = [
        (
            whole(f"{day:%a %Y-%m-%d}{' ▲' if day in alarms else ''}"),
            *_cells(series, row),
            *_evidence_cells(found.get(day)),
        )
        for row, day in days
    ]
    return rows, [place for place, (_, day) in enumerate(days) if day in alarms]


def _cells(series: DaySeries, row: int) -> tuple[str, ...]:
    counts = (f"{series.n_rides[row]:,.0f}", f"{series.n_judged[row]:,.0f}")
    both = (series.raw, series.served)
    return (
        *counts,
        *(_cell("rmse", one.rmse_minutes[row]) for one in both),
        *(_cell("bias", one.bias_minutes[row]) for one in both),
        *(_cell("coverage", one.coverage[row]) for one in both),
    )


def _cell(quantity: str, value: float) -> str:
    return value_text(quantity, None if np.isnan(value) else float(value))


def _evidence_cells(found: tuple[float, float] | None) -> tuple[str, ...]:
    return (NO_VALUE, NO_VALUE) if found is None else tuple(map(evidence_text, found))


def _gaps(series: DaySeries) -> Html | None:
    days = [f"{day} ({n:.0f} hours)" for day, n in zip(series.day, series.n_missing_hours, strict=True) if n]
    if not days:
        return None
    return paragraph(f"Days with hours that are not joined: {', '.join(days)}.", class_="missing")


def _folded(all_moves: Sequence[Move]) -> list[tuple[object, ...]]:
    """Return a row a move, oldest first; calibrations that follow each other share a row."""
    rows: list[tuple[object, ...]] = []
    n_calibrations = 0
    for move in all_moves:
        if move.is_calibration and n_calibrations:
            rows.pop()
        n_calibrations = n_calibrations + 1 if move.is_calibration else 0
        what = "model" if not n_calibrations else "calibration"
        if n_calibrations > 1:
            what = f"calibration, the last of {n_calibrations}"
        begin = f"{move.at:%Y-%m-%d %H:%M}" if move.at.timestamp() else "the beginning"
        rows.append((begin, move.served_version, what))
    return rows
