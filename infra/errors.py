"""What can go wrong around the function, as one tree.

InfraError
├── MotoVersionError       the Kinesis patch knows another moto than the one installed
├── LocalAwsError          the embedded AWS did not start, or is gone
├── TemplateError          template.yaml says something that this project can't use
├── BuildError             the package could not be built, or is not as it must be
├── StreamRefusedError     a stream did not take all that was sent to it
└── FunctionError          an invocation failed outside of the function's own code (local/runtime.py)
    ├── FunctionTimeoutError     it took longer than it may
    ├── FunctionResponseError    it returned what Lambda can't pass on
    └── FunctionExitError        it ended its process

Errors carry facts as attributes and build their own sentence: what is wrong and what to do.
"""

from pathlib import Path


class InfraError(Exception):
    """Root of every error that `infra` raises on purpose."""


class MotoVersionError(InfraError):
    """The installed moto is not the one whose insides the patch replaces."""

    def __init__(self, installed: str, expected: str) -> None:
        self.installed = installed
        self.expected = expected
        super().__init__(
            f"moto {installed} is installed, but infra/local/kinesis.py patches {expected}: run `make setup`"
        )


class LocalAwsError(InfraError):
    """The embedded AWS did not start or has ended by itself.

    Attributes:
        log: The last lines that its process wrote to standard error.
    """

    def __init__(self, problem: str, log: str) -> None:
        self.problem = problem
        self.log = log
        super().__init__(f"the embedded AWS {problem}; its last words: {log or '(none)'}")


class TemplateError(InfraError):
    """The template can't be read, translated or deployed."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path.name} {problem}")


class BuildError(InfraError):
    """The function's package could not be built."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"cannot build the package: {problem}")


class StreamRefusedError(InfraError):
    """A stream did not take all that was sent to it.

    Attributes:
        stream_name: The stream.
        n_published: Entries that it has taken, from the beginning.
        n_waiting: Entries of the last chunk that it has not.
        last_error: Why not, in AWS's words; "" if it was not asked.
    """

    def __init__(self, stream_name: str, n_published: int, n_waiting: int, last_error: str) -> None:
        self.stream_name = stream_name
        self.n_published = n_published
        self.n_waiting = n_waiting
        self.last_error = last_error
        super().__init__(
            f"stream {stream_name} took {n_published} records and then not {n_waiting} more"
            f" ({last_error or 'no time was left to ask'}): check that it exists and may be written to,"
            " give it more shards, or publish at a lower rate"
        )
