"""What can go wrong around the function, as one tree.

InfraError
├── MotoVersionError   the Kinesis patch knows another moto than the one installed
├── LocalAwsError      the embedded AWS did not start, or is gone
├── TemplateError      template.yaml says something that this project can't use
└── BuildError         the package could not be built, or is not as it must be

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
