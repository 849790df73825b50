"""Each error tree drawn in a docstring is the one that the code has: no class missing, none made up, none misplaced."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import infra.errors
import lambda_function.errors
import training.errors

LEAF = re.compile(r"^(?P<indent>[│ ]*)[├└]── (?P<name>\w+)")


def drawn_parents(docstring: str) -> dict[str, str]:
    """Reads a drawing: each class below the root, and the class that it hangs from."""
    lines = docstring.splitlines()
    first = next(i for i, line in enumerate(lines) if LEAF.match(line))
    path = [lines[first - 1].strip()]
    parents = {}
    for leaf in filter(None, map(LEAF.match, lines[first:])):
        depth = 1 + len(leaf["indent"]) // 4
        path[depth:] = [leaf["name"]]
        parents[leaf["name"]] = path[depth - 1]
    return parents


def coded_parents(package: Path, root: str) -> dict[str, str]:
    """Reads a package's sources, for an import may need settings: each class below the root, and its base class."""
    bases = dict(class_bases(package))
    return {name: base for name, base in bases.items() if root in ancestors(name, bases)}


def class_bases(package: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.bases:
                yield node.name, ast.unparse(node.bases[0]).rpartition(".")[2]


def ancestors(name: str, bases: dict[str, str]) -> Iterator[str]:
    while name in bases:
        name = bases[name]
        yield name


@pytest.mark.parametrize(
    ("module", "root"),
    [(infra.errors, "InfraError"), (training.errors, "TrainingError"), (lambda_function.errors, "PredictorError")],
    ids=["infra", "training", "lambda_function"],
)
def test_drawing_names_every_error_under_its_base(module: ModuleType, root: str) -> None:
    assert module.__file__
    coded = coded_parents(Path(module.__file__).parent, root)

    assert len(coded) > 1
    assert drawn_parents(module.__doc__ or "") == coded
