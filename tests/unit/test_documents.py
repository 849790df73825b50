"""The documents keep their word: the tests, files, links and decisions that they name are there."""

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
def test_what_a_document_names_is_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    tests = [f"{file}::{name}" for file, name in TEST.findall(text) if name not in functions(ROOT / file)]
    places = [place for place in PLACE.findall(text) if not (ROOT / place).exists()]
    links = [link for link, heading in LINK.findall(text) if not is_there(ROOT / document, link, heading)]
    assert tests + places + links == []


@pytest.mark.parametrize(("document", "n_tests"), [("README.md", 10), ("docs/security.md", 50), ("docs/deploy.md", 5)])
def test_promises_are_shown_by_tests(document: str, n_tests: int) -> None:
    assert len(TEST.findall((ROOT / document).read_text(encoding="utf-8"))) >= n_tests


@cache
def functions(path: Path) -> frozenset[str]:
    """The functions of a module, by name; none where there is no module."""
    if not path.is_file():
        return frozenset()
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))


def is_there(document: Path, link: str, heading: str) -> bool:
    """Says whether a link of a document leads somewhere, to the heading too if it names one."""
    target = document.parent / link if link else document
    if not target.exists():
        return False
    return not heading or heading in {anchor(line) for line in target.read_text().splitlines() if line.startswith("#")}


def anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-")
