"""Calibrate a channel's model with the labelled rides of given days, now; and go on with what is stored."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.channel import Channel
from lambda_function.core.features import feature_matrix
from training.errors import UserError
from training.monitoring.accuracy import Errors, merge_sums
from training.monitoring.calibration.calibrator import DEFAULT_OPTIONS, REPLAY_DAYS, CalibratorOptions, is_to_serve
from training.monitoring.calibration.states import CalibrationStates
from training.monitoring.calibration.tick import CalibrationState, encode_state, first_state, tick
from training.monitoring.hours import EARLY, Hour, hours_between, next_midnight
from training.monitoring.join.skew import stored_models
from training.monitoring.labelled_hour import LabelledHour, read_labelled_hour
from training.monitoring.new_york_days import training_end
from training.monitoring.summary import Sums, load_summary
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import Moved, Mover, calibrate_channel, this_mover

Each = Callable[[Sequence[Hour]], Iterable[Hour]]
"""Iterates hours, and may show how far it is."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a calibration by hand did.

    Attributes:
        state: What was learned.
        moved: The channel's move; None if the last tick is frozen, and nothing has moved.
        n_hours: Hours with labelled rides.
        n_missing: Hours without a file of labelled rides.
        raw: The forest's errors on the judged rides of the last day.
        before: Those with what was learned until the day before.
    """

    state: CalibrationState
    moved: Moved | None
    n_hours: int
    n_missing: int
    raw: Sums
    before: Sums


def calibrate_by_hand(
    bucket: Bucket,
    channel: str,
    days: tuple[Hour, Hour],
    mover: Mover | None = None,
    options: CalibratorOptions = DEFAULT_OPTIONS,
    *,
    resume: bool = False,
    each: Each = iter,
) -> Calibrated:
    """Learn from the labelled rides of days by daily ticks, store the state, and let the channel serve it.

    If states are stored that have learned later rides, the new one gets a later hour than all of them: the command says
    what is to serve, and scheduled ticks go on from there. Repeating it changes nothing. In a split, this
    calibrates the champion; scheduled ticks calibrate both.

    Args:
        bucket: The stack's bucket.
        channel: The channel whose newest model is calibrated.
        days: The first hour of the first day and the hour after the last one.
        mover: Who moves the channel; by default `this_mover`.
        options: The activation delay, and the key of signed models.
        resume: Also if the calibration was stopped.
        each: Iterates the hours.

    Raises:
        UserError: The days hold no labelled rides, some that the model was trained on, or hours that were joined early;
            or as in `calibrate_channel`.
        BucketError: S3 fails, or somebody else moved the channel first.
    """
    first, end = days
    model = stored_models(bucket, options.signer)(_held(bucket, channel).model_version)
    if first < training_end(model.manifest):
        raise UserError(
            f"{model.model_version} was trained on rides until {training_end(model.manifest)}, and would look too good",
            "begin later, with --from",
        )
    replay = _Replay(bucket, model, each)
    state, frozen = replay.run(first, end)
    if not state.may_serve and not frozen:
        raise UserError(
            f"no labelled ride from {first} to {end} teaches anything", "join these hours with `ridecast outcomes join`"
        )
    moved = None
    if not frozen:
        state, moved = _serve(bucket, channel, state, mover, options, resume=resume)
    return Calibrated(state, moved, replay.n_hours, replay.n_missing, replay.raw, replay.before)


def resume_calibration(
    bucket: Bucket, channel: str, mover: Mover | None = None, options: CalibratorOptions = DEFAULT_OPTIONS
) -> Moved:
    """Let a channel serve the newest stored state of its model again, and let scheduled ticks go on from there.

    In a split, either arm serves its own newest state, the candidate if it has one.

    Raises:
        UserError: The channel holds nothing, or no state of its model is from the last two weeks.
        BucketError: S3 fails, or somebody else moved the channel first.
    """
    held = _held(bucket, channel)
    now = Hour.of((mover or this_mover()).clock())
    datas: list[bytes] = []
    for arm in held.segments[0].arms:
        states = CalibrationStates(bucket, arm.model_version, now)
        newest = states.newest(now + -24 * REPLAY_DAYS)
        if newest and newest.may_serve:
            if held.calibration_is_off or is_to_serve(held, newest):
                datas.append(states.read(newest.learned_at))
        elif arm is held.segments[0].arm:
            raise UserError(
                f"nothing learned in the last {REPLAY_DAYS} days is stored for {held.model_version}",
                "calibrate with `ridecast models calibrate --from DAY --to DAY --resume`",
            )
    if not datas:
        return Moved(channel, held, has_moved=False)
    delay_s = options.activation_delay_s
    return calibrate_channel(bucket, channel, *datas, mover=mover, activation_delay_s=delay_s, resume=True)


def _held(bucket: Bucket, channel: str) -> Channel:
    held = read_channel(bucket, channel).state
    if held is None:
        raise UserError(f"{channel} holds no model, so none can be calibrated", "release one first")
    return held


def _serve(
    bucket: Bucket,
    channel: str,
    state: CalibrationState,
    mover: Mover | None,
    options: CalibratorOptions,
    *,
    resume: bool,
) -> tuple[CalibrationState, Moved]:
    """Store a state and move the channel; return the state as it is stored."""
    now = Hour.of((mover or this_mover()).clock())
    state = _behind_stored(CalibrationStates(bucket, state.model_version, now), state)
    data, delay_s = encode_state(state), options.activation_delay_s
    return state, calibrate_channel(bucket, channel, data, mover=mover, activation_delay_s=delay_s, resume=resume)


def _behind_stored(states: CalibrationStates, state: CalibrationState) -> CalibrationState:
    """Return a state under an hour that is later than all stored states: it serves, and ticks go on from it.

    It has its own hour if none is stored from there on, and that of the newest one if that holds the same.
    """
    last = states.last_hour(Hour.parse(state.as_of))
    if last is None:
        return state
    same = _renamed(state, last)
    return same if states.read(str(last)) == encode_state(same) else _renamed(state, last + 1)


def _renamed(state: CalibrationState, as_of: Hour) -> CalibrationState:
    return msgspec.structs.replace(state, as_of=str(as_of), learned_at=str(as_of))


@dataclass(slots=True)
class _Replay:
    """Daily ticks over days; the last day's rides are measured before they are learned."""

    bucket: Bucket
    model: ModelBundle
    each: Each
    n_hours: int = 0
    n_missing: int = 0
    raw: Sums = field(default_factory=Sums)
    before: Sums = field(default_factory=Sums)

    def run(self, first: Hour, end: Hour) -> tuple[CalibrationState, bool]:
        """Return the state after the last day, and whether its tick was frozen."""
        hours = iter(self.each(list(hours_between(first, end.start))))
        state = first_state(self.model.model_version, first)
        while state.as_of < str(end):
            day_end = min(next_midnight(Hour.parse(state.as_of)), end)
            n_hours = len(list(hours_between(Hour.parse(state.as_of), day_end.start)))
            day = self._labelled(islice(hours, n_hours))
            if day_end == end:
                day = self._measured(day, state)
            state = tick(self.model, state, day, day_end).state
        return state, state.frozen is not None

    def _labelled(self, hours: Iterable[Hour]) -> Iterator[LabelledHour]:
        for hour in hours:
            found = read_labelled_hour(self.bucket, hour)
            if found is None:
                self.n_missing += 1
            else:
                self._refuse_early(hour)
                self.n_hours += 1
                yield found

    def _refuse_early(self, hour: Hour) -> None:
        """Refuse an hour that was joined before its horizon: it lacks long rides."""
        summary = load_summary(self.bucket, hour)
        if summary and summary.pass_number == EARLY:
            raise UserError(
                f"{hour} was joined while outcomes were still waited for, so long rides are missing",
                f"join it again with `ridecast outcomes join --from {hour} --to {hour + 1}`",
            )

    def _measured(self, hours: Iterable[LabelledHour], state: CalibrationState) -> Iterator[LabelledHour]:
        calibrated = self.model.calibrated(state)
        for hour in hours:
            matrix = feature_matrix(hour.rides)
            self.raw = merge_sums((self.raw, _sums(self.model, hour, matrix)))
            self.before = merge_sums((self.before, _sums(calibrated, hour, matrix)))
            yield hour


def _sums(model: ModelBundle, hour: LabelledHour, matrix: NDArray[np.float64]) -> Sums:
    """Return the errors of an hour's judged rides, predicted by a model, given all features."""
    minutes = model.served_minutes(hour.rides, matrix)
    low, high = model.interval_bounds(matrix, minutes) or (np.full_like(minutes, np.nan),) * 2
    columns = (minutes, low, high, hour.duration_minutes)
    return Errors.of(*(column[hour.is_judged] for column in columns)).sums()
