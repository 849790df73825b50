"""Least privilege: everything that must be done is done under the template's own policies, and nothing else can be."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.cli import main
from infra.doctor.gather import Doctor
from infra.errors import NoSuchStackError
from infra.local.mapping import EventSourceMapping
from infra.local.runtime import InProcessRuntime, load_handler
from infra.local.server import LocalAws
from infra.serve_event import http_event
from infra.streams import StreamReader
from infra.transform import TEMPLATE
from tests.builders import FEBRUARY, ride_bytes, small_bundle
from tests.builders_tlc import row_at, write_month
from tests.stack_kit import TemplateStack, template
from training.publish import move_channel, store_bundle
from training.registry import put_paper

pytestmark = pytest.mark.slow

ROLES = ("PredictorRole", "ApiFunctionRole", "PreTrafficRole")
POLICIES = ("ModelPublisherPolicy", "OperatorPolicy", "DoctorPolicy")
FIRST, SECOND = small_bundle(1), small_bundle(2)
N_RIDES = 40
DENIED = {"AccessDenied", "AccessDeniedException", "403"}  # the last where moto refuses in another format than asked in
FAILURE = {"requestContext": {"condition": "RetryAttemptsExhausted"}, "version": "1.0"}

Credentials = Mapping[str, str]


class Account:
    """A stack in use, with a role a policy; `roles` are names of roles by what they are for."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws = aws
        self.stack = TemplateStack(aws)
        assert self.stack.change(BatchWindowSeconds=0) == "CREATE_COMPLETE"
        self.names, self.outputs = self.stack.names(), self.stack.outputs()
        self.bucket = self.outputs["BucketName"]
        self.mapping = self.stack.mapping(BatchWindowSeconds=0)
        self.roles = {**{role: self.names[role] for role in ROLES}, **{policy: policy for policy in POLICIES}}
        for policy in POLICIES:
            self._make_role(policy, self.names[policy])
        self._fill()

    def _make_role(self, name: str, policy_arn: str) -> None:
        iam = self.aws.client("iam")
        trusted = {"Version": "2012-10-17", "Statement": []}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trusted))
        iam.attach_role_policy(RoleName=name, PolicyArn=policy_arn)

    def _fill(self) -> None:
        """Stores two models, of which the second may follow the first, something given up, and another bucket."""
        s3 = self.aws.client("s3")
        for bundle in (FIRST, SECOND):
            store_bundle(s3, self.bucket, bundle)
        move_channel(s3, self.bucket, "stable", FIRST.model_version, FIRST.manifest_sha256)
        verdict = {
            "model_version": SECOND.model_version,
            "against": FIRST.model_version,
            "channel": "stable",
            "passed": True,
        }
        put_paper(s3, self.bucket, SECOND.model_version, "gate-stable.json", json.dumps(verdict).encode())
        s3.create_bucket(Bucket="other")
        s3.put_object(Bucket="other", Key="models/a", Body=b"a")
        s3.put_object(Bucket=self.bucket, Key="elsewhere/a", Body=b"a")

    def documents(self, role: str) -> list[dict[str, Any]]:
        """The policy documents of a role."""
        iam = self.aws.client("iam")
        if role in POLICIES:
            version = iam.get_policy_version(PolicyArn=self.names[role], VersionId="v1")["PolicyVersion"]
            return [version["Document"]]
        name = self.roles[role]
        policies = iam.list_role_policies(RoleName=name)["PolicyNames"]
        return [iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in policies]

    def role_without(self, role: str, sid: str) -> str:
        """Makes a role with the same policies, but for one statement; returns its name."""
        iam = self.aws.client("iam")
        name = f"{role}-without-{sid}"
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        for number, document in enumerate(deepcopy(self.documents(role))):
            document["Statement"] = [one for one in document["Statement"] if one["Sid"] != sid]
            iam.put_role_policy(RoleName=name, PolicyName=f"policy-{number}", PolicyDocument=json.dumps(document))
        return name


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with LocalAws() as aws:
        yield Account(aws)


def statements(name: str) -> list[str]:
    """Sids of a role or policy in the template."""
    properties = template()["Resources"][name]["Properties"]
    documents = (
        [properties["PolicyDocument"]]
        if "PolicyDocument" in properties
        else [one["PolicyDocument"] for one in properties["Policies"]]
    )
    found = [statement for document in documents for statement in document["Statement"]]
    return [statement["Sid"] for statement in found if "Sid" in statement]  # the others are conditional


# --- the function


def run_function(account: Account, role_name: str, log: Path) -> None:
    """Has the function, and Lambda on its behalf, do all that they do, under one role; raises what is denied."""
    aws, kinesis = account.aws, account.aws.client("kinesis")
    for number in range(N_RIDES):
        data = ride_bytes(number) if number % 10 else b"no ride"
        kinesis.put_record(StreamName="ride-events", PartitionKey=str(number), Data=data)
    credentials = aws.assume(role_name)
    mine = {service: aws.client(service, 1, credentials) for service in ("kinesis", "s3", "logs")}
    environment = {**_environment(account, account.outputs["FunctionName"]), **_as_variables(credentials)}
    before = len(StreamReader(kinesis, "ride-predictions", "TRIM_HORIZON").read_once())
    with aws.enforcing(), load_handler("lambda_function.handler.lambda_handler", environment, log) as handler:
        runtime = InProcessRuntime(handler, 60, 1769, "predictor")
        mapping = EventSourceMapping(account.mapping, mine["kinesis"], _raising(runtime), s3=mine["s3"])
        while mapping.poll_once():
            pass
        for call in lambdas_own_calls(account):
            call(mine)
    if mapping.stats.last_error:
        raise PermissionError(mapping.stats.last_error)
    after = len(StreamReader(kinesis, "ride-predictions", "TRIM_HORIZON").read_once())
    assert after > before


def _raising(runtime: InProcessRuntime) -> Callable[[dict[str, Any]], object]:
    def invoke(event: dict[str, Any]) -> object:
        response: Any = runtime(event)
        if response["batchItemFailures"]:
            raise PermissionError("not all is published and stored")
        return response

    return invoke


def _environment(account: Account, function: str) -> dict[str, str]:
    found = account.aws.client("lambda").get_function_configuration(FunctionName=function)
    variables = {name: str(value) for name, value in found["Environment"]["Variables"].items()}
    return {**variables, **account.aws.environment}


def _as_variables(credentials: Credentials) -> dict[str, str]:
    return {name.upper(): value for name, value in credentials.items()}


def lambdas_own_calls(account: Account) -> list[Callable[[Mapping[str, Any]], object]]:
    """What Lambda does with the stream function's role, besides invoking it."""
    return [
        *calls_of_any_function(account, "PredictorLogs"),
        lambda mine: mine["s3"].put_object(Bucket=account.bucket, Key="aws/lambda/m/shard/f", Body=json.dumps(FAILURE)),
    ]


def calls_of_any_function(account: Account, log_group: str) -> list[Callable[[Mapping[str, Any]], object]]:
    """What Lambda and S3 do with any function's role: logs, and the list that tells 404 from 403."""
    log = {"logGroupName": account.names[log_group], "logStreamName": "now"}
    event = {"timestamp": 1, "message": "hello"}
    return [
        lambda mine: _if_new(lambda: mine["logs"].create_log_stream(**log)),
        lambda mine: mine["logs"].put_log_events(**log, logEvents=[event]),
        lambda mine: mine["s3"].list_objects_v2(Bucket=account.bucket),
    ]


def _if_new(create: Callable[[], object]) -> None:
    try:
        create()
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
            raise


def test_function_does_its_work_under_its_role(account: Account, tmp_path: Path) -> None:
    run_function(account, account.roles["PredictorRole"], tmp_path / "function.log")
    kept = account.aws.client("s3").list_objects_v2(Bucket=account.bucket, Prefix="rejects/")
    assert kept["KeyCount"] > 0


@pytest.mark.parametrize("sid", statements("PredictorRole"))
def test_function_cannot_do_its_work_without_any_statement_of_its_role(
    account: Account, tmp_path: Path, sid: str
) -> None:
    role = account.role_without("PredictorRole", sid)
    with pytest.raises((PermissionError, ClientError), match=r"AccessDenied|not all is published"):
        run_function(account, role, tmp_path / "function.log")


def ask_api(account: Account, role_name: str, log: Path) -> None:
    """Has the API answer for a ride under a role; raises what is denied."""
    credentials = account.aws.assume(role_name)
    mine = {service: account.aws.client(service, 1, credentials) for service in ("s3", "logs")}
    environment = {**_environment(account, account.names["ApiFunction"]), **_as_variables(credentials)}
    event = http_event("POST", "/predictions", {"content-type": "application/json"}, ride_bytes(1), 1.0)
    with account.aws.enforcing(), load_handler("lambda_function.api.lambda_handler", environment, log) as handler:
        answer: Any = InProcessRuntime(handler, 30, 512, "api")(event)
        for call in calls_of_any_function(account, "ApiFunctionLogs"):
            call(mine)
    if answer["statusCode"] != HTTPStatus.OK:
        raise PermissionError(f"AccessDenied, or so: {answer}")


def test_api_answers_under_its_role(account: Account, tmp_path: Path) -> None:
    ask_api(account, account.roles["ApiFunctionRole"], tmp_path / "function.log")


@pytest.mark.parametrize("sid", statements("ApiFunctionRole"))
def test_api_cannot_answer_without_any_statement_of_its_role(account: Account, tmp_path: Path, sid: str) -> None:
    role = account.role_without("ApiFunctionRole", sid)
    with pytest.raises((PermissionError, ClientError), match="AccessDenied"):
        ask_api(account, role, tmp_path / "function.log")


FORBIDDEN: dict[str, list[tuple[str, str, dict[str, object]]]] = {
    "PredictorRole": [
        ("kinesis", "put_records", {"StreamName": "ride-events", "Records": [{"Data": b"a", "PartitionKey": "a"}]}),
        ("kinesis", "put_record", {"StreamName": "ride-predictions", "Data": b"a", "PartitionKey": "a"}),
        ("kinesis", "list_shards", {"StreamName": "ride-predictions"}),
        ("kinesis", "split_shard", {"StreamName": "ride-events", "ShardToSplit": "a", "NewStartingHashKey": "1"}),
        ("kinesis", "delete_stream", {"StreamName": "ride-events"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "models/a/manifest.json", "Body": b"a"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "channels/stable.json", "Body": b"a"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "history/stable/a.json", "Body": b"a"}),
        ("s3", "get_object", {"Bucket": "BUCKET", "Key": "elsewhere/a"}),
        ("s3", "get_object", {"Bucket": "BUCKET", "Key": "rejects/a"}),
        ("s3", "get_object", {"Bucket": "other", "Key": "models/a"}),
        ("s3", "delete_object", {"Bucket": "BUCKET", "Key": "rejects/a"}),
        ("s3", "delete_object", {"Bucket": "BUCKET", "Key": "channels/stable.json"}),
        ("kms", "encrypt", {"KeyId": "KEY", "Plaintext": b"a"}),
        ("kms", "generate_data_key", {"KeyId": "KEY", "KeySpec": "AES_256"}),
        ("kms", "generate_data_key", {"KeyId": "OTHER KEY", "KeySpec": "AES_256"}),
        ("kms", "schedule_key_deletion", {"KeyId": "KEY"}),
        ("lambda", "list_functions", {}),
        ("iam", "list_roles", {}),
        ("cloudformation", "describe_stacks", {}),
    ],
    "ApiFunctionRole": [
        (
            "kinesis",
            "put_records",
            {"StreamName": "ride-predictions", "Records": [{"Data": b"a", "PartitionKey": "a"}]},
        ),
        ("kinesis", "list_shards", {"StreamName": "ride-events"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "models/a/manifest.json", "Body": b"a"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "rejects/a", "Body": b"a"}),
        ("s3", "get_object", {"Bucket": "BUCKET", "Key": "rejects/a"}),
        ("s3", "get_object", {"Bucket": "other", "Key": "models/a"}),
        ("s3", "delete_object", {"Bucket": "BUCKET", "Key": "channels/stable.json"}),
        ("kms", "decrypt", {"KeyId": "KEY", "CiphertextBlob": b"a"}),
        ("lambda", "list_functions", {}),
    ],
    "PreTrafficRole": [
        ("kinesis", "put_records", {"StreamName": "ride-events", "Records": [{"Data": b"a", "PartitionKey": "a"}]}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "channels/stable.json", "Body": b"a"}),
        ("s3", "get_object", {"Bucket": "BUCKET", "Key": "rejects/a"}),
        ("s3", "delete_object", {"Bucket": "BUCKET", "Key": "models/a/manifest.json"}),
        ("lambda", "update_alias", {"FunctionName": "FUNCTION", "Name": "live", "FunctionVersion": "1"}),
        ("lambda", "invoke", {"FunctionName": "FUNCTION"}),
    ],
    "ModelPublisherPolicy": [
        ("kinesis", "put_records", {"StreamName": "ride-events", "Records": [{"Data": b"a", "PartitionKey": "a"}]}),
        ("kinesis", "list_shards", {"StreamName": "ride-predictions"}),
        ("s3", "get_object", {"Bucket": "BUCKET", "Key": "rejects/a"}),
        ("s3", "get_object", {"Bucket": "other", "Key": "models/a"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "rejects/a", "Body": b"a"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "redriven/rejects/a", "Body": b"a"}),
        ("s3", "delete_object", {"Bucket": "BUCKET", "Key": "channels/stable.json"}),
        ("s3", "delete_object", {"Bucket": "BUCKET", "Key": "models/a/manifest.json"}),
        ("lambda", "list_functions", {}),
    ],
    "OperatorPolicy": [
        (
            "kinesis",
            "put_records",
            {"StreamName": "ride-predictions", "Records": [{"Data": b"a", "PartitionKey": "a"}]},
        ),
        ("kinesis", "list_shards", {"StreamName": "ride-events"}),
        ("kinesis", "delete_stream", {"StreamName": "ride-events"}),
        ("s3", "get_object", {"Bucket": "BUCKET", "Key": "models/a/forest.npz"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "models/a/manifest.json", "Body": b"a"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "channels/stable.json", "Body": b"a"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "rejects/a", "Body": b"a"}),
        ("s3", "delete_object", {"Bucket": "BUCKET", "Key": "rejects/a"}),
        ("kms", "generate_data_key", {"KeyId": "KEY", "KeySpec": "AES_256"}),
    ],
    "DoctorPolicy": [
        ("kinesis", "put_records", {"StreamName": "ride-events", "Records": [{"Data": b"a", "PartitionKey": "a"}]}),
        ("kinesis", "list_shards", {"StreamName": "ride-predictions"}),
        ("s3", "get_object", {"Bucket": "BUCKET", "Key": "rejects/a"}),
        ("s3", "put_object", {"Bucket": "BUCKET", "Key": "channels/stable.json", "Body": b"a"}),
        ("s3", "delete_object", {"Bucket": "BUCKET", "Key": "channels/stable.json"}),
        ("lambda", "list_functions", {}),
        ("cloudwatch", "put_metric_data", {"Namespace": "ridecast", "MetricData": []}),
    ],
}


@pytest.mark.parametrize("role", FORBIDDEN)
def test_everything_else_is_denied(account: Account, role: str) -> None:
    credentials = account.aws.assume(account.roles[role])
    other_key = account.aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    there = {"BUCKET": account.bucket, "KEY": account.outputs["KeyArn"], "OTHER KEY": other_key}
    there["FUNCTION"] = account.outputs["FunctionName"]
    with account.aws.enforcing():
        for service, operation, request in FORBIDDEN[role]:
            filled = {name: there.get(str(value), value) for name, value in request.items()}
            with pytest.raises(ClientError) as refused:
                getattr(account.aws.client(service, 1, credentials), operation)(**filled)
            assert refused.value.response["Error"]["Code"] in DENIED, (service, operation, request)


@pytest.mark.parametrize("name", [*ROLES, "DeploymentRole", *POLICIES])
def test_no_action_is_a_pattern_and_none_deletes(name: str) -> None:
    properties = template()["Resources"][name]["Properties"]
    text = json.dumps(properties.get("PolicyDocument") or properties["Policies"])
    actions = [action for action in text.split('"') if action.count(":") == 1 and action.split(":")[0].isalpha()]
    assert actions
    assert not [action for action in actions if "*" in action or "Delete" in action]


# --- the command line


class Operator:
    """`ridecast` under a role, with every policy enforced."""

    def __init__(self, account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._account, self._monkeypatch, self._capsys = account, monkeypatch, capsys

    def run(self, role_name: str, commands: list[list[str]]) -> None:
        """Runs commands; raises PermissionError with what the first one says that is denied."""
        for name, value in _as_variables(self._account.aws.assume(role_name)).items():
            self._monkeypatch.setenv(name, value)
        self._monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with self._account.aws.enforcing():
            for words in commands:
                self._run(words)

    def _run(self, words: list[str]) -> None:
        end = ["--endpoint-url", self._account.aws.endpoint_url, "--json"]
        self._monkeypatch.setattr(sys, "argv", ["ridecast", *words, *end])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr().err
        if "AccessDenied" in said:
            raise PermissionError(said)
        assert not ended.value.code, (words, said)


@pytest.fixture
def operator(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operator:
    start = datetime(2021, 2, 1)  # noqa: DTZ001 - New York's wall clock
    write_month(tmp_path, [row_at(start + timedelta(minutes=number)) for number in range(5)], FEBRUARY)
    monkeypatch.setenv("TLC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return Operator(account, monkeypatch, capsys)


def commands(role: str, account: Account) -> list[list[str]]:
    """All that a role is for."""
    where = ["--bucket", account.bucket]
    return {
        "ModelPublisherPolicy": [
            ["models", "list", *where],
            ["models", "show", "stable", *where],
            ["models", "compare", FIRST.model_version, SECOND.model_version, *where],
            ["models", "promote", FIRST.model_version, *where],
            ["models", "promote", SECOND.model_version, *where],
            ["models", "rollback", *where],
            ["models", "history", *where],
        ],
        "OperatorPolicy": [
            ["publish", "--stream", "ride-events"],
            ["tail", "--stream", "ride-predictions", "--limit", "1", "--idle-s", "0"],
            ["rejects", "list", *where],
            ["rejects", "redrive", "--dry-run", *where],
            ["rejects", "redrive", *where],
            ["failures", "list", *where],
            ["failures", "redrive", *where],
        ],
    }[role]


@pytest.fixture
def kept(account: Account, tmp_path: Path) -> None:
    """A batch with rejects, just now."""
    run_function(account, account.roles["PredictorRole"], tmp_path / "function.log")
    for key in ("redriven/rejects/", "redriven/aws/"):  # a redrive before has marked them
        s3 = account.aws.client("s3")
        for entry in s3.list_objects_v2(Bucket=account.bucket, Prefix=key).get("Contents", ()):
            s3.delete_object(Bucket=account.bucket, Key=entry["Key"])


OPERATED = ("ModelPublisherPolicy", "OperatorPolicy")


def doctor_under(account: Account, role_name: str) -> dict[str, str]:
    """What the doctor may not look at under a role; a stack that it may not describe ends it."""
    credentials = account.aws.assume(role_name)
    doctor = Doctor(lambda service: account.aws.client(service, 1, credentials), account.stack.name, template=TEMPLATE)
    with account.aws.enforcing():
        facts = doctor.gather()
    problem = facts.model.problem if facts.model else "nothing is known of the model"
    return {**facts.unseen, **({"model": problem} if problem else {})}


def test_doctor_sees_everything_under_its_policy(account: Account) -> None:
    assert doctor_under(account, account.roles["DoctorPolicy"]) == {}


@pytest.mark.parametrize("sid", statements("DoctorPolicy"))
def test_doctor_says_what_it_cannot_see_without_any_statement(account: Account, sid: str) -> None:
    without = account.role_without("DoctorPolicy", sid)
    try:
        unseen = doctor_under(account, without)
    except NoSuchStackError as error:
        unseen = {"stack": str(error)}
    assert [problem for problem in unseen.values() if any(code in problem for code in DENIED)], unseen


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("role", OPERATED)
def test_commands_do_their_work_under_their_policy(account: Account, operator: Operator, role: str) -> None:
    operator.run(account.roles[role], commands(role, account))


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("role", "sid"), [(role, sid) for role in OPERATED for sid in statements(role)])
def test_commands_cannot_do_their_work_without_any_statement(
    account: Account, operator: Operator, role: str, sid: str
) -> None:
    without = account.role_without(role, sid)
    with pytest.raises(PermissionError, match="AccessDenied"):
        operator.run(without, commands(role, account))
