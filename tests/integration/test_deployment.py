"""A deployment on the local AWS: the workflow's steps, with the packages that its jobs install and no others."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from infra.local.aws import LocalAws
from infra.stack.template import ROOT
from infra.stack.tools import run_uv
from tests.kits.deployment import SAMCONFIG, STACK, make_artefact_bucket, write_release

ARTEFACTS = "artefacts"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the group `deploy` in uv.lock, as `.ci/setup deploy` installs them."""
    folder = tmp_path_factory.mktemp("packages")
    exported = run_uv(
        "export", "--frozen", "--quiet", "--no-hashes", "--no-annotate", "--no-header", "--only-group=deploy"
    )
    for requirement in map(Requirement, exported.splitlines()):
        if requirement.marker is None or requirement.marker.evaluate():
            found = distribution(requirement.name)
            for name in {file.parts[0] for file in found.files or () if file.parts[0] not in {"..", "__pycache__"}}:
                (folder / name).symlink_to(str(found.locate_file(name)))
    return folder


@pytest.fixture(scope="module")
def artefacts(aws: LocalAws) -> None:
    make_artefact_bucket(aws.client("s3"), ARTEFACTS)


class _Deployment:
    """The workflow's steps, over one template."""

    def __init__(self, aws: LocalAws, packages: Path, folder: Path) -> None:
        self._aws = aws
        self._folder = folder
        self._output = folder / "output"
        self._environment = {**os.environ, **aws.environment, "no_proxy": "127.0.0.1", "PYTHONPATH": str(packages)}
        (folder / "samconfig.toml").write_text(SAMCONFIG)

    def release(self, shards: int, code: str = "", action: str = "s3:GetObject") -> None:
        """Write a release."""
        write_release(self._folder, shards, code, action)

    def plan(self) -> tuple[str, str]:
        """Plan; return the change set's identity, "" if nothing would change, and what the step wrote."""
        done = self.try_plan()
        assert done.returncode == 0, done.stderr
        return self._output.read_text().removeprefix("change_set=").strip(), done.stdout + done.stderr

    def try_plan(self) -> subprocess.CompletedProcess[str]:
        self._output.write_text("")
        config = ["--samconfig", self._folder / "samconfig.toml", "--environment", "dev"]
        return self.run("plan", *config, "--bucket", ARTEFACTS, *self._release, "--github-output", self._output)

    def execute(self, change_set: str) -> subprocess.CompletedProcess[str]:
        return self.run("execute", *self._before, "--change-set", change_set)

    def verify(self) -> subprocess.CompletedProcess[str]:
        return self.run("verify", *self._release)

    def undo(self) -> subprocess.CompletedProcess[str]:
        return self.run("undo", *self._before, "--bucket", ARTEFACTS)

    def shards(self) -> int:
        """Return the stream's number of shards."""
        found: Mapping[str, Any] = self._aws.client("kinesis").describe_stream_summary(StreamName="rides")
        return int(found["StreamDescriptionSummary"]["OpenShardCount"])

    def run(self, step: str, *words: object) -> subprocess.CompletedProcess[str]:
        return self.run_module("infra.stack.change_set", "--endpoint-url", self._aws.endpoint_url, step, *words)

    def run_module(self, module: str, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a module of this project for the stack; -S leaves out this environment's own packages."""
        return subprocess.run(  # noqa: S603 - this Python, with words from this file
            [sys.executable, "-S", "-m", module, *map(str, words), "--stack", STACK],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def _before(self) -> list[object]:
        return ["--before", self._folder / "before.json"]

    @property
    def _release(self) -> list[object]:
        return ["--release", self._folder / "release"]


@pytest.fixture
def deployment(aws: LocalAws, packages: Path, artefacts: None, tmp_path: Path) -> _Deployment:
    return _Deployment(aws, packages, tmp_path)


def test_stack_is_planned_deployed_verified_updated_and_undone(deployment: _Deployment, aws: LocalAws) -> None:
    deployment.release(shards=1)
    first, shown = deployment.plan()
    assert "| Add | Rides | AWS::Kinesis::Stream |  |" in shown
    assert deployment.execute(first).stdout == f"{STACK}: CREATE_COMPLETE\n"
    assert deployment.verify().stdout == f"{STACK}: 1 functions run the release's code\n"
    assert deployment.undo().stdout == f"{STACK}: a first deployment, left as it is\n"

    deployment.release(shards=2)
    refused, _ = deployment.plan()
    assert refused
    deployment.release(shards=1)
    nothing, said = deployment.plan()
    assert nothing == ""  # not the refused one
    assert f"{refused.partition('/')[0]} was never executed, deleted" in said

    deployment.release(shards=3, code="# new", action="s3:PutObject")
    second, shown = deployment.plan()
    old, new = (f'"Action": "s3:{verb}Object",' for verb in ("Get", "Put"))
    assert re.search(rf"\n- +{old}\n\+ +{new}\n", shown)
    assert second.partition("/")[0] != first.partition("/")[0]
    assert deployment.execute(second).returncode == 0
    assert deployment.verify().returncode == 0
    assert deployment.shards() == 3

    # WHEN somebody replaces the function's code by hand
    (function,) = aws.client("lambda").list_functions()["Functions"]
    aws.client("lambda").update_function_code(FunctionName=function["FunctionName"], ZipFile=_other_zip(deployment))
    differing = deployment.verify()
    assert differing.returncode == 1
    assert f"{function['FunctionName']} has code with the SHA-256" in differing.stderr

    assert deployment.undo().stdout == f"{STACK}: UPDATE_COMPLETE, as it was before\n"
    assert deployment.shards() == 1


def _other_zip(deployment: _Deployment) -> bytes:
    deployment.release(shards=3, code="# other", action="s3:PutObject")
    data = (deployment._folder / "release" / "package.zip").read_bytes()
    deployment.release(shards=3, code="# new", action="s3:PutObject")
    return data


def test_change_set_that_was_not_shown_is_not_executed(deployment: _Deployment) -> None:
    deployment.release(shards=4)
    shown, _ = deployment.plan()

    done = deployment.execute(f"{shown.partition('/')[0]}/another")

    assert done.returncode == 1
    assert "is not the change set that was shown" in done.stderr


def test_missing_change_set_is_an_error_of_one_sentence(deployment: _Deployment) -> None:
    done = deployment.execute("none/0a1b")

    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_failed_first_deployment_is_deleted_before_the_next_one(deployment: _Deployment, aws: LocalAws) -> None:
    # GIVEN a stack that was deleted: its stream is retained, as the template's are
    deployment.release(shards=1)
    aws.client("cloudformation").delete_stack(StackName=STACK)
    aws.client("kinesis").create_stream(StreamName="rides", ShardCount=1)

    failed = deployment.execute(deployment.plan()[0])
    assert f"stack {STACK} is ROLLBACK_COMPLETE (Rides: " in failed.stderr
    again = deployment.try_plan()
    assert again.returncode == 1
    assert "is in ROLLBACK_COMPLETE state and can not be updated" in again.stderr.splitlines()[-1]

    aws.client("cloudformation").delete_stack(StackName=STACK)
    aws.client("kinesis").delete_stream(StreamName="rides")
    assert deployment.execute(deployment.plan()[0]).stdout == f"{STACK}: CREATE_COMPLETE\n"


def test_smoke_test_runs_with_the_jobs_packages(deployment: _Deployment, aws: LocalAws) -> None:
    done = deployment.run_module("infra.cli.app", "smoke", "--endpoint-url", aws.endpoint_url, "--rides", 1)

    assert done.returncode == 2
    assert "\nridecast: " in done.stderr
    assert "Traceback" not in done.stderr
