"""Runs bandit over the code; a finding is answered by the comment that answers ruff's rule of the same number.

Ruff's S rules are bandit's B rules under the same numbers, but not all of them, and not in all cases: so both run, and
one comment, `noqa: S603 - why`, answers both; `nosec B105 - why` answers what ruff does not see. Without a reason
neither answers anything.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("lambda_function", "training", "infra")

LEFT_OUT = {
    "B101": "an assert narrows a type for mypy here; ruff's S101 asks for its reason all the same",
    "B403": "importing pickle does no harm: loading from it is B301, which is looked at",
    "B404": "importing subprocess does no harm: each call is B603, which is looked at",
}
"""Rules that don't run, and why."""

_ANSWER = re.compile(r"# (?:noqa:|nosec) (?P<rules>[A-Z]+\d+(?:, ?[A-Z]+\d+)*) - \S")


class Finding(NamedTuple):
    """What bandit found.

    Attributes:
        rule: As in ``B603``.
        lines: First and last line of the statement, from 1.
    """

    path: str
    lines: tuple[int, int]
    rule: str
    says: str

    def __str__(self) -> str:
        """Says where, what, and how to answer it."""
        answers = f"# noqa: S{self.rule[1:]} - why, or nosec {self.rule} - why"
        return f"{self.path}:{self.lines[0]}: {self.rule} {self.says} (mend it, or: {answers})"


def read_findings(report: Mapping[str, Any]) -> list[Finding]:
    """Reads bandit's JSON report."""
    return [
        Finding(
            path=found["filename"].removeprefix("./"),
            lines=(min(found["line_range"]), max(found["line_range"])),
            rule=found["test_id"],
            says=found["issue_text"],
        )
        for found in report["results"]
    ]


def unanswered(findings: Iterable[Finding], sources: Mapping[str, str]) -> list[Finding]:
    """Returns the findings that no comment on their own lines answers.

    Args:
        findings: What bandit found.
        sources: The text of each file found something in, by its path.

    >>> found = Finding("a.py", (1, 1), "B603", "subprocess call")
    >>> unanswered([found], {"a.py": "run(words)  # noqa: S603 - our own words"})
    []
    >>> len(unanswered([found], {"a.py": "run(words)  # noqa: S603"}))
    1
    """
    return [found for found in findings if not _is_answered(found, sources[found.path].splitlines())]


def _is_answered(finding: Finding, lines: list[str]) -> bool:
    first, last = finding.lines
    answers = (_ANSWER.search(line) for line in lines[first - 1 : last])
    either = {finding.rule, f"S{finding.rule[1:]}"}
    return any(either & set(re.split(", ?", answer["rules"])) for answer in answers if answer)


def main() -> int:
    """Prints every finding without an answer and returns the exit code."""
    options = [
        "--recursive",
        "--quiet",
        "--format",
        "json",
        "--skip",
        ",".join(LEFT_OUT),
        "--exit-zero",
        "--ignore-nosec",
    ]
    done = subprocess.run(  # noqa: S603 - bandit, with words from this file
        [sys.executable, "-m", "bandit", *options, *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout)
    found = read_findings(report)
    problems = [f"{error['filename']}: {error['reason']}" for error in report["errors"]]
    problems += map(str, unanswered(found, {one.path: (ROOT / one.path).read_text(encoding="utf-8") for one in found}))
    checked = f"bandit: {len(found)} findings, {len(problems) or 'none'} without an answer"
    sys.stdout.writelines(f"{line}\n" for line in [*problems, checked])
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
