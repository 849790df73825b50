"""Score versions on labelled rides after the fact: what each would have published, with its own calibration.

A prediction is a pure function of the ride and the version, so this costs the predicting function nothing. Each version
is calibrated as it would be in service: it learns from the same labelled rides by the same ticks, and rides get the
newest state that could have served when they arrived.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.calibration import split_version
from lambda_function.core.channel import N_BUCKETS, Channel
from lambda_function.core.features import feature_matrix
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, take_columns
from training.experiments.experiment import Experiment, Loss
from training.monitoring.accuracy import exact_sum
from training.monitoring.calibration.calibrator import REPLAY_DAYS, CalibratorOptions, tick_due
from training.monitoring.calibration.states import CalibrationStates
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.hours import Hour
from training.monitoring.labelled_hour import LabelledHour
from training.monitoring.new_york_days import day_of, first_hour
from training.registry.bucket import Bucket

SERVES_AFTER_HOURS = 4
"""From the end of a tick's hours until its state serves: the horizon of three hours, the runs of join and monitor, and
the activation delay. Rides that arrive sooner get the state before."""

_TINY_S = 1e-3  # arrival times have milliseconds
_BLOCK_RIDES = 1 << 17  # 13 MB of features at a time

Load = Callable[[str], ModelBundle]
"""Returns the model of a model version."""


def losses_of(hour: LabelledHour, models: Sequence[ModelBundle]) -> tuple[Loss, ...]:
    """Return the losses of models on the same rides of an hour, each as it is calibrated.

    The rides with a prediction and an outcome of 1 to 60 minutes count. Without a prediction, a ride was rejected or
    lost, and what the function would have read of it is not known.
    """
    duration = hour.duration_minutes
    rows = np.flatnonzero((duration >= MIN_DURATION_MINUTES) & (duration <= MAX_DURATION_MINUTES))
    errors = np.empty((len(models), len(rows)))
    for start in range(0, len(rows), _BLOCK_RIDES):
        block = rows[start : start + _BLOCK_RIDES]
        rides = take_columns(hour.rides, block)
        matrix = feature_matrix(rides)
        for model, row in zip(models, errors, strict=True):
            row[start : start + len(block)] = model.served_minutes(rides, matrix) - duration[block]
    return tuple(Loss(len(rows), exact_sum(row * row)) for row in errors)


def arm_losses_of(hour: LabelledHour, experiment: Experiment) -> tuple[Loss, ...]:
    """Return the losses of the arms of a split: of what was served, each on its own rides.

    Rides that another version served are in none. As for a shadow, an outcome of 1 to 60 minutes counts.
    """
    duration = hour.duration_minutes
    counts = (duration >= MIN_DURATION_MINUTES) & (duration <= MAX_DURATION_MINUTES)
    models = [split_version(version)[0] for version in hour.versions]
    found: list[Loss] = []
    for model_version in experiment.versions:
        served = [place for place, model in enumerate(models) if model == model_version]
        rows = counts & np.isin(hour.version, served)
        error = hour.predicted_minutes[rows] - duration[rows]
        found.append(Loss(len(error), exact_sum(error * error)))
    return tuple(found)


def share_of_hour(channel: Channel, salt: str, hour: Hour) -> float | None:
    """Return the candidate's share of the rides of an hour in a split; None if the hour was not split so as a whole."""
    segments = channel.segments_of((hour.start_s, (hour + 1).start_s - _TINY_S))
    shares = {one.candidate.buckets[1] / N_BUCKETS for one in segments if one.candidate and one.salt == salt}
    return shares.pop() if len(shares) == 1 and all(one.salt == salt for one in segments) else None


@dataclass(slots=True)
class Replay:
    """A model version with the calibrations that it would have served with.

    Attributes:
        mode: How often it is calibrated.
        joined: The joined hours that ticks may learn from, those of the last 17 days at least.
        now: Aware.
        since: The first hour that is scored.
        load: Loads the model.
    """

    bucket: Bucket
    model_version: str
    mode: CalibrationMode
    joined: Collection[Hour]
    now: datetime
    since: Hour
    load: Load
    options: CalibratorOptions = field(default_factory=CalibratorOptions)
    _model: ModelBundle | None = None
    _learned_until: Hour | None = None
    _calibrated: dict[Hour, ModelBundle] = field(default_factory=dict)

    def model_at(self, hour: Hour) -> ModelBundle | None:
        """Return the model as rides of an hour get it; None if `learn` has not done the ticks that come first.

        Raises:
            BundleError, NoSuchVersionError: The model can't be loaded.
            BucketError: S3 fails.
        """
        if self.mode == CalibrationMode.OFF:
            return self._loaded()
        needed = self._needed(hour)
        if self._learned_until is None or self._learned_until < needed:
            return None
        if needed not in self._calibrated:
            self._calibrated[needed] = self._calibrated_until(needed)
        return self._calibrated[needed]

    def learn(self) -> None:
        """Do the ticks that are due, as far as there is time.

        Raises:
            BundleError, NoSuchVersionError: The model can't be loaded.
            BucketError: S3 fails, or labelled rides that a tick needs can't be read.
        """
        if self.mode == CalibrationMode.OFF or self._learned_until is not None:
            return
        state = tick_due(self._states(), self.mode, self.joined, self.now, self.options, self.since.start)
        self._learned_until = Hour.parse(state.as_of) if state else None

    def _loaded(self) -> ModelBundle:
        self._model = self._model or self.load(self.model_version)
        return self._model

    def _needed(self, hour: Hour) -> Hour:
        """Return the end of the last tick that can serve rides of an hour."""
        last = hour + -SERVES_AFTER_HOURS
        return last if self.mode == CalibrationMode.HOURLY else first_hour(day_of(last))

    def _calibrated_until(self, needed: Hour) -> ModelBundle:
        """Return the model with the newest state until an hour; as it was trained if none has learned enough."""
        state = self._states().newest(needed + -24 * (REPLAY_DAYS + 1), self._is_wanted(needed))
        model = self._loaded()
        return model.calibrated(state) if state and state.may_serve else model

    def _is_wanted(self, needed: Hour) -> Callable[[Hour], bool]:
        """Choose states: of daily ones only those of a whole day, although somebody has calibrated by hand."""
        if self.mode == CalibrationMode.HOURLY:
            return lambda as_of: as_of <= needed
        return lambda as_of: as_of <= needed and as_of == first_hour(day_of(as_of))

    def _states(self) -> CalibrationStates:
        return CalibrationStates(self.bucket, self.model_version, Hour.of(self.now))
