"""Live calibration of a channel: which ticks are due, their states in the bucket, and the channel's move.

A tick reads labelled rides and the state before, and nothing else. So a run that ends between its steps is completed by
the next: states are stored first, and then the channel moves to the newest one that has learned something. In a split
each arm has its own state, learned from all labelled rides, and the channel moves once for both.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.calibration import served_version
from lambda_function.core.channel import ACTIVATION_DELAY_S, Channel
from training.monitoring.calibration.states import CalibrationStates
from training.monitoring.calibration.status import CalibrationMode, CalibrationStatus
from training.monitoring.calibration.tick import CalibrationState, first_state, tick
from training.monitoring.hours import Hour, hours_between, next_midnight
from training.monitoring.join.skew import stored_models
from training.monitoring.labelled_hour import DamagedLabelledError, LabelledHour, read_labelled_hour
from training.monitoring.new_york_days import training_end
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import Mover, calibrate_channel
from training.registry.segments import target_of
from training.registry.signing import Signer

REPLAY_DAYS = 14
"""A new model learns from the labelled rides of so many days before it serves with a calibration."""

MISSING_AFTER = timedelta(hours=48)
"""An hour that is not joined so long after the end of its tick is skipped."""

Read = Callable[[Hour], LabelledHour | None]
"""Returns the labelled rides of an hour; None if it has none."""


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class CalibratorOptions:
    """How a channel is calibrated."""

    activation_delay_s: float = ACTIVATION_DELAY_S  # the time that functions may need to read the channel
    signer: Signer | None = None  # if the stack serves signed models only
    has_time: Callable[[], bool] = _always  # asked before each tick; the next run does the ticks that are left


DEFAULT_OPTIONS = CalibratorOptions()


class DueTick(NamedTuple):
    """A tick that is due: its end, its joined hours, and those that it skips because they are not joined."""

    as_of: Hour
    hours: tuple[Hour, ...]
    missing: tuple[Hour, ...]


def calibrate_due(
    bucket: Bucket,
    channel: str,
    mode: CalibrationMode,
    joined: Sequence[Hour],
    mover: Mover,
    now: datetime,
    options: CalibratorOptions = DEFAULT_OPTIONS,
) -> CalibrationStatus:
    """Tick if ticks are due, let the channel serve what they have learned, and return the status. Safe to repeat.

    Two runs at once store one state, the first's, and both go on from it.

    Args:
        bucket: The stack's bucket.
        channel: The channel whose newest model is calibrated, in a split both.
        mode: How often.
        joined: The hours that are joined, those of the last 17 days at least; in any order.
        mover: The name under which the channel moves.
        now: Aware.
        options: The activation delay, the key of signed models, and whether time is left.

    Raises:
        BucketError: S3 fails or refuses, or somebody else moved the channel at the same time.
        BundleError: The channel's model does not load.
        UserError: As in `calibrate_channel`.
    """
    held = read_channel(bucket, channel).state
    if held is None:
        return CalibrationStatus(mode=mode, state="unknown", text=f"{channel} holds no model, so none is calibrated.")
    if mode == CalibrationMode.OFF or held.calibration_is_off:
        return _status_off(mode, held)
    arms = held.segments[0].arms
    all_states = [CalibrationStates(bucket, arm.model_version, Hour.of(now)) for arm in arms]
    newest = [tick_due(states, mode, joined, now, options) for states in all_states]
    datas = [
        states.read(state.learned_at)
        for states, state in zip(all_states, newest, strict=True)
        if state and is_to_serve(held, state)
    ]
    if datas:
        delay_s = options.activation_delay_s
        held = calibrate_channel(bucket, channel, *datas, mover=mover, activation_delay_s=delay_s).now
    status = _status(mode, held, newest[0], all_states[0].damaged)
    if len(arms) == 1:
        return status
    return msgspec.structs.replace(status, text=f"{status.text} {_of_candidate(held, newest[1])}")


def tick_due(
    states: CalibrationStates,
    mode: CalibrationMode,
    joined: Collection[Hour],
    now: datetime,
    options: CalibratorOptions = DEFAULT_OPTIONS,
    since: datetime | None = None,
) -> CalibrationState | None:
    """Do the ticks of a model that are due, whether it serves or not, and return the newest state. Safe to repeat.

    The arguments are as in `calibrate_due`. A model without states learns from two weeks before `since`, by default
    before now. None if no hour is joined and no state is stored.

    Raises:
        BucketError: S3 fails, or labelled rides can't be read.
        BundleError, NoSuchVersionError: The model can't be loaded.
    """
    return _Ticks(states, mode, frozenset(joined), now, options, since or now).run()


def is_to_serve(held: Channel, state: CalibrationState) -> bool:
    """Return whether an arm should move to what its state has learned: not to what was withdrawn or is older."""
    if not state.may_serve or held.has_withdrawn(served_version(state.model_version, state.learned_at)):
        return False
    as_of = _as_of(held, state.model_version)
    return as_of is None or as_of < state.learned_at


@dataclass(slots=True)
class _Ticks:
    """The ticks of a run."""

    states: CalibrationStates
    mode: CalibrationMode
    joined: Collection[Hour]
    now: datetime
    options: CalibratorOptions
    since: datetime
    _model: ModelBundle | None = field(default=None)

    def run(self) -> CalibrationState | None:
        """Do the ticks that are due, and return the newest state; None if no hour is joined."""
        if not self.joined:
            return self.states.newest(self._earliest())
        state = self.states.newest(self._earliest()) or first_state(self.states.model_version, self._beginning())
        while self.options.has_time():
            due = due_tick(Hour.parse(state.as_of), self.mode, self.joined, self.now)
            if due is None:
                break
            state = self._ticked(state, due)
        return state

    def _ticked(self, state: CalibrationState, due: DueTick) -> CalibrationState:
        damaged: list[Hour] = []
        hours = self._read(due.hours, damaged, is_late=due.as_of.start + MISSING_AFTER <= self.now)
        done = tick(self._loaded(), state, hours, due.as_of)
        missing = tuple(str(hour) for hour in sorted((*due.missing, *damaged)))
        return self.states.store(msgspec.structs.replace(done.state, missing_hours=missing))

    def _read(self, hours: Sequence[Hour], damaged: list[Hour], *, is_late: bool) -> Iterator[LabelledHour]:
        """Read hours one at a time. A damaged one stops the tick, until it is late: then it is skipped."""
        for hour in hours:
            try:
                found = read_labelled_hour(self.states.bucket, hour)
            except DamagedLabelledError:
                if not is_late:
                    raise
                damaged.append(hour)
                continue
            if found is not None:
                yield found

    def _loaded(self) -> ModelBundle:
        if self._model is None:
            self._model = stored_models(self.states.bucket, self.options.signer)(self.states.model_version)
        return self._model

    def _earliest(self) -> Hour:
        """Return the hour before which a state is too old to go on from."""
        return Hour.of(self.since - timedelta(days=REPLAY_DAYS + 1))

    def _beginning(self) -> Hour:
        """Return where the replay for a new model begins: at a midnight, and behind the rides that it learned from."""
        earliest = next_midnight(self._earliest())
        first = next_midnight(min(self.joined) + -24)
        return max(earliest, min(first, earliest + 24 * REPLAY_DAYS), training_end(self._loaded().manifest))


def due_tick(state_as_of: Hour, mode: CalibrationMode, joined: Collection[Hour], now: datetime) -> DueTick | None:
    """Return the tick that follows a state; None if it is not due yet.

    Daily ticks end with a day in New York. Hourly ticks end with an hour, but whole days that have passed are one tick
    each: so a new model catches up. A tick is due once its hours are joined, or two days after its end without those
    that are not. Hours before the first joined one are not waited for.
    """
    if not joined:
        return None
    midnight = next_midnight(state_as_of)
    is_by_hour = mode == CalibrationMode.HOURLY and max(joined) < midnight
    end = state_as_of + 1 if is_by_hour else midnight
    hours = list(hours_between(state_as_of, end.start))
    missing = tuple(hour for hour in hours if hour not in joined and hour > min(joined))
    if end.start > now or (missing and end.start + MISSING_AFTER > now):
        return None
    return DueTick(end, tuple(hour for hour in hours if hour in joined), missing)


def _status_off(mode: CalibrationMode, held: Channel) -> CalibrationStatus:
    as_of = held.segments[0].as_of
    since = None
    if held.calibration_is_off:
        since = held.moved_at
        text = (
            f"Calibration was stopped by {held.moved_by or 'somebody'} at {_words(held.moved_at)}, so the raw model"
            " serves; `ridecast models calibrate --resume` starts it again."
        )
    elif as_of:
        text = (
            f"No calibration is scheduled; the model serves with what it had learned until {_words(as_of)}, and"
            " `ridecast models calibrate --off` serves it alone."
        )
    else:
        text = "No calibration is scheduled: the raw model serves."
    return CalibrationStatus(mode=mode, state="off", as_of=as_of, since=since, text=text)


def _status(
    mode: CalibrationMode, held: Channel, state: CalibrationState | None, damaged: Sequence[str]
) -> CalibrationStatus:
    as_of = held.segments[0].as_of
    note = _note(state, damaged)
    if state is None or _is_learning(state):
        since = state.began if state else None
        text = f"{_too_little(state)} yet, so the raw model serves{note}."
        return CalibrationStatus(mode=mode, state="learning", as_of=as_of, since=_iso(since), text=text)
    counted = CalibrationStatus(
        mode=mode, as_of=as_of, n_used=state.n_used, n_dropped=state.n_dropped, n_due=state.n_due
    )
    if state.frozen and state.frozen_since:
        kept = f"what it had learned until {_words(as_of)}" if as_of else "the raw model"
        text = (
            f"Calibration is frozen since {_words(state.frozen_since)} because {state.frozen}; rides are predicted with"
            f" {kept}, and each tick tries again{note}. Find out from the producer of the outcomes what has changed;"
            " `ridecast models calibrate --off` serves the raw model meanwhile."
        )
        since = _iso(state.frozen_since)
        return msgspec.structs.replace(counted, state="frozen", since=since, text=text, frozen_reason=state.frozen)
    used = (
        f"{state.n_used:,} of the last day's {state.n_due:,} rides were used" if state.n_due else "no ride came since"
    )
    serves = f"with what it had learned until {_words(as_of)}" if as_of else "raw"
    text = f"The model serves {serves}; {used}{note}."
    since = held.segments[0].effective_from if as_of else None
    return msgspec.structs.replace(counted, state="active", since=since, text=text)


def _as_of(held: Channel, model_version: str) -> str | None:
    """Return the hour of the calibration of one of a channel's arms."""
    target = target_of(held.segments[0], model_version)
    return target.calibration.as_of if target and target.calibration else None


def _of_candidate(held: Channel, state: CalibrationState | None) -> str:
    """Return a sentence on the candidate of a split."""
    candidate = held.segments[0].candidate
    assert candidate is not None  # noqa: S101 - it is a split
    as_of = _as_of(held, candidate.model_version)
    serves = f"with what it had learned until {_words(as_of)}" if as_of else "raw"
    frozen = f"; its calibration is frozen because {state.frozen}" if state and state.frozen else ""
    return f"The candidate {candidate.model_version} serves {serves}{frozen}."


def _is_learning(state: CalibrationState) -> bool:
    """Return whether nothing serves yet and nothing is wrong: a producer may never have sent an outcome."""
    return not (state.may_serve or state.frozen) or (not state.has_learned and not state.n_outcomes)


def _too_little(state: CalibrationState | None) -> str:
    if state and state.has_learned:
        return "Less than a day has been learned from"
    return "No outcome of a ride has come" if state and state.n_due else "No labelled ride has been learned from"


def _note(state: CalibrationState | None, damaged: Sequence[str]) -> str:
    """Return what the last tick went without, to be put at the end of a sentence."""
    notes = [f"; {damaged[0]} is no state of a calibration and was passed over"] if damaged else []
    if state and state.missing_hours:
        more = f" and {len(state.missing_hours) - 1} more hours" if len(state.missing_hours) > 1 else ""
        notes.append(f"; without labelled rides to read, it skipped {state.missing_hours[0]}{more}")
    return "".join(notes)


def _words(time: str) -> str:
    """Return an hour, or a longer time in UTC, for people: as in ``2026-11-29 05:00 UTC``."""
    return f"{time[:10]} {time[11:16] if ':' in time else time[11:] + ':00'} UTC"


def _iso(as_of: str | None) -> str | None:
    return as_of and f"{as_of}:00:00+00:00"
