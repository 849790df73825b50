"""Months of rides as a live stack sees them: labelled hours by arrival, ticks when they are due, what is served."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.features import RideColumns, feature_matrix
from training.data.rides import Rides, take_columns
from training.monitoring.calibration.tick import Tick, first_state, tick
from training.monitoring.hours import Hour, next_midnight
from training.monitoring.labelled_hour import LabelledHour

NEW_YORK = ZoneInfo("America/New_York")
HOUR_S = 3600

HORIZON_S = 3 * HOUR_S
"""The join waits so long after an hour: the longest ride, and `OutcomeDelayMinutes`."""

RUN_AND_ACTIVATION_S = 15 * 60 + 150
"""The most that a tick waits for the monitor's next run, and the activation delay of its segment."""


def arrival_s(pickup_time: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return when rides (n,) begin, in seconds since the epoch, UTC, given New York's wall clock."""
    wall_s = pickup_time.astype("datetime64[s]").astype(np.int64)
    hours, which = np.unique(wall_s // HOUR_S, return_inverse=True)
    wall = [datetime.fromtimestamp(hour * HOUR_S, tz=ZoneInfo("UTC")).replace(tzinfo=NEW_YORK) for hour in hours]
    offset_s = np.array([int((one.utcoffset() or timedelta()).total_seconds()) for one in wall], np.int64)
    return wall_s - offset_s[which]


@dataclass(frozen=True, slots=True, eq=False)
class LiveRides:
    """Rides in the order of their arrival: each arrives at its pickup."""

    columns: RideColumns
    arrival_s: NDArray[np.int64]
    duration_minutes: NDArray[np.float64]
    pickup_time: NDArray[np.datetime64]

    @classmethod
    def of(cls, rides: Rides) -> "LiveRides":
        """Return rides in the order of arrival, which differs from that of pickups when clocks go back."""
        arrival = arrival_s(rides.pickup_time)
        order = np.argsort(arrival, kind="stable")
        columns = take_columns(rides.columns, order)
        wide = RideColumns(
            columns.pickup_zone.astype(np.int64),
            columns.dropoff_zone.astype(np.int64),
            columns.trip_distance_miles,
            columns.pickup_minute.astype(np.int64),
        )
        return cls(wide, arrival[order], rides.duration_minutes[order], rides.pickup_time[order])

    def __len__(self) -> int:
        return len(self.arrival_s)

    def hours(self, outcomes: NDArray[np.float64]) -> dict[Hour, LabelledHour]:
        """Return the hours that have rides; outcomes (n,) in minutes are NaN where none arrives."""
        number = self.arrival_s // HOUR_S
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        found = {}
        for start, end in zip(starts, [*starts[1:], len(self)], strict=True):
            hour = Hour.of(float(self.arrival_s[start]))
            found[hour] = labelled_hour(hour, take_columns(self.columns, slice(start, end)), outcomes[start:end])
        return found


def labelled_hour(hour: Hour, rides: RideColumns, outcomes: NDArray[np.float64]) -> LabelledHour:
    """Return rides of an hour with their outcomes (n,) in minutes; NaN is none. What was served is left out."""
    n_rides = len(rides)
    nothing = np.full(n_rides, np.nan)
    return LabelledHour(
        hour=hour,
        rides=rides,
        duration_minutes=outcomes,
        has_pickup_time=np.ones(n_rides, np.bool_),
        predicted_minutes=nothing,
        low_minutes=nothing,
        high_minutes=nothing,
        version=np.zeros(n_rides, np.int64),
        versions=("",),
        outcome_delay_s=outcomes * 60,
    )


def each_day(hour: Hour) -> Hour:
    """Return the end of the day that an hour belongs to: daily ticks."""
    return next_midnight(hour)


def each_hour(hour: Hour) -> Hour:
    """Return the end of an hour: hourly ticks."""
    return hour + 1


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """What live rides got (n,): the forest's own minutes, the calibrated ones, both with their intervals."""

    raw_minutes: NDArray[np.float64]
    raw_low: NDArray[np.float64]
    raw_high: NDArray[np.float64]
    minutes: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    ticks: tuple[Tick, ...]


def serve(
    model: ModelBundle,
    live: LiveRides,
    outcomes: NDArray[np.float64],
    end_of_tick: Callable[[Hour], Hour] = each_day,
    delay_s: float = HORIZON_S + RUN_AND_ACTIVATION_S,
) -> Served:
    """Predict live rides (n,) with the calibration that serves when they arrive, and tick whenever a tick is due.

    Args:
        model: A model of earlier rides.
        live: The rides.
        outcomes: What the producer reports (n,), in minutes; NaN where it reports nothing.
        end_of_tick: The end of the tick that begins with an hour.
        delay_s: From the end of a tick's hours until its state serves.
    """
    hours = live.hours(outcomes)
    state = first_state(model.model_version, Hour.of(float(live.arrival_s[0])))
    served = {name: np.full(len(live), np.nan) for name in Served.__slots__ if name != "ticks"}
    ticks: list[Tick] = []
    serving, begins_s = model, -np.inf
    as_of = Hour.parse(state.as_of)
    while begins_s <= live.arrival_s[-1]:
        end = end_of_tick(as_of)
        chosen = [hours[hour] for hour in _hours(as_of, end) if hour in hours]
        done = tick(model, state, chosen, end)
        ends_s = end.start_s + delay_s
        _predict((model, serving), live, slice(*np.searchsorted(live.arrival_s, (begins_s, ends_s))), served)
        begins_s, state, as_of = ends_s, done.state, end
        ticks.append(done)
        if state.has_new_weights:
            serving = model.calibrated(state)
    return Served(**served, ticks=tuple(ticks))


def _hours(first: Hour, end: Hour) -> list[Hour]:
    return [first + n for n in range(round((end.start_s - first.start_s) / HOUR_S))]


def _predict(
    models: tuple[ModelBundle, ModelBundle], live: LiveRides, rows: slice, served: dict[str, NDArray[np.float64]]
) -> None:
    """Write what these rides get from a model as it was trained, and from the calibrated one."""
    rides = take_columns(live.columns, rows)
    if not len(rides):
        return
    matrix = feature_matrix(rides)
    for model, prefix in zip(models, ("raw_", ""), strict=True):
        minutes = served[f"{prefix}minutes"][rows] = model.served_minutes(rides, matrix)
        bounds = model.interval_bounds(matrix, minutes)
        if bounds:
            served[f"{prefix}low"][rows], served[f"{prefix}high"][rows] = bounds
