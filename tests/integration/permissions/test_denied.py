"""Calls that no role may make, and calls that one role may make and another may not: all are refused."""

import json
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

from infra.local.moto.durable import callback_id
from tests.kits.permissions import OTHER_BUCKET, POLICIES, Account, is_denial
from tests.kits.stack import template
from tests.kits.template import ROLES


class Call(NamedTuple):
    """A call of a service; names in braces in its request are replaced."""

    service: str
    operation: str
    request: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.service}.{self.operation}({', '.join(map(str, self.request.values()))})"


def read(key: str, bucket: str = "{bucket}") -> Call:
    return Call("s3", "get_object", {"Bucket": bucket, "Key": key})


def write(key: str) -> Call:
    return Call("s3", "put_object", {"Bucket": "{bucket}", "Key": key, "Body": b"a", "IfNoneMatch": "*"})


def overwrite(key: str) -> Call:
    """A write without a condition, which the bucket's policy denies to everybody."""
    return Call("s3", "put_object", {"Bucket": "{bucket}", "Key": key, "Body": b"a"})


def replace(key: str) -> Call:
    """A write over an object that was read, which the bucket's policy denies to everybody for a calibration."""
    return Call("s3", "put_object", {"Bucket": "{bucket}", "Key": key, "Body": b"a", "IfMatch": '"a"'})


def delete(key: str) -> Call:
    return Call("s3", "delete_object", {"Bucket": "{bucket}", "Key": key})


def put_on(stream: str) -> Call:
    return Call("kinesis", "put_records", {"StreamName": stream, "Records": [{"Data": b"a", "PartitionKey": "a"}]})


def read_from(stream: str) -> Call:
    return Call("kinesis", "list_shards", {"StreamName": stream})


def invoke(function: str) -> Call:
    return Call("lambda", "invoke", {"FunctionName": function})


def send_to(queue: str) -> Call:
    return Call("sqs", "send_message", {"QueueUrl": queue, "MessageBody": "a"})


def receive_from(queue: str) -> Call:
    return Call("sqs", "receive_message", {"QueueUrl": queue})


def sign_with(key: str) -> Call:
    request = {"KeyId": key, "Message": b"a" * 32, "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}
    return Call("kms", "sign", request)


def send_event(source: str) -> Call:
    entry = {"Source": source, "DetailType": "a", "Detail": "{}"}
    return Call("events", "put_events", {"Entries": [entry]})


NEW_KEY_FOR_DATA = Call("kms", "generate_data_key", {"KeyId": "{key}", "KeySpec": "AES_256"})
DECRYPT = Call("kms", "decrypt", {"KeyId": "{key}", "CiphertextBlob": b"a"})
MOVE_ALIAS = Call("lambda", "update_alias", {"FunctionName": "{function}", "Name": "live", "FunctionVersion": "1"})
LIST_FUNCTIONS = Call("lambda", "list_functions", {})
RIDES, PREDICTIONS, OUTCOMES = "ride-events", "ride-predictions", "ride-outcomes"
GOLDEN, FOREST, MANIFEST = (f"models/a/{name}" for name in ("golden.json", "forest.npz", "manifest.json"))
STABLE, LINE, REJECT, FAILURE, MARK = (
    "channels/stable.json",
    "history/stable/a.json",
    "rejects/a",
    "aws/lambda/a",
    "redriven/rejects/a",
)
ARCHIVED, LABELLED, SUMMARY = "archive/rides/a", "labelled/a", "monitor/hours/a"
OTHER_CHANNEL, OTHER_LINE, CALIBRATION = "channels/other.json", "history/other/a.json", "calibrations/a/a.json"
FIGURES, ACKNOWLEDGED = "monitor/figures/a", "monitor/acknowledged/a"
EXPERIMENT, LEASE, RUN = "experiments/a.json", "loop/lease.json", "loop/runs/a.json"
COLLECTED, ANSWER = "loop/rides/a.npz", "loop/answers/a/train.json"

EXECUTION = {"DurableExecutionArn": "{looper}:1/durable-execution/a/b", "CheckpointToken": "a"}
CHECKPOINT = Call("lambda", "checkpoint_durable_execution", {**EXECUTION, "Updates": ()})
OTHERS_EXECUTION = {"DurableExecutionArn": "{predictor}:1/durable-execution/a/b", "CheckpointToken": "a"}
OTHERS_CHECKPOINT = Call("lambda", "checkpoint_durable_execution", {**OTHERS_EXECUTION, "Updates": ()})
ANSWER_A_RUN = Call("lambda", "send_durable_execution_callback_success", {"CallbackId": "{callback}"})
START_A_RUN = invoke("{looper_alias}")

NOBODY = (
    *(delete(key) for key in (MANIFEST, STABLE, LINE, REJECT, FAILURE, MARK, ARCHIVED, LABELLED, SUMMARY)),
    *(write(key) for key in ("elsewhere/a", "a")),
    read("elsewhere/a"),
    read("models/a", OTHER_BUCKET),
    Call("s3", "delete_bucket", {"Bucket": "{bucket}"}),
    Call("kinesis", "delete_stream", {"StreamName": RIDES}),
    Call("kinesis", "split_shard", {"StreamName": RIDES, "ShardToSplit": "a", "NewStartingHashKey": "1"}),
    Call("kms", "schedule_key_deletion", {"KeyId": "{key}"}),
    Call("kms", "encrypt", {"KeyId": "{key}", "Plaintext": b"a"}),
    Call("kms", "generate_data_key", {"KeyId": "{other_key}", "KeySpec": "AES_256"}),
    sign_with("{other_key}"),
    LIST_FUNCTIONS,
    Call("lambda", "update_function_code", {"FunctionName": "{function}", "ZipFile": b"a"}),
    Call("lambda", "delete_function", {"FunctionName": "{function}"}),
    invoke("{function}"),
    Call("cloudformation", "delete_stack", {"StackName": "{stack}"}),
    Call("cloudwatch", "put_metric_data", {"Namespace": "ridecast", "MetricData": []}),
    Call("iam", "list_roles", {}),
    Call("iam", "put_role_policy", {"RoleName": "{role}", "PolicyName": "a", "PolicyDocument": "{{}}"}),
)
"""No role or policy of the stack may delete anything, change code or extend its own permissions."""

FORBIDDEN = {
    "PredictorRole": (
        put_on(RIDES),
        Call("kinesis", "put_record", {"StreamName": PREDICTIONS, "Data": b"a", "PartitionKey": "a"}),
        read_from(PREDICTIONS),
        *(write(key) for key in (MANIFEST, STABLE, LINE, MARK, CALIBRATION)),
        *(read(key) for key in (REJECT, LINE, LABELLED)),
        receive_from("{queue}"),
        send_to("{other_queue}"),
        NEW_KEY_FOR_DATA,
        sign_with("{signing_key}"),
        Call("cloudformation", "describe_stacks", {}),
    ),
    "ApiFunctionRole": (
        put_on(PREDICTIONS),
        read_from(RIDES),
        *(write(key) for key in (MANIFEST, REJECT)),
        *(read(key) for key in (REJECT, LINE)),
        DECRYPT,
        sign_with("{signing_key}"),
    ),
    "ArchiverRole": (
        *(put_on(stream) for stream in (RIDES, PREDICTIONS, OUTCOMES)),
        *(write(key) for key in (MANIFEST, STABLE, LINE, REJECT, MARK, LABELLED, SUMMARY)),
        *(read(key) for key in (GOLDEN, STABLE, REJECT, FAILURE, ARCHIVED, LABELLED)),
        delete(ARCHIVED),
        send_to("{queue}"),
        sign_with("{signing_key}"),
        Call("cloudformation", "describe_stacks", {}),
    ),
    "JoinerRole": (
        *(put_on(stream) for stream in (RIDES, PREDICTIONS, OUTCOMES)),
        *(read_from(stream) for stream in (RIDES, PREDICTIONS, OUTCOMES)),
        *(write(key) for key in (MANIFEST, STABLE, LINE, REJECT, FAILURE, MARK, ARCHIVED)),
        read(MARK),
        delete(LABELLED),
        receive_from("{queue}"),
        sign_with("{signing_key}"),
    ),
    "JoinScheduleRole": (
        read(ARCHIVED),
        invoke("{api_function}"),
    ),
    "MonitorRole": (
        *(put_on(stream) for stream in (RIDES, PREDICTIONS, OUTCOMES)),
        *(read_from(stream) for stream in (RIDES, PREDICTIONS, OUTCOMES)),
        *(write(key) for key in (MANIFEST, OTHER_CHANNEL, OTHER_LINE, REJECT, FAILURE, ARCHIVED, LABELLED, SUMMARY)),
        *(write(key) for key in (ACKNOWLEDGED, "monitor/other.json")),
        *(read(key) for key in (ARCHIVED, REJECT, FAILURE, MARK)),
        *(overwrite(key) for key in (STABLE, CALIBRATION)),
        replace(CALIBRATION),
        *(delete(key) for key in (FIGURES, CALIBRATION)),
        receive_from("{queue}"),
        sign_with("{signing_key}"),
        send_event("aws.s3"),
    ),
    "MonitorScheduleRole": (
        read(LABELLED),
        invoke("{api_function}"),
    ),
    "LooperRole": (
        *(put_on(stream) for stream in (RIDES, PREDICTIONS, OUTCOMES)),
        *(write(key) for key in (MANIFEST, OTHER_CHANNEL, OTHER_LINE, CALIBRATION, LABELLED, COLLECTED, ANSWER)),
        *(write(key) for key in (REJECT, ARCHIVED, "monitor/status.json", ACKNOWLEDGED, "loop/a", EXPERIMENT)),
        *(read(key) for key in (LABELLED, ARCHIVED, REJECT, COLLECTED)),  # no ride
        *(overwrite(key) for key in (STABLE, "channels/candidate.json")),
        invoke("{api_function}"),
        START_A_RUN,
        ANSWER_A_RUN,
        OTHERS_CHECKPOINT,
        sign_with("{signing_key}"),
        send_event("aws.s3"),
    ),
    "CollectorRole": (
        *(write(key) for key in (MANIFEST, STABLE, LINE, LABELLED, EXPERIMENT, LEASE, RUN, SUMMARY)),
        *(read(key) for key in (GOLDEN, STABLE, ARCHIVED, REJECT, RUN, EXPERIMENT)),
        CHECKPOINT,
        START_A_RUN,
        sign_with("{signing_key}"),
        send_event("ridecast"),
    ),
    "TrainerRole": (
        *(write(key) for key in (STABLE, OTHER_CHANNEL, LINE, "channels/candidate.json", CALIBRATION)),  # no channel
        *(write(key) for key in (LABELLED, EXPERIMENT, LEASE, RUN, COLLECTED)),
        *(read(key) for key in (LABELLED, ARCHIVED, REJECT, LINE, RUN)),
        overwrite("models/a"),
        CHECKPOINT,
        START_A_RUN,
        sign_with("{other_key}"),
        send_event("ridecast"),
    ),
    "LoopScheduleRole": (
        read(RUN),
        invoke("{api_function}"),
        invoke("{looper}"),
        ANSWER_A_RUN,
    ),
    "PreTrafficRole": (
        put_on(RIDES),
        *(write(key) for key in (MANIFEST, STABLE, REJECT)),
        read(REJECT),
        MOVE_ALIAS,
        invoke("{api_function}"),
    ),
    "DeploymentRole": (
        put_on(RIDES),
        *(read(key) for key in (GOLDEN, STABLE, REJECT)),
        write(STABLE),
        invoke("{version}"),
        invoke("{api_function}"),
        Call("lambda", "publish_version", {"FunctionName": "{function}"}),
        Call("lambda", "update_alias", {"FunctionName": "{api_function}", "Name": "live", "FunctionVersion": "1"}),
        Call("lambda", "delete_alias", {"FunctionName": "{function}", "Name": "live"}),
    ),
    "ModelPublisherPolicy": (
        overwrite("models/a"),
        overwrite(CALIBRATION),
        read(LABELLED),
        write(ACKNOWLEDGED),
        overwrite("channels/stable.json"),
        put_on(RIDES),
        read_from(PREDICTIONS),
        *(read(key) for key in (REJECT, FAILURE)),
        *(write(key) for key in (REJECT, MARK)),
        NEW_KEY_FOR_DATA,
        MOVE_ALIAS,
    ),
    "OperatorPolicy": (
        put_on(PREDICTIONS),
        *(read(key) for key in (FOREST, LINE, FIGURES, LABELLED)),
        *(write(key) for key in (MANIFEST, STABLE, CALIBRATION, FIGURES, "monitor/status.json")),
        send_event("ridecast"),
        send_to("{queue}"),
        NEW_KEY_FOR_DATA,
        sign_with("{signing_key}"),
        MOVE_ALIAS,
        CHECKPOINT,
        *(write(key) for key in (COLLECTED, EXPERIMENT)),
        read(COLLECTED),
    ),
    "JudgePolicy": (
        put_on(RIDES),
        read_from(PREDICTIONS),
        *(write(key) for key in (MANIFEST, STABLE, REJECT, LINE)),
        sign_with("{signing_key}"),
        MOVE_ALIAS,
    ),
    "ForgetPolicy": (
        put_on(RIDES),
        read_from(PREDICTIONS),
        *(read(key) for key in (GOLDEN, STABLE)),
        *(write(key) for key in (MANIFEST, STABLE, FAILURE, MARK)),
        Call("s3", "delete_object", {"Bucket": "{bucket}", "Key": MANIFEST, "VersionId": "v"}),
        sign_with("{signing_key}"),
        MOVE_ALIAS,
    ),
    "DoctorPolicy": (
        put_on(RIDES),
        read_from(PREDICTIONS),
        *(read(key) for key in (REJECT, LABELLED)),
        *(write(key) for key in (MANIFEST, STABLE, CALIBRATION, ACKNOWLEDGED, EXPERIMENT, LEASE, RUN)),
        read(COLLECTED),
        ANSWER_A_RUN,
        START_A_RUN,
        sign_with("{signing_key}"),
        MOVE_ALIAS,
    ),
}


@pytest.mark.parametrize("name", [*ROLES, *POLICIES])
def test_everything_else_is_denied(account: Account, name: str) -> None:
    calls = (*NOBODY, *FORBIDDEN[name])
    mine = account.clients(account.roles[name], *{call.service for call in calls})
    there = {
        "api_function": account.names["ApiFunction"],
        "bucket": account.bucket,
        "callback": callback_id(f"{account.arn('Looper')}:1/durable-execution/a/b", "train"),
        "looper": account.arn("Looper"),
        "predictor": account.function_arn,
        "looper_alias": account.outputs["LooperAliasArn"],
        "function": account.outputs["FunctionName"],
        "key": account.outputs["KeyArn"],
        "other_key": account.other_key,
        "other_queue": account.outputs["GivenUpBatchesUrl"],
        "queue": account.outputs["RejectsQueueUrl"],
        "role": account.roles["PredictorRole"],
        "signing_key": account.signing_key,
        "stack": account.stack.name,
        "version": account.version,
    }

    with account.aws.enforcing():
        allowed = [str(call) for call in calls if not is_denied(mine[call.service], call, there)]

    assert allowed == []


def is_denied(client: Any, call: Call, there: dict[str, str]) -> bool:
    request = {
        name: value.format_map(there) if isinstance(value, str) else value for name, value in call.request.items()
    }
    try:
        getattr(client, call.operation)(**request)
    except ClientError as error:
        return is_denial(error)
    return False


@pytest.mark.parametrize("name", [*ROLES, *POLICIES])
def test_no_action_is_a_pattern_and_none_deletes(name: str) -> None:
    properties = template()["Resources"][name]["Properties"]
    text = json.dumps(properties.get("PolicyDocument") or properties["Policies"])
    actions = [action for action in text.split('"') if action.count(":") == 1 and action.split(":")[0].isalpha()]
    assert actions
    # A message goes after its rejects are in the bucket.
    assert not [action for action in actions if "*" in action or ("Delete" in action and action != "sqs:DeleteMessage")]
