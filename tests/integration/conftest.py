"""The AWS on this machine that integration tests run against."""

from collections.abc import Iterator

import pytest

from infra.local.aws import LocalAws


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    """Run a local AWS. Each test module has its own, because many modules deploy the template with its names."""
    with LocalAws() as running:
        yield running
