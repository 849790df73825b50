"""A built version in AWS's own runtime, as the pre-traffic hook meets it before the first ride."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.local.aws import LocalAws
from infra.local.runtime.emulator import EmulatedRuntime, FunctionConfig
from infra.local.runtime.function import function_config
from infra.local.stack import DeployedStack, deploy
from infra.stack.package import build_for_host
from lambda_function.aws.settings import PreTrafficSettings
from lambda_function.pre_traffic import NO_MODEL, PASSED, Trial, Verdict
from tests.builders import invocation, ride_bytes, small_bundle
from tests.kits.emulator import needs_emulator
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

pytestmark = [pytest.mark.slow, needs_emulator]


@dataclass
class EmulatedLambda:
    """Lambda's API in front of the emulator."""

    runtime: EmulatedRuntime

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        """Invokes the one version that there is."""
        answer = self.runtime(json.loads(Payload))
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


@pytest.fixture(scope="module")
def stack(aws: LocalAws) -> DeployedStack:
    return deploy(aws.client)


@pytest.fixture(scope="module")
def function(aws: LocalAws, stack: DeployedStack) -> FunctionConfig:
    return function_config(aws, stack, build_for_host().folder)


def test_hook_tries_a_built_version_and_nothing_of_it_reaches_the_stream(
    aws: LocalAws, stack: DeployedStack, function: FunctionConfig, tmp_path: Path
) -> None:
    settings = PreTrafficSettings(bucket=stack.bucket, model_channel="stable", new_version="the one")
    s3, kinesis = aws.client("s3"), aws.client("kinesis")

    with EmulatedRuntime(function, tmp_path / "log") as runtime:
        trial = Trial(settings, s3, EmulatedLambda(runtime))
        assert trial.run() == Verdict(passed=True, why=NO_MODEL)
        bundle = small_bundle()
        store_bundle(Bucket(s3, stack.bucket), bundle)
        move_channel(Bucket(s3, stack.bucket), "stable", bundle.model_version, bundle.manifest_sha256)
        assert trial.run() == Verdict(passed=True, why=PASSED)
        assert n_records(kinesis, stack.output_stream) == 0

        runtime(invocation(ride_bytes()))

    assert n_records(kinesis, stack.output_stream) == 1


def n_records(kinesis: Any, stream: str) -> int:
    """Counts what is on a stream of one shard."""
    (shard,) = kinesis.list_shards(StreamName=stream)["Shards"]
    position = {"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    iterator = kinesis.get_shard_iterator(**position)["ShardIterator"]
    return len(kinesis.get_records(ShardIterator=iterator)["Records"])
