"""The months of a simulation: TLC's, or made-up ones with a planted shift, and a sample of their rides."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from infra.local.simulate.options import SimulateOptions
from training.data.load import tlc_months
from training.data.months import Month, default_cache_dir, default_data_dir, find_month
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides, concat_rides
from training.data.synthetic import synthetic_rides

Data = Literal["tlc", "synthetic"]

SHIFTED_MINUTES = 0.6
"""From the middle of the simulated months on, made-up rides take so many of their minutes: as in empty streets."""

_S_PER_MINUTE = 60


def local_data(options: SimulateOptions) -> Data:
    """Return whether all of the months are TLC's on this machine, else "synthetic": nothing is downloaded."""
    if options.synthetic:
        return "synthetic"
    folders = default_data_dir(), default_cache_dir()
    months = (*options.train_months, *options.months)
    return "tlc" if all(find_month(options.service, month, *folders) for month in months) else "synthetic"


def training_rides(options: SimulateOptions, data: Data) -> Rides:
    """Return the rides that the first model learns from."""
    return _rides(options, data, options.train_months)


def simulated_rides(options: SimulateOptions, data: Data) -> Rides:
    """Return the rides of the simulated months, in order of pickup."""
    rides = _rides(options, data, options.months)
    return rides if data == "tlc" else shifted(rides, options.months)


def shifted(rides: Rides, months: Sequence[Month]) -> Rides:
    """Return rides that take less time from the middle of the months on."""
    middle = months[0].start + (months[-1].end - months[0].start) // 2
    minutes = rides.duration_minutes * np.where(rides.pickup_time >= middle, SHIFTED_MINUTES, 1.0)
    seconds = np.round(minutes.clip(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES) * _S_PER_MINUTE)
    return replace(rides, duration_minutes=seconds / _S_PER_MINUTE)


def _rides(options: SimulateOptions, data: Data, months: Sequence[Month]) -> Rides:
    if data == "synthetic":
        return concat_rides(synthetic_rides(month, options.rides_a_month, options.seed) for month in months)
    loaded = (tlc_months(options.service, options.timestamps)([month]) for month in months)
    return concat_rides(_sampled(rides, options) for rides in loaded)


def _sampled(rides: Rides, options: SimulateOptions) -> Rides:
    """Return the rides of a month, or so many of them by chance, in the same order."""
    if len(rides) <= options.rides_a_month:
        return rides
    (month,) = rides.months
    rng = np.random.default_rng([options.seed, month.year, month.month])
    return rides.take(np.sort(rng.choice(len(rides), options.rides_a_month, replace=False)))
