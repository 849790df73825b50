"""The order in which a template's resources can be made: each after those that it refers to."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_SUB_NAME = re.compile(r"\$\{([A-Za-z0-9]+)[.}]")


def creation_order(resources: Mapping[str, Any]) -> Iterator[str]:
    """Yields logical names so that each comes after those that it refers to.

    >>> list(creation_order({"A": {"Properties": {"b": {"Ref": "B"}}}, "B": {"DependsOn": "C"}, "C": {}}))
    ['C', 'B', 'A']
    """
    done: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name in done:
            return
        done.add(name)
        for other in sorted(_named_in(resources[name]) & resources.keys()):
            yield from visit(other)
        yield name

    for name in resources:
        yield from visit(name)


def _named_in(node: Any) -> set[str]:
    """Returns every string in a piece of template that may name a resource."""
    if isinstance(node, str):
        return {node, node.partition(".")[0], *_SUB_NAME.findall(node)}
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return set().union(*map(_named_in, children))
