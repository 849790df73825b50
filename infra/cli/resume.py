"""What an interrupted command has done, in a file below `build/`, from which `--resume` goes on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from infra.cli.options import BUILD
from training.errors import UserError


class State(Protocol):
    """What a command is about, and how far it is."""

    stream: str


T = TypeVar("T", bound=State)


HINT = "the same command with --resume goes on"


class ResumeFile:
    """The file of one command."""

    def __init__(self, command: str) -> None:
        """Name the file after a command, as in ``rides send``."""
        self._command = command
        self._path = BUILD / f"{command.replace(' ', '-')}.json"

    def load(self, kind: type[T], stream: str | None) -> T:
        """Return the state of the last run that did not end.

        Args:
            kind: Of the state.
            stream: The stream that the command names now; None if it names none.

        Raises:
            UserError: There is none, it cannot be read, or it is about another stream.
        """
        state = self._read(kind)
        if stream not in {None, state.stream}:
            raise UserError(
                f"the interrupted run is about {state.stream}, not {stream}",
                "name its stack or stream, or run without --resume",
            )
        return state

    def _read(self, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=kind)
        except FileNotFoundError as error:
            raise UserError(
                f"there is nothing to resume: {self._path} does not exist", "run it without --resume"
            ) from error
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UserError(f"{self._path} cannot be read: {error}", "delete it, and run without --resume") from error

    @contextmanager
    def keeping(self, state: object) -> Iterator[None]:
        """Store the state if the block ends in an exception, Ctrl-C included; else delete it."""
        try:
            yield
        except BaseException:
            self.store(state)
            raise
        self._path.unlink(missing_ok=True)

    def store(self, state: object) -> None:
        """Store a state: all of it or nothing."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = Path(f"{self._path}.new")
        written.write_bytes(msgspec.json.encode(state))
        written.replace(self._path)
