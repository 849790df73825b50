"""What is sent to a stack, and what must come back: rides out of the golden file of the model in its channel."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from infra.errors import SmokeError
from lambda_function.events import RideEvent
from lambda_function.model import GOLDEN, GoldenRide
from lambda_function.publisher import Entry
from training.registry.history import Move, see_channel
from training.registry.versions import read_file, read_manifest

ID_PREFIX = "smoke-"

_LOADING_S = 10.0
"""From a function's look at its channel to its first prediction with the new model, with room to spare."""


class Target(NamedTuple):
    """Where a stack takes rides and gives predictions, where its models are, and how often it looks for a new one."""

    input_stream: str
    output_stream: str
    bucket: str
    channel: str
    refresh_s: float


@dataclass(frozen=True, slots=True)
class Trial:
    """What is sent, and what must come back.

    Attributes:
        entries: Ride events with their partition keys.
        minutes: What the golden file says of each, by ride id.
        model_version: Whose golden rides they are.
        range_minutes: Between which bounds that model predicts.
        followed_at: When every running function serves that model; None where there was none before it, and so no
            function that has another.
    """

    entries: tuple[Entry, ...]
    minutes: Mapping[str, float]
    model_version: str
    range_minutes: tuple[float, float]
    followed_at: datetime | None = None


def target_of(cloudformation: Any, stack_name: str) -> Target:
    """Reads a stack's outputs and parameters.

    Raises:
        SmokeError: It is no stack of this project.
        ClientError: There is no such stack, or it may not be asked.
    """
    (stack,) = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
    names = ("RideEventsStream", "RidePredictionsStream", "BucketName", "ModelChannel", "ModelRefreshSeconds")
    values = {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", ())}
    # There is a parameter BucketName too, and it may be empty: the output is right.
    values |= {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", ())}
    if missing := [name for name in names if not values.get(name)]:
        raise SmokeError(f"stack {stack_name}", f"has no {', '.join(missing)}: is it one of template.yaml?")
    input_stream, output_stream, bucket, channel, refresh_s = (values[name] for name in names)
    return Target(input_stream, output_stream, bucket, channel, float(refresh_s))


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
        followed_at=_followed_at(state, target.refresh_s),
    )


def _event(golden: GoldenRide, ride_id: str) -> bytes:
    event = msgspec.json.decode(golden.event, type=RideEvent)
    return msgspec.json.encode(msgspec.structs.replace(event, ride_id=ride_id))


def _followed_at(state: Move, refresh_s: float) -> datetime | None:
    moved_at = datetime.fromisoformat(state.moved_at)
    return moved_at + timedelta(seconds=refresh_s + _LOADING_S) if state.previous else None


def seconds_to_wait(trial: Trial, now: datetime) -> float:
    """Returns how many seconds some running function may still serve the model before; 0.0 for none.

    Args:
        trial: As planned.
        now: Aware.
    """
    return max(0.0, (trial.followed_at - now).total_seconds()) if trial.followed_at else 0.0
