"""The functions that work for the loop: what they answer by the callback, and what Lambda repeats."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
import pytest
from botocore.stub import Stubber

from lambda_function.aws.clients import make_lambda_client
from lambda_function.aws.settings import CommonSettings
from tests.builders_labelled import labelled_bucket
from tests.fakes import FakeClock, FakeContext
from training.data.contract import ContractError
from training.functions.callbacks import CallbackError, LambdaCallbacks
from training.functions.collect import build_collector
from training.functions.deadline import OutOfTimeError, deadline
from training.functions.work import TrainTelemetry, Worker
from training.workflows.loop.requests import Trained, TrainRequest

_numbers = count()
TRAINED = Trained(model_version="green-2026-11-0123456789ab", manifest_sha256="ab" * 32, passed=True, n_rides=9)
REQUEST = TrainRequest(
    run_id="r1", rides_key="loop/rides/r1.npz", rides_sha256="cd" * 32, channel="stable", service="green",
    gate_days=14, callback_id="Y2FsbGJhY2s=",
)  # fmt: skip
EVENT: dict[str, Any] = msgspec.to_builtins(REQUEST)


@dataclass
class FakeCallbacks:
    """Remembers answers; raises an error if there is one."""

    error: Exception | None = None
    sent: list[tuple[str, object]] = field(default_factory=list)

    def succeed(self, callback_id: str, answer: msgspec.Struct) -> bool:
        """Remember an answer."""
        return self._send(callback_id, answer)

    def fail(self, callback_id: str, error: Exception) -> bool:
        """Remember an error."""
        return self._send(callback_id, error)

    def _send(self, callback_id: str, answer: object) -> bool:
        if self.error:
            raise self.error
        self.sent.append((callback_id, answer))
        return True


def worker(do: Callable[[TrainRequest], Trained], callbacks: FakeCallbacks | None = None) -> Worker[TrainRequest]:
    return Worker(
        TrainRequest, do, callbacks or FakeCallbacks(), TrainTelemetry(f"train-{next(_numbers)}", "ridecast", "INFO")
    )


def context(timeout_s: float = 900.0) -> FakeContext:
    return FakeContext(FakeClock(), timeout_s)


def failing(error: Exception) -> Callable[[TrainRequest], Trained]:
    def do(_: TrainRequest) -> Trained:
        raise error

    return do


def metrics(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {name: value for line in lines if "_aws" in line for name, value in line.items()}


def test_answer_goes_to_the_run_that_waits(capsys: pytest.CaptureFixture[str]) -> None:
    callbacks = FakeCallbacks()
    seen: list[TrainRequest] = []

    def do(request: TrainRequest) -> Trained:
        seen.append(request)
        return TRAINED

    returned = worker(do, callbacks)(EVENT, context())

    assert seen == [REQUEST]
    assert callbacks.sent == [(REQUEST.callback_id, TRAINED)]
    assert msgspec.convert(returned, Trained) == TRAINED
    assert metrics(capsys)["Trainings"] == [1.0]


@pytest.mark.parametrize(
    "error", [ContractError("2026-10 breaks rows"), RuntimeError("a bug"), MemoryError("no memory")]
)
def test_error_of_the_work_is_an_answer_and_is_not_repeated(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    callbacks = FakeCallbacks()

    returned = worker(failing(error), callbacks)(EVENT, context())

    assert callbacks.sent == [(REQUEST.callback_id, error)]
    assert returned == {"error": type(error).__name__, "reason": str(error)}
    assert metrics(capsys)["FailedTrainings"] == [1.0]


@pytest.mark.parametrize("do", [lambda _: TRAINED, failing(ContractError("2026-10 breaks rows"))])
def test_answer_that_cannot_be_sent_makes_lambda_repeat(do: Callable[[TrainRequest], Trained]) -> None:
    with pytest.raises(CallbackError, match="could not be answered: down: the function is invoked again"):
        worker(do, FakeCallbacks(CallbackError(OSError("down"))))(EVENT, context())


def test_run_by_hand_has_no_callback() -> None:
    callbacks = FakeCallbacks(CallbackError(OSError("down")))
    by_hand = {**EVENT, "callback_id": ""}
    assert worker(lambda _: TRAINED, callbacks)(by_hand, context())["passed"]
    assert worker(failing(ValueError("no")), callbacks)(by_hand, context())["error"] == "ValueError"


def test_event_that_is_no_request_fails_the_invocation() -> None:
    with pytest.raises(msgspec.ValidationError, match="gate_days"):
        worker(lambda _: TRAINED)({**EVENT, "gate_days": "two weeks"}, context())


def test_work_is_stopped_before_lambda_stops_the_function() -> None:
    callbacks = FakeCallbacks()

    def never_ends(_: TrainRequest) -> Trained:
        while True:
            pass

    returned = worker(never_ends, callbacks)(EVENT, context(timeout_s=30.05))

    assert returned["error"] == "OutOfTimeError"
    ((_, error),) = callbacks.sent
    assert "shortly before the function's time is over" in str(error)


def test_work_does_not_begin_without_time() -> None:
    with pytest.raises(OutOfTimeError), deadline(context(timeout_s=29)):
        pytest.fail("the work has begun")


def test_deadline_is_over_with_the_block_and_does_not_stop_other_threads() -> None:
    handler, (seconds, _) = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)  # of pytest-timeout
    with deadline(context(timeout_s=31)):
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(seconds, abs=5)

    thread = threading.Thread(target=deadline(context(timeout_s=31)).__enter__)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGALRM) is handler


@pytest.fixture
def lambda_stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LambdaCallbacks, Stubber]]:
    """Callbacks over AWS's own client, which checks each request against the API's description."""
    monkeypatch.setitem(os.environ, "AWS_DEFAULT_REGION", "us-east-1")
    client = make_lambda_client(1, 1)
    with Stubber(client) as stub:
        yield LambdaCallbacks(client), stub


def test_callbacks_are_requests_that_the_api_takes(lambda_stub: tuple[LambdaCallbacks, Stubber]) -> None:
    callbacks, stub = lambda_stub
    expected: dict[str, Any] = {"CallbackId": REQUEST.callback_id, "Result": msgspec.json.encode(TRAINED)}
    stub.add_response("send_durable_execution_callback_success", {}, expected)
    error = {"ErrorType": "ContractError", "ErrorData": "ContractError", "ErrorMessage": "2026-10 breaks rows"}
    expected = {"CallbackId": REQUEST.callback_id, "Error": error}
    stub.add_response("send_durable_execution_callback_failure", {}, expected)

    assert callbacks.succeed(REQUEST.callback_id, TRAINED)
    assert callbacks.fail(REQUEST.callback_id, ContractError("2026-10 breaks rows"))
    stub.assert_no_pending_responses()


def test_nobody_waits_for_a_callback_that_is_closed(lambda_stub: tuple[LambdaCallbacks, Stubber]) -> None:
    callbacks, stub = lambda_stub
    stub.add_client_error("send_durable_execution_callback_success", "CallbackTimeoutException", http_status_code=400)
    assert not callbacks.succeed(REQUEST.callback_id, TRAINED)


def test_refused_callback_is_an_error(lambda_stub: tuple[LambdaCallbacks, Stubber]) -> None:
    callbacks, stub = lambda_stub
    stub.add_client_error("send_durable_execution_callback_failure", "AccessDeniedException", http_status_code=403)
    with pytest.raises(CallbackError, match="AccessDenied"):
        callbacks.fail(REQUEST.callback_id, ContractError("2026-10 breaks rows"))


def test_collector_answers_a_refusal_of_an_empty_bucket() -> None:
    callbacks = FakeCallbacks()
    collector = build_collector(CommonSettings(bucket="b"), labelled_bucket({}).s3, callbacks)
    request = {"run_id": "r1", "first": "2026-08-01", "last": "2026-10-31", "key": "loop/rides/r1.npz"}

    returned = collector({**request, "callback_id": "Y2FsbGJhY2s="}, context())

    assert returned["error"] == "TooFewRidesError"
    assert "s3://b has no whole day of labelled rides from 2026-08-01 to 2026-10-31" in returned["reason"]
    assert len(callbacks.sent) == 1
