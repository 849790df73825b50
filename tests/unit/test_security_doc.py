"""The security review is whole: every threat of the issue has a place, and an answer that a test shows."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REVIEW = (ROOT / "docs" / "security.md").read_text()


@pytest.mark.parametrize(
    "threat",
    [
        "who writes a bundle",
        "who moves a channel",
        "hostile ride event",
        "hostile bundle",
        "zip bomb",
        "nests without end",
        "the log",
        "metrics without number",
        "another account",
        "supply chain",
        "the ci role",
        "the http api",
        "secrets",
    ],
)
def test_threat_is_reviewed(threat: str) -> None:
    assert threat in REVIEW.casefold()


def test_every_answer_in_a_table_of_threats_names_a_test_or_the_one_above() -> None:
    _, *sections = re.split(r"^### ", REVIEW.partition("## Signed bundles")[0], flags=re.MULTILINE)
    rows = [line for section in sections for line in section.splitlines() if line.startswith("|")]
    answers = [row for row in rows if not row.startswith(("| threat", "|---"))]
    assert len(answers) >= 30
    assert [row for row in answers if "::" not in row and "the same" not in row] == []
