"""One account for all tests of permissions: its stack takes seconds to make, and no test leaves it less than it was."""

from collections.abc import Iterator

import pytest

from infra.local.aws import LocalAws
from tests.kits.permissions import Account


@pytest.fixture(scope="session")
def account() -> Iterator[Account]:
    with LocalAws() as aws:
        yield Account(aws)
