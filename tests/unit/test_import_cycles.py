"""No module of the three packages imports itself, directly or through others; `make lint` holds the layers."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

PACKAGES = ("infra", "lambda_function", "training")


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph(*PACKAGES)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 100
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
