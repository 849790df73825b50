"""Findings on a terminal, the worst first: a mark and a line each, folded to the window, the remedy below it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.text import Text

from infra.doctor.finding import Finding, Severity
from infra.printable import printable

_MARKS = {Severity.bad: ("✗", "red"), Severity.warning: ("!", "yellow"), Severity.good: ("✓", "green")}
_INDENT = "  "


def show(console: Console, stack_name: str, findings: Sequence[Finding]) -> None:
    """Writes findings for a person, in the order in which they come; where no terminal is, a line is never folded."""
    width = console.width if console.is_terminal else None
    for finding in findings:
        mark, colour = _MARKS[finding.severity]
        for line in _folded(f"{finding.check}: {finding.what}", f"{mark} ", width):
            console.print(_coloured(line, mark, colour), soft_wrap=True)
        for line in _folded(finding.remedy, f"{_INDENT}→ ", width):
            console.print(_coloured(line, "→", colour), soft_wrap=True)
    n = _counted(findings)
    verdict = f"{stack_name}: {n['bad']} bad, {n['warning']} to look at, {n['good']} well"
    console.print(Text(printable(verdict)), soft_wrap=True)


def _folded(text: str, beginning: str, width: int | None) -> Iterator[str]:
    """Yields lines that begin below each other; words stay whole, for many are options and names to copy."""
    words = printable(" ".join(text.split()))
    if not words:
        return
    if width is None:
        yield beginning + words
        return
    indent = " " * len(beginning)
    yield from wrap(
        words,
        width,
        initial_indent=beginning,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _coloured(line: str, mark: str, colour: str) -> Text:
    text = Text(line)
    if line.lstrip().startswith(mark):
        text.stylize(colour, 0, line.index(mark) + 1)
    return text


def json_result(stack_name: str, findings: Iterable[Finding]) -> dict[str, Any]:
    """Returns what `--json` writes: the stack, how many findings there are of each severity, and each of them."""
    listed = list(findings)
    return {"stack": stack_name, **_counted(listed), "findings": [asdict(finding) for finding in listed]}


def _counted(findings: Iterable[Finding]) -> dict[str, int]:
    severities = [finding.severity for finding in findings]
    return {severity.value: severities.count(severity) for severity in Severity}
