"""A deployment on the local AWS with the workflow's steps: `sam deploy` plans, our steps execute and undo."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.local.aws import LocalAws
from infra.stack.change_set import main
from infra.stack.tools import sam_command, tool_environment

STACK, ARTEFACTS = "ridecast", "artefacts"

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Name: { Type: String }
  Shards: { Type: Number, Default: 1 }
Resources:
  Rides:
    Type: AWS::Kinesis::Stream
    Properties: { Name: !Ref Name, ShardCount: !Ref Shards }
"""


@pytest.fixture(scope="module")
def artefacts(aws: LocalAws) -> None:
    aws.client("s3").create_bucket(Bucket=ARTEFACTS)


@pytest.fixture
def environment(aws: LocalAws, artefacts: None, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The environment of the steps, with the local AWS and a bucket for packages."""
    for name, value in {**aws.environment, "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    return {**tool_environment(), **aws.environment}


class Deployment:
    """The workflow's steps, over one template."""

    def __init__(self, aws: LocalAws, environment: Mapping[str, str], folder: Path) -> None:
        self._aws = aws
        self._environment = environment
        self._folder = folder
        self._endpoint = ["--endpoint-url", aws.endpoint_url]

    def plan(self, template: str, **parameters: object) -> str:
        """Clear, create a change set with the real sam, show it, and return its name; "" if nothing would change."""
        assert main([*self._endpoint, "clear", "--stack", STACK]) == 0
        path = self._folder / "template.yaml"
        path.write_text(template, encoding="utf-8")
        output = self._folder / "output"
        output.write_text("")
        options = ["--template-file", str(path), "--stack-name", STACK, "--s3-bucket", ARTEFACTS]
        options += ["--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())]
        options += ["--no-confirm-changeset", "--no-execute-changeset", "--no-fail-on-empty-changeset"]
        subprocess.run(  # noqa: S603 - sam, with words from this file
            [*sam_command(), "deploy", *options],
            env=self._environment,
            cwd=self._folder,
            check=True,
            capture_output=True,
        )
        assert main([*self._endpoint, "show", "--stack", STACK, "--github-output", str(output)]) == 0
        return output.read_text().removeprefix("change_set=").strip()

    def execute(self, change_set: str) -> int:
        """Execute it, and store what was deployed."""
        return self._step("execute", "--change-set", change_set)

    def undo(self) -> int:
        """Undo it."""
        return self._step("undo", "--bucket", ARTEFACTS)

    def shards(self, name: str) -> int:
        """Return a stream's number of shards."""
        found: dict[str, Any] = self._aws.client("kinesis").describe_stream_summary(StreamName=name)
        return int(found["StreamDescriptionSummary"]["OpenShardCount"])

    def _step(self, *words: str) -> int:
        before = ["--before", str(self._folder / "before.json")]
        return main([*self._endpoint, words[0], "--stack", STACK, *before, *words[1:]])


def test_stack_is_planned_deployed_updated_and_undone(
    aws: LocalAws, environment: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = Deployment(aws, environment, tmp_path)

    first = deployment.plan(TEMPLATE, Name="rides")
    assert "| Add | Rides | AWS::Kinesis::Stream |  |" in capsys.readouterr().out
    assert deployment.execute(first) == 0
    assert deployment.undo() == 0
    assert capsys.readouterr().out.splitlines() == [
        "ridecast: CREATE_COMPLETE",
        "ridecast: a first deployment, left as it is",
    ]

    refused = deployment.plan(TEMPLATE.replace("!Ref Shards", "2"), Name="rides")
    assert refused
    assert deployment.plan(TEMPLATE, Name="rides") == ""  # not the refused one
    assert f"{refused} was never executed" in capsys.readouterr().out

    second = deployment.plan(TEMPLATE.replace("!Ref Shards", "3"), Name="rides")
    assert second != first
    assert deployment.execute(second) == 0
    assert deployment.shards("rides") == 3

    assert deployment.undo() == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ridecast: UPDATE_COMPLETE, as it was before"
    assert deployment.shards("rides") == 1


def test_missing_change_set_is_an_error_of_one_sentence(
    aws: LocalAws, environment: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Deployment(aws, environment, tmp_path).execute("none") == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
