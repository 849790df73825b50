"""A deployment: a change set is chosen, shown, executed and undone; a release has reproducible files."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
from botocore.exceptions import ClientError

from infra.local.s3 import client_error
from infra.stack.deployment import (
    MAX_WAITS,
    WAIT_S,
    Change,
    as_markdown,
    clear_change_sets,
    deployment_parameters,
    execute,
    newest_change_set,
    read_changes,
    read_deployed,
    undo,
)
from infra.stack.release import write_archive
from infra.stack.sbom import requirements_of_the_runtime
from tests.fakes import BUCKET, FakeClock, FakeS3
from training.errors import UserError

STACK = "ridecast"
STACK_ID = "arn:aws:cloudformation:us-east-1:123456789012:stack/ridecast/1"
CHANGE_SET = "samcli-deploy1"
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
        self.refusal = ""
        self.created: list[dict[str, Any]] = []
        self.change_sets: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self._events = [event(0, "UPDATE_COMPLETE")]  # of an earlier deployment
        self._to_come = list(to_come)
        self._stack = stack
        self._template = template

    def execute_change_set(self, *, ChangeSetName: str, StackName: str) -> None:  # noqa: N803
        assert StackName == STACK
        if self.refusal:
            raise client_error(400, self.refusal)
        self.executed.append(ChangeSetName)

    def delete_change_set(self, *, ChangeSetName: str, StackName: str) -> None:  # noqa: N803
        assert StackName == STACK
        self.change_sets = [one for one in self.change_sets if one["ChangeSetName"] != ChangeSetName]

    def create_change_set(self, **request: Any) -> None:
        self.created.append(request)

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
        return SimpleNamespace(wait=lambda **_: None)

    def get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(paginate=lambda **_: self._pages(operation))

    def _pages(self, operation: str) -> Iterator[dict[str, Any]]:
        """Yield one item a page."""
        if operation == "list_change_sets":
            yield from ({"Summaries": [one]} for one in self.change_sets)
        elif operation == "describe_change_set":
            yield from ({"Changes": [{"ResourceChange": one}]} for one in self.changes)
        else:
            if self.executed and self._to_come:
                self._events.insert(0, self._to_come.pop(0))
            yield from ({"StackEvents": [one]} for one in self._events)


class AddressedS3(FakeS3):
    """S3 with an endpoint."""

    meta = SimpleNamespace(endpoint_url="https://s3.eu-west-1.amazonaws.com")


def executed(*to_come: dict[str, Any]) -> tuple[str, FakeClock]:
    clock = FakeClock()
    return execute(_CloudFormation(*to_come), STACK, CHANGE_SET, clock.sleep), clock


# -- choosing and showing


def summary(name: str, minutes: int, status: str = "AVAILABLE") -> dict[str, Any]:
    arn = f"arn:aws:cloudformation:us-east-1:123456789012:changeSet/{name}/2"
    made = NOON + timedelta(minutes=minutes)
    return {"ChangeSetId": arn, "ChangeSetName": name, "ExecutionStatus": status, "CreationTime": made}


def test_newest_change_set_that_can_be_executed_is_chosen() -> None:
    cloudformation = _CloudFormation()
    assert newest_change_set(cloudformation, STACK) is None

    cloudformation.change_sets = [summary("old", 1), summary("new", 2), summary("failed", 3, "UNAVAILABLE")]
    assert newest_change_set(cloudformation, STACK) == "new"


def test_change_sets_that_were_never_executed_are_deleted_before_the_next_plan() -> None:
    cloudformation = _CloudFormation(stack=DEPLOYED)
    cloudformation.change_sets = [summary("refused", 1), summary("done", 2, "EXECUTE_COMPLETE")]

    assert clear_change_sets(cloudformation, STACK) == ["refused"]
    assert [one["ChangeSetName"] for one in cloudformation.change_sets] == ["done"]
    assert clear_change_sets(_CloudFormation(), STACK) == []  # there is no stack


def test_changes_that_endanger_data_are_shown_first() -> None:
    cloudformation = _CloudFormation()
    cloudformation.changes = [
        {"Action": "Add", "LogicalResourceId": "Alarm", "ResourceType": "AWS::CloudWatch::Alarm"},
        {
            "Action": "Modify",
            "LogicalResourceId": "RideEvents",
            "ResourceType": "AWS::Kinesis::Stream",
            "Replacement": "Conditional",
        },
        {"Action": "Remove", "LogicalResourceId": "Bucket", "ResourceType": "AWS::S3::Bucket"},
    ]

    shown = as_markdown(STACK, read_changes(cloudformation, STACK, CHANGE_SET)).splitlines()

    assert shown[0] == "### ridecast: 3 changes"
    assert [line.split(" | ")[:2] for line in shown[3:]] == [
        ["| ⚠️ Modify", "RideEvents"],
        ["| ⚠️ Remove", "Bucket"],
        ["| Add", "Alarm"],
    ]


@pytest.mark.parametrize(
    ("action", "kind", "replacement", "endangers"),
    [
        ("Modify", "AWS::S3::Bucket", "False", False),
        ("Modify", "AWS::S3::Bucket", "True", True),
        ("Remove", "AWS::KMS::Key", "", True),
        ("Remove", "AWS::Lambda::Version", "", False),
    ],
)
def test_data_is_endangered_by_removal_or_replacement(
    action: str, kind: str, replacement: str, endangers: bool
) -> None:
    assert Change(action, "X", kind, replacement).endangers_data is endangers


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

    with pytest.raises(
        UserError, match=f"{CHANGE_SET}, or a change set after it, has been executed already: plan again"
    ):
        execute(cloudformation, STACK, CHANGE_SET)


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


def undone(stack: dict[str, Any], template: str = "{}") -> tuple[dict[str, Any], AddressedS3]:
    """Undo a deployment of a stack; return the request for its change set, which was executed, and S3."""
    before = read_deployed(_CloudFormation(stack=stack, template=template), STACK)
    assert before is not None
    cloudformation, s3 = _CloudFormation(event(1, "UPDATE_COMPLETE")), AddressedS3()
    assert undo(cloudformation, s3, BUCKET, before, FakeClock().sleep) == "UPDATE_COMPLETE"
    (request,) = cloudformation.created
    assert cloudformation.executed == [request["ChangeSetName"]]
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


# -- parameters


@pytest.mark.parametrize("overrides", ['"BatchSize=100 LogLevel=INFO"', '["BatchSize=100", "LogLevel=INFO"]'])
def test_parameters_are_the_files_and_the_workflows(tmp_path: Path, overrides: str) -> None:
    samconfig = tmp_path / "samconfig.toml"
    samconfig.write_text(f"[prod.deploy.parameters]\nparameter_overrides = {overrides}\n")

    found = deployment_parameters(samconfig, "prod", {"LogLevel": "ERROR", "Environment": "prod", "BoundaryArn": ""})

    assert found == ["BatchSize=100", "LogLevel=ERROR", "Environment=prod"]


def test_environment_that_is_not_in_the_file_is_an_error(tmp_path: Path) -> None:
    samconfig = tmp_path / "samconfig.toml"
    samconfig.write_text("version = 0.1\n")

    with pytest.raises(UserError, match=r"samconfig.toml has no environment prod: add \[prod.deploy.parameters\]"):
        deployment_parameters(samconfig, "prod", {})


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
