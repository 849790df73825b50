"""Run the loop on this machine. Results are kept in memory or in a file, and waits pass by any clock."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from training.errors import UserError
from training.workflows.loop.checkpoints import (
    AskFailedError,
    Checkpoints,
    NoAnswerError,
    StepFailedError,
    retry_delay_s,
)

Flow = Callable[[Checkpoints], dict[str, Any]]
"""A run of the loop, from its beginning to its result."""


class Failure(msgspec.Struct):
    """An error, as it is recorded."""

    kind: str
    message: str


class Operation(msgspec.Struct):
    """What is recorded of a step, a wait or a question.

    Attributes:
        kind: A question is "sent" once it has been sent.
        due: When it goes on by itself: the end of a wait, of a question's time, or the next attempt; None if never.
        n_failed: Failed attempts.
        result: Of a step, or the answer to a question; None without one.
        failure: Why there will be no result; None if there may be one.
        is_late: Whether a question's time is over.
    """

    kind: Literal["step", "wait", "ask", "sent"]
    due: datetime | None = None
    n_failed: int = 0
    result: dict[str, Any] | None = None
    failure: Failure | None = None
    is_late: bool = False


class _Journal(msgspec.Struct):
    operations: dict[str, Operation] = {}
    due: datetime | None = None  # when the run goes on; None if it is over or was never resumed
    result: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Journal).decode


class _Suspended(BaseException):
    """The run goes on later.

    Attributes:
        due: When, at the latest.
    """

    def __init__(self, due: datetime) -> None:
        self.due = due
        super().__init__()


class LocalExecution:
    """One run of the loop on this machine. The callback id of a question is its name.

    One process at a time may use a file. A process that ends anywhere loses nothing that was recorded.
    """

    def __init__(self, path: Path | None, clock: Callable[[], datetime]) -> None:
        """Open a run.

        Args:
            path: The file of results, which need not exist; None to keep them in memory.
            clock: Returns the time, aware.

        Raises:
            UserError: The file can't be read or holds something else.
        """
        self._path = path
        self._clock = clock
        self._journal = _read(path) if path else _Journal()

    def resume(self, flow: Flow) -> dict[str, Any] | None:
        """Run until the end or until the run has to wait, and return its result; None if it waits.

        An error of a step is recorded and retried when it is due. Errors outside steps are raised.

        Raises:
            UserError: The file can't be written.
        """
        if self._journal.result is None:
            try:
                self._journal.result = flow(_Replay(self._journal, self._clock, self._save))
                self._journal.due = None
            except _Suspended as suspended:
                self._journal.due = suspended.due
            self._save()
        return self._journal.result

    @property
    def is_over(self) -> bool:
        """Whether the run has its result."""
        return self._journal.result is not None

    def next_due(self) -> datetime | None:
        """Return when `resume` goes on: the past if a question was answered; None if the run is over or not begun."""
        return self._journal.due

    def questions(self) -> tuple[str, ...]:
        """Return the callback ids that wait for an answer."""
        found = self._journal.operations.items()
        return tuple(name for name, one in found if one.kind in {"ask", "sent"} and one.due)

    def answer(self, callback_id: str, result: dict[str, Any]) -> bool:
        """Record the answer to a question; return False if it has one already or its time is over.

        Raises:
            UserError: No question has this id.
        """
        return self._settle(callback_id, result, None)

    def fail(self, callback_id: str, kind: str, message: str) -> bool:
        """Record that the other side failed; otherwise as `answer`."""
        return self._settle(callback_id, None, Failure(kind, message))

    def _settle(self, callback_id: str, result: dict[str, Any] | None, failure: Failure | None) -> bool:
        asked = self._journal.operations.get(callback_id)
        if asked is None or asked.kind not in {"ask", "sent"}:
            raise UserError(f"this run has asked no question {callback_id!r}")
        if asked.due is None:
            return False
        asked.result, asked.failure, asked.due = result, failure, None
        self._journal.due = self._clock()
        self._save()
        return True

    def _save(self) -> None:
        if self._path is None:
            return
        text = msgspec.json.format(msgspec.json.encode(self._journal), indent=1)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            written = self._path.with_name(f".{self._path.name}")
            written.write_bytes(text)
            written.replace(self._path)
        except OSError as error:
            raise UserError(f"cannot write {self._path} ({error.strerror or error})", "make it writable") from error


class _Replay:
    """The checkpoints of one call of the flow: what is recorded is returned, the rest is done now."""

    def __init__(self, journal: _Journal, clock: Callable[[], datetime], save: Callable[[], None]) -> None:
        self._operations = journal.operations
        self._clock = clock
        self._save = save
        self._used: set[str] = set()

    def step(self, name: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Call a function unless its result is recorded."""
        one = self._operation(name, "step")
        if one.result is None:
            result = self._attempt(name, one, do)
            one.result, one.due = _plain(result), None
            self._save()
        return _plain(one.result)

    def wait(self, name: str, seconds: float) -> None:
        """Suspend the run unless the time is over."""
        one = self._operation(name, "wait", seconds)
        if one.due and self._clock() < one.due:
            raise _Suspended(one.due)
        if one.due:
            one.due = None
            self._save()

    def ask(self, name: str, send: Callable[[str], None], timeout_s: float) -> dict[str, Any]:
        """Send a question unless it was sent, and suspend the run unless there is an answer."""
        one = self._operation(name, "ask", timeout_s)
        if one.due and self._clock() >= one.due:
            one.is_late, one.due = True, None
            self._save()
        if one.kind == "ask" and (one.due or one.failure):
            self._send(name, one, send)
        if one.is_late:
            raise NoAnswerError(name, timeout_s)
        if one.failure:
            raise AskFailedError(one.failure.kind, one.failure.message)
        if one.result is None:
            raise _Suspended(one.due or self._clock())
        return _plain(one.result)

    def _send(self, name: str, one: Operation, send: Callable[[str], None]) -> None:
        """Send a question. Its attempts are a step of their own; an answer may come during one that fails."""

        def do() -> dict[str, Any]:
            send(name)
            return {}

        try:
            self.step(f"{name} (sending)", do)
        except _Suspended as suspended:
            if one.due:
                raise _Suspended(min(suspended.due, one.due)) from None
        except StepFailedError as error:
            if one.due or one.failure:
                one.failure, one.due = Failure(error.kind, error.message), None
                self._save()
                raise
        else:
            one.kind = "sent"
            self._save()

    def _operation(self, name: str, kind: Literal["step", "wait", "ask"], seconds: float | None = None) -> Operation:
        if name in self._used:
            raise ValueError(f"{name} is used twice in one run")
        self._used.add(name)
        if name not in self._operations:
            due = None if seconds is None else self._clock() + timedelta(seconds=seconds)
            self._operations[name] = Operation(kind, due)
            self._save()
        return self._operations[name]

    def _attempt(self, name: str, one: Operation, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if one.failure:
            raise self._failed(name, one)
        if one.due and self._clock() < one.due:
            raise _Suspended(one.due)
        try:
            return do()
        except Exception as error:  # noqa: BLE001 - recorded, retried, and raised after the last attempt
            self._note_failure(one, error)
        if one.due:
            raise _Suspended(one.due)
        raise self._failed(name, one)

    def _note_failure(self, one: Operation, error: Exception) -> None:
        one.n_failed += 1
        delay_s = retry_delay_s(one.n_failed)
        one.due = None if delay_s is None else self._clock() + timedelta(seconds=delay_s)
        if delay_s is None:
            one.failure = Failure(type(error).__name__, str(error))
        self._save()

    @staticmethod
    def _failed(name: str, one: Operation) -> StepFailedError:
        assert one.failure  # noqa: S101 - only then
        return StepFailedError(name, one.failure.kind, one.failure.message)


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result as it is after it was recorded as JSON, so that a replay sees what the first run saw."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(result))
    return plain


def _read(path: Path) -> _Journal:
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return _Journal()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or error})", "make it readable") from error
    except msgspec.DecodeError as error:
        raise UserError(
            f"{path} does not hold a run of the loop ({error})", "remove it, and start a new run"
        ) from error
