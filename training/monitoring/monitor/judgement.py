"""Judge the days of a model: what the detectors find, in words and numbers for the status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from training.monitoring.monitor.day_figures import DayFigures, is_counted, is_testable, to_days
from training.monitoring.monitor.day_values import count_quantiles, error_values, pooled, usual_range
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.detectors import GROUPS, MIN_REFERENCE_DAYS, THRESHOLD, Evidence, Group, watch
from training.monitoring.monitor.explain import explain
from training.monitoring.monitor.quantities import PERFORMANCE_QUANTITIES, UNITS, DayKind
from training.monitoring.monitor.recent import N_RECENT_DAYS, recent
from training.monitoring.monitor.reference import Reference
from training.monitoring.monitor.status import GroupStatus, QuantityStatus, Recent, State

_MEDIAN = 0.5
_DECIMALS = 6  # of what is shown: a median does not depend on the last bits of a sum
_NO_REFERENCE = "train the model again with this version of ridecast"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a status says about the days of a model."""

    groups: tuple[GroupStatus, ...]
    quantities: tuple[QuantityStatus, ...]
    recent: tuple[Recent, ...]
    missing: tuple[str, ...]


def judge(
    days: Sequence[DayFigures],
    reference: Reference | None,
    acknowledged: Mapping[str, Sequence[date]],
    no_reference: str = "",
    so_far: DayFigures | None = None,
) -> Judgement:
    """Judge days.

    Args:
        days: All days of the model since it took over, ascending, without a gap.
        reference: The model's; without one, errors are shown and no group is judged.
        acknowledged: The days at whose end an alarm was acknowledged, by group.
        no_reference: Why there is no reference, if it can't be read.
        so_far: The hours since the model took over, to show until it has served a whole day.
    """
    missing = _missing_hours(days)
    shown = days or ([so_far] if so_far else [])
    if reference is None:
        why = no_reference or f"the model has no reference days to compare with: {_NO_REFERENCE}"
        groups = tuple(_unknown(group, f"Not judged: {why}.") for group in GROUPS)
        return Judgement(groups, _errors_of_last_day(shown), recent(days, None), (f"{why}.", *missing))
    tested = [one for one in days if is_testable(one, reference.edges)]
    served = to_days(tested, reference.edges)
    evidence = watch(reference.days, served, acknowledged)
    judged = tuple(_group_status(group, evidence, reference, served) for group in GROUPS)
    states = {one.group: one.state for one in judged}
    last = to_days([one for one in shown if is_counted(one, reference.edges)][-1:], reference.edges)
    quantities = tuple(
        _quantity_status(name, place, evidence, reference, last, states) for place, name in enumerate(evidence.names)
    )
    return Judgement(judged, quantities, recent(days, reference.days), (*missing, *_few_days(reference, served)))


def _missing_hours(days: Sequence[DayFigures]) -> tuple[str, ...]:
    """Say which of the last days lack hours."""
    lacking = [one for one in days[-N_RECENT_DAYS:] if one.missing_hours]
    if not lacking:
        return ()
    n_hours = sum(len(one.missing_hours) for one in lacking)
    last, n_days = lacking[-1], min(len(days), N_RECENT_DAYS)
    text = (
        f"Hours that were not joined: {n_hours}, on {len(lacking)} of the last {n_days} days, the"
        f" last ones {last.missing_hours[0]} to {last.missing_hours[-1]}. Such days are shown, and not judged."
    )
    return (text,)


def _few_days(reference: Reference, served: Days) -> tuple[str, ...]:
    """Say which kinds of days are not tested, because training had too few of them."""
    n_by_kind = {kind: int((reference.days.kind == kind).sum()) for kind in DayKind}
    served_kinds = set(served.kind.tolist())
    return tuple(
        f"The model was trained on {n} days of the kind {kind.name.lower()}, and {MIN_REFERENCE_DAYS} are needed: such"
        f" days are not judged until {MIN_REFERENCE_DAYS - n} more have been served."
        for kind, n in n_by_kind.items()
        if n < MIN_REFERENCE_DAYS and kind in served_kinds
    )


def _unknown(group: Group, text: str) -> GroupStatus:
    return GroupStatus(group=group, state="unknown", threshold=THRESHOLD, text=text)


def _group_status(group: Group, evidence: Evidence, reference: Reference, served: Days) -> GroupStatus:
    columns = [place for place, other in enumerate(evidence.groups) if other == group]
    n_tested = int((~np.isnan(evidence.p[:, columns])).any(axis=1).sum())
    if not n_tested and not evidence.is_on[group]:
        return _unknown(group, "Not judged: no whole day of this model could be compared with its reference days yet.")
    alarms = [alarm for alarm in evidence.alarms if alarm.group == group]
    now = float(evidence.current[columns].mean())
    strongest = evidence.names[columns[int(evidence.current[columns].argmax())]]
    if not evidence.is_on[group]:
        days = "1 day" if n_tested == 1 else f"{n_tested} days"
        text = f"Nothing unusual in {days}, until {evidence.days[-1]}."
        if alarms:
            text = (
                f"The alarm of {alarms[-1].day} was acknowledged, and there was none since, until {evidence.days[-1]}."
            )
        return GroupStatus(group=group, state="ok", evidence=now, threshold=THRESHOLD, quantity=strongest, text=text)
    alarm = alarms[-1]
    return GroupStatus(
        group=group,
        state="alarm",
        evidence=now,
        threshold=THRESHOLD,
        since=alarm.since,
        quantity=alarm.quantity,
        text=explain(alarm, reference, served),
    )


def _quantity_status(
    name: str, place: int, evidence: Evidence, reference: Reference, last: Days, states: Mapping[str, State]
) -> QuantityStatus:
    """Return the last day's value of a quantity beside those of the reference days of its kind."""
    group = evidence.groups[place]
    if not len(last):
        return QuantityStatus(name=name, group=group, unit=UNITS[name])
    alike = reference.days.take(reference.days.kind == last.kind)
    grown = float(evidence.current[place])
    is_strong = states[group] == "alarm" and grown >= THRESHOLD
    state: State = "alarm" if is_strong else "unknown" if states[group] == "unknown" else "ok"
    low, high = usual_range(_values(name, alike, reference)) if len(alike) else (np.nan, np.nan)
    return QuantityStatus(
        name=name,
        group=group,
        unit=UNITS[name],
        today=_or_none(_values(name, last, reference)[0]),
        reference=_or_none(_values(name, pooled(alike), reference)[0]) if len(alike) else None,
        usual_low=_or_none(low),
        usual_high=_or_none(high),
        evidence=grown,
        state=state,
    )


def _values(name: str, days: Days, reference: Reference) -> NDArray[np.float64]:
    """Return a quantity's value on each day (n,): the median of a data quantity."""
    if name in PERFORMANCE_QUANTITIES:
        return error_values(name, days)
    return count_quantiles(days.counts[name], reference.edges[name], _MEDIAN)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), _DECIMALS)


def _errors_of_last_day(days: Sequence[DayFigures]) -> tuple[QuantityStatus, ...]:
    """Return the last day's errors of a model without reference."""
    if not days:
        return ()
    raw = days[-1].figures.errors.raw
    values = {
        "bias": raw.bias_minutes,
        "mse": raw.mean_squared_error,
        "coverage": raw.coverage,
    }
    return tuple(
        QuantityStatus(name=name, group="performance", unit=UNITS[name], today=value) for name, value in values.items()
    )
