"""Redrive on the local AWS: failed records are predicted after the function is repaired."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.local.aws import LocalAws
from infra.local.event_source.batcher import MappingTiming
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.in_process import running_in_process
from infra.local.runtime.invocable import invocable
from infra.local.stack import DeployedStack, deploy
from infra.operate.redrive.marks import Marks
from infra.operate.redrive.redrive import Redrive
from infra.operate.redrive.selection import REJECTS
from infra.operate.replayer import Replayer
from infra.operate.streams import Record, Timing
from lambda_function.aws.publisher import Publisher
from tests.builders import ride_bytes, small_bundle
from tests.builders_failed import Countdown, Mortal, ProcessEnd
from tests.fakes import publish_bundle
from tests.kits.cli import Cli
from tests.kits.streams import read_stream
from training.registry.bucket import Bucket

pytestmark = pytest.mark.slow

N_RIDES = 200
LONG_RIDES = set(range(0, N_RIDES, 4))
STRICT = "tests.integration.strict_function.lambda_handler"
UNANSWERING = "tests.integration.unanswering_function.lambda_handler"
CHUNK = 10

Invoke = Callable[[dict[str, Any]], object]


class Rides:
    """A stack on the local AWS with rides on its stream, and a function that can be replaced."""

    def __init__(self, aws: LocalAws, log: Path, name: str) -> None:
        streams = {
            "RideEventsName": f"{name}-events",
            "RidePredictionsName": f"{name}-predictions",
            "RideOutcomesName": f"{name}-outcomes",
        }
        self.stack: DeployedStack = deploy(aws, name, parameters={**streams, "BatchWindowSeconds": 0})
        self.s3, self.kinesis = aws.client("s3"), aws.client("kinesis")
        self.client = aws.client("lambda")
        self.alias = self.stack.mapping.function_name
        self._function_arn = f"arn:aws:lambda:us-east-1:123456789012:function:{self.stack.function.name}"
        self._aws = aws
        self._log = log
        self._invoke: Invoke
        # No retry: a batch fails at the first error.
        config = replace(self.stack.mapping, maximum_retry_attempts=0, bisect_on_error=False, batch_size=40)
        self._mapping = EventSourceMapping(
            config, self.kinesis, self._current, MappingTiming(backoff=lambda _: 0.0), s3=self.s3
        )

    def _current(self, event: dict[str, Any]) -> object:
        return self._invoke(event)

    def publish(self) -> None:
        """Send rides, some of them long."""
        entries = [(str(n), ride_bytes(n, trip_distance=9.0 if n in LONG_RIDES else 2.0)) for n in range(N_RIDES)]
        published = Publisher(self.kinesis, self.stack.input_stream).publish(entries, lambda: 60.0)
        assert published.unpublished == []

    def publish_model(self) -> None:
        """Release a model."""
        publish_bundle(self.s3, small_bundle(), bucket=self.stack.bucket)

    def handle(self, handler: str | None = None) -> None:
        """Process the whole stream with a function; the default is the real one."""
        function = replace(self.stack.function, handler=handler or self.stack.function.handler)
        with running_in_process(function, self._log) as self._invoke:
            while self._mapping.poll_once():
                pass

    @contextmanager
    def invocable(self, handler: str | None = None) -> Iterator[None]:
        """Let commands invoke a function; the default is the real one."""
        function = replace(self.stack.function, handler=handler or self.stack.function.handler)
        with running_in_process(function, self._log) as runtime, invocable(self._aws, self._function_arn, runtime):
            yield

    @property
    def predicted(self) -> Counter[int]:
        """How often each ride was predicted."""
        return Counter(json.loads(record.data)["prediction"]["ride_id"] for record in self._output())

    @property
    def by_id(self) -> dict[str, bytes]:
        """The predictions by their ids, as a consumer has them that upserts."""
        return {json.loads(record.data)["prediction_id"]: record.data for record in self._output()}

    @property
    def input_ids(self) -> list[str]:
        """The ids of all records on the input stream."""
        records = read_stream(self.kinesis, self.stack.input_stream)
        return [f"{record.shard_id}:{record.sequence_number}" for record in records]

    def _output(self) -> list[Record]:
        return read_stream(self.kinesis, self.stack.output_stream)


Stacks = Callable[[str], Rides]


@pytest.fixture
def rides_on(aws: LocalAws, tmp_path: Path) -> Stacks:
    return lambda name: Rides(aws, tmp_path / "function.log", name)


def test_rejects_of_a_function_with_a_bug_are_predicted_after_fix_and_redrive(rides_on: Stacks, cli: Cli) -> None:
    rides = rides_on("strict")
    where = ("--stack", "strict")
    rides.publish_model()
    rides.publish()
    rides.handle(STRICT)
    assert set(rides.predicted) == set(range(N_RIDES)) - LONG_RIDES
    assert cli("records", "list", *where)["records"] == len(LONG_RIDES)

    with rides.invocable(STRICT):
        assert cli("records", "redrive", *where)["rejected_again"] == len(LONG_RIDES)
    assert cli("records", "list", "--pending", *where)["records"] == len(LONG_RIDES)
    with rides.invocable():
        assert cli("records", "redrive", *where)["by_stream"] == {rides.stack.input_stream: len(LONG_RIDES)}
        assert cli("records", "redrive", *where)["redriven"] == 0
    assert cli("records", "list", "--pending", *where)["records"] == 0

    assert rides.predicted == Counter(range(N_RIDES))
    assert sorted(rides.by_id) == sorted(rides.input_ids)


def test_batches_that_failed_without_a_model_are_predicted_after_release_and_redrive(
    rides_on: Stacks, cli: Cli
) -> None:
    rides = rides_on("modelless")
    where = ("--stack", "modelless")
    rides.publish()
    rides.handle()
    assert not rides.predicted
    found = cli("records", "list", "--kind", "failure", *where)
    assert (found["records"], found["unreadable"]) == (N_RIDES, {})
    assert {group["reason"] for group in found["groups"]} == {"RetryAttemptsExhausted"}
    assert (
        cli("records", "show", "--kind", "failure", found["newest"][0]["id"], *where)["key"] == found["newest"][0]["id"]
    )
    with rides.invocable():
        assert "failed: NoModelYetError: cannot read s3://" in cli.refuses(
            "records", "redrive", "--kind", "failure", *where
        )

    rides.publish_model()
    with rides.invocable():
        assert cli("records", "redrive", "--kind", "failure", *where)["redriven"] == N_RIDES
    assert rides.predicted == Counter(range(N_RIDES))
    assert sorted(rides.by_id) == sorted(rides.input_ids)


def test_batch_that_failed_although_it_was_published_keeps_one_prediction_a_ride(rides_on: Stacks, cli: Cli) -> None:
    rides = rides_on("published")
    rides.publish_model()
    rides.publish()
    rides.handle(UNANSWERING)
    before = rides.by_id
    assert len(before) == N_RIDES
    with rides.invocable():
        redriven = cli("records", "redrive", "--kind", "failure", "--stack", "published")["redriven"]
    assert redriven == N_RIDES
    assert set(rides.predicted.values()) == {2}
    assert rides.by_id == before


def redrive(rides: Rides, countdown: Countdown) -> bool:
    """Run a redrive in chunks of ten; return whether it was completed."""
    bucket = Bucket(Mortal(rides.s3, countdown), rides.stack.bucket, n_threads=1)
    marks = Marks(bucket)
    timing = Timing(sleep=lambda _: None)
    replayer = Replayer(Mortal(rides.client, countdown), rides.alias, timing)
    run = Redrive(marks, lambda _: replayer, rate_per_s=CHUNK, timing=timing)
    try:
        marks.load(marks.keys())
        run.run(REJECTS.read(bucket, REJECTS.keys(bucket)))
    except ProcessEnd:
        return False
    return True


def test_interrupted_redrive_is_repeated_and_a_consumer_that_upserts_holds_one_prediction_a_ride(
    rides_on: Stacks,
) -> None:
    rides = rides_on("interrupted")
    rides.publish_model()
    rides.publish()
    rides.handle(STRICT)
    endings = [Countdown(n_calls, is_after=n_calls % 2 == 0) for n_calls in (6, 9, 4, 10)]
    with rides.invocable():
        assert [redrive(rides, ending) for ending in endings] == [False] * len(endings)
        assert redrive(rides, Countdown())
        assert redrive(rides, Countdown())

    assert len(rides.by_id) == N_RIDES
    assert sorted(rides.by_id) == sorted(rides.input_ids)
    repeated = {ride for ride, n in rides.predicted.items() if n > 1}
    assert repeated <= LONG_RIDES
    assert sum(n - 1 for n in rides.predicted.values()) <= CHUNK * len(endings)
