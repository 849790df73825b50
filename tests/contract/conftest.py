"""The translated template and its alarms, read once for all contract tests."""

import pytest

from infra.local.stack import Stack
from tests.kits import template as template_kit
from tests.kits.alarms import Properties, alarms_of


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The repository's template with its default parameters."""
    return template_kit.stack()


@pytest.fixture(scope="session")
def alarms(stack: Stack) -> dict[str, Properties]:
    """The properties of every alarm on a metric, by logical id."""
    return alarms_of(stack)
