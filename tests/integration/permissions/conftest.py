"""One account for all permission tests: its stack takes seconds to create, and no test removes anything from it."""

from collections.abc import Iterator

import pytest

from infra.local.aws import LocalAws
from tests.kits.permissions import Account


@pytest.fixture(scope="session")
def account() -> Iterator[Account]:
    with LocalAws() as aws:
        yield Account(aws)
