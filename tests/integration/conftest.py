"""The AWS on this machine, the function's built package and its log, for integration tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.aws import LocalAws
from infra.stack.package import build_for_host


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    """Run a local AWS. Each test module has its own, because many modules deploy the template with its names."""
    with LocalAws() as running:
        yield running


@pytest.fixture(scope="session")
def package() -> Path:
    """Build the function's package for this machine."""
    return build_for_host().folder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the path of a function's log."""
    return tmp_path / "function.log"
