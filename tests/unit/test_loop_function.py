"""The loop's function beside the durable execution: how a run begins, whom it invokes, and what it tells."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
import pytest

from lambda_function.errors import ConfigurationError
from tests.builders_loop import World
from tests.builders_monitored import FakeBus
from tests.fakes import BUCKET
from training.functions.loop import LoopHandler, build_loop, loop_start
from training.functions.settings import LoopSettings
from training.monitoring.monitor.events import STATE_CHANGE
from training.workflows.loop.local import LocalExecution
from training.workflows.loop.requests import Collected, CollectRequest

ENVIRONMENT = {
    "BUCKET": BUCKET,
    "MODEL_CHANNEL": "stable",
    "TRAINER_FUNCTION": "trainer",
    "COLLECTOR_FUNCTION": "collector",
    "STACK_NAME": "ridecast",
}
_numbers = count()


@dataclass
class FakeInvoker:
    """A Lambda client that remembers invocations."""

    invoked: list[dict[str, Any]] = field(default_factory=list)

    def invoke(self, **request: Any) -> dict[str, Any]:
        """Remember an invocation."""
        self.invoked.append(request)
        return {"StatusCode": 202}


@dataclass
class Function:
    """The function around the world of the loop's tests, with a recorded run in place of the durable one."""

    world: World = field(default_factory=World)
    invoker: FakeInvoker = field(default_factory=FakeInvoker)
    bus: FakeBus = field(default_factory=FakeBus)

    def __post_init__(self) -> None:
        service = f"loop-{next(_numbers)}"  # a logger of its own, which writes to this test's output
        settings = LoopSettings.from_env({**ENVIRONMENT, "POWERTOOLS_SERVICE_NAME": service})
        s3, clock = self.world.bucket.s3, self.world.clock
        built = build_loop(settings, s3, self.invoker, self.bus, clock=clock)
        self.handler = LoopHandler(built.parts)
        self.execution = LocalExecution(None, clock)

    def resume(self) -> dict[str, Any] | None:
        """Run until the run waits."""
        return self.execution.resume(lambda checkpoints: self.handler(checkpoints, self.world.start))


@pytest.mark.parametrize(
    ("event", "run_id", "trigger", "reason"),
    [
        ({}, "by-hand", "manual", ""),
        ({"id": "20261129-201530", "reason": "new zones"}, "20261129-201530", "manual", "new zones"),
        ({"trigger": "schedule", "id": "A7F/1", "reason": "monthly"}, "schedule-a7f-1", "schedule", "monthly"),
        (
            {"detail-type": STATE_CHANGE, "id": "7d4e", "detail": {"text": "alarm of data"}},
            "alarm-7d4e",
            "alarm",
            "alarm of data",
        ),
        ({"reason": "x" * 10_000}, "by-hand", "manual", "x" * 500),
    ],
)
def test_run_is_named_by_its_event_so_that_a_second_delivery_is_the_same_run(
    event: dict[str, Any], run_id: str, trigger: str, reason: str
) -> None:
    start = loop_start(event, "by-hand")
    assert (start.run_id, start.trigger, start.reason) == (run_id, trigger, reason)


def test_workers_are_invoked_asynchronously_with_the_callback_id() -> None:
    function = Function()
    assert function.resume() is None
    (sent,) = function.invoker.invoked
    assert (sent["FunctionName"], sent["InvocationType"]) == ("collector", "Event")
    request = json.loads(sent["Payload"])
    assert (request["run_id"], request["callback_id"]) == ("r1", "collect answer")
    asked = CollectRequest(**request)
    answer = Collected(key=asked.key, sha256="ab" * 32, n_rides=30_000, first=asked.first, last=asked.last)
    function.execution.answer(asked.callback_id, msgspec.to_builtins(answer))
    assert function.resume() is None
    trainer = function.invoker.invoked[-1]
    assert trainer["FunctionName"] == "trainer"
    assert json.loads(trainer["Payload"])["rides_sha256"] == "ab" * 32


def test_each_step_sends_one_event_one_log_line_and_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    function = Function()
    assert function.resume() is None
    function.execution.fail("collect answer", "TooFewRidesError", "no day has rides")
    ended = function.resume()
    assert ended
    assert ended["outcome"] == "rejected"
    details = function.bus.taken
    assert [one["step"] for one in details] == ["decide", "collect", "end"]
    assert [one["tell"] for one in details] == [True, False, True]
    assert details[-1]["end"] == "rejected"
    assert details[-1]["text"].startswith("Stack ridecast, run r1 of the loop, end: rejected. ")
    assert {one["DetailType"] for one in function.bus.taken} == {"ridecast loop step"}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in lines if line.get("message") == "step"] == ["decide", "collect", "end"]
    assert sum(line.get("LoopSteps", [0])[0] for line in lines) == 3


def test_event_that_eventbridge_refuses_is_sent_again_with_the_step() -> None:
    function = Function()
    function.bus.script.append([0])
    assert function.resume() is None
    assert function.bus.taken == []
    function.world.clock.now = function.execution.next_due() or function.world.clock.now
    assert function.resume() is None
    assert [one["step"] for one in function.bus.taken] == ["decide", "collect"]


def test_settings_name_what_is_missing_or_wrong() -> None:
    with pytest.raises(ConfigurationError, match="TRAINER_FUNCTION, COLLECTOR_FUNCTION"):
        LoopSettings.from_env({"BUCKET": "b", "MODEL_CHANNEL": "stable"})
    with pytest.raises(ConfigurationError, match=r"LOOP_APPROVAL.*'ask': want auto or manual"):
        LoopSettings.from_env({**ENVIRONMENT, "LOOP_APPROVAL": "ask"})


def test_function_starts_without_what_trains_or_joins() -> None:
    code = "import sys, training.functions.loop; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert not {"duckdb", "matplotlib", "pyarrow", "rich", "scipy", "sklearn"} & set(found.stdout.split())
