"""The loop, its collector and its trainer work under their roles, and need every part of them."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest
from botocore.exceptions import ClientError

from infra.local.moto.durable import callback_id
from lambda_function.errors import PredictorError
from tests.builders_loop import START, Clock, World, collected, loop_bucket, trained
from tests.fakes import FakeClock, FakeContext
from tests.kits.permissions import FIRST, SECOND, Account, Cut, cuts
from tests.unit.test_retrain import CONFIG, bucket_of_rides, collect_request, files, stored, train_request
from training.errors import UserError
from training.functions.callbacks import LambdaCallbacks
from training.functions.loop import LoopHandler, build_loop
from training.functions.settings import LoopSettings
from training.functions.work import CollectTelemetry, TrainTelemetry, Worker
from training.monitoring.hours import Hour
from training.monitoring.summary import summary_key
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.signing import Signer
from training.workflows.collected import collect
from training.workflows.loop.options import LoopStart
from training.workflows.loop.requests import Collected, CollectRequest, Trained, TrainRequest
from training.workflows.retrain import retrain

OTHERS = ("channels/", "history/", "monitor/", "experiments/", "loop/", "labelled/")
ERRORS = (ClientError, PermissionError, PredictorError, UserError)
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


def test_loop_promotes_and_rolls_back_under_its_role_and_needs_every_part_of_it(account: Account, world: World) -> None:
    account.take_asked(account.roles["LooperRole"])
    run_loop_under(account, world, account.roles["LooperRole"])

    assert account.parts_without_use("LooperRole") == []
    bucket = Bucket(account.aws.client("s3"), account.bucket)
    assert read_channel(bucket, "stable").model_version == FIRST.model_version
    assert read_channel(bucket, "candidate").model_version == SECOND.model_version


@pytest.mark.parametrize("cut", cuts("LooperRole")[:1], ids=str)
def test_loop_shows_that_a_part_of_its_role_is_missing(account: Account, world: World, cut: Cut) -> None:
    role = account.role_without("LooperRole", cut)

    with pytest.raises(ERRORS, match="AccessDenied"):
        run_loop_under(account, world, role)


# The collector and the trainer ----------------------------------------------------------------------------------------


class Answered(NamedTuple):
    """How work is done under a role: a request that fails, and others that are done; all are answered by callback."""

    role: str
    function: str
    worker: Callable[[Bucket, Any, LambdaCallbacks], Worker[Any]]
    wrong: dict[str, Any]  # changes of the request, so that it fails
    others: tuple[dict[str, Any], ...] = ()  # changes of requests that are done, too


def collector(bucket: Bucket, signer: Any, callbacks: LambdaCallbacks) -> Worker[Any]:
    return Worker(
        CollectRequest, lambda request: collect(bucket, request), callbacks, CollectTelemetry("s", "n", "INFO")
    )


def trainer(bucket: Bucket, signer: Any, callbacks: LambdaCallbacks) -> Worker[Any]:
    def train(request: TrainRequest) -> Trained:
        return retrain(bucket, request, signer, parameters=CONFIG.parameters)

    return Worker(TrainRequest, train, callbacks, TrainTelemetry("train", "ridecast", "INFO"))


WORKERS = (
    Answered("CollectorRole", "Collector", collector, {"first": "1999-01-01", "last": "1999-01-02"}),
    # With a champion, and without: then the model passes the gate and is signed. Once more: it is signed already.
    Answered(
        "TrainerRole",
        "Trainer",
        trainer,
        {"rides_key": "loop/rides/none.npz"},
        ({"run_id": "r2", "channel": "new"}, {"run_id": "r3", "channel": "new"}),
    ),
)


class Rides(NamedTuple):
    """What the workers find: rides that are collected, and the keys of all models."""

    collected: Collected
    models: frozenset[str]


@pytest.fixture(scope="module")
def rides(account: Account, world: World) -> Rides:
    """Two months of labelled rides, and the same rides as the collector stores them for another run."""
    s3 = account.aws.client("s3")
    for key, body in files().items():
        s3.put_object(Bucket=account.bucket, Key=key, Body=body)
    source = bucket_of_rides()
    collected_rides = collect(source, collect_request())
    s3.put_object(Bucket=account.bucket, Key=collected_rides.key, Body=stored(source, collected_rides.key))
    return Rides(collected_rides, frozenset(Bucket(s3, account.bucket).keys("models/")))


def work_under(account: Account, rides: Rides, work: Answered, role_name: str) -> None:
    """Make all calls of a worker under one role; raise an error if access is denied."""
    s3, is_collector = account.aws.client("s3"), work.function == "Collector"
    done = ("loop/answers/", "loop/rides/") if is_collector else ("loop/answers/",)
    for key in keys_below(Bucket(s3, account.bucket), *done, "models/"):
        if key not in rides.models:  # a model that is there is signed already
            s3.delete_object(Bucket=account.bucket, Key=key)
    mine = account.clients(role_name, "s3", "lambda", "kms", "logs", "sqs")
    signer = Signer(mine["kms"], account.signing_key)
    worker = work.worker(Bucket(mine["s3"], account.bucket), signer, LambdaCallbacks(mine["lambda"]))
    asked = callback_id(f"{account.arn('Looper')}:1/durable-execution/r1/e1", work.function)
    right: Any = (
        collect_request(callback_id=asked) if is_collector else train_request(rides.collected, callback_id=asked)
    )
    changes = ({"run_id": "wrong", **work.wrong}, {}, *work.others)
    requests = [msgspec.structs.replace(right, **one) for one in changes]
    with account.aws.enforcing():
        lambdas_calls(account, mine, work.function)
        answers = [worker(msgspec.to_builtins(one), FakeContext(FakeClock(), 900)) for one in requests]
    if any("AccessDenied" in str(one.get("reason")) for one in answers):
        raise PermissionError(answers)
    assert ["error" in one for one in answers] == [True, *[False] * (len(requests) - 1)], answers


@pytest.mark.parametrize("work", WORKERS, ids=lambda work: work.function)
def test_worker_of_the_loop_does_its_work_under_its_role_and_needs_every_part_of_it(
    account: Account, rides: Rides, work: Answered
) -> None:
    account.take_asked(account.roles[work.role])
    work_under(account, rides, work, account.roles[work.role])

    assert account.parts_without_use(work.role) == []


@pytest.mark.parametrize("work", WORKERS, ids=lambda work: work.function)
def test_worker_of_the_loop_shows_that_a_part_of_its_role_is_missing(
    account: Account, rides: Rides, work: Answered
) -> None:
    role = account.role_without(work.role, cuts(work.role)[0])

    with pytest.raises(ERRORS, match="AccessDenied"):
        work_under(account, rides, work, role)
