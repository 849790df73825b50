"""The simulation: months of rides, hour by hour, through the real functions; every day is joined and monitored."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np

from infra.local.simulate.arrivals import HOUR_S, Arrivals, Sent
from infra.local.simulate.loop import loop_options
from infra.local.simulate.measure import Figures, Floats, Measurement
from infra.local.simulate.months import Data, local_data, simulated_rides, training_rides
from infra.local.simulate.options import SimulateOptions
from infra.local.simulate.result import SimulationResult, alarms_of, audit_of, moves_of, runs_of
from infra.local.simulate.stack import STACK, SimulatedStack
from lambda_function.core.bundle import ModelBundle
from training.data.rides import Rides
from training.model.course import course_features, fit_course_forest
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.hours import Hour, next_midnight
from training.workflows.pipeline import train

JOIN_AFTER_HOURS = 3
"""A day in New York is joined so many hours after its end: then the outcomes of all its rides have come."""

_BEFORE_THE_END_S = 0.5
"""Functions run so long before an hour ends: what they publish arrives in the hour of its ride event."""

_N_VALIDATE_RIDES = 1_000
_NEWS, _N_NEWS = {"promote", "roll back"}, 6


class Display(Protocol):
    """Receives the progress of a simulation."""

    def step(self, text: str) -> None:
        """Show that a step begins."""

    def day(self, so_far: "SoFar") -> None:
        """Show what is known at the end of a day."""


class SoFar(NamedTuple):
    """A simulation after a day."""

    measurement: Measurement
    stack: SimulatedStack
    n_rides: int  # that have begun
    n_hours: int  # that have passed
    n_all_hours: int

    def months(self) -> list[Figures]:
        """Return the errors by month of the rides so far."""
        return self.measurement.by("M", self.n_rides)

    def news(self) -> list[str]:
        """Return the last alarms and steps of the loop that ended a run or moved a channel, a line each."""
        alarms = [(one.at, f"alarm of {one.group}") for one in alarms_of(self.stack.events)]
        told = self.stack.loop.events if self.stack.loop else []
        steps = [(one.at.isoformat(), f"loop: {one.text}") for one in told if one.end or one.step in _NEWS]
        return [f"{at[:10]} {text}" for at, text in sorted([*alarms, *steps])[-_N_NEWS:]]


def simulate(options: SimulateOptions, display: Display) -> SimulationResult:
    """Run a simulation.

    Raises:
        UserError: The months can't be loaded.
    """
    data = local_data(options)
    display.step("loading rides" if data == "tlc" else _made_up(options))
    train_rides = training_rides(options, data)
    arrivals = Arrivals.of(simulated_rides(options, data))
    with _in_background(lambda on_trees: _course_minutes(train_rides, arrivals, on_trees)) as course:
        display.step(f"training the first model on {len(train_rides):,} rides")
        bundle = train(options.service, train_rides, train_rides.head(_N_VALIDATE_RIDES), options.parameters).bundle
        sent = arrivals.sent()
        start = Hour.of(sent[0].at_s)
        mode = CalibrationMode.DAILY if options.calibration else CalibrationMode.OFF
        loop = loop_options(mode, STACK) if options.retraining else None
        stack = SimulatedStack(bundle, start.start_s, mode, loop)
        measurement = Measurement.of(arrivals, bundle.model, train_rides)
        display.step(f"simulating {len(arrivals):,} rides")
        for so_far in _days(stack, sent, measurement):
            if course.done():
                measurement.course = course.result()
            display.day(so_far)
        display.step("fitting the course's forest")
        measurement.course = course.result()
    return _result(options, data, bundle.model, len(train_rides), measurement, stack)


def _made_up(options: SimulateOptions) -> str:
    """Say that rides are made up, and why if nobody asked for it."""
    return "making rides up" + ("" if options.synthetic else ": not all of the months are on this machine")


def _days(stack: SimulatedStack, sent: list[Sent], measurement: Measurement) -> Iterator[SoFar]:
    """Run all hours, and yield at the end of each day's join."""
    hour = first = Hour.of(sent[0].at_s)
    ends_s = np.array([one.at_s for one in sent])
    begins_s = measurement.arrivals.begins_s
    last = next_midnight(Hour.of(int(begins_s[-1]))) + JOIN_AFTER_HOURS
    n_all_hours = _n_hours(first, last)
    midnight, place = next_midnight(first), 0
    while hour < last:
        end = int(np.searchsorted(ends_s, hour.start_s + HOUR_S))
        stack.send(sent[place:end])
        place = end
        stack.wait_until(hour.start_s + HOUR_S - _BEFORE_THE_END_S)
        measurement.add(stack.run_mappings())
        hour += 1
        stack.wait_until(hour.start_s)
        stack.run_loop()
        if hour == midnight + JOIN_AFTER_HOURS:
            stack.run_schedules()
            n_rides = int(np.searchsorted(begins_s, hour.start_s))
            yield SoFar(measurement, stack, n_rides, _n_hours(first, hour), n_all_hours)
            midnight = next_midnight(midnight)


def _n_hours(first: Hour, end: Hour) -> int:
    return round((end.start_s - first.start_s) / HOUR_S)


def _course_minutes(train_rides: Rides, arrivals: Arrivals, on_trees: Callable[[int], None]) -> Floats:
    """Fit the course's forest and return its minutes (n,) for the simulated rides."""
    forest = fit_course_forest(train_rides, on_trees, n_jobs=1, trees_a_step=1)
    minutes: Floats = forest.predict(course_features(arrivals.rides.columns))
    return minutes


class _StoppedError(Exception):
    """The simulation has ended before its background work."""


@contextmanager
def _in_background(do: Callable[[Callable[[int], None]], Floats]) -> Iterator[Future[Floats]]:
    """Run work beside the block. It ends soon after the block fails."""
    is_stopped = threading.Event()

    def check(_: int) -> None:
        if is_stopped.is_set():
            raise _StoppedError

    with ThreadPoolExecutor(1, thread_name_prefix="course") as pool:
        try:
            yield pool.submit(do, check)
        except BaseException:
            is_stopped.set()
            raise


def _result(
    options: SimulateOptions,
    data: Data,
    model: ModelBundle,
    n_train_rides: int,
    measurement: Measurement,
    stack: SimulatedStack,
) -> SimulationResult:
    return SimulationResult(
        service=options.service,
        data=data,
        train_months=tuple(map(str, options.train_months)),
        rides_a_month=options.rides_a_month,
        seed=options.seed,
        calibration=options.calibration,
        retraining=options.retraining,
        n_train_rides=n_train_rides,
        n_rides=len(measurement.arrivals),
        first_model=model.model_version,
        audit=audit_of(stack.bucket),
        months=tuple(measurement.by("M")),
        days=tuple(measurement.by("D")),
        alarms=alarms_of(stack.events),
        moves=moves_of(stack.bucket),
        runs=runs_of(stack.bucket),
    )
