"""The AWS on this machine, the function's built package and its log, for integration tests."""

from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest

from infra.local.aws import LocalAws
from infra.local.stack import DeployedStack, deploy
from infra.stack.package import build_for_host
from tests.kits.cli import Cli

botocore.loaders.create_loader = cache(botocore.loaders.create_loader)
"""A new session, which each command makes, would read AWS's descriptions of its services again: 0.1 s."""


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    """Run a local AWS. Each test module has its own, because many modules deploy the template with its names."""
    with LocalAws() as running:
        yield running


@pytest.fixture(scope="module")
def stack(aws: LocalAws, request: pytest.FixtureRequest) -> DeployedStack:
    """Deploy the template, with the test module's STACK_PARAMETERS if it has any."""
    return deploy(aws, parameters=getattr(request.module, "STACK_PARAMETERS", None))


@pytest.fixture
def cli(aws: LocalAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `ridecast` on the local AWS."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return Cli(monkeypatch, capsys, "--endpoint-url", aws.endpoint_url)


_numbers = count()


@pytest.fixture
def stream(kinesis: Any) -> str:
    """Make a stream with one shard, a new one for each test, with the test module's client."""
    name = f"stream-{next(_numbers)}"
    kinesis.create_stream(StreamName=name, ShardCount=1)
    return name


@pytest.fixture(scope="session")
def package() -> Path:
    """Build the function's package for this machine."""
    return build_for_host().folder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the path of a function's log."""
    return tmp_path / "function.log"
