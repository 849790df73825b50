"""The loop as a durable function, under AWS's own test runner: waits are skipped, callbacks and retries are real.

A container's death is not among what the runner shows; an exception anywhere is.
"""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python.lambda_service import ErrorObject, InvocationStatus
from aws_durable_execution_sdk_python_testing.runner import DurableFunctionTestResult, DurableFunctionTestRunner

from tests.builders_loop import START, World, collected, trained, versions
from tests.outcomes import SERVICE_DOWN
from training.functions.durable import DurableCheckpoints
from training.functions.loop import LoopHandler, execution_name, loop_start
from training.monitoring.monitor.events import STATE_CHANGE
from training.registry.bucket import Bucket
from training.workflows.loop import checkpoints as loop_checkpoints
from training.workflows.loop.options import LoopEvent, LoopOptions
from training.workflows.loop.requests import TrainRequest

YEAR_S = 365 * 86400
MAX_CHECKPOINT_BYTES = 256 * 1024

CHAMPION, CANDIDATE = versions()


class VirtualWaits(DurableCheckpoints):
    """Checkpoints whose waits let the world's clock pass, again at each replay."""

    def __init__(self, context: DurableContext, world: World) -> None:
        super().__init__(context)
        self._world = world
        self._waited_s = 0.0

    def wait(self, name: str, seconds: float) -> None:
        """Wait, and let the world's clock pass."""
        super().wait(name, seconds)
        self._waited_s += seconds
        now = START + timedelta(seconds=self._waited_s)
        if now > self._world.clock.now:
            self._world.clock.now = now
            self._world.add_days()


@contextmanager
def durable_runner(handler: Any) -> Iterator[DurableFunctionTestRunner]:
    """Run AWS's test runner, and close the event loop that it leaves open."""
    with DurableFunctionTestRunner(handler=handler, poll_interval=0.02) as runner:
        yield runner
    runner._scheduler._loop.close()


class OutOfMemoryError(Exception):
    """An error of a worker."""


class ContractError(Exception):
    """An error of the trainer, by the name that its answer has."""


class FlakyS3:
    """S3 that refuses the first write of each object."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3
        self.refused: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)

    def put_object(self, **request: Any) -> Any:
        """Store an object."""
        if request["Key"] not in self.refused:
            self.refused.add(request["Key"])
            raise SERVICE_DOWN
        return self._s3.put_object(**request)


@dataclass
class DurableWorld:
    """The world of the loop's tests with the durable function in it.

    Attributes:
        train_answer: What the trainer answers; an error fails the question, None leaves it open.
        s3: Another way to the world's bucket.
    """

    world: World = field(default_factory=World)
    train_answer: Any = field(default_factory=trained)
    s3: Any = None
    n_invocations: int = 0
    questions: SimpleQueue[tuple[str, Any] | None] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        self.world.workers.on_collect = lambda request: self.asked(request.callback_id, collected(request))
        self.world.workers.on_train = lambda request: self.asked(request.callback_id, self.train_answer)

        @durable_execution
        def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
            self.n_invocations += 1
            start = loop_start(event, execution_name(context.execution_context.durable_execution_arn))
            self.world.start = start
            bucket = Bucket(self.s3, self.world.bucket.name, n_threads=1) if self.s3 else None
            return LoopHandler(self.world.parts(bucket))(VirtualWaits(context, self.world), start)

        self.handler = handler

    def asked(self, callback_id: str, answer: Any) -> None:
        """Note a question and its answer."""
        if answer is not None:
            self.questions.put((callback_id, answer))

    def run(
        self, event: dict[str, Any] | None = None, names: Sequence[str] = ("by-hand",)
    ) -> DurableFunctionTestResult:
        """Run executions at the same time to their ends, and return the result of the first."""
        with durable_runner(self.handler) as runner:
            sent = json.dumps(event or {})
            arns = [runner.run_async(sent, execution_name=name, execution_timeout=YEAR_S) for name in names]
            answering = threading.Thread(target=self._answer, args=(runner,), daemon=True)
            answering.start()
            results = [runner.wait_for_result(arn, timeout=60) for arn in arns]
            history = runner.get_execution_history(arns[0], include_execution_data=True)
            self.n_bytes = max(len(json.dumps(one.to_dict(), default=str)) for one in history.events)
            self.questions.put(None)
            answering.join()
        return results[0]

    def _answer(self, runner: DurableFunctionTestRunner) -> None:
        """Answer questions from another thread than the invocation, as a worker does."""
        while question := self.questions.get():
            callback_id, answer = question
            if isinstance(answer, Exception):
                error = ErrorObject.from_message(str(answer))
                runner.send_callback_failure(callback_id, replace(error, data=type(answer).__name__))
            else:
                runner.send_callback_success(callback_id, msgspec.json.encode(answer))


@pytest.fixture(autouse=True)
def _short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_checkpoints, "RETRY_DELAYS_S", (1.0, 1.0, 1.0))


def outcome(result: DurableFunctionTestResult) -> dict[str, Any]:
    assert result.result is not None
    answer = json.loads(result.result)
    assert isinstance(answer, dict)
    return answer


def test_run_promotes_and_watches() -> None:
    durable = DurableWorld()
    ended = outcome(durable.run({"trigger": "schedule", "id": "2026-12-01"}))
    assert ended["outcome"] == "promoted"
    assert ended["run_id"] == "schedule-2026-12-01"
    assert durable.world.serving == CANDIDATE
    assert [one.why for one in durable.world.moves()] == ["promote"]
    assert len(durable.world.workers.requests) == 2
    # Each wait of a day ends an invocation; each step was told of once, although the function began anew each time.
    assert durable.n_invocations > len([one for one in durable.world.record.steps if one.outcome == "wait"])
    told = [one.event_id for one in durable.world.events]
    assert len(told) == len(set(told))
    assert durable.n_bytes < MAX_CHECKPOINT_BYTES / 10


def test_steps_whose_calls_fail_are_tried_again_and_have_one_effect() -> None:
    durable = DurableWorld()
    durable.s3 = FlakyS3(durable.world.bucket.s3)
    assert outcome(durable.run())["outcome"] == "promoted"
    assert {"loop/lease.json", "channels/candidate.json", "channels/stable.json"} <= durable.s3.refused
    assert [one.why for one in durable.world.moves()] == ["promote"]


def test_event_that_is_delivered_twice_promotes_once() -> None:
    durable = DurableWorld()
    event = {"detail-type": STATE_CHANGE, "id": "7d4e", "detail": {"text": "alarm of data"}}
    assert outcome(durable.run(event, names=("one", "two")))["run_id"] == "alarm-7d4e"
    assert durable.world.record.trigger == "alarm"
    assert durable.world.record.reason == "alarm of data"
    assert [one.why for one in durable.world.moves()] == ["promote"]


def test_trainer_that_fails_ends_the_execution_as_failed_and_the_record_says_why() -> None:
    durable = DurableWorld(train_answer=OutOfMemoryError("killed at 10,240 MB"))
    result = durable.run()
    assert result.status is InvocationStatus.FAILED
    assert result.error
    assert "killed at 10,240 MB" in str(result.error.message)
    assert "killed at 10,240 MB" in durable.world.reason
    assert durable.world.serving == CHAMPION
    assert durable.world.lease_holder is None


def test_contract_that_refuses_the_rides_ends_the_run_and_is_no_failure() -> None:
    durable = DurableWorld(train_answer=ContractError("2026-11 has 40% of the usual rides"))
    assert outcome(durable.run())["outcome"] == "rejected"


def test_trainer_that_never_answers_is_asked_once_more_and_then_the_run_fails() -> None:
    durable = DurableWorld(World(options=LoopOptions(answer_timeout_s=1)), train_answer=None)
    assert durable.run().status is InvocationStatus.FAILED
    assert "twice" in durable.world.reason
    assert len([one for one in durable.world.workers.requests if isinstance(one, TrainRequest)]) == 2


@pytest.mark.parametrize("is_approved", [True, False])
def test_person_approves_by_the_callback_of_the_runs_record(is_approved: bool) -> None:
    durable = DurableWorld(World(options=LoopOptions(approval="manual", watch_days=0)))
    approved = durable.world.events.append

    def tell(event: LoopEvent) -> None:
        approved(event)
        if event.step == "approve":
            threading.Thread(target=answer, daemon=True).start()

    def answer() -> None:
        while not (waiting := durable.world.record.waiting) or not waiting.callback_id:
            time.sleep(0.01)
        durable.asked(waiting.callback_id, {"approved": is_approved, "by": "ada"})

    durable.world.events = cast("Any", SimpleNamespace(append=tell))
    assert outcome(durable.run())["outcome"] == ("promoted" if is_approved else "kept")
    assert durable.world.serving == (CANDIDATE if is_approved else CHAMPION)
