"""The environment variables of a function, and those that are not as in the deployed template."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any


def variables_of(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Return a function's environment; empty if it has none. Values of a template may be numbers."""
    found = configuration.get("Environment", {}).get("Variables", {})
    return {name: str(value) for name, value in found.items()}


def changed_variables(
    configuration: Mapping[str, Any], wanted: Mapping[str, Any], apart: Collection[str] = ()
) -> Iterator[str]:
    """Yield a sentence for each variable that is not as in the template.

    Args:
        configuration: The function's, as Lambda describes it.
        wanted: Its properties in the template; a value of None is unknown.
        apart: Variables that are compared elsewhere.
    """
    variables = variables_of(configuration)
    for name, value in wanted.get("Environment", {}).get("Variables", {}).items():
        now = variables.get(name, "")
        if name not in apart and value is not None and now != str(value):
            yield f"{name} is {now or 'not set'}, and the stack's is {value}"
