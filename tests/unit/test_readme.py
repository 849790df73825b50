"""The README keeps its word: the tests that it names are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`(tests/\S+\.py)::(\w+)`", (ROOT / "README.md").read_text())


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED) >= 10
    missing = [f"{file}::{name}" for file, name in NAMED if name not in functions(ROOT / file)]
    assert missing == []


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def functions(path: Path) -> set[str]:
    """The functions of a module, by name."""
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
