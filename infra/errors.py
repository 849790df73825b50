"""Errors of infra that somebody catches by type or reads the attributes of; all others are `UserError`s."""

from collections.abc import Sequence
from pathlib import Path

from training.errors import UserError


class MotoVersionError(UserError):
    """The installed moto is not the one whose insides the patch replaces."""

    def __init__(self, installed: str, expected: str) -> None:
        self.installed = installed
        self.expected = expected
        super().__init__(
            f"moto {installed} is installed, but infra/local/moto/kinesis.py patches {expected}: run `make setup`"
        )


class LocalAwsError(UserError):
    """The embedded AWS did not start or has ended by itself.

    Attributes:
        log: The last lines that its process wrote to standard error.
    """

    def __init__(self, problem: str, log: str) -> None:
        self.problem = problem
        self.log = log
        super().__init__(f"the embedded AWS {problem}; its last words: {log or '(none)'}")


class TemplateError(UserError):
    """The template can't be read, translated or deployed."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path.name} {problem}")


class SamError(UserError):
    """`sam` has failed.

    Attributes:
        command: Which: "build", "deploy" or "delete".
        last_lines: The end of what it wrote.
        log_path: All of it.
    """

    def __init__(self, command: str, last_lines: Sequence[str], log_path: Path) -> None:
        self.command = command
        self.last_lines = last_lines
        self.log_path = log_path
        super().__init__(f"sam {command} failed: {' / '.join(last_lines[-1:]) or 'it said nothing'}; see {log_path}")


class DeployLocalError(UserError):
    """A stack on the embedded AWS is not what a deployment should have made of it."""

    def __init__(self, step: str, problem: str, log_folder: Path) -> None:
        self.step = step
        self.problem = problem
        self.log_folder = log_folder
        super().__init__(f"after {step}, {problem}; the logs are in {log_folder}")


class EmulatorError(UserError):
    """AWS's runtime interface emulator is not here, does not start, or has ended by itself.

    Attributes:
        log_path: What it wrote; None where there is no such file.
    """

    def __init__(self, problem: str, log_path: Path | None) -> None:
        self.problem = problem
        self.log_path = log_path
        super().__init__(f"the runtime interface emulator {problem}" + (f"; see {log_path}" if log_path else ""))


class PortTakenError(UserError):
    """Somebody else listens where the HTTP API was to, or may not be listened on."""

    def __init__(self, address: str, why: str) -> None:
        self.address = address
        self.why = why
        super().__init__(f"cannot listen on {address} ({why}): choose another port with --port, or 0 for a free one")


class NoMetricsError(UserError):
    """A log is not there, or has none of the function's metrics in it."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path} {problem}: run `ridecast demo`, which writes build/function.log, or leave out --log")
