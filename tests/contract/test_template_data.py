"""The data in the translated template: encryption, access, retention."""

from typing import Any

import pytest

from infra.stack.template import TEMPLATE, read_template
from tests.kits.template import arn_of, properties, resource, stack

STREAMS = ("RideEvents", "RidePredictions")
OUTLIVES_THE_STACK = ("Key", *STREAMS, "Bucket", "BucketPolicy", "PredictorLogs", "PreTrafficLogs")
READ = ("Decrypt", "DescribeKey")
ADMINISTER = (
    "CancelKeyDeletion",
    "CreateAlias",
    "DeleteAlias",
    "DescribeKey",
    "DisableKey",
    "DisableKeyRotation",
    "EnableKey",
    "EnableKeyRotation",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "ListGrants",
    "ListKeyPolicies",
    "ListResourceTags",
    "PutKeyPolicy",
    "RevokeGrant",
    "ScheduleKeyDeletion",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateKeyDescription",
)
"""Actions that administer a key; none that uses it."""

ROOT_OF_THE_ACCOUNT = {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}


@pytest.fixture(scope="module")
def key_statements() -> dict[str, dict[str, Any]]:
    return {statement["Sid"]: statement for statement in properties("Key")["KeyPolicy"]["Statement"]}


@pytest.mark.parametrize("name", OUTLIVES_THE_STACK)
def test_resource_with_data_or_its_key_survives_the_stack(name: str) -> None:
    assert resource(name)["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resource(name)["UpdateReplacePolicy"] == "Retain"


# The key ------------------------------------------------------------------------------------------------------------


def test_key_rotates_has_a_month_to_cancel_deletion_and_an_alias_of_the_stacks_name() -> None:
    assert properties("Key")["EnableKeyRotation"] is True
    assert properties("Key")["PendingWindowInDays"] == 30
    assert properties("KeyAlias") == {
        "AliasName": {"Fn::Sub": "alias/${AWS::StackName}"},
        "TargetKeyId": {"Ref": "Key"},
    }


def test_key_is_used_through_streams_and_bucket_only(key_statements: dict[str, dict[str, Any]]) -> None:
    assert key_statements["AccountUsesTheKeyThroughStreamsAndBucket"] == {
        "Sid": "AccountUsesTheKeyThroughStreamsAndBucket",
        "Effect": "Allow",
        "Principal": ROOT_OF_THE_ACCOUNT,
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": "*",
        "Condition": {
            "StringEquals": {
                "kms:ViaService": [
                    {"Fn::Sub": "kinesis.${AWS::Region}.${AWS::URLSuffix}"},
                    {"Fn::Sub": "s3.${AWS::Region}.${AWS::URLSuffix}"},
                ]
            }
        },
    }


def test_key_encrypts_this_stacks_logs_and_no_others(key_statements: dict[str, dict[str, Any]]) -> None:
    groups = "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:${AWS::StackName}-*"

    assert key_statements["LogsAreEncrypted"] == {
        "Sid": "LogsAreEncrypted",
        "Effect": "Allow",
        "Principal": {"Service": {"Fn::Sub": "logs.${AWS::Region}.${AWS::URLSuffix}"}},
        "Action": [f"kms:{action}" for action in (*READ, "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")],
        "Resource": "*",
        "Condition": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": {"Fn::Sub": groups}}},
    }


def test_account_administers_the_key_and_its_policy(key_statements: dict[str, dict[str, Any]]) -> None:
    assert key_statements["AccountAdministersTheKey"] == {
        "Sid": "AccountAdministersTheKey",
        "Effect": "Allow",
        "Principal": ROOT_OF_THE_ACCOUNT,
        "Action": [f"kms:{action}" for action in ADMINISTER],
        "Resource": "*",
    }
    assert len(key_statements) == 3


@pytest.mark.parametrize("name", ["Key", "BucketPolicy"])
def test_policy_has_the_version_with_variables(name: str) -> None:
    (document,) = (properties(name)[key] for key in ("KeyPolicy", "PolicyDocument") if key in properties(name))

    assert document["Version"] == "2012-10-17"


# Streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
def test_stream_is_encrypted_with_the_stacks_key_and_retains_rides_for_two_days(name: str) -> None:
    assert properties(name)["StreamEncryption"] == {"EncryptionType": "KMS", "KeyId": arn_of("Key")}
    assert properties(name)["RetentionPeriodHours"] == 48
    assert properties(name)["Name"] == {"Ref": f"{name}Name"}


@pytest.mark.parametrize("name", STREAMS)
def test_stream_has_shards_by_parameter_or_on_demand(name: str) -> None:
    on_demand = properties(name, StreamMode="ON_DEMAND")

    assert properties(name)["ShardCount"] == {"Ref": f"{name}Shards"}
    assert (
        properties(name)["StreamModeDetails"] == on_demand["StreamModeDetails"] == {"StreamMode": {"Ref": "StreamMode"}}
    )
    assert stack().parameters["StreamMode"] == "PROVISIONED"
    assert "ShardCount" not in on_demand


# The bucket ---------------------------------------------------------------------------------------------------------


def test_bucket_is_encrypted_with_the_stacks_key() -> None:
    (rule,) = properties("Bucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]

    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": arn_of("Key")}
    assert rule["BucketKeyEnabled"] is True


def test_bucket_is_closed_to_the_public_and_to_other_accounts_objects() -> None:
    switches = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")

    assert properties("Bucket")["PublicAccessBlockConfiguration"] == dict.fromkeys(switches, True)
    assert properties("Bucket")["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


@pytest.mark.parametrize(
    ("sid", "condition"),
    [
        ("TlsOnly", {"Bool": {"aws:SecureTransport": False}}),
        ("NoOldTls", {"NumericLessThan": {"s3:TlsVersion": 1.2}}),
    ],
)
def test_bucket_requires_tls(sid: str, condition: dict[str, Any]) -> None:
    statements = {one["Sid"]: one for one in properties("BucketPolicy")["PolicyDocument"]["Statement"]}

    assert properties("BucketPolicy")["Bucket"] == {"Ref": "Bucket"}
    assert statements[sid] == {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn_of("Bucket"), {"Fn::Sub": "${Bucket.Arn}/*"}],
        "Condition": condition,
    }


def test_bucket_has_a_generated_name_by_default() -> None:
    assert "BucketName" not in properties("Bucket")
    assert properties("Bucket", BucketName="acme-rides")["BucketName"] == {"Ref": "BucketName"}


def test_overwritten_and_deleted_objects_can_be_restored() -> None:
    assert properties("Bucket")["VersioningConfiguration"] == {"Status": "Enabled"}
    rule = lifecycle()["OverwrittenAndDeletedObjectsEnd"]
    assert "Prefix" not in rule  # all of the bucket
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 90}
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


def test_bucket_sends_events_of_new_objects() -> None:
    assert properties("Bucket")["NotificationConfiguration"] == {
        "EventBridgeConfiguration": {"EventBridgeEnabled": True}
    }


def lifecycle() -> dict[str, dict[str, Any]]:
    rules = properties("Bucket")["LifecycleConfiguration"]["Rules"]
    assert {rule["Status"] for rule in rules} == {"Enabled"}
    return {rule["Id"]: rule for rule in rules}


def test_old_models_move_to_cheaper_storage_with_immediate_access() -> None:
    assert lifecycle()["OldModelsGetCheaper"]["Prefix"] == "models/"
    assert lifecycle()["OldModelsGetCheaper"]["Transitions"] == [
        {"StorageClass": "STANDARD_IA", "TransitionInDays": 90}
    ]


@pytest.mark.parametrize(
    "key", ["models/green-2021-01-3f2a9c1d0b7e/forest.npz", "channels/stable.json", "history/stable/2021-02-01.json"]
)
def test_models_channels_and_history_never_expire(key: str) -> None:
    ending = [r["Id"] for r in lifecycle().values() if "ExpirationInDays" in r and key.startswith(r.get("Prefix", ""))]

    assert ending == []


@pytest.mark.parametrize("prefix", ["rejects/", "aws/lambda/", "redriven/"])
def test_failed_records_expire_after_a_parameters_days(prefix: str) -> None:
    rules = [rule for rule in lifecycle().values() if rule.get("Prefix") == prefix]

    assert [rule["ExpirationInDays"] for rule in rules] == [{"Ref": "KeptRecordsDays"}]
    assert stack().template["Parameters"]["KeptRecordsDays"] | {"Description": ""} == {
        "Type": "Number",
        "Default": 365,
        "MinValue": 30,
        "Description": "",
    }


# Logs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PredictorLogs", "PreTrafficLogs"])
def test_logs_are_encrypted_and_expire_after_a_parameters_days(name: str) -> None:
    assert properties(name)["KmsKeyId"] == arn_of("Key")
    assert properties(name)["RetentionInDays"] == {"Ref": "LogRetentionDays"}
    assert "LogGroupName" not in properties(
        name
    )  # the generated name begins with the stack's, as the key's policy requires


def test_log_level_that_would_log_rides_cannot_be_chosen() -> None:
    assert read_template(TEMPLATE)["Parameters"]["LogLevel"]["AllowedValues"] == ["INFO", "WARNING", "ERROR"]
