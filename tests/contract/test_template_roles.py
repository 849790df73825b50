"""The permissions in template.yaml: one role a function, with explicit actions and resources."""

import re

import pytest

from tests.kits.template import (
    LOOP,
    ROLES,
    SIGNING_KEY,
    allowed,
    arn_of,
    as_list,
    of_type,
    properties,
    statements,
    tags_of,
)

POLICIES = ("ModelPublisherPolicy", "OperatorPolicy", "JudgePolicy", "ForgetPolicy", "DoctorPolicy")

VERSION = str({"Ref": next(iter(of_type("AWS::Lambda::Version")))})


def of(name: str) -> str:
    return str(arn_of(name))


def in_the_account(service: str, path: str) -> str:
    return str({"Fn::Sub": f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{path}"})


def in_bucket(path: str) -> str:
    return str({"Fn::Sub": f"${{Bucket.Arn}}/{path}"})


def actions_on(target: str, service: str, *actions: str) -> set[tuple[str, str]]:
    return {(f"{service}:{action}", target) for action in actions}


def may_log(group: str) -> set[tuple[str, str]]:
    return actions_on(of(group), "logs", "CreateLogStream", "PutLogEvents")


MODELS, CHANNELS, HISTORIES, REJECTS, FAILURES, MARKS, GOLDEN, MANIFESTS = map(
    in_bucket,
    (
        "models/*", "channels/*", "history/*", "rejects/*", "aws/lambda/*", "redriven/*",
        "models/*/golden.json", "models/*/manifest.json",
    ),
)  # fmt: skip
ARCHIVE, LATE, LABELLED, SUMMARIES = map(in_bucket, ("archive/*", "late/*", "labelled/*", "monitor/hours/*"))
REJECTED_OUTCOMES = str({"Fn::Sub": ["${Bucket.Arn}/rejects/${Outcomes}/*", {"Outcomes": {"Ref": "RideOutcomes"}}]})
CALIBRATIONS, EXPERIMENTS = in_bucket("calibrations/*"), in_bucket("experiments/*")
READ_CALIBRATIONS = ("s3:GetObject", CALIBRATIONS)
READ_MODELS = {
    ("s3:GetObject", MODELS),
    ("s3:GetObject", CHANNELS),
    ("s3:ListBucket", of("Bucket")),
    ("kms:Decrypt", of("Key")),
}
ENCRYPT = ("kms:GenerateDataKey", of("Key"))
FIND_THE_STACK = ("cloudformation:DescribeStacks", str({"Ref": "AWS::StackId"}))
READ_QUEUE = ("ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "ReceiveMessage")
READ_STREAM = ("GetRecords", "GetShardIterator", "ListShards")
ALIAS_ACTIONS = ("GetAlias", "GetProvisionedConcurrencyConfig", "UpdateAlias")

JOIN = {
    *READ_MODELS,
    READ_CALIBRATIONS,
    *(("s3:GetObject", target) for target in (ARCHIVE, REJECTS, FAILURES, LATE, LABELLED, SUMMARIES, HISTORIES)),
    *(("s3:PutObject", target) for target in (LATE, LABELLED, SUMMARIES, REJECTED_OUTCOMES)),
    ENCRYPT,
}

RUNS = ("loop/lease.json", "loop/runs/*")
OWN_EXPERIMENTS = in_bucket("experiments/loop-*")  # the loop changes no person's
WORK = (in_bucket("loop/rides/*"), in_bucket("loop/answers/*"))
EXECUTIONS = str({"Fn::Sub": "${Looper.Arn}:*"})  # an execution is part of a version
ANSWER = actions_on(EXECUTIONS, "lambda", "SendDurableExecutionCallbackFailure", "SendDurableExecutionCallbackSuccess")
REPORT_FAILED_EVENTS = ("sqs:SendMessage", of("LoopFailures"))

ALLOWED = {
    "PredictorRole": {
        *READ_MODELS,
        READ_CALIBRATIONS,
        *actions_on(of("RideEvents"), "kinesis", *READ_STREAM, "DescribeStream", "DescribeStreamSummary"),
        ("kinesis:PutRecords", of("RidePredictions")),
        ("s3:PutObject", REJECTS),
        ("s3:PutObject", FAILURES),
        ("sqs:SendMessage", of("RejectsQueue")),
        ENCRYPT,
        *may_log("PredictorLogs"),
    },
    "ApiFunctionRole": {*READ_MODELS, READ_CALIBRATIONS, *may_log("ApiFunctionLogs")},
    "ArchiverRole": {
        *(
            one
            for stream in ("RideEvents", "RidePredictions", "RideOutcomes")
            for one in actions_on(of(stream), "kinesis", *READ_STREAM, "DescribeStream", "DescribeStreamSummary")
        ),
        ("s3:PutObject", ARCHIVE),
        ("s3:PutObject", FAILURES),
        ("s3:ListBucket", of("Bucket")),
        ("kms:Decrypt", of("Key")),
        ENCRYPT,
        *may_log("ArchiverLogs"),
    },
    "JoinerRole": {
        *JOIN,
        *may_log("JoinerLogs"),
    },
    "JoinScheduleRole": {("lambda:InvokeFunction", of("Joiner"))},
    "MonitorRole": {
        *READ_MODELS,
        READ_CALIBRATIONS,
        *(("s3:GetObject", target) for target in (HISTORIES, LABELLED, in_bucket("monitor/*"), EXPERIMENTS)),
        ("s3:PutObject", EXPERIMENTS),
        *(
            ("s3:PutObject", in_bucket(path))
            for path in (
                *("monitor/figures/*", "monitor/days/*", "monitor/status.json"),
                *("calibrations/*", "channels/${ModelChannel}.json", "history/${ModelChannel}/*"),
            )
        ),
        ENCRYPT,
        ("events:PutEvents", in_the_account("events", "event-bus/default")),
        *may_log("MonitorLogs"),
    },
    "MonitorScheduleRole": {("lambda:InvokeFunction", of("Monitor"))},
    "PreTrafficRole": {
        *READ_MODELS,
        READ_CALIBRATIONS,
        *actions_on(VERSION, "lambda", "GetFunctionConfiguration", "InvokeFunction"),  # the new version only
        ("iam:SimulatePrincipalPolicy", of("PredictorRole")),
        ("kinesis:DescribeStreamSummary", of("RidePredictions")),
        *actions_on(of("Key"), "kms", "DescribeKey", "ListResourceTags"),
        (
            "codedeploy:PutLifecycleEventHookExecutionStatus",
            in_the_account("codedeploy", "deploymentgroup:${ServerlessDeploymentApplication}/*"),
        ),
        *may_log("PreTrafficLogs"),
    },
    "DeploymentRole": {
        *actions_on(of("Predictor"), "lambda", *ALIAS_ACTIONS),
        *actions_on(str({"Fn::Sub": "${Predictor.Arn}:live"}), "lambda", *ALIAS_ACTIONS),
        ("lambda:InvokeFunction", of("PreTraffic")),
        ("cloudwatch:DescribeAlarms", in_the_account("cloudwatch", "alarm:*")),
    },
    "ModelPublisherPolicy": {
        *READ_MODELS,
        READ_CALIBRATIONS,
        *(("s3:GetObject", target) for target in (HISTORIES, EXPERIMENTS, in_bucket("monitor/status.json"))),
        *(("s3:PutObject", target) for target in (MODELS, CALIBRATIONS, CHANNELS, HISTORIES, EXPERIMENTS)),
        ENCRYPT,
        FIND_THE_STACK,
    },
    "OperatorPolicy": {
        ("kinesis:PutRecords", of("RideEvents")),
        ("kinesis:PutRecords", of("RideOutcomes")),
        ("lambda:InvokeFunction", str({"Ref": "PredictorAliaslive"})),
        ("lambda:InvokeFunction", of("Archiver")),
        *actions_on(of("RideEvents"), "kinesis", *READ_STREAM),
        *actions_on(of("RidePredictions"), "kinesis", *READ_STREAM),
        *(("s3:GetObject", target) for target in (REJECTS, FAILURES, MARKS, CHANNELS, GOLDEN, MANIFESTS)),
        READ_CALIBRATIONS,
        ("s3:PutObject", MARKS),
        ("s3:PutObject", REJECTS),
        ("s3:GetObject", in_bucket("monitor/status.json")),
        ("s3:GetObject", in_bucket("monitor/acknowledged/*")),
        ("s3:PutObject", in_bucket("monitor/acknowledged/*")),
        *actions_on(of("RejectsQueue"), "sqs", *READ_QUEUE),
        ("s3:ListBucket", of("Bucket")),
        ("kms:Decrypt", of("Key")),
        ENCRYPT,
        FIND_THE_STACK,
        ("sqs:PurgeQueue", of("GivenUpBatches")),
        ("cloudwatch:SetAlarmState", of("UnresolvedBatchesAlarm")),
        ("sqs:PurgeQueue", of("LoopFailures")),
        *((f"s3:{action}", in_bucket(path)) for action in ("GetObject", "PutObject") for path in RUNS),
        ("s3:GetObject", EXPERIMENTS),
        ("s3:PutObject", OWN_EXPERIMENTS),
        ("lambda:InvokeFunction", str({"Ref": "LooperAliaslive"})),
        ("lambda:SendDurableExecutionCallbackSuccess", EXECUTIONS),
    },
    "LooperRole": {
        *READ_MODELS,
        READ_CALIBRATIONS,
        *(("s3:GetObject", in_bucket(path)) for path in ("history/*", "monitor/*", "experiments/*", *RUNS)),
        *(("s3:PutObject", in_bucket(path)) for path in RUNS),
        ("s3:PutObject", OWN_EXPERIMENTS),
        *(
            ("s3:PutObject", in_bucket(f"{path}/{channel}{end}"))
            for channel in ("candidate", "${ModelChannel}")
            for path, end in (("channels", ".json"), ("history", "/*"))
        ),
        ENCRYPT,
        ("lambda:InvokeFunction", of("Collector")),
        ("lambda:InvokeFunction", of("Trainer")),
        *actions_on(EXECUTIONS, "lambda", "CheckpointDurableExecution", "GetDurableExecutionState"),
        ("events:PutEvents", in_the_account("events", "event-bus/default")),
        REPORT_FAILED_EVENTS,
        *may_log("LooperLogs"),
    },
    "CollectorRole": {
        *(("s3:GetObject", target) for target in (LABELLED, *WORK)),
        *(("s3:PutObject", target) for target in WORK),
        ("s3:ListBucket", of("Bucket")),
        ("kms:Decrypt", of("Key")),
        ENCRYPT,
        *ANSWER,
        REPORT_FAILED_EVENTS,
        *may_log("CollectorLogs"),
    },
    "TrainerRole": {
        *READ_MODELS,
        *(("s3:GetObject", target) for target in WORK),
        ("s3:PutObject", MODELS),  # and no channel
        ("s3:PutObject", in_bucket("loop/answers/*")),
        ENCRYPT,
        *ANSWER,
        REPORT_FAILED_EVENTS,
        *may_log("TrainerLogs"),
    },
    "LoopScheduleRole": {("lambda:InvokeFunction", str({"Ref": "LooperAliaslive"}))},
    "JudgePolicy": {*JOIN, FIND_THE_STACK},
    "ForgetPolicy": {
        *(
            (f"s3:{action}", target)
            for action in ("GetObject", "GetObjectVersion", "PutObject", "DeleteObjectVersion")
            for target in (ARCHIVE, LATE, LABELLED, REJECTS)
        ),
        *((f"s3:{action}", FAILURES) for action in ("GetObject", "GetObjectVersion")),
        *actions_on(of("Bucket"), "s3", "ListBucket", "ListBucketVersions"),
        ("kms:Decrypt", of("Key")),
        ENCRYPT,
        FIND_THE_STACK,
    },
}
"""Each action with its resource, by role or policy of a stack with the loop."""


@pytest.mark.parametrize("name", ALLOWED)
def test_role_or_policy_allows_this_and_nothing_else(name: str) -> None:
    assert allowed(name, **LOOP) == ALLOWED[name]


@pytest.mark.parametrize("name", POLICIES)
def test_policies_for_people_name_nothing_of_the_loop_in_a_stack_without_it(name: str) -> None:
    added = allowed(name, **LOOP) - allowed(name)

    assert {one for one in allowed(name) if re.search("Loop|Trainer|Collector", str(one))} == set()
    assert bool(added) == (name in {"OperatorPolicy", "DoctorPolicy"})


def test_archive_adds_only_the_use_of_its_consumers_with_enhanced_fan_out() -> None:
    added = allowed("ArchiverRole", EnhancedFanOut="On") - allowed("ArchiverRole")
    consumers = {str({"Ref": f"{name}Consumer"}) for name in ("RideEvents", "RidePredictions", "RideOutcomes")}

    assert added == {("kinesis:SubscribeToShard", consumer) for consumer in consumers}


@pytest.mark.parametrize("name", ["ApiFunction", "Archiver", "Joiner", "Monitor", "Looper", "Collector", "Trainer"])
def test_function_has_its_role(name: str) -> None:
    assert properties(name, **LOOP)["Role"] == arn_of(f"{name}Role")


def test_loop_verifies_models_and_only_the_trainer_signs_them() -> None:
    for name, actions in (("LooperRole", {"kms:Verify"}), ("TrainerRole", {"kms:Sign", "kms:Verify"})):
        added = allowed(name, ModelSigningKeyArn=SIGNING_KEY, **LOOP) - allowed(name, **LOOP)
        assert {action for action, _ in added} == actions
        assert "*" not in {target for _, target in added}
    assert not any(
        action.startswith("kms:Sign") for action, _ in allowed("CollectorRole", ModelSigningKeyArn=SIGNING_KEY, **LOOP)
    )


@pytest.mark.parametrize(
    ("name", "actions"),
    [
        ("PredictorRole", {"kms:Verify"}),
        ("ApiFunctionRole", {"kms:Verify"}),
        ("JoinerRole", {"kms:Verify"}),
        ("MonitorRole", {"kms:Verify"}),
        ("JudgePolicy", {"kms:Verify"}),
        ("ModelPublisherPolicy", {"kms:Sign", "kms:Verify"}),
    ],
)
def test_signed_models_add_only_the_use_of_the_signing_key(name: str, actions: set[str]) -> None:
    added = allowed(name, ModelSigningKeyArn=SIGNING_KEY) - allowed(name)

    assert {action for action, _ in added} == actions
    assert "*" not in {target for _, target in added}


@pytest.mark.parametrize(
    ("role", "service"),
    [
        ("PredictorRole", "lambda"),
        ("ApiFunctionRole", "lambda"),
        ("ArchiverRole", "lambda"),
        ("JoinerRole", "lambda"),
        ("MonitorRole", "lambda"),
        ("PreTrafficRole", "lambda"),
        ("LooperRole", "lambda"),
        ("CollectorRole", "lambda"),
        ("TrainerRole", "lambda"),
        ("DeploymentRole", "codedeploy"),
    ],
)
def test_only_one_service_may_assume_the_role(role: str, service: str) -> None:
    document = properties(role, **LOOP)["AssumeRolePolicyDocument"]
    (statement,) = document["Statement"]

    assert document["Version"] == "2012-10-17"
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }


@pytest.mark.parametrize("role", ["MonitorRole", "LooperRole"])
def test_function_sends_events_of_this_project_only(role: str) -> None:
    assert statements(role, **LOOP)["SendEvents"]["Condition"] == {"StringEquals": {"events:source": "ridecast"}}


@pytest.mark.parametrize("role", ["JoinScheduleRole", "MonitorScheduleRole", "LoopScheduleRole"])
def test_only_this_accounts_schedules_may_assume_the_role_that_runs_a_function(role: str) -> None:
    (statement,) = properties(role, **LOOP)["AssumeRolePolicyDocument"]["Statement"]

    assert statement["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


@pytest.mark.parametrize("role", ROLES)
def test_role_has_one_policy_and_is_tagged(role: str) -> None:
    found = properties(role, **LOOP)
    (policy,) = found["Policies"]

    assert policy["PolicyDocument"]["Version"] == "2012-10-17"
    assert tags_of(found)["project"] == "ridecast"
    assert tags_of(found)["environment"] == {"Ref": "Environment"}


def test_policies_beside_the_roles_are_those_that_name_the_loops_executions() -> None:
    found = {name: one["Properties"] for name, one in of_type("AWS::IAM::Policy", **LOOP).items()}

    assert {name: [role["Ref"] for role in one["Roles"]] for name, one in found.items()} == {
        "LooperExecutions": ["LooperRole"],
        "LoopAnswers": ["CollectorRole", "TrainerRole"],
    }


def test_no_role_is_sams_own_or_takes_a_managed_policy() -> None:
    roles = of_type("AWS::IAM::Role", **LOOP)

    assert set(ROLES) == roles.keys()
    assert not any("ManagedPolicyArns" in role["Properties"] for role in roles.values())
    assert "PredictorRole" in roles
    assert "CodeDeployServiceRole" not in roles


@pytest.mark.parametrize("name", [*ROLES, *POLICIES])
def test_no_statement_has_a_wildcard_action_or_resource(name: str) -> None:
    for sid, statement in statements(name, **LOOP).items():
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in as_list(statement["Action"]))
        assert sid == "LookAtWhatHasNoArn" or "*" not in as_list(statement["Resource"])


def test_there_are_no_other_policies_for_people() -> None:
    assert of_type("AWS::IAM::ManagedPolicy").keys() == set(POLICIES)
