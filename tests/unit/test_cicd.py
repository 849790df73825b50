"""Steps of a deployment: a change set is chosen, shown and carried out; what was there before is put back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pytest
from botocore.exceptions import ClientError

from infra.errors import ChangeSetError, TemplateError
from infra.stack.change_set import (
    MAX_WAITS,
    WAIT_S,
    Change,
    Deployed,
    as_markdown,
    clear_change_sets,
    deployment_parameters,
    execute,
    newest_change_set,
    put_back,
    read_changes,
    remember,
)
from infra.stack.release import write_archive
from tests.fakes import BUCKET, FakeS3
from tests.fakes_kinesis import FakeClock, client_error

STACK = "ridecast"
STACK_ID = "arn:aws:cloudformation:us-east-1:123456789012:stack/ridecast/1"
CHANGE_SET = "samcli-deploy1"
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def event(number: int, status: str, logical_id: str = STACK, reason: str = "") -> dict[str, Any]:
    """A stack event; the stack's own unless it is said whose."""
    return {
        "EventId": str(number),
        "StackId": STACK_ID,
        "PhysicalResourceId": STACK_ID if logical_id == STACK else f"physical-{logical_id}",
        "LogicalResourceId": logical_id,
        "ResourceStatus": status,
        **({"ResourceStatusReason": reason} if reason else {}),
    }


class FakeCloudFormation:
    """One stack that goes through given events, one each time it is looked at once its change set is carried out."""

    def __init__(self, *to_come: dict[str, Any], stack: dict[str, Any] | None = None, template: Any = "{}") -> None:
        self.executed: list[str] = []
        self.refusal = ""
        self.created: list[dict[str, Any]] = []
        self.change_sets: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []
        self._events = [event(0, "UPDATE_COMPLETE")]  # from last time
        self._to_come = list(to_come)
        self._stack = stack
        self._template = template

    def execute_change_set(self, *, ChangeSetName: str, StackName: str) -> None:  # noqa: N803
        """Begins, or refuses."""
        assert StackName == STACK
        if self.refusal:
            raise client_error(self.refusal, "ExecuteChangeSet")
        self.executed.append(ChangeSetName)

    def delete_change_set(self, *, ChangeSetName: str, StackName: str) -> None:  # noqa: N803
        """Takes it away."""
        assert StackName == STACK
        self.change_sets = [one for one in self.change_sets if one["ChangeSetName"] != ChangeSetName]

    def create_change_set(self, **request: Any) -> None:
        """Makes one that can be carried out."""
        self.created.append(request)

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803
        """Tells of the stack, if there is one."""
        if self._stack is None:
            error = client_error("ValidationError", "DescribeStacks")
            error.response["Error"]["Message"] = f"Stack with id {StackName} does not exist"
            raise error
        return {"Stacks": [self._stack]}

    def get_template(self, **request: str) -> dict[str, Any]:
        """Gives the template as it was sent: a text, or what boto3 makes of JSON."""
        assert request["TemplateStage"] == "Original"
        return {"TemplateBody": self._template}

    def get_waiter(self, name: str) -> "FakeCloudFormation":
        """Is a waiter too."""
        assert name == "change_set_create_complete"
        return self

    def wait(self, *, ChangeSetName: str, StackName: str) -> None:  # noqa: N803
        """Need not."""
        assert (StackName, ChangeSetName) == (STACK, self.created[-1]["ChangeSetName"])

    def get_paginator(self, operation: str) -> "Pages":
        """Pages of one."""
        return Pages(self, operation)

    def pages(self, operation: str) -> Iterator[dict[str, Any]]:
        """Gives one thing a page."""
        if operation == "list_change_sets":
            yield from ({"Summaries": [one]} for one in self.change_sets)
        elif operation == "describe_change_set":
            yield from ({"Changes": [{"ResourceChange": one}]} for one in self.changes)
        else:
            if self.executed and self._to_come:
                self._events.insert(0, self._to_come.pop(0))
            yield from ({"StackEvents": [one]} for one in self._events)


class AddressedS3(FakeS3):
    """Objects that have an address."""

    meta = SimpleNamespace(endpoint_url="https://s3.eu-west-1.amazonaws.com")


class Pages:
    """A paginator."""

    def __init__(self, cloudformation: FakeCloudFormation, operation: str) -> None:
        self._cloudformation = cloudformation
        self._operation = operation

    def paginate(self, **request: str) -> Iterator[dict[str, Any]]:
        """Gives the pages."""
        return self._cloudformation.pages(self._operation)


def carry_out(*to_come: dict[str, Any]) -> tuple[str, FakeClock]:
    clock = FakeClock()
    return execute(FakeCloudFormation(*to_come), STACK, CHANGE_SET, clock.sleep), clock


# -- choosing and showing


def summary(name: str, minutes: int, status: str = "AVAILABLE") -> dict[str, Any]:
    arn = f"arn:aws:cloudformation:us-east-1:123456789012:changeSet/{name}/2"
    made = NOON + timedelta(minutes=minutes)
    return {"ChangeSetId": arn, "ChangeSetName": name, "ExecutionStatus": status, "CreationTime": made}


def test_newest_change_set_that_can_be_carried_out_is_taken() -> None:
    cloudformation = FakeCloudFormation()
    cloudformation.change_sets = [summary("old", 1), summary("new", 2), summary("failed", 3, "UNAVAILABLE")]

    assert newest_change_set(cloudformation, STACK) == "new"


def test_stack_without_changes_has_no_change_set() -> None:
    assert newest_change_set(FakeCloudFormation(), STACK) is None


def test_what_was_planned_and_never_carried_out_is_cleared_before_the_next_plan() -> None:
    cloudformation = FakeCloudFormation(stack=DEPLOYED)
    cloudformation.change_sets = [summary("refused", 1), summary("done", 2, "EXECUTE_COMPLETE")]

    assert clear_change_sets(cloudformation, STACK) == ["refused"]
    assert [one["ChangeSetName"] for one in cloudformation.change_sets] == ["done"]
    assert newest_change_set(cloudformation, STACK) is None


def test_where_there_is_no_stack_nothing_was_planned() -> None:
    assert clear_change_sets(FakeCloudFormation(), STACK) == []


def test_what_endangers_data_is_shown_first() -> None:
    cloudformation = FakeCloudFormation()
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
def test_data_is_endangered_by_what_takes_its_holder_away(
    action: str, kind: str, replacement: str, endangers: bool
) -> None:
    assert Change(action, "X", kind, replacement).endangers_data is endangers


# -- carrying out


def test_it_waits_until_the_stack_itself_has_ended_well() -> None:
    status, clock = carry_out(
        event(1, "UPDATE_IN_PROGRESS"), event(2, "UPDATE_COMPLETE", "Predictor"), event(3, "UPDATE_COMPLETE")
    )

    assert status == "UPDATE_COMPLETE"
    assert clock.slept_s == [WAIT_S, WAIT_S]


def test_last_times_end_is_not_this_times() -> None:
    status, _ = carry_out(event(1, "CREATE_IN_PROGRESS"), event(2, "CREATE_COMPLETE"))

    assert status == "CREATE_COMPLETE"


def test_rollback_is_an_error_with_its_first_reasons() -> None:
    with pytest.raises(ChangeSetError) as raised:
        carry_out(
            event(1, "UPDATE_FAILED", "Predictoraliaslive", "Rolled back by alarm FunctionErrorsAlarm"),
            event(2, "UPDATE_ROLLBACK_IN_PROGRESS"),
            event(3, "UPDATE_ROLLBACK_COMPLETE"),
        )

    assert raised.value.status == "UPDATE_ROLLBACK_COMPLETE"
    assert raised.value.reasons == ["Predictoraliaslive: Rolled back by alarm FunctionErrorsAlarm"]
    assert "stack ridecast is UPDATE_ROLLBACK_COMPLETE (Predictoraliaslive: Rolled back" in str(raised.value)


@pytest.mark.parametrize("code", ["ChangeSetNotFound", "InvalidChangeSetStatus"])
def test_change_set_that_was_carried_out_already_is_to_be_planned_anew(code: str) -> None:
    cloudformation = FakeCloudFormation()
    cloudformation.refusal = code

    with pytest.raises(ChangeSetError, match=f"{CHANGE_SET} has been carried out already.*plan anew"):
        execute(cloudformation, STACK, CHANGE_SET)


def test_any_other_refusal_is_aws_own_to_tell() -> None:
    cloudformation = FakeCloudFormation()
    cloudformation.refusal = "AccessDenied"

    with pytest.raises(ClientError, match="AccessDenied"):
        execute(cloudformation, STACK, CHANGE_SET)


def test_it_does_not_wait_for_ever() -> None:
    clock = FakeClock()

    with pytest.raises(ChangeSetError, match="still at work"):
        execute(FakeCloudFormation(), STACK, CHANGE_SET, clock.sleep)

    assert len(clock.slept_s) == MAX_WAITS


# -- putting back

DEPLOYED = {
    "StackStatus": "UPDATE_COMPLETE",
    "Parameters": [{"ParameterKey": "BatchSize", "ParameterValue": "100"}],
    "Tags": [{"Key": "project", "Value": "ridecast"}],
    "Capabilities": ["CAPABILITY_IAM"],
    "RoleARN": "arn:aws:iam::123456789012:role/execution",
}


def test_what_was_there_is_put_back_with_its_parameters_tags_and_role(tmp_path: Path) -> None:
    before = remember(FakeCloudFormation(stack=DEPLOYED, template="Resources: {}"), STACK)
    assert before is not None
    before.store(tmp_path / "before.json")
    cloudformation, s3 = FakeCloudFormation(event(1, "UPDATE_COMPLETE")), AddressedS3()

    status = put_back(cloudformation, s3, BUCKET, Deployed.load(tmp_path / "before.json"), FakeClock().sleep)

    assert status == "UPDATE_COMPLETE"
    (request,) = cloudformation.created
    assert list(s3.objects.values()) == [b"Resources: {}"]
    assert request["TemplateURL"] == f"https://s3.eu-west-1.amazonaws.com/{BUCKET}/{next(iter(s3.objects))}"
    assert request["RoleARN"] == DEPLOYED["RoleARN"]
    assert (request["Parameters"], request["Tags"], request["Capabilities"]) == (
        DEPLOYED["Parameters"],
        DEPLOYED["Tags"],
        DEPLOYED["Capabilities"],
    )
    assert cloudformation.executed == [request["ChangeSetName"]]


def test_what_is_put_back_takes_over_at_once_and_no_alarm_takes_it_back() -> None:
    # GIVEN a stack that shifts traffic bit by bit and watches alarms, one of which the bad release has set off
    usual = {"CodeRollout": "ByEnvironment", "RideEventsShards": "2", "RolloutAlarms": "Watched"}
    deployed = Deployed(STACK, "Resources: {}", parameters=usual, tags={}, capabilities=[])
    cloudformation = FakeCloudFormation(event(1, "UPDATE_COMPLETE"))

    put_back(cloudformation, AddressedS3(), BUCKET, deployed, FakeClock().sleep)

    (request,) = cloudformation.created
    given = {one["ParameterKey"]: one["ParameterValue"] for one in request["Parameters"]}
    assert given == {"CodeRollout": "AllAtOnce", "RideEventsShards": "2", "RolloutAlarms": "Ignored"}


def test_template_that_is_json_is_kept_as_json() -> None:
    before = remember(FakeCloudFormation(stack=DEPLOYED, template={"Resources": {}}), STACK)

    assert before is not None
    assert before.template == '{"Resources":{}}'


@pytest.mark.parametrize("stack", [None, {"StackStatus": "REVIEW_IN_PROGRESS"}], ids=["no stack", "only planned"])
def test_before_a_first_deployment_there_is_nothing_to_put_back(stack: dict[str, Any] | None) -> None:
    assert remember(FakeCloudFormation(stack=stack), STACK) is None


# -- parameters


@pytest.mark.parametrize("overrides", ['"BatchSize=100 LogLevel=INFO"', '["BatchSize=100", "LogLevel=INFO"]'])
def test_parameters_are_the_files_and_the_workflows_own(tmp_path: Path, overrides: str) -> None:
    samconfig = tmp_path / "samconfig.toml"
    samconfig.write_text(f"[prod.deploy.parameters]\nparameter_overrides = {overrides}\n")

    found = deployment_parameters(samconfig, "prod", {"LogLevel": "ERROR", "Environment": "prod", "BoundaryArn": ""})

    assert found == ["BatchSize=100", "LogLevel=ERROR", "Environment=prod"]


def test_environment_that_the_file_does_not_have_is_told(tmp_path: Path) -> None:
    samconfig = tmp_path / "samconfig.toml"
    samconfig.write_text("version = 0.1\n")

    with pytest.raises(TemplateError, match=r"samconfig.toml has no environment prod: add \[prod.deploy.parameters\]"):
        deployment_parameters(samconfig, "prod", {})


# -- archives


def test_archive_depends_on_names_and_bytes_alone(tmp_path: Path) -> None:
    digests = []
    for number, names in enumerate([("a.py", "b.so"), ("b.so", "a.py")]):
        folder = tmp_path / str(number)
        (folder / "package").mkdir(parents=True)
        for name in names:
            path = folder / "package" / name
            path.write_text(name)
            path.chmod(0o600 if number else 0o664)
        digests.append(write_archive(folder, tmp_path / f"{number}.zip"))

    assert digests[0] == digests[1]
    with ZipFile(tmp_path / "0.zip") as archive:
        assert archive.namelist() == ["package/a.py", "package/b.so"]
        assert {entry.external_attr >> 16 & 0o777 for entry in archive.infolist()} == {0o644}


def test_archive_of_other_bytes_is_another(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    digests = set()
    for text in ("one", "two"):
        (tmp_path / "folder" / "a.py").write_text(text)
        digests.add(write_archive(tmp_path / "folder", tmp_path / "a.zip"))

    assert len(digests) == 2
