"""The loop as a durable function, under AWS's own test runner: waits are skipped, callbacks and retries are real.

A container's death is not among what the runner shows; an exception anywhere is.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_durable_execution_sdk_python_testing.runner import DurableFunctionTestResult, DurableFunctionTestRunner

from tests.builders_loop import START, World, collected, trained, versions
from training.functions.durable import DurableCheckpoints
from training.functions.loop import execution_name, loop_start
from training.workflows.loop import checkpoints as loop_checkpoints
from training.workflows.loop.flow import run_loop

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


@dataclass
class DurableWorld:
    """The world of the loop's tests with the durable function in it."""

    world: World = field(default_factory=World)
    n_invocations: int = 0
    questions: SimpleQueue[tuple[str, Any] | None] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        self.world.workers.on_collect = lambda request: self.asked(request.callback_id, collected(request))
        self.world.workers.on_train = lambda request: self.asked(request.callback_id, trained())

        @durable_execution
        def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
            self.n_invocations += 1
            start = loop_start(event, execution_name(context.execution_context.durable_execution_arn))
            self.world.start = start
            return run_loop(VirtualWaits(context, self.world), self.world.parts(), start)

        self.handler = handler

    def asked(self, callback_id: str, answer: Any) -> None:
        """Note a question and its answer."""
        self.questions.put((callback_id, answer))

    def run(self, event: dict[str, Any] | None = None, name: str = "by-hand") -> DurableFunctionTestResult:
        """Run an execution to its end."""
        with durable_runner(self.handler) as runner:
            arn = runner.run_async(json.dumps(event or {}), execution_name=name, execution_timeout=YEAR_S)
            answering = threading.Thread(target=self._answer, args=(runner,), daemon=True)
            answering.start()
            result = runner.wait_for_result(arn, timeout=60)
            self.questions.put(None)
            answering.join()
        return result

    def _answer(self, runner: DurableFunctionTestRunner) -> None:
        """Answer questions from another thread than the invocation, as a worker does."""
        while question := self.questions.get():
            callback_id, answer = question
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
