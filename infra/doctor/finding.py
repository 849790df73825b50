"""A finding: one thing looked at, how bad it is, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is, the worst first. `bad` makes the command fail."""

    bad = "bad"
    warning = "warning"
    good = "good"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `dataclasses.asdict` of it is what `--json` writes: fields are added, never renamed.

    Attributes:
        check: What was looked at, in a word or two that stay the same.
        what: What was found, with figures.
        remedy: What to do next; "" where there is nothing to do, and only there.
    """

    check: str
    severity: Severity
    what: str
    remedy: str = ""


def good(check: str, what: str) -> Finding:
    """Returns a finding that needs nobody."""
    return Finding(check, Severity.good, what)


def warning(check: str, what: str, remedy: str) -> Finding:
    """Returns a finding that can wait for the morning."""
    return Finding(check, Severity.warning, what, remedy)


def bad(check: str, what: str, remedy: str) -> Finding:
    """Returns a finding that keeps rides from being predicted, or hides that they are not."""
    return Finding(check, Severity.bad, what, remedy)
