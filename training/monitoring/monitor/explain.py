"""Say an alarm in words: what moved, since when, how sure that is, and what to do."""

import numpy as np

from training.monitoring.monitor.day_values import count_quantiles, error_values, missing_shares, pooled, usual_range
from training.monitoring.monitor.days import Days, Floats
from training.monitoring.monitor.detectors import BIAS, MSE, PERFORMANCE, Alarm
from training.monitoring.monitor.quantities import MINUTE_OF_DAY, PLAIN_NAMES, UNITS, DayKind, time_of_day
from training.monitoring.monitor.reference import Reference

PROMISED_DAYS = 180
"""The least mean number of days between false alarms of both groups together."""

_STATISTICS = {"median": 0.5, "lowest tenth": 0.1, "highest tenth": 0.9}
_ON = {DayKind.WEEKDAY: "on weekdays", DayKind.WEEKEND: "on weekends", DayKind.HOLIDAY: "on holidays"}


def explain(alarm: Alarm, reference: Reference, served: Days) -> str:
    """Return what moved, since when, how sure that is, and what to do, in one sentence.

    Args:
        alarm: One that `watch` found.
        reference: The reference it was given.
        served: The days it was given.
    """
    what = _what_moved(alarm, reference, served)
    how_sure = f"without a change, an alarm comes less than once in {PROMISED_DAYS} days"
    what_to_do = (
        "look at `ridecast monitor report`; then train and release a new model, or run "
        f"`ridecast monitor acknowledge {alarm.group}` if the change has passed"
    )
    found = f"since {alarm.since}, found on {alarm.day} with evidence {alarm.evidence:,.0f}"
    return f"{what} ({found}: {how_sure}); {what_to_do}."


def _what_moved(alarm: Alarm, reference: Reference, served: Days) -> str:
    """Compare the days since the change that are of the last day's kind with the reference days of that kind."""
    first, last = np.datetime64(alarm.since, "D"), np.datetime64(alarm.day, "D")
    changed = served.take((served.day >= first) & (served.day <= last))
    kind = int(changed.kind[changed.day == last][0])
    now = pooled(changed.take(changed.kind == kind))
    is_alike = reference.days.kind == kind
    usual = reference.days.take(is_alike) if is_alike.any() else reference.days
    if alarm.quantity in PERFORMANCE:
        moved = _errors_moved(alarm.quantity, now, usual)
    else:
        counts = now.counts[alarm.quantity], usual.counts[alarm.quantity]
        moved = _data_moved(alarm.quantity, *counts, reference.edges[alarm.quantity])
    return f"{moved} {_ON[DayKind(kind)]}" if is_alike.any() else moved


def _errors_moved(quantity: str, now: Days, usual: Days) -> str:
    value, (low, high) = float(error_values(quantity, now)[0]), usual_range(error_values(quantity, usual))
    if quantity == BIAS:
        side = "long" if value > 0 else "short"
        return f"Predictions are {abs(value):.2f} minutes too {side} in the mean, usually {low:+.2f} to {high:+.2f}"
    if quantity == MSE:
        return f"RMSE is {value**0.5:.2f} minutes, usually {low**0.5:.2f} to {high**0.5:.2f}"
    return f"{value:.0%} of the rides end within their interval, usually {low:.0%} to {high:.0%}"


def _data_moved(quantity: str, now: Floats, usual: Floats, edges: Floats) -> str:
    """Name the statistic that is furthest beyond what is usual, given counts of bins."""
    moved = []
    for name, level in _STATISTICS.items():
        value, ends = float(count_quantiles(now, edges, level)[0]), usual_range(count_quantiles(usual, edges, level))
        texts = [_written(quantity, number) for number in (value, *ends)]
        moved.append((_beyond(value, *ends), f"{name} {texts[0]}{_unit(quantity)}, usually {texts[1]} to {texts[2]}"))
    value, ends = float(missing_shares(now)[0]), usual_range(missing_shares(usual))
    text = f"missing in {value:.1%} of the rides, usually in {ends[0]:.1%} to {ends[1]:.1%}"
    moved.append((_beyond(value, *ends), text))
    return f"{PLAIN_NAMES[quantity].capitalize()} has changed: {max(moved)[1]}"


def _beyond(value: float, low: float, high: float) -> float:
    """Return how far a value lies outside what is usual, in widths of that; below 0 within."""
    outside = max(low - value, value - high) / max(high - low, 1e-3)
    return outside if np.isfinite(outside) else -np.inf


def _unit(quantity: str) -> str:
    return "" if quantity == MINUTE_OF_DAY else f" {UNITS[quantity]}"


def _written(quantity: str, value: float) -> str:
    return time_of_day(value) if quantity == MINUTE_OF_DAY and np.isfinite(value) else f"{value:.2f}"
