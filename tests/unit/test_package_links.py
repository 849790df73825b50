"""The packages of the functions of `training` have every module that those functions import, and no pandas."""

from functools import cache
from pathlib import Path

import grimp
import pytest

from infra.stack.template import TEMPLATE, read_template

ROOT = Path(__file__).parents[2]
PACKAGES = "infra/stack/packages/"


@cache
def functions() -> dict[str, tuple[Path, str]]:
    """Return the package's folder and the module of each function that has such a package."""
    found = {}
    for name, resource in read_template(TEMPLATE)["Resources"].items():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::Serverless::Function" and str(properties["CodeUri"]).startswith(PACKAGES):
            found[name] = ROOT / properties["CodeUri"], properties["Handler"].rpartition(".")[0]
    return found


def has_module(folder: Path, module: str) -> bool:
    path = folder / module.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("lambda_function", "training")


@pytest.mark.parametrize("name", functions())
def test_package_has_every_module_that_its_function_imports(name: str, graph: grimp.ImportGraph) -> None:
    folder, module = functions()[name]
    imported = {module, *graph.find_upstream_modules(module)}
    assert len(imported) > 10
    assert sorted(one for one in imported if not has_module(folder, one)) == []


@pytest.mark.parametrize("name", functions())
def test_package_has_no_pandas(name: str) -> None:
    folder, _ = functions()[name]
    assert "pandas" not in (folder / "requirements.txt").read_text()
