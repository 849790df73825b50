"""`ridecast smoke` and `doctor` against the local AWS: the stack's own function between its own streams."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.aws import LocalAws
from infra.local.event_source.mapping import EventSourceMapping, polling
from infra.local.runtime.in_process import running_in_process
from infra.local.stack import DeployedStack
from infra.local.up.state import FOLDER, RunningStack, write_running
from infra.operate.smoke import smoke
from tests.builders import small_bundle
from tests.fakes import publish_bundle
from tests.kits.cli import Cli

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


def test_option_local_is_all_that_commands_need_for_the_local_stack(
    aws: LocalAws, stack: DeployedStack, running: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "build" / FOLDER
    folder.mkdir(parents=True)
    place = RunningStack(
        pid=os.getpid(),
        endpoint_url=aws.endpoint_url,
        api_url="",
        stack="ridecast",
        bucket=stack.bucket,
        input_stream=stack.input_stream,
        output_stream=stack.output_stream,
        outcomes_stream=stack.outcomes_stream,
        started_at="",
    )
    write_running(folder, place)
    publish_bundle(aws.client("s3"), small_bundle(), bucket=stack.bucket)
    cli.options = ("--local",)

    def run(*words: object, code: int = 0) -> Any:
        return json.loads(cli.run(*words, "--json", code=code).splitlines()[-1])  # the function may log before it

    healthy = run("doctor")
    assert (healthy["bad"], healthy["warning"], healthy["unknown"]) == (0, 0, 0)
    assert run("smoke", "--rides", 3)["problems"] == []

    lambdas = aws.client("lambda")
    (mapping,) = (
        one for one in lambdas.list_event_source_mappings()["EventSourceMappings"] if "Predictor" in one["FunctionArn"]
    )
    lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    aws.client("s3").delete_object(Bucket=stack.bucket, Key="channels/stable.json")
    ill = run("doctor", code=1)
    lambdas.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    faults = {one["fault"]: one["remedy"] for one in ill["findings"] if one["severity"] != "good"}
    assert set(faults) == {"mapping-disabled", "channel-lost"}
    assert faults["mapping-disabled"].startswith("end `ridecast up` and start it again")
    assert "`ridecast models restore --channel stable --local`" in faults["channel-lost"]
