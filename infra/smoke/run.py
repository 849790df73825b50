"""The trial itself: rides go in, their predictions come out, and nobody waits for longer than they said."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra.errors import SmokeError
from infra.shards import FIRST_IDLE_WAIT_S, next_idle_wait_s
from infra.smoke.judge import find_problems, own_predictions
from infra.smoke.plan import Target, Trial, plan_trial, seconds_to_wait, target_of
from infra.streams import StreamReader, Timing, publish
from lambda_function.events import Prediction
from lambda_function.publisher import Publisher


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told how it goes: a sentence, and how many rides are predicted by now."""

    tell: Callable[[str], object] = lambda _: None
    count: Callable[[int], object] = lambda _: None


UNWATCHED = Watch()


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


def run_trial(
    kinesis: Any,
    target: Target,
    trial: Trial,
    patience_s: float,
    timing: Timing = Timing(),  # noqa: B008 - immutable
    watch: Watch = UNWATCHED,
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
        watch.count(len(predictions))
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


def smoke(
    clients: Callable[[str], Any],
    stack_name: str,
    n_rides: int,
    patience_s: float,
    watch: Watch = UNWATCHED,
    timing: Timing = Timing(),  # noqa: B008 - immutable
) -> SmokeResult:
    """Tries a stack; first it waits, if its channel has just moved, until every running function has followed.

    Args:
        clients: Makes a boto3 client for a service.
        stack_name: The stack.
        n_rides: Rides to send.
        patience_s: Seconds to wait at most, for the functions to follow and for all predictions.
        watch: Is told how it goes.
        timing: Time.

    Raises:
        SmokeError: The stack, its channel or its model can't be tried.
        StreamRefusedError: Its input stream did not take the rides.
    """
    target = target_of(clients("cloudformation"), stack_name)
    trial = plan_trial(clients("s3"), target, n_rides, run=str(time.time_ns()))
    if wait_s := seconds_to_wait(trial, datetime.now(UTC)):
        moved = f"has just moved, and the last running function follows in {wait_s:.0f} s"
        if wait_s > patience_s:
            remedy = f"try again then, or with --patience-s {math.ceil(wait_s)}"
            raise SmokeError(f"channel {target.channel}", f"{moved}: {remedy}")
        watch.tell(f"channel {target.channel} {moved}")
        timing.sleep(wait_s)
    return run_trial(clients("kinesis"), target, trial, patience_s, timing, watch)
