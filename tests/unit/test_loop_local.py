"""The runner for this machine: results are recorded, waits and retries pass by the clock, questions time out."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders_loop import START, Clock
from training.errors import UserError
from training.workflows.loop.checkpoints import (
    RETRY_DELAYS_S,
    AskFailedError,
    Checkpoints,
    NoAnswerError,
    StepFailedError,
)
from training.workflows.loop.local import LocalExecution


class Fails:
    """A step that fails some times."""

    def __init__(self, n_failures: int) -> None:
        self.n_failures = n_failures
        self.n_calls = 0

    def __call__(self) -> dict[str, Any]:
        """Be called."""
        self.n_calls += 1
        if self.n_calls <= self.n_failures:
            raise OSError("away")
        return {"n_calls": self.n_calls}


def test_step_is_done_once_and_survives_the_process(tmp_path: Path) -> None:
    clock, step, path = Clock(), Fails(0), tmp_path / "runs" / "r1.json"

    def flow(checkpoints: Checkpoints) -> dict[str, Any]:
        done = checkpoints.step("a", step)
        checkpoints.wait("day", 86_400)
        return done

    assert LocalExecution(path, clock).resume(flow) is None
    again = LocalExecution(path, clock)
    assert again.next_due() == START + timedelta(days=1)
    assert again.resume(flow) is None
    clock.now += timedelta(days=1)
    assert LocalExecution(path, clock).resume(flow) == {"n_calls": 1}
    ended = LocalExecution(path, clock)
    assert (ended.is_over, ended.next_due(), step.n_calls) == (True, None, 1)


def test_failing_step_is_retried_later_and_later(tmp_path: Path) -> None:
    clock, step = Clock(), Fails(len(RETRY_DELAYS_S))
    execution = LocalExecution(None, clock)
    waits_s = []
    while (result := execution.resume(lambda checkpoints: checkpoints.step("a", step))) is None:
        due = execution.next_due()
        assert due
        waits_s.append((due - clock.now).total_seconds())
        clock.now = due
    assert tuple(waits_s) == RETRY_DELAYS_S
    assert result == {"n_calls": 8}


def test_step_that_fails_at_every_attempt_fails_again_in_a_replay() -> None:
    clock, step = Clock(), Fails(99)
    execution = LocalExecution(None, clock)

    def flow(checkpoints: Checkpoints) -> dict[str, Any]:
        try:
            return checkpoints.step("a", step)
        except StepFailedError as error:
            checkpoints.wait("day", 1)
            return {"error": str(error)}

    while (result := execution.resume(flow)) is None:
        clock.now = execution.next_due() or clock.now
    assert result == {"error": "step a failed at every attempt, at last with OSError: away"}
    assert step.n_calls == 8


def ask(checkpoints: Checkpoints) -> dict[str, Any]:
    """Ask with a minute's time, and return what came."""
    try:
        return checkpoints.ask("question", lambda callback_id: None, 60)
    except NoAnswerError:
        return {"late": True}
    except AskFailedError as error:
        return {"error": str(error)}


def test_question_is_answered_fails_or_is_late() -> None:
    clock = Clock()
    answered, failed, late = (LocalExecution(None, clock) for _ in range(3))
    for execution in (answered, failed, late):
        assert execution.resume(ask) is None
        assert execution.questions() == ("question",)
        assert execution.next_due() == START + timedelta(seconds=60)
    assert answered.answer("question", {"yes": 1})
    assert not answered.answer("question", {"yes": 2})  # the first one stands
    assert failed.fail("question", "ContractError", "few rows")
    clock.now += timedelta(seconds=60)
    assert answered.resume(ask) == {"yes": 1}
    assert failed.resume(ask) == {"error": "ContractError: few rows"}
    assert late.resume(ask) == {"late": True}
    assert not late.answer("question", {"yes": 1})
    with pytest.raises(UserError, match="has asked no question"):
        late.answer("other", {})


def test_question_that_is_answered_while_it_is_sent_is_not_sent_again() -> None:
    clock, sent = Clock(), Fails(99)
    execution = LocalExecution(None, clock)

    def send(callback_id: str) -> None:
        execution.answer(callback_id, {"yes": 1})
        sent()

    assert execution.resume(lambda checkpoints: checkpoints.ask("question", send, 60)) == {"yes": 1}
    assert sent.n_calls == 1


def test_question_that_cannot_be_sent_times_out() -> None:
    clock, sent = Clock(), Fails(99)
    execution = LocalExecution(None, clock)

    def send(callback_id: str) -> None:
        sent()

    def flow(checkpoints: Checkpoints) -> dict[str, Any]:
        try:
            return checkpoints.ask("question", send, 60)
        except NoAnswerError:
            return {"late": True}

    while (result := execution.resume(flow)) is None:
        clock.now = execution.next_due() or clock.now
    assert (result, clock.now) == ({"late": True}, START + timedelta(seconds=60))


def test_name_is_used_once() -> None:
    def flow(checkpoints: Checkpoints) -> dict[str, Any]:
        checkpoints.step("a", dict)
        return checkpoints.step("a", dict)

    with pytest.raises(ValueError, match="a is used twice"):
        LocalExecution(None, Clock()).resume(flow)


def test_file_that_holds_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r1.json"
    path.write_text("[]")
    with pytest.raises(UserError, match=r"r1\.json does not hold a run"):
        LocalExecution(path, Clock())


def test_loop_imports_nothing_heavy() -> None:
    # Its function's package has none of these.
    heavy = ("duckdb", "matplotlib", "pyarrow", "rich", "scipy", "sklearn", "typer")
    loop = "training.workflows.loop"
    code = f"import sys, {loop}.flow, {loop}.stop; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.strip() == "[]"
