"""The translated templates, read once for all contract tests."""

from typing import Any

import pytest

from infra.local.stack import Stack
from tests.kits import template as template_kit
from tests.kits.alarms import Properties, alarms_of
from tests.kits.bootstrap import bootstrap_resources


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The repository's template with its default parameters."""
    return template_kit.stack()


@pytest.fixture(scope="session")
def alarms(stack: Stack) -> dict[str, Properties]:
    """The properties of every alarm on a metric, by logical id."""
    return alarms_of(stack)


@pytest.fixture(scope="session")
def resources() -> dict[str, Any]:
    """The resources of the bootstrap template."""
    return bootstrap_resources()
