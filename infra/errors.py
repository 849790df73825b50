"""Errors of infra that somebody catches by type or reads the attributes of; all others are `UserError`s."""

from pathlib import Path

from training.errors import UserError


class NoMetricsError(UserError):
    """A log is not there, or has none of the function's metrics in it."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path} {problem}: run `ridecast demo`, which writes build/function.log, or leave out --log")
