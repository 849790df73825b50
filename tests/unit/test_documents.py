"""What the documents name exists: tests, files, links and headings; and every threat has a test."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (".", "docs", "docs/decisions", "infra/stack")
    for path in (ROOT / folder).glob("*.md")
)

TEST = re.compile(r"`(tests/\S+?\.py)::(\w+)`")
PLACE = re.compile(r"`((?:lambda_function|training|infra|tests|docs|\.github)/[\w./-]*)`")
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_everything_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    tests = [f"{file}::{name}" for file, name in TEST.findall(text) if name not in _functions(ROOT / file)]
    places = [place for place in PLACE.findall(text) if not (ROOT / place).exists()]
    links = [link for link, heading in LINK.findall(text) if not _exists(ROOT / document, link, heading)]
    assert tests + places + links == []


def test_every_answer_to_a_threat_names_a_test_or_refers_to_the_one_above() -> None:
    review, _, _ = (ROOT / "docs/security.md").read_text(encoding="utf-8").partition("## Signed bundles")
    _, *sections = re.split(r"^### ", review, flags=re.MULTILINE)
    rows = [line for section in sections for line in section.splitlines() if line.startswith("|")]
    answers = [row for row in rows if not row.startswith(("| threat", "|---"))]
    assert len(answers) >= 30
    assert [row for row in answers if "::" not in row and "the same" not in row] == []


@cache
def _functions(path: Path) -> frozenset[str]:
    """Return the names of a module's functions; none if there is no such module."""
    if not path.is_file():
        return frozenset()
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def _exists(document: Path, link: str, heading: str) -> bool:
    """Return whether the target of a document's link exists, and its heading if the link names one."""
    target = document.parent / link if link else document
    if not target.exists():
        return False
    return not heading or heading in {_anchor(line) for line in target.read_text().splitlines() if line.startswith("#")}


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-")
