"""What a run asks others: the collector for rides, the trainer for a model, a person for approval."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from training.workflows.loop.checkpoints import AskFailedError, NoAnswerError
from training.workflows.loop.options import DAY_S, LoopParts
from training.workflows.loop.requests import Collected, CollectRequest, Trained, TrainRequest
from training.workflows.loop.run_steps import Done, EndedError, RunSteps
from training.workflows.loop.state import End, Outcome

T = TypeVar("T")

_MAX_CHARACTERS = 500
"""Of what a person answers: the run's record and its events are small."""

_REFUSALS = {"ContractError", "TooManyRidesError", "TooFewRidesError"}
"""Errors of the workers that are no fault of theirs: the rides are not fit for a model."""


def collect(steps: RunSteps, parts: LoopParts, run_id: str, first: str, last: str) -> Collected:
    """Ask for the rides of some days.

    Raises:
        EndedError: There are none for this run.
    """

    def send(callback_id: str) -> None:
        key = f"loop/rides/{run_id}.npz"
        request = CollectRequest(run_id=run_id, first=first, last=last, key=key, callback_id=callback_id)
        parts.workers.collect(request)

    collected = _answer("collect", _ask_worker(steps, parts, "collect", "the collector's answer", send), Collected)
    text = f"collected {collected.n_rides:,} rides of {collected.first} to {collected.last}"
    steps.do("collected", lambda: Done("collected", text, msgspec.to_builtins(collected)))
    return collected


def train(steps: RunSteps, parts: LoopParts, run_id: str, service: str, rides: Collected) -> Trained:
    """Ask for a model of rides, gated against the channel's newest one.

    Raises:
        EndedError: There is none.
    """

    def send(callback_id: str) -> None:
        request = TrainRequest(
            run_id=run_id,
            rides_key=rides.key,
            rides_sha256=rides.sha256,
            channel=parts.options.channel,
            service=service,
            gate_days=parts.options.gate_days,
            callback_id=callback_id,
        )
        parts.workers.train(request)

    trained = _answer("train", _ask_worker(steps, parts, "train", "the trainer's answer", send), Trained)
    text = f"trained {trained.model_version} on {trained.n_rides:,} rides"
    steps.do("trained", lambda: Done("trained", text, msgspec.to_builtins(trained)))
    return trained


def _ask_worker(steps: RunSteps, parts: LoopParts, name: str, what: str, send: Callable[[str], None]) -> dict[str, Any]:
    """Ask a worker, and once more if it does not answer: it may have been killed, or its answer lost."""
    timeout_s = parts.options.answer_timeout_s
    try:
        try:
            return steps.ask(name, what, send, timeout_s)
        except NoAnswerError:
            return steps.ask(f"{name} again", what, send, timeout_s)
    except NoAnswerError as error:
        problem = f"{what} did not come within {timeout_s:.0f} s, twice: the function's log says why"
        raise EndedError(End("failed", problem)) from error
    except AskFailedError as error:
        outcome: Outcome = "rejected" if error.kind in _REFUSALS else "failed"
        raise EndedError(End(outcome, f"{name}: {error.message}")) from error


def _answer(name: str, answer: Mapping[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        problem = f"{name}: the answer can't be used ({error}): deploy one version of ridecast to all functions"
        raise EndedError(End("failed", problem)) from error


def approve(steps: RunSteps, parts: LoopParts, run_id: str, candidate: str) -> None:
    """Ask a person whether the candidate may be promoted. The run's record has the callback id for the answer.

    Raises:
        EndedError: It may not, or nobody has answered.
    """
    timeout_s = parts.options.approval_timeout_s
    what = f"approval of {candidate}, with `ridecast loop approve {run_id}`"
    try:
        answer = steps.ask("approve", what, _send_nothing, timeout_s)
    except NoAnswerError as error:
        raise EndedError(End("kept", f"nobody approved {candidate} within {timeout_s / DAY_S:g} days")) from error
    except AskFailedError as error:
        raise EndedError(End("kept", f"{candidate} was not approved: {error.message}")) from error
    steps.do("approved", lambda: _approved(candidate, answer))


def _approved(candidate: str, answer: Mapping[str, Any]) -> Done:
    by, reason = (str(answer.get(name) or "")[:_MAX_CHARACTERS] for name in ("by", "reason"))
    by = by or "somebody"
    if answer.get("approved") is not True:
        return Done.over("kept", f"{by} declined {candidate}: {reason or 'no reason given'}")
    return Done("approved", f"{by} approved {candidate}", {"by": by})


def _send_nothing(callback_id: str) -> None:
    del callback_id
