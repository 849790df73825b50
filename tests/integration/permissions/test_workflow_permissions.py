"""The deployment's steps work under the roles of their jobs, and need every part of them."""

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.local.aws import LocalAws
from infra.stack.change_set import main
from tests.kits.bootstrap import DEV, bootstrap_resources, document, resolved
from tests.kits.deployment import SAMCONFIG, STACK, make_artefact_bucket, write_release
from tests.kits.permissions import Asked, Cut, cuts_of, documents_without, take_asked, unused

ARTEFACTS = "artefacts"
SMOKE_TEST = {"SendRides", "ReadPredictions", "ReadGoldenRides", "ListForNoSuchKey", "UseTheKeyThroughStreamsAndBucket"}
"""Statements for `ridecast smoke`, which test_command_permissions.py runs under the deploying role."""

_numbers = count()


class _Steps:
    """The steps of a deployment, each under a role of its own with IAM enforced, or as an administrator."""

    def __init__(self, aws: LocalAws, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._aws, self._folder, self._monkeypatch = aws, folder, monkeypatch
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        self.execution_role = aws.client("iam").get_role(RoleName="execution")["Role"]["Arn"]
        (folder / "samconfig.toml").write_text(SAMCONFIG)

    def plan(self, role: str = "") -> str:
        """Write a new release, plan it, and return the change set's identity."""
        release = write_release(self._folder, code=f"# {next(_numbers)}")
        output = self._folder / "output"
        output.write_text("")
        words = ["--samconfig", self._folder / "samconfig.toml", "--environment", "dev", "--bucket", ARTEFACTS]
        words += ["--execution-role", self.execution_role, "--release", release, "--github-output", output]
        self._run(role, "plan", *words)
        return output.read_text().removeprefix("change_set=").strip()

    def execute(self, change_set: str, role: str = "") -> None:
        self._run(role, "execute", "--change-set", change_set, *self._before)

    def verify(self, role: str) -> None:
        self._run(role, "verify", "--release", self._folder / "release")

    def undo(self, role: str) -> None:
        self._run(role, "undo", "--bucket", ARTEFACTS, *self._before)

    def forget_templates(self) -> None:
        """Delete the uploaded templates, as if the stack had been deployed by hand before."""
        s3 = self._aws.client("s3")
        found = [one["Key"] for one in s3.list_objects_v2(Bucket=ARTEFACTS)["Contents"]]
        for key in found:
            if key.endswith(".template"):
                s3.delete_object(Bucket=ARTEFACTS, Key=key)

    @property
    def _before(self) -> list[object]:
        return ["--before", self._folder / "before.json"]

    def _run(self, role: str, step: str, *words: object) -> None:
        """Run a step; raise PermissionError if a call is denied."""
        credentials = self._aws.assume(role) if role else {}
        for name, value in {**self._aws.environment, **{key.upper(): one for key, one in credentials.items()}}.items():
            self._monkeypatch.setenv(name, value)
        boto3.setup_default_session()  # the last one has other credentials
        arguments = ["--endpoint-url", self._aws.endpoint_url, step, "--stack", STACK, *map(str, words)]
        if not role:
            assert main(arguments) == 0
            return
        with self._aws.enforcing():
            code = main(arguments)
        if code:
            raise PermissionError(step)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """An account with an artefact bucket and a deployed stack."""
    with LocalAws() as running, pytest.MonkeyPatch.context() as monkeypatch:
        make_artefact_bucket(running.client("s3"), ARTEFACTS)
        running.client("iam").create_role(RoleName="execution", AssumeRolePolicyDocument="{}")
        first = _Steps(running, tmp_path_factory.mktemp("first"), monkeypatch)
        first.execute(first.plan())
        yield running


@pytest.fixture
def steps(aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Steps:
    return _Steps(aws, tmp_path, monkeypatch)


def policy(name: str, execution_role: str) -> list[dict[str, Any]]:
    """Return the statements of a workflow's role, without those of the smoke test."""
    values = {**DEV, "AWS::AccountId": "123456789012", "AWS::Region": "us-east-1"}
    values |= {"ArtefactBucket.Arn": f"arn:aws:s3:::{ARTEFACTS}", "ExecutionRole.Arn": execution_role}
    found = resolved(document(bootstrap_resources()[name]), values)["Statement"]
    return [one for one in found if one["Sid"] not in SMOKE_TEST]


def make_role(aws: LocalAws, documents: list[dict[str, Any]]) -> str:
    name = f"role-{next(_numbers)}"
    aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    (document_of_it,) = documents
    text = json.dumps({"Version": "2012-10-17", **document_of_it})
    aws.client("iam").put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=text)
    return name


def plan_job(steps: _Steps, role: str) -> None:
    """Plan over a change set that was left behind."""
    steps.plan()
    assert steps.plan(role)


def deploy_job(steps: _Steps, role: str) -> None:
    """Deploy, verify, and undo as after a failed smoke test, over a stack whose template is not in the bucket."""
    steps.execute(steps.plan(), role)
    steps.verify(role)
    steps.forget_templates()
    steps.undo(role)


JOBS: dict[str, Callable[[_Steps, str], None]] = {"PlanRole": plan_job, "DeployRole": deploy_job}


@pytest.mark.parametrize("name", JOBS)
def test_steps_work_under_the_role_of_their_job_and_need_every_part_of_it(
    aws: LocalAws, steps: _Steps, name: str
) -> None:
    whole = [{"Statement": policy(name, steps.execution_role)}]
    role = make_role(aws, whole)
    JOBS[name](steps, role)

    assert unused(cuts_of(whole[0]["Statement"]), whole, take_asked(aws, role)) == []


@pytest.mark.parametrize("name", JOBS)
def test_steps_fail_where_a_part_of_their_role_is_missing(aws: LocalAws, steps: _Steps, name: str) -> None:
    whole = [{"Statement": policy(name, steps.execution_role)}]
    left = documents_without(whole, cuts_of(whole[0]["Statement"])[0])

    with pytest.raises(PermissionError):
        JOBS[name](steps, make_role(aws, left))


def test_part_without_use_is_found_although_the_work_was_refused_something_else() -> None:
    statement = {"Sid": "Work", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "*"}
    asked: list[Asked] = [("s3:GetObject", "*", {}), ("s3:DeleteObject", "*", {})]

    assert unused(cuts_of([statement]), [{"Statement": [statement]}], asked) == [Cut("Work", "s3:PutObject")]
