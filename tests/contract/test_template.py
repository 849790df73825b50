"""What template.yaml promises once it is plain CloudFormation: moto drops half of this, so it is held here."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from infra.stack import Stack
from infra.transform import TEMPLATE, read_template

ROOT = TEMPLATE.parent
BUCKET_ARN, EVENTS_ARN, PREDICTIONS_ARN = (
    {"Fn::GetAtt": [name, "Arn"]} for name in ("Bucket", "RideEvents", "RidePredictions")
)


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack()


@pytest.fixture(scope="module")
def function(stack: Stack) -> dict[str, Any]:
    return stack.only("AWS::Lambda::Function")


@pytest.fixture(scope="module")
def mapping(stack: Stack) -> dict[str, Any]:
    return stack.only("AWS::Lambda::EventSourceMapping")


@pytest.fixture(scope="module")
def statements(stack: Stack) -> dict[str, dict[str, Any]]:
    (policy,) = stack.only("AWS::IAM::Role")["Policies"]
    return {statement["Sid"]: statement for statement in policy["PolicyDocument"]["Statement"]}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_runtime_is_the_projects_python(function: dict[str, Any]) -> None:
    assert function["Runtime"] == f"python{(ROOT / '.python-version').read_text().strip()}"


def test_function_is_a_zip_of_lambda_function_that_keeps_its_package_name(function: dict[str, Any]) -> None:
    source = read_template(TEMPLATE)["Resources"]["Predictor"]

    assert source["Properties"]["CodeUri"] == "lambda_function/"
    assert source["Metadata"]["BuildProperties"] == {
        "ParentPackageMode": "explicit",
        "ParentPackages": "lambda_function",
    }
    assert (function["PackageType"], function["Handler"]) == ("Zip", "lambda_function.handler.lambda_handler")


def test_function_runs_on_arm64_unless_told_otherwise(stack: Stack, function: dict[str, Any]) -> None:
    assert function["Architectures"] == [{"Ref": "Architecture"}]
    assert stack.parameters["Architecture"] == "arm64"


def test_function_environment_has_these_settings_and_no_other(function: dict[str, Any]) -> None:
    assert function["Environment"]["Variables"] == {
        "OUTPUT_STREAM": {"Ref": "RidePredictions"},
        "BUCKET": {"Ref": "Bucket"},
        "MODEL_CHANNEL": {"Ref": "ModelChannel"},
        "MODEL_REFRESH_S": {"Ref": "ModelRefreshSeconds"},
        "OUTPUT_FORMAT": {"Ref": "OutputFormat"},
        "OUTPUT_GROUPS": {"Ref": "RidePredictionsShards"},
        "LOG_LEVEL": {"Ref": "LogLevel"},
        "MALLOC_MMAP_THRESHOLD_": "1048576",
        "POWERTOOLS_SERVICE_NAME": "ridecast",
        "POWERTOOLS_METRICS_NAMESPACE": "ridecast",
    }


def test_failures_inside_a_batch_are_reported_one_by_one(mapping: dict[str, Any]) -> None:
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_nothing_blocks_a_shard_for_ever(stack: Stack, mapping: dict[str, Any]) -> None:
    streams = [r for r in stack.template["Resources"].values() if r["Type"] == "AWS::Kinesis::Stream"]
    retention_s = min(stream["Properties"]["RetentionPeriodHours"] for stream in streams) * 3600

    assert mapping["BisectBatchOnFunctionError"] is True
    assert 60 <= mapping["MaximumRecordAgeInSeconds"] < retention_s  # given up before Kinesis drops it in silence
    assert 0 <= mapping["MaximumRetryAttempts"] <= 10_000


def test_batches_that_are_given_up_are_kept_in_the_bucket(mapping: dict[str, Any]) -> None:
    assert mapping["DestinationConfig"] == {"OnFailure": {"Destination": BUCKET_ARN}}


def test_no_ride_is_skipped_when_the_mapping_begins(mapping: dict[str, Any]) -> None:
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["EventSourceArn"] == EVENTS_ARN


def test_only_one_role_exists_and_it_takes_no_managed_policy(stack: Stack, function: dict[str, Any]) -> None:
    role = stack.only("AWS::IAM::Role")  # a second one would be SAM's own, with every stream of the account

    assert "ManagedPolicyArns" not in role
    assert function["Role"] == {"Fn::GetAtt": ["PredictorRole", "Arn"]}


def test_role_may_do_this_and_nothing_else(statements: dict[str, dict[str, Any]]) -> None:
    allowed = {
        (action, str(resource))
        for statement in statements.values()
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }
    read_actions = ("DescribeStream", "DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards")

    assert allowed == {
        *((f"kinesis:{action}", str(EVENTS_ARN)) for action in read_actions),
        ("kinesis:PutRecords", str(PREDICTIONS_ARN)),
        ("s3:GetObject", str({"Fn::Sub": "${Bucket.Arn}/models/*"})),
        ("s3:GetObject", str({"Fn::Sub": "${Bucket.Arn}/channels/*"})),
        ("s3:PutObject", str({"Fn::Sub": "${Bucket.Arn}/rejects/*"})),
        ("s3:PutObject", str({"Fn::Sub": "${Bucket.Arn}/aws/lambda/*"})),
        ("s3:ListBucket", str(BUCKET_ARN)),
        ("logs:CreateLogStream", str({"Fn::GetAtt": ["PredictorLogs", "Arn"]})),
        ("logs:PutLogEvents", str({"Fn::GetAtt": ["PredictorLogs", "Arn"]})),
    }


def test_no_statement_has_a_wildcard_action_or_resource(statements: dict[str, dict[str, Any]]) -> None:
    for statement in statements.values():
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in as_list(statement["Action"]))
        assert "*" not in as_list(statement["Resource"])


def test_bucket_is_encrypted_closed_to_the_public_and_has_no_fixed_name(stack: Stack) -> None:
    bucket = stack.only("AWS::S3::Bucket")

    assert "BucketName" not in bucket
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


def test_model_bucket_outlives_the_stack(stack: Stack) -> None:
    assert stack.template["Resources"]["Bucket"]["DeletionPolicy"] == "Retain"


@pytest.mark.parametrize("name", ["RideEvents", "RidePredictions"])
def test_streams_are_encrypted_and_sized_by_parameter(stack: Stack, name: str) -> None:
    properties = stack.template["Resources"][name]["Properties"]

    assert properties["StreamEncryption"]["EncryptionType"] == "KMS"
    assert properties["ShardCount"] == {"Ref": f"{name}Shards"}


def test_outputs_name_both_streams_the_bucket_and_the_function(stack: Stack) -> None:
    assert sorted(stack.template["Outputs"]) == [
        "BucketName",
        "FunctionName",
        "RideEventsStream",
        "RidePredictionsStream",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("good", "bad", "rule"),
    [
        ("ShardCount: !Ref RideEventsShards", "ShardCuont: !Ref RideEventsShards", "E3002"),
        ("SSEAlgorithm: AES256", "SSEAlgorithm: AES255", "E3030"),
        ("RetentionPeriodHours: 24", "Tags: []", "I3013"),
    ],
    ids=["misspelt property", "unknown value", "data without a say on its end"],
)
def test_lint_finds_a_planted_mistake(tmp_path: Path, good: str, bad: str, rule: str) -> None:
    lint = import_module("infra.lint_template")  # cfn-lint takes seconds to import: not for every run of pytest
    text = TEMPLATE.read_text(encoding="utf-8")
    assert good in text
    path = tmp_path / "template.yaml"
    path.write_text(text.replace(good, bad), encoding="utf-8")

    assert {finding.split()[0] for finding in lint.findings(path)} == {rule}
