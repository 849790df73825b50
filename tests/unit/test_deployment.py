"""A deployment: a change set is chosen, shown, executed and undone; a release has reproducible files."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
from botocore.exceptions import ClientError, WaiterError

from infra.stack.deployment import (
    MAX_WAITS,
    WAIT_S,
    Settings,
    Wanted,
    clear_change_sets,
    execute,
    identity_of,
    kept_parameters,
    make_change_set,
    read_deployed,
    read_settings,
    undo,
)
from infra.stack.describe import find_stack
from infra.stack.release import write_archive
from infra.stack.sbom import requirements_of_the_runtime
from tests.fakes import BUCKET, FakeClock
from tests.fakes_deployment import VersionedS3
from training.errors import UserError
from training.registry.folder_s3 import client_error

STACK = "ridecast"
STACK_ID = "arn:aws:cloudformation:us-east-1:123456789012:stack/ridecast/1"
CHANGE_SET = "release-1/0a1b-2c3d"
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def event(number: int, status: str, logical_id: str = STACK, reason: str = "") -> dict[str, Any]:
    """A stack event; by default of the stack itself."""
    return {
        "EventId": str(number),
        "StackId": STACK_ID,
        "PhysicalResourceId": STACK_ID if logical_id == STACK else f"physical-{logical_id}",
        "LogicalResourceId": logical_id,
        "ResourceStatus": status,
        **({"ResourceStatusReason": reason} if reason else {}),
    }


class _CloudFormation:
    """One stack with given events: after its change set is executed, each read adds one."""

    def __init__(self, *to_come: dict[str, Any], stack: dict[str, Any] | None = None, template: Any = "{}") -> None:
        self.executed: list[str] = []
        self.deleted: list[str] = []
        self.refusal = ""
        self.created: list[dict[str, Any]] = []
        self.change_sets: list[dict[str, Any]] = []
        self.unique_id = "0a1b-2c3d"  # of every change set
        self.failure = ""  # why no change set can be made
        self._events = [event(0, "UPDATE_COMPLETE")]  # of an earlier deployment
        self._to_come = list(to_come)
        self._stack = stack
        self._template = template

    def execute_change_set(self, *, ChangeSetName: str, StackName: str) -> None:  # noqa: N803
        assert StackName == STACK
        self.executed.append(identity_of(ChangeSetName))

    def delete_change_set(self, *, ChangeSetName: str, StackName: str) -> None:  # noqa: N803
        assert StackName == STACK
        self.deleted.append(ChangeSetName)
        self.change_sets = [one for one in self.change_sets if one["ChangeSetName"] != ChangeSetName]

    def create_change_set(self, **request: Any) -> dict[str, str]:
        self.created.append(request)
        return {"Id": self._arn(request["ChangeSetName"])}

    def describe_change_set(self, *, ChangeSetName: str, StackName: str) -> dict[str, str]:  # noqa: N803
        if self.refusal:
            raise client_error(400, self.refusal)
        return {"ChangeSetId": self._arn(ChangeSetName)}

    def _arn(self, name: str) -> str:
        return f"arn:aws:cloudformation:us-east-1:123456789012:changeSet/{name}/{self.unique_id}"

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803
        if self._stack is None:
            error = client_error(400, "ValidationError")
            error.response["Error"]["Message"] = f"Stack with id {StackName} does not exist"
            raise error
        return {"Stacks": [self._stack]}

    def get_template(self, **request: str) -> dict[str, Any]:
        assert request["TemplateStage"] == "Original"
        return {"TemplateBody": self._template}

    def get_waiter(self, name: str) -> Any:
        assert name == "change_set_create_complete"
        return SimpleNamespace(wait=self._wait)

    def _wait(self, **_: str) -> None:
        if self.failure:
            raise WaiterError("ChangeSetCreateComplete", "failed", {"StatusReason": self.failure})

    def get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(paginate=lambda **_: self._pages(operation))

    def _pages(self, operation: str) -> Iterator[dict[str, Any]]:
        """Yield one item a page."""
        if operation == "list_change_sets":
            yield from ({"Summaries": [one]} for one in self.change_sets)
        else:
            if self.executed and self._to_come:
                self._events.insert(0, self._to_come.pop(0))
            yield from ({"StackEvents": [one]} for one in self._events)


def executed(*to_come: dict[str, Any]) -> tuple[str, FakeClock]:
    clock = FakeClock()
    return execute(_CloudFormation(*to_come), STACK, CHANGE_SET, clock.sleep), clock


# -- planning


def summary(name: str, minutes: int, status: str = "AVAILABLE") -> dict[str, Any]:
    arn = f"arn:aws:cloudformation:us-east-1:123456789012:changeSet/{name}/2"
    made = NOON + timedelta(minutes=minutes)
    return {"ChangeSetId": arn, "ChangeSetName": name, "ExecutionStatus": status, "CreationTime": made}


def test_change_sets_that_were_never_executed_are_deleted_before_the_next_plan() -> None:
    cloudformation = _CloudFormation(stack=DEPLOYED)
    cloudformation.change_sets = [summary("refused", 1), summary("done", 2, "EXECUTE_COMPLETE")]

    assert clear_change_sets(cloudformation, STACK) == ["refused"]
    assert [one["ChangeSetName"] for one in cloudformation.change_sets] == ["done"]
    assert clear_change_sets(_CloudFormation(), STACK) == []  # there is no stack


WANTED = Wanted(
    name=STACK,
    template_url="https://s3.eu-west-1.amazonaws.com/bucket/key",
    parameters={"BatchSize": "100", "AlarmEmail": None},
    tags={"project": "ridecast"},
    capabilities=("CAPABILITY_IAM",),
    role_arn="arn:aws:iam::123456789012:role/execution",
)


@pytest.mark.parametrize(
    ("stack", "kind"),
    [
        (None, "CREATE"),
        ({"StackStatus": "REVIEW_IN_PROGRESS"}, "CREATE"),
        ({"StackStatus": "UPDATE_COMPLETE"}, "UPDATE"),
    ],
    ids=["no stack", "only planned", "deployed"],
)
def test_change_set_creates_or_updates_the_stack_with_all_settings(stack: dict[str, Any] | None, kind: str) -> None:
    cloudformation = _CloudFormation(stack=stack)

    identity = make_change_set(cloudformation, WANTED, "release")

    (request,) = cloudformation.created
    name = request.pop("ChangeSetName")
    assert identity == f"{name}/0a1b-2c3d"
    assert name.startswith("release-")
    assert request == {
        "StackName": STACK,
        "ChangeSetType": kind,
        "TemplateURL": WANTED.template_url,
        "Parameters": [
            {"ParameterKey": "BatchSize", "ParameterValue": "100"},
            {"ParameterKey": "AlarmEmail", "UsePreviousValue": True},
        ],
        "Tags": [{"Key": "project", "Value": "ridecast"}],
        "Capabilities": ["CAPABILITY_IAM"],
        "RoleARN": WANTED.role_arn,
    }


def test_change_set_without_changes_is_deleted() -> None:
    cloudformation = _CloudFormation(stack=DEPLOYED)
    cloudformation.failure = "The submitted information didn't contain changes."

    assert make_change_set(cloudformation, WANTED, "release") is None
    assert cloudformation.deleted == [cloudformation.created[0]["ChangeSetName"]]


def test_change_set_that_cannot_be_made_is_an_error_with_its_reason() -> None:
    cloudformation = _CloudFormation(stack=DEPLOYED)
    cloudformation.failure = "Template error: instance of Fn::GetAtt references undefined resource Rides"

    with pytest.raises(UserError, match=r"no change set of stack ridecast could be made \(Template error: .*Rides\)"):
        make_change_set(cloudformation, WANTED, "release")


def test_parameters_that_a_stack_has_and_nobody_sets_keep_their_values() -> None:
    template: dict[str, Any] = {"Parameters": {"BatchSize": {}, "New": {}}}
    stack = read_deployed(_CloudFormation(stack=DEPLOYED), STACK)
    planned = find_stack(_CloudFormation(stack={**DEPLOYED, "StackStatus": "REVIEW_IN_PROGRESS"}), STACK)

    assert stack is not None
    assert kept_parameters(stack.stack, template) == {"BatchSize": None}
    assert kept_parameters(planned, template) == {}
    assert kept_parameters(None, template) == {}


# -- executing


@pytest.mark.parametrize(
    ("operation", "others"),
    [("UPDATE", [event(2, "UPDATE_COMPLETE", "Predictor")]), ("CREATE", [])],
    ids=["another resource ends first", "an earlier deployment has ended"],
)
def test_execution_waits_for_the_end_of_the_stack_itself(operation: str, others: list[dict[str, Any]]) -> None:
    status, clock = executed(event(1, f"{operation}_IN_PROGRESS"), *others, event(3, f"{operation}_COMPLETE"))

    assert status == f"{operation}_COMPLETE"
    assert clock.slept_s == [WAIT_S] * (1 + len(others))


def test_rollback_is_an_error_with_its_first_reasons() -> None:
    sentence = (
        r"stack ridecast is UPDATE_ROLLBACK_COMPLETE \(Predictoraliaslive: Rolled back by alarm FunctionErrorsAlarm\)"
    )
    with pytest.raises(UserError, match=sentence):
        executed(
            event(1, "UPDATE_FAILED", "Predictoraliaslive", "Rolled back by alarm FunctionErrorsAlarm"),
            event(2, "UPDATE_ROLLBACK_IN_PROGRESS"),
            event(3, "UPDATE_ROLLBACK_COMPLETE"),
        )


@pytest.mark.parametrize("code", ["ChangeSetNotFound", "InvalidChangeSetStatus"])
def test_change_set_that_was_executed_already_is_an_error(code: str) -> None:
    cloudformation = _CloudFormation()
    cloudformation.refusal = code

    with pytest.raises(UserError, match="release-1, or a change set after it, has been executed already: plan again"):
        execute(cloudformation, STACK, CHANGE_SET)


def test_change_set_that_another_one_of_its_name_has_replaced_is_not_executed() -> None:
    # GIVEN somebody who deletes what the reviewer has read, and makes another one under the same name
    cloudformation = _CloudFormation()
    cloudformation.unique_id = "ffff-ffff"

    with pytest.raises(UserError, match="release-1 is not the change set that was shown, but another of its name"):
        execute(cloudformation, STACK, CHANGE_SET)

    assert cloudformation.executed == []


def test_any_other_refusal_is_raised_as_it_is() -> None:
    cloudformation = _CloudFormation()
    cloudformation.refusal = "AccessDenied"

    with pytest.raises(ClientError, match="AccessDenied"):
        execute(cloudformation, STACK, CHANGE_SET)


def test_execution_does_not_wait_for_ever() -> None:
    clock = FakeClock()

    with pytest.raises(UserError, match="has not ended after 60 minutes"):
        execute(_CloudFormation(), STACK, CHANGE_SET, clock.sleep)

    assert len(clock.slept_s) == MAX_WAITS


# -- undoing

DEPLOYED = {
    "StackStatus": "UPDATE_COMPLETE",
    "Parameters": [{"ParameterKey": "BatchSize", "ParameterValue": "100"}],
    "Tags": [{"Key": "project", "Value": "ridecast"}],
    "Capabilities": ["CAPABILITY_IAM"],
    "RoleARN": "arn:aws:iam::123456789012:role/execution",
}


def undone(stack: dict[str, Any], template: str = "{}") -> tuple[dict[str, Any], VersionedS3]:
    """Undo a deployment of a stack; return the request for its change set, which was executed, and S3."""
    before = read_deployed(_CloudFormation(stack=stack, template=template), STACK)
    assert before is not None
    cloudformation, s3 = _CloudFormation(event(1, "UPDATE_COMPLETE"), stack=stack), VersionedS3()
    assert undo(cloudformation, s3, BUCKET, before, FakeClock().sleep) == "UPDATE_COMPLETE"
    (request,) = cloudformation.created
    assert cloudformation.executed == [f"{request['ChangeSetName']}/0a1b-2c3d"]
    return request, s3


def test_undo_deploys_the_former_template_with_its_parameters_tags_and_role() -> None:
    request, s3 = undone(DEPLOYED, "Resources: {}")

    assert list(s3.objects.values()) == [b"Resources: {}"]
    assert request["TemplateURL"] == f"https://s3.eu-west-1.amazonaws.com/{BUCKET}/{next(iter(s3.objects))}"
    same = ("RoleARN", "Parameters", "Tags", "Capabilities")
    assert {name: request[name] for name in same} == {name: DEPLOYED[name] for name in same}


def test_undo_takes_over_at_once_and_no_alarm_rolls_it_back() -> None:
    # GIVEN a stack that shifts traffic in steps and watches alarms, one of which the bad release has raised
    usual = {"CodeRollout": "ByEnvironment", "RideEventsShards": "2", "RolloutAlarms": "Watched"}
    parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in usual.items()]

    request, _ = undone({**DEPLOYED, "Parameters": parameters})

    given = {one["ParameterKey"]: one["ParameterValue"] for one in request["Parameters"]}
    assert given == {"CodeRollout": "AllAtOnce", "RideEventsShards": "2", "RolloutAlarms": "Ignored"}


def test_json_template_stays_json() -> None:
    before = read_deployed(_CloudFormation(stack=DEPLOYED, template={"Resources": {}}), STACK)

    assert before is not None
    assert before.template == '{"Resources":{}}'


@pytest.mark.parametrize("stack", [None, {"StackStatus": "REVIEW_IN_PROGRESS"}], ids=["no stack", "only planned"])
def test_before_a_first_deployment_there_is_nothing_to_undo(stack: dict[str, Any] | None) -> None:
    assert read_deployed(_CloudFormation(stack=stack), STACK) is None


# -- settings


@pytest.mark.parametrize("overrides", ['"BatchSize=100 LogLevel=INFO"', '["BatchSize=100", "LogLevel=INFO"]'])
def test_settings_are_the_files(tmp_path: Path, overrides: str) -> None:
    samconfig = tmp_path / "samconfig.toml"
    samconfig.write_text(
        f"[prod.deploy.parameters]\nparameter_overrides = {overrides}\n"
        'capabilities = "CAPABILITY_IAM"\ntags = "project=ridecast environment=prod"\n'
    )

    assert read_settings(samconfig, "prod") == Settings(
        parameters={"BatchSize": "100", "LogLevel": "INFO"},
        tags={"project": "ridecast", "environment": "prod"},
        capabilities=("CAPABILITY_IAM",),
    )


def test_environment_that_is_not_in_the_file_is_an_error(tmp_path: Path) -> None:
    samconfig = tmp_path / "samconfig.toml"
    samconfig.write_text("version = 0.1\n")

    with pytest.raises(UserError, match=r"samconfig.toml has no environment prod: add \[prod.deploy.parameters\]"):
        read_settings(samconfig, "prod")


# -- the release


def test_archive_depends_on_names_and_bytes_only(tmp_path: Path) -> None:
    builds = [(("a.py", "b.so"), 0o664, ""), (("b.so", "a.py"), 0o600, ""), (("a.py", "b.so"), 0o664, "changed")]
    digests = []
    for number, (names, mode, more) in enumerate(builds):
        folder = tmp_path / str(number)
        (folder / "package").mkdir(parents=True)
        for name in names:
            path = folder / "package" / name
            path.write_text(name + more)
            path.chmod(mode)
        digests.append(write_archive(folder, tmp_path / f"{number}.zip"))

    same, also_same, other = digests
    assert same == also_same != other
    with ZipFile(tmp_path / "0.zip") as archive:
        assert archive.namelist() == ["package/a.py", "package/b.so"]
        assert {entry.external_attr >> 16 & 0o777 for entry in archive.infolist()} == {0o644}


EXPORTED = """\
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:cc
colorama==0.4.6 ; sys_platform == 'win32'
tzdata==2026.6
"""


def test_bill_of_materials_lists_what_lambdas_python_installs() -> None:
    assert requirements_of_the_runtime(EXPORTED) == "numpy==2.5.5 \\\n    --hash=sha256:cc\ntzdata==2026.6\n"
