"""`ridecast smoke` against the local AWS: the stack's own function between its own streams."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.aws import LocalAws
from infra.local.event_source.mapping import EventSourceMapping, polling
from infra.local.runtime.in_process import running_in_process
from infra.local.stack import DeployedStack
from infra.operate.smoke import smoke
from tests.builders import small_bundle
from tests.fakes import publish_bundle

STACK_PARAMETERS = {"BatchWindowSeconds": 0}
PATIENCE_S = 180.0


@pytest.fixture
def running(aws: LocalAws, stack: DeployedStack, tmp_path: Path) -> Iterator[None]:
    """The function behind its mapping, in a thread."""
    with (
        running_in_process(stack.function, tmp_path / "function.log") as function,
        polling(EventSourceMapping(stack.mapping, aws.client("kinesis"), function)),
    ):
        yield


def test_deployed_function_predicts_its_golden_rides(aws: LocalAws, stack: DeployedStack, running: None) -> None:
    bundle = small_bundle()
    publish_bundle(aws.client("s3"), bundle, bucket=stack.bucket)

    result = smoke(aws.client, "ridecast", 150, PATIENCE_S)

    assert result.problems == ()
    assert (result.n_predicted, result.model_version) == (150, bundle.model_version)
