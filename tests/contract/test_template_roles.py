"""The permissions in template.yaml: one role a function, with explicit actions and resources."""

import pytest

from tests.kits.template import ROLES, SIGNING_KEY, allowed, arn_of, as_list, of_type, properties, statements, tags_of

POLICIES = ("ModelPublisherPolicy", "OperatorPolicy", "DoctorPolicy")

MODELS, CHANNELS, REJECTS, FAILURES = (
    str({"Fn::Sub": f"${{Bucket.Arn}}/{prefix}/*"}) for prefix in ("models", "channels", "rejects", "aws/lambda")
)
VERSION = str({"Ref": next(iter(of_type("AWS::Lambda::Version")))})
IN_THE_ACCOUNT = "arn:${AWS::Partition}:%s:${AWS::Region}:${AWS::AccountId}:%s"


def of(name: str) -> str:
    return str(arn_of(name))


def test_predictor_may_do_this_and_nothing_else() -> None:
    read_actions = ("DescribeStream", "DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards")

    assert allowed("PredictorRole") == {
        *((f"kinesis:{action}", of("RideEvents")) for action in read_actions),
        ("kinesis:PutRecords", of("RidePredictions")),
        ("s3:GetObject", MODELS),
        ("s3:GetObject", CHANNELS),
        ("s3:PutObject", REJECTS),
        ("s3:PutObject", FAILURES),
        ("s3:ListBucket", of("Bucket")),
        ("kms:Decrypt", of("Key")),
        ("kms:GenerateDataKey", of("Key")),
        ("logs:CreateLogStream", of("PredictorLogs")),
        ("logs:PutLogEvents", of("PredictorLogs")),
    }


def test_api_function_may_do_this_and_nothing_else() -> None:
    assert properties("ApiFunction")["Role"] == arn_of("ApiFunctionRole")
    assert allowed("ApiFunctionRole") == {
        ("s3:GetObject", MODELS),
        ("s3:GetObject", CHANNELS),
        ("s3:ListBucket", of("Bucket")),
        ("kms:Decrypt", of("Key")),
        ("logs:CreateLogStream", of("ApiFunctionLogs")),
        ("logs:PutLogEvents", of("ApiFunctionLogs")),
    }


@pytest.mark.parametrize("role", ["PredictorRole", "ApiFunctionRole"])
def test_function_may_verify_with_the_signing_key_if_models_are_signed(role: str) -> None:
    added = allowed(role, ModelSigningKeyArn=SIGNING_KEY) - allowed(role)

    assert [action for action, _ in added] == ["kms:Verify"]
    assert statements(role, ModelSigningKeyArn=SIGNING_KEY)["VerifyModels"]["Resource"] != "*"


def test_pre_traffic_hook_may_do_this_and_nothing_else() -> None:
    groups = IN_THE_ACCOUNT % ("codedeploy", "deploymentgroup:${ServerlessDeploymentApplication}/*")

    assert allowed("PreTrafficRole") == {
        ("lambda:InvokeFunction", VERSION),  # the new version only
        ("s3:GetObject", MODELS),
        ("s3:GetObject", CHANNELS),
        ("s3:ListBucket", of("Bucket")),
        ("kms:Decrypt", of("Key")),
        ("codedeploy:PutLifecycleEventHookExecutionStatus", str({"Fn::Sub": groups})),
        ("logs:CreateLogStream", of("PreTrafficLogs")),
        ("logs:PutLogEvents", of("PreTrafficLogs")),
    }


def test_codedeploy_may_do_this_and_nothing_else() -> None:
    alias_actions = ("GetAlias", "GetProvisionedConcurrencyConfig", "UpdateAlias")

    assert allowed("DeploymentRole") == {
        *((f"lambda:{action}", of("Predictor")) for action in alias_actions),
        *((f"lambda:{action}", str({"Fn::Sub": "${Predictor.Arn}:live"})) for action in alias_actions),
        ("lambda:InvokeFunction", of("PreTraffic")),
        ("cloudwatch:DescribeAlarms", str({"Fn::Sub": IN_THE_ACCOUNT % ("cloudwatch", "alarm:*")})),
    }


@pytest.mark.parametrize(
    ("role", "service"),
    [
        ("PredictorRole", "lambda"),
        ("ApiFunctionRole", "lambda"),
        ("PreTrafficRole", "lambda"),
        ("DeploymentRole", "codedeploy"),
    ],
)
def test_only_one_service_may_assume_the_role(role: str, service: str) -> None:
    document = properties(role)["AssumeRolePolicyDocument"]
    (statement,) = document["Statement"]

    assert document["Version"] == "2012-10-17"
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }


@pytest.mark.parametrize("role", ROLES)
def test_role_has_one_policy_and_is_tagged(role: str) -> None:
    (policy,) = properties(role)["Policies"]

    assert policy["PolicyDocument"]["Version"] == "2012-10-17"
    assert tags_of(properties(role))["project"] == "ridecast"
    assert tags_of(properties(role))["environment"] == {"Ref": "Environment"}


def test_no_role_is_sams_own_or_takes_a_managed_policy() -> None:
    roles = of_type("AWS::IAM::Role")

    assert set(ROLES) <= roles.keys()
    assert not any("ManagedPolicyArns" in role["Properties"] for role in roles.values())
    assert "PredictorRole" in roles
    assert "CodeDeployServiceRole" not in roles


# Policies for people --------------------------------------------------------------------------------------------------


def in_bucket(path: str) -> str:
    return str({"Fn::Sub": f"${{Bucket.Arn}}/{path}"})


def test_publishers_may_do_this_and_nothing_else() -> None:
    histories = in_bucket("history/*")

    assert allowed("ModelPublisherPolicy") == {
        *(("s3:GetObject", target) for target in (MODELS, CHANNELS, histories)),
        *(("s3:PutObject", target) for target in (MODELS, CHANNELS, histories)),
        ("s3:ListBucket", of("Bucket")),
        ("kms:Decrypt", of("Key")),
        ("kms:GenerateDataKey", of("Key")),
        ("cloudformation:DescribeStacks", str({"Ref": "AWS::StackId"})),
    }


def test_publishers_sign_and_verify_if_models_are_signed() -> None:
    signed = allowed("ModelPublisherPolicy", ModelSigningKeyArn=SIGNING_KEY)
    added = signed - allowed("ModelPublisherPolicy")

    assert {action for action, _ in added} == {"kms:Sign", "kms:Verify"}
    assert "*" not in {target for _, target in added}


def test_operators_may_do_this_and_nothing_else() -> None:
    read_actions = ("GetRecords", "GetShardIterator", "ListShards")
    golden, manifests = (in_bucket(f"models/*/{name}.json") for name in ("golden", "manifest"))
    marks = in_bucket("redriven/*")

    assert allowed("OperatorPolicy") == {
        ("kinesis:PutRecords", of("RideEvents")),
        *((f"kinesis:{action}", of("RidePredictions")) for action in read_actions),
        *(("s3:GetObject", target) for target in (REJECTS, FAILURES, marks, CHANNELS, golden, manifests)),
        ("s3:PutObject", marks),
        ("s3:ListBucket", of("Bucket")),
        ("kms:Decrypt", of("Key")),
        ("kms:GenerateDataKey", of("Key")),
        ("cloudformation:DescribeStacks", str({"Ref": "AWS::StackId"})),
        ("sqs:PurgeQueue", of("GivenUpBatches")),
    }


@pytest.mark.parametrize("name", [*ROLES, *POLICIES])
def test_no_statement_has_a_wildcard_action_or_resource(name: str) -> None:
    for sid, statement in statements(name).items():
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in as_list(statement["Action"]))
        assert sid == "LookAtWhatHasNoArn" or "*" not in as_list(statement["Resource"])


def test_there_are_no_other_policies_for_people() -> None:
    assert of_type("AWS::IAM::ManagedPolicy").keys() == set(POLICIES)
