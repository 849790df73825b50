"""The smoke test of a deployed stack: send golden rides of its model and compare the predictions that come back."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from infra.operate.streams import Record, StreamReader, Timing, publish
from infra.stack.describe import describe_stack
from lambda_function.aws.publisher import Publisher
from lambda_function.core.bundle import GOLDEN, GoldenRide
from lambda_function.core.channel import Arm, Segment
from lambda_function.core.events import Prediction, RideEvent, decode_prediction
from lambda_function.core.records import Entry
from lambda_function.core.rehearsal import served_golden_rides
from training.errors import UserError
from training.registry.bucket import Bucket
from training.registry.channel_history import LostChannelError, is_lost, read_channel
from training.registry.versions import read_calibration, read_file, read_manifest

ID_PREFIX = "smoke-"

_MARGIN_S = 10.0
"""For loading a model, and for clocks that differ from the streams'."""

_TOLERANCE_MINUTES = 0.0051
"""Predictions are rounded to hundredths, golden minutes are not."""


class Target(NamedTuple):
    """A stack's streams, bucket and channel, and the seconds between two reads of the channel by a function."""

    input_stream: str
    output_stream: str
    bucket: str
    channel: str
    refresh_s: float


class Expected(NamedTuple):
    """The prediction of a ride."""

    minutes: float  # the golden minutes, or what a calibration makes of them
    version: str  # the served version: in a split, of the arm that the ride's id decides
    range_minutes: tuple[float, float]  # the lowest and the highest prediction of that version


@dataclass(frozen=True, slots=True)
class Trial:
    """The rides to send, and the predictions to expect."""

    entries: tuple[Entry, ...]  # ride events with their partition keys
    expected: Mapping[str, Expected]  # by ride id
    model_version: str  # the served version; in a split both, the champion's first
    followed_at: datetime | None = None  # when all functions serve it; None if the channel has held no other version


@dataclass(frozen=True, slots=True)
class SmokeResult:
    """The result of a smoke test."""

    n_sent: int
    n_predicted: int  # rides with a prediction
    n_repeated: int  # predictions that came again, as after a redelivery
    slowest_s: float  # from sending the first ride to the last prediction; NaN if there was none
    model_version: str
    problems: tuple[str, ...]  # a sentence each


@dataclass(frozen=True, slots=True)
class Progress:
    """Receives progress messages and the number of rides predicted so far."""

    say: Callable[[str], object] = lambda _: None
    count: Callable[[int], object] = lambda _: None


def smoke(
    clients: Callable[[str], Any],
    stack_name: str,
    n_rides: int,
    patience_s: float,
    progress: Progress = Progress(),
    timing: Timing = Timing(),  # noqa: B008 - immutable
) -> SmokeResult:
    """Test a stack. If its channel has just moved, wait first until every running function has followed.

    The golden rides repeat if they are fewer than `n_rides`. `patience_s` is the time limit for functions to follow the
    channel, and for all predictions.

    Raises:
        UserError: The stack, its channel or its model cannot be tested, or the input stream did not accept the rides.
    """
    target = target_of(clients("cloudformation"), stack_name)
    trial = plan_trial(clients("s3"), target, n_rides, run=str(time.time_ns()))
    if wait_s := seconds_to_wait(trial, datetime.now(UTC)):
        moved = f"channel {target.channel} has just moved, and the last running function follows in {wait_s:.0f} s"
        if wait_s > patience_s:
            raise UserError(moved, f"try again then, or with --patience-s {math.ceil(wait_s)}")
        progress.say(moved)
        timing.sleep(wait_s)
    return run_trial(clients("kinesis"), target, trial, patience_s, timing, progress)


def target_of(cloudformation: Any, stack_name: str) -> Target:
    """Read a stack's outputs and parameters; `UserError` if it is not a stack of this project."""
    stack = describe_stack(cloudformation, stack_name)
    names = ("RideEventsStream", "RidePredictionsStream", "BucketName", "ModelChannel", "ModelRefreshSeconds")
    values = {**stack.parameters, **stack.outputs}  # parameter BucketName may be empty: the output outranks it
    if missing := [name for name in names if not values.get(name)]:
        raise UserError(f"stack {stack_name} has no {', '.join(missing)}", "name a stack of template.yaml")
    input_stream, output_stream, bucket, channel, refresh_s = (values[name] for name in names)
    return Target(input_stream, output_stream, bucket, channel, float(refresh_s))


def plan_trial(s3: Any, target: Target, n_rides: int, run: str) -> Trial:
    """Take rides from the golden file of the model that the stack's channel points at; `run` is part of their ids.

    In a split, each ride is one of the golden rides of its own arm's model.
    """
    bucket = Bucket(s3, target.bucket)
    stored = read_channel(bucket, target.channel)
    if is_lost(bucket, stored):
        raise LostChannelError(bucket, target.channel)
    state = stored.state
    if state is None:
        problem = f"channel {target.channel} of bucket {target.bucket} holds no model"
        raise UserError(problem, "release one with `ridecast models release`, and try again")
    newest = state.segments[0]
    arms = {arm.model_version: _golden_of(bucket, newest, arm) for arm in newest.arms}
    read_at = datetime.fromisoformat(state.moved_at) + timedelta(seconds=target.refresh_s)
    followed_at = max(read_at, datetime.fromisoformat(newest.effective_from)) + timedelta(seconds=_MARGIN_S)
    entries, expected = [], {}
    for number in range(n_rides):
        ride_id = f"{ID_PREFIX}{run}-{number}"
        arm = newest.arm_of(ride_id)
        golden, range_minutes = arms[arm.model_version]
        ride = golden[number % len(golden)]
        entries.append((ride_id, _event(ride, ride_id)))
        expected[ride_id] = Expected(ride.duration_minutes, newest.served_version_of_arm(arm), range_minutes)
    return Trial(
        entries=tuple(entries),
        expected=expected,
        model_version=" and ".join(newest.served_versions),
        followed_at=followed_at if state.previous else None,
    )


def _golden_of(bucket: Bucket, segment: Segment, arm: Arm) -> tuple[list[GoldenRide], tuple[float, float]]:
    """Return golden rides with what an arm serves for them, and the range of its predictions."""
    version, reference = arm.model_version, segment.calibration_of(arm)
    golden = msgspec.json.decode(read_file(bucket, version, GOLDEN) or b"[]", type=list[GoldenRide])
    if not golden:
        raise UserError(f"model {version} has no golden rides", "train and release a new model")
    manifest = read_manifest(bucket, version)
    if reference:
        calibration = read_calibration(bucket, version, reference.as_of, reference.sha256)
        golden = served_golden_rides(golden, manifest, calibration)
    return golden, manifest.duration_range_minutes


def _event(golden: GoldenRide, ride_id: str) -> bytes:
    event = msgspec.json.decode(golden.event, type=RideEvent)
    return msgspec.json.encode(msgspec.structs.replace(event, ride_id=ride_id))


def seconds_to_wait(trial: Trial, now: datetime) -> float:
    """Return for how many seconds after `now` (aware) a running function may still serve the model before."""
    return max(0.0, (trial.followed_at - now).total_seconds()) if trial.followed_at else 0.0


def run_trial(
    kinesis: Any,
    target: Target,
    trial: Trial,
    patience_s: float,
    timing: Timing = Timing(),  # noqa: B008 - immutable
    progress: Progress = Progress(),
) -> SmokeResult:
    """Send the rides and wait at most `patience_s` seconds for their predictions."""
    reader = StreamReader(kinesis, target.output_stream, "LATEST")
    begun_s = timing.clock()
    for _ in publish(Publisher(kinesis, target.input_stream), trial.entries, timing=timing):
        pass
    predictions: dict[str, list[Prediction]] = {}
    ended_s = math.nan
    for records in reader.polls(timing.sleep):
        for ride_id, prediction in _own_predictions(records, trial):
            predictions.setdefault(ride_id, []).append(prediction)
            ended_s = timing.clock()
        progress.count(len(predictions))
        if len(predictions) == len(trial.entries) or timing.clock() - begun_s >= patience_s:
            break
    return SmokeResult(
        n_sent=len(trial.entries),
        n_predicted=len(predictions),
        n_repeated=sum(len(ones) - 1 for ones in predictions.values()),
        slowest_s=ended_s - begun_s,
        model_version=trial.model_version,
        problems=tuple(_problems(trial, predictions)),
    )


def _own_predictions(records: Iterable[Record], trial: Trial) -> Iterator[tuple[str, Prediction]]:
    """Yield the predictions of the trial's rides among all on the stream, with the ride's id."""
    for record in records:
        try:
            prediction = decode_prediction(record.data)
        except msgspec.MsgspecError:
            continue  # another producer's; a damaged one of the trial is missing in the end
        if prediction.prediction.ride_id in trial.expected:
            yield str(prediction.prediction.ride_id), prediction


def _problems(trial: Trial, predictions: Mapping[str, Sequence[Prediction]]) -> list[str]:
    """Return a sentence for each kind of fault, with the first ride that has it. Equal repeats are no fault."""
    expected = trial.expected
    every = [(ride_id, one, expected[ride_id]) for ride_id, ones in predictions.items() for one in ones]
    low, high = (end([one.range_minutes[place] for one in expected.values()]) for place, end in ((0, min), (1, max)))
    faults: dict[str, list[str]] = {
        "have no prediction": [ride_id for ride_id in expected if ride_id not in predictions],
        f"are not predicted by {trial.model_version}": [
            ride_id for ride_id, one, wanted in every if one.version != wanted.version
        ],
        f"are not within {low:g} to {high:g} minutes": [
            ride_id for ride_id, one, wanted in every if not _is_within(one, wanted.range_minutes)
        ],
        "have another prediction than the golden rides": [
            ride_id
            for ride_id, one, wanted in every
            if one.version == wanted.version
            and not abs(one.prediction.ride_duration - wanted.minutes) <= _TOLERANCE_MINUTES
        ],
        "have two predictions that differ": [
            ride_id for ride_id, ones in predictions.items() if any(one != ones[0] for one in ones)
        ],
    }
    n_rides = len(expected)
    return [f"{len(ids)} of {n_rides} rides {fault}, the first is {ids[0]}" for fault, ids in faults.items() if ids]


def _is_within(prediction: Prediction, range_minutes: tuple[float, float]) -> bool:
    minutes = prediction.prediction.ride_duration
    low, high = prediction.interval or (minutes, minutes)
    return range_minutes[0] <= minutes <= range_minutes[1] and low <= minutes <= high
