"""`ridecast smoke` against the local AWS: the stack's own function between its own streams."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.aws import LocalAws
from infra.local.event_source.mapping import EventSourceMapping, polling
from infra.local.runtime.in_process import running_in_process
from infra.local.stack import DeployedStack, deploy
from infra.operate.smoke import smoke
from tests.builders import small_bundle
from training.errors import UserError
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

STACK = "ridecast"
PATIENCE_S = 180.0


@pytest.fixture(scope="module")
def stack(aws: LocalAws) -> DeployedStack:
    return deploy(aws, STACK, parameters={"BatchWindowSeconds": 0})


@pytest.fixture
def running(aws: LocalAws, stack: DeployedStack, tmp_path: Path) -> Iterator[None]:
    """The function behind its mapping, in a thread."""
    with (
        running_in_process(stack.function, tmp_path / "function.log") as function,
        polling(EventSourceMapping(stack.mapping, aws.client("kinesis"), function)),
    ):
        yield


def test_stack_without_a_model_is_an_error(aws: LocalAws, stack: DeployedStack) -> None:
    with pytest.raises(UserError, match="holds no model"):
        smoke(aws.client, STACK, 5, PATIENCE_S)


def test_deployed_function_predicts_its_golden_rides(aws: LocalAws, stack: DeployedStack, running: None) -> None:
    bundle, bucket = small_bundle(), Bucket(aws.client("s3"), stack.bucket)
    store_bundle(bucket, bundle)
    move_channel(bucket, "stable", bundle.model_version, bundle.manifest_sha256)

    result = smoke(aws.client, STACK, 150, PATIENCE_S)

    assert result.problems == ()
    assert (result.n_predicted, result.model_version) == (150, bundle.model_version)


def test_stack_whose_function_does_not_run_fails(aws: LocalAws, stack: DeployedStack) -> None:
    result = smoke(aws.client, STACK, 5, 1.0)

    assert result.n_predicted == 0
    assert result.problems[0].startswith("5 of 5 rides have no prediction")
