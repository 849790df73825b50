"""How a workflow reports its progress."""

from typing import Protocol


class Progress(Protocol):
    """Receive progress messages."""

    def step(self, text: str) -> None:
        """Report that a step begins."""

    def warn(self, text: str) -> None:
        """Report a problem that does not stop the workflow."""
