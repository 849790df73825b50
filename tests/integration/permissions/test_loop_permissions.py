"""The loop, its collector and its trainer work under their roles, and fail without any part of them."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from lambda_function.errors import PredictorError
from tests.builders_loop import START, Clock, World, collected, loop_bucket, trained
from tests.kits.permissions import FIRST, SECOND, Account, Cut, cuts
from training.errors import UserError
from training.functions.loop import LoopHandler, build_loop
from training.functions.settings import LoopSettings
from training.monitoring.hours import Hour
from training.monitoring.summary import summary_key
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.workflows.loop.options import LoopStart
from training.workflows.loop.requests import CollectRequest

OTHERS = ("channels/", "history/", "monitor/", "experiments/", "loop/")
ERRORS = (ClientError, PredictorError, UserError)
REQUEST = CollectRequest(run_id="r1", first="2026-01-01", last="2026-11-28", key="loop/rides/r1.npz", callback_id="c")
BEGINNING = {
    key: body
    for key, body in loop_bucket().s3.objects.items()
    if key.startswith(OTHERS) and not (key.startswith("monitor/hours/") and key < summary_key(Hour.of(START) + -72))
}
"""A champion, three days of joined hours, and a monitor that finds nothing."""


def keys_below(bucket: Bucket, *prefixes: str) -> list[str]:
    return [key for prefix in prefixes for key in bucket.keys(prefix)]


@pytest.fixture(scope="module")
def world(account: Account) -> Iterator[World]:
    """What is around a run, with an administrator's hands. What other tests have stored is set aside meanwhile."""
    s3 = account.aws.client("s3")
    bucket = Bucket(s3, account.bucket)
    objects = {key: bucket.read(key) for key in keys_below(bucket, *OTHERS)}
    for key in objects:
        s3.delete_object(Bucket=account.bucket, Key=key)
    for key, body in BEGINNING.items():
        s3.put_object(Bucket=account.bucket, Key=key, Body=body)
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    mine = account.clients(account.make_role("administrator", [allow]), "s3")
    yield World(bucket=Bucket(mine["s3"], account.bucket), late_gain_percent=-30.0)
    for key in keys_below(bucket, *OTHERS):
        s3.delete_object(Bucket=account.bucket, Key=key)
    for key, found in objects.items():
        if found:
            s3.put_object(Bucket=account.bucket, Key=key, Body=found.body)


class Straight:
    """Checkpoints that do each step once: an error ends the run. Days pass at once, and workers answer at once."""

    def __init__(self, world: World) -> None:
        self._world = world

    def step(self, name: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do a step."""
        return do()

    def wait(self, name: str, seconds: float) -> None:
        """Let more time pass, so that the first look at an experiment has an answer; and add its days."""
        self._world.clock.now += timedelta(seconds=9 * seconds)
        self._world.add_days()

    def ask(self, name: str, send: Callable[[str], None], timeout_s: float) -> dict[str, Any]:
        """Ask, and answer."""
        send("c")
        found: dict[str, Any] = msgspec.to_builtins(collected(REQUEST) if name.startswith("collect") else trained())
        return found


def run_loop_under(account: Account, world: World, role_name: str) -> None:
    """Make all calls of a run that promotes and rolls back under one role; raise an error if access is denied."""
    s3 = account.aws.client("s3")
    for key in keys_below(Bucket(s3, account.bucket), "channels/", "history/", "experiments/", "loop/"):
        if key not in BEGINNING:
            s3.delete_object(Bucket=account.bucket, Key=key)
    s3.put_object(Bucket=account.bucket, Key="channels/candidate.json", Body=BEGINNING["channels/stable.json"])
    account.serve_calibrated()  # what it rolls back to
    world.clock = Clock()
    mine = account.clients(role_name, "s3", "lambda", "events", "kms", "logs", "sqs")
    settings = LoopSettings.from_env(account.function_variables("Looper"))
    handler = build_loop(settings, mine["s3"], mine["lambda"], mine["events"], lambda _: mine["kms"], world.clock)
    options = dataclasses.replace(handler.parts.options, gate_days=1, min_rides=100)
    handler = LoopHandler(dataclasses.replace(handler.parts, options=options))
    with account.aws.enforcing():
        lambdas_calls(account, mine, "Looper")
        execution = {
            "DurableExecutionArn": f"{account.arn('Looper')}:1/durable-execution/r1/e1",
            "CheckpointToken": "t",
        }
        mine["lambda"].get_durable_execution_state(**execution)
        mine["lambda"].checkpoint_durable_execution(**execution, Updates=[])
        result = handler(Straight(world), LoopStart(run_id="r1", trigger="schedule"))
    assert result["outcome"] == "rolled back", result


def lambdas_calls(account: Account, mine: dict[str, Any], function: str) -> None:
    """Make Lambda's calls with a function's role: it writes the log, and reports an event that failed for good."""
    account.write_logs(mine["logs"], f"{function}Logs")
    mine["sqs"].send_message(QueueUrl=account.outputs["LoopFailuresUrl"], MessageBody="{}")


def test_loop_promotes_and_rolls_back_under_its_role(account: Account, world: World) -> None:
    run_loop_under(account, world, account.roles["LooperRole"])

    bucket = Bucket(account.aws.client("s3"), account.bucket)
    assert read_channel(bucket, "stable").model_version == FIRST.model_version
    assert read_channel(bucket, "candidate").model_version == SECOND.model_version


@pytest.mark.parametrize("cut", cuts("LooperRole"), ids=str)
def test_loop_cannot_run_without_any_part_of_its_role(account: Account, world: World, cut: Cut) -> None:
    role = account.role_without("LooperRole", cut)

    with pytest.raises(ERRORS, match="AccessDenied"):
        run_loop_under(account, world, role)
