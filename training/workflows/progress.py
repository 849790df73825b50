"""How a workflow reports its progress."""

from typing import Protocol


class Display(Protocol):
    """Receive progress messages."""

    def step(self, text: str) -> None:
        """A new step begins."""

    def warn(self, text: str) -> None:
        """Something that the reader should know."""
