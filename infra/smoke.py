"""A deployed stack tried with real events: golden rides of the model in its channel go in, their predictions come out.

The rides have ids of their own, ``smoke-<run>-<number>``: whoever reads the predictions can tell them from a person's.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from infra.errors import SmokeError
from infra.shards import FIRST_IDLE_WAIT_S, next_idle_wait_s
from infra.streams import StreamReader, Timing, publish
from lambda_function.events import Prediction, RideEvent, decode_prediction
from lambda_function.model import GOLDEN, GoldenRide
from lambda_function.publisher import Entry, Publisher
from training.registry.history import see_channel
from training.registry.versions import read_file, read_manifest

ID_PREFIX = "smoke-"
_TOLERANCE_MINUTES = 0.0051
"""Predictions are rounded to hundredths, golden minutes are not."""


class Target(NamedTuple):
    """Where a stack takes rides and gives predictions, and where its models are."""

    input_stream: str
    output_stream: str
    bucket: str
    channel: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What is sent, and what must come back.

    Attributes:
        entries: Ride events with their partition keys.
        minutes: What the golden file says of each, by ride id.
        model_version: Whose golden rides they are.
        range_minutes: Between which bounds that model predicts.
    """

    entries: tuple[Entry, ...]
    minutes: Mapping[str, float]
    model_version: str
    range_minutes: tuple[float, float]


@dataclass(frozen=True, slots=True)
class SmokeResult:
    """How it went.

    Attributes:
        n_predicted: Rides with a prediction.
        n_repeated: Predictions that came once more, as a redelivery's may.
        slowest_s: Seconds from the first ride's sending to the last prediction; NaN where none came.
        problems: A sentence each; none if all is well.
    """

    n_sent: int
    n_predicted: int
    n_repeated: int
    slowest_s: float
    model_version: str
    problems: tuple[str, ...]


def target_of(cloudformation: Any, stack_name: str) -> Target:
    """Reads a stack's outputs and parameters.

    Raises:
        SmokeError: It is no stack of this project.
        ClientError: There is no such stack, or it may not be asked.
    """
    (stack,) = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
    names = ("RideEventsStream", "RidePredictionsStream", "BucketName", "ModelChannel")
    values = {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", ())}
    # There is a parameter BucketName too, and it may be empty: the output is right.
    values |= {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", ())}
    if missing := [name for name in names if not values.get(name)]:
        raise SmokeError(f"stack {stack_name}", f"has no {', '.join(missing)}: is it one of template.yaml?")
    return Target(*(values[name] for name in names))


def plan_trial(s3: Any, target: Target, n_rides: int, run: str) -> Trial:
    """Takes rides from the golden file of the model that the stack's channel points at.

    Args:
        s3: A boto3 client.
        target: The stack.
        n_rides: How many, 1 or more; taken again from the beginning where the file has fewer.
        run: Makes the ids this run's own.

    Raises:
        SmokeError: The channel holds no model, or the model has no golden rides.
    """
    state = see_channel(s3, target.bucket, target.channel).state
    if state is None:
        problem = "holds no model: publish one with `ridecast models publish`, and try again"
        raise SmokeError(f"channel {target.channel} of bucket {target.bucket}", problem)
    version = state.model_version
    golden = msgspec.json.decode(read_file(s3, target.bucket, version, GOLDEN) or b"[]", type=list[GoldenRide])
    if not golden:
        raise SmokeError(f"model {version}", "has no golden rides: publish it again")
    rides = {f"{ID_PREFIX}{run}-{number}": golden[number % len(golden)] for number in range(n_rides)}
    return Trial(
        entries=tuple((ride_id, _event(ride, ride_id)) for ride_id, ride in rides.items()),
        minutes={ride_id: ride.duration_minutes for ride_id, ride in rides.items()},
        model_version=version,
        range_minutes=read_manifest(s3, target.bucket, version).duration_range_minutes,
    )


def _event(golden: GoldenRide, ride_id: str) -> bytes:
    event = msgspec.json.decode(golden.event, type=RideEvent)
    return msgspec.json.encode(msgspec.structs.replace(event, ride_id=ride_id))


def run_trial(
    kinesis: Any,
    target: Target,
    trial: Trial,
    patience_s: float,
    timing: Timing = Timing(),  # noqa: B008 - immutable
) -> SmokeResult:
    """Sends the rides and waits for their predictions, no longer than `patience_s` seconds.

    Raises:
        StreamRefusedError: The input stream did not take the rides.
    """
    reader = StreamReader(kinesis, target.output_stream, "LATEST")
    begun_s = timing.clock()
    for _ in publish(Publisher(kinesis, target.input_stream), trial.entries, timing=timing):
        pass
    predictions: dict[str, list[Prediction]] = {}
    ended_s, wait_s = math.nan, FIRST_IDLE_WAIT_S
    while len(predictions) < len(trial.entries) and timing.clock() - begun_s < patience_s:
        fresh = own_predictions((record.data for record in reader.read_once()), trial)
        for ride_id, prediction in fresh:
            predictions.setdefault(ride_id, []).append(prediction)
            ended_s = timing.clock()
        wait_s = next_idle_wait_s(wait_s, len(fresh))
        if not fresh:
            timing.sleep(wait_s)
    return SmokeResult(
        n_sent=len(trial.entries),
        n_predicted=len(predictions),
        n_repeated=sum(len(ones) - 1 for ones in predictions.values()),
        slowest_s=ended_s - begun_s,
        model_version=trial.model_version,
        problems=tuple(find_problems(trial, predictions)),
    )


def own_predictions(data: Iterable[bytes], trial: Trial) -> list[tuple[str, Prediction]]:
    """Returns the predictions of the trial's rides among all that are on the stream, by ride id."""
    ours = []
    for one in data:
        try:
            prediction = decode_prediction(one)
        except msgspec.MsgspecError:
            continue  # somebody else's: whatever is ours and can't be read is missing in the end
        if prediction.prediction.ride_id in trial.minutes:
            ours.append((str(prediction.prediction.ride_id), prediction))
    return ours


def find_problems(trial: Trial, predictions: Mapping[str, Sequence[Prediction]]) -> list[str]:
    """Returns a sentence for each kind of fault, with the first ride that has it.

    A prediction that comes again with the same bytes is no fault.
    """
    every = [(ride_id, one) for ride_id, ones in predictions.items() for one in ones]
    faults: dict[str, list[str]] = {
        "have no prediction": [ride_id for ride_id in trial.minutes if ride_id not in predictions],
        f"are not predicted by {trial.model_version}": [
            ride_id for ride_id, one in every if one.version != trial.model_version
        ],
        f"are not within {trial.range_minutes[0]:g} to {trial.range_minutes[1]:g} minutes": [
            ride_id for ride_id, one in every if not _is_within(one, trial.range_minutes)
        ],
        "are predicted otherwise than in the golden file": [
            ride_id
            for ride_id, one in every
            if one.version == trial.model_version
            and not abs(one.prediction.ride_duration - trial.minutes[ride_id]) <= _TOLERANCE_MINUTES
        ],
        "have two predictions that differ": [
            ride_id for ride_id, ones in predictions.items() if any(one != ones[0] for one in ones)
        ],
    }
    n_rides = len(trial.minutes)
    return [f"{len(ids)} of {n_rides} rides {fault}, the first is {ids[0]}" for fault, ids in faults.items() if ids]


def _is_within(prediction: Prediction, range_minutes: tuple[float, float]) -> bool:
    minutes = prediction.prediction.ride_duration
    low, high = prediction.interval or (minutes, minutes)
    return range_minutes[0] <= minutes <= range_minutes[1] and low <= minutes <= high


def smoke(
    clients: Callable[[str], Any], stack_name: str, n_rides: int, patience_s: float, run: str | None = None
) -> SmokeResult:
    """Tries a stack.

    Args:
        clients: Makes a boto3 client for a service.
        stack_name: The stack.
        n_rides: Rides to send.
        patience_s: Seconds to wait for all predictions.
        run: As `plan_trial` takes it; the time, if it is None.

    Raises:
        SmokeError: The stack, its channel or its model can't be tried.
        StreamRefusedError: Its input stream did not take the rides.
    """
    target = target_of(clients("cloudformation"), stack_name)
    trial = plan_trial(clients("s3"), target, n_rides, run or str(time.time_ns()))
    return run_trial(clients("kinesis"), target, trial, patience_s)
