"""The data in the translated template: encryption, access, retention."""

from typing import Any

import pytest

from infra.local.moto.policies import is_allowed
from infra.stack.template import TEMPLATE, read_template
from tests.kits.template import LOOP, arn_of, properties, resource, stack

STREAMS = ("RideEvents", "RidePredictions", "RideOutcomes")
LOGS = (
    *("PredictorLogs", "PreTrafficLogs", "ArchiverLogs", "JoinerLogs", "MonitorLogs"),
    *("LooperLogs", "CollectorLogs", "TrainerLogs"),
)
OUTLIVES_THE_STACK = ("Key", *STREAMS, "Bucket", "BucketPolicy", "RejectsQueue", "RejectsQueuePolicy", *LOGS)
CONDITIONAL = ("models", "channels", "calibrations")
"""Prefixes whose objects are written under a condition."""

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


@pytest.mark.parametrize("name", OUTLIVES_THE_STACK)
def test_resource_with_data_or_its_key_survives_the_stack(name: str) -> None:
    assert resource(name, **LOOP)["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resource(name, **LOOP)["UpdateReplacePolicy"] == "Retain"


# The key ------------------------------------------------------------------------------------------------------------


def test_key_rotates_has_a_month_to_cancel_deletion_and_an_alias_of_the_stacks_name() -> None:
    assert properties("Key")["EnableKeyRotation"] is True
    assert properties("Key")["PendingWindowInDays"] == 30
    assert properties("KeyAlias") == {
        "AliasName": {"Fn::Sub": "alias/${AWS::StackName}"},
        "TargetKeyId": {"Ref": "Key"},
    }


def test_key_is_used_through_streams_bucket_queue_and_this_stacks_logs_only() -> None:
    groups = "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:${AWS::StackName}-*"
    logs_actions = ("Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")
    through = [{"Fn::Sub": f"{service}.${{AWS::Region}}.${{AWS::URLSuffix}}"} for service in ("kinesis", "s3", "sqs")]
    policy = properties("Key")["KeyPolicy"]

    assert policy["Version"] == "2012-10-17"  # the version with variables
    assert {statement["Sid"]: statement for statement in policy["Statement"]} == {
        sid: {"Sid": sid, "Effect": "Allow", "Resource": "*", **rest}
        for sid, rest in {
            "AccountUsesTheKeyThroughStreamsBucketAndQueue": {
                "Principal": ROOT_OF_THE_ACCOUNT,
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Condition": {"StringEquals": {"kms:ViaService": through}},
            },
            "LogsAreEncrypted": {
                "Principal": {"Service": {"Fn::Sub": "logs.${AWS::Region}.${AWS::URLSuffix}"}},
                "Action": [f"kms:{action}" for action in logs_actions],
                "Condition": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": {"Fn::Sub": groups}}},
            },
            "AccountAdministersTheKey": {
                "Principal": ROOT_OF_THE_ACCOUNT,
                "Action": [f"kms:{action}" for action in ADMINISTER],
            },
        }.items()
    }


# The rejects queue --------------------------------------------------------------------------------------------------


def test_rejects_queue_is_encrypted_with_the_key_of_the_rides_and_keeps_rejects_as_long_as_sqs_can() -> None:
    found = properties("RejectsQueue")
    assert found["KmsMasterKeyId"] == arn_of("Key")
    assert found["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_rejects_queue_is_used_over_tls_only() -> None:
    assert properties("RejectsQueuePolicy")["Queues"] == [{"Ref": "RejectsQueue"}]
    (statement,) = properties("RejectsQueuePolicy")["PolicyDocument"]["Statement"]
    assert statement == {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "sqs:*",
        "Resource": arn_of("RejectsQueue"),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


# Streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("mode", ["PROVISIONED", "ON_DEMAND"])
def test_stream_is_encrypted_retains_rides_for_two_days_and_has_shards_unless_on_demand(name: str, mode: str) -> None:
    shards = {"ShardCount": {"Ref": f"{name}Shards"}} if mode == "PROVISIONED" else {}
    found = properties(name, **({} if mode == "PROVISIONED" else {"StreamMode": mode}))

    assert stack().parameters["StreamMode"] == "PROVISIONED"
    assert found == {
        "Name": {"Ref": f"{name}Name"},
        "RetentionPeriodHours": 48,
        "StreamEncryption": {"EncryptionType": "KMS", "KeyId": arn_of("Key")},
        "StreamModeDetails": {"StreamMode": {"Ref": "StreamMode"}},
        "Tags": found["Tags"],
        **shards,
    }


# The bucket ---------------------------------------------------------------------------------------------------------


def test_bucket_is_encrypted_private_and_versioned_and_sends_events_of_new_objects() -> None:
    encryption = {
        "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": arn_of("Key")},
        "BucketKeyEnabled": True,
    }
    switches = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    found = properties("Bucket")

    assert found == {  # no BucketName: CloudFormation generates one
        "BucketEncryption": {"ServerSideEncryptionConfiguration": [encryption]},
        "PublicAccessBlockConfiguration": dict.fromkeys(switches, True),
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "VersioningConfiguration": {"Status": "Enabled"},
        "NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": True}},
        "LifecycleConfiguration": found["LifecycleConfiguration"],
        "Tags": found["Tags"],
    }
    assert properties("Bucket", BucketName="acme-rides")["BucketName"] == {"Ref": "BucketName"}


def test_bucket_requires_tls() -> None:
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn_of("Bucket"), {"Fn::Sub": "${Bucket.Arn}/*"}],
    }

    assert properties("BucketPolicy") == {
        "Bucket": {"Ref": "Bucket"},
        "PolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Sid": "TlsOnly", "Condition": {"Bool": {"aws:SecureTransport": False}}, **deny},
                {"Sid": "NoOldTls", "Condition": {"NumericLessThan": {"s3:TlsVersion": 1.2}}, **deny},
                {
                    "Sid": "ConditionalWritesOnly",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:PutObject",
                    "Resource": [{"Fn::Sub": f"${{Bucket.Arn}}/{prefix}/*"} for prefix in CONDITIONAL],
                    "Condition": {
                        "Null": {"s3:if-match": True, "s3:if-none-match": True},
                        "Bool": {"s3:ObjectCreationOperation": True},
                    },
                },
                {
                    "Sid": "CalibrationsAreNeverReplaced",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:PutObject",
                    "Resource": {"Fn::Sub": "${Bucket.Arn}/calibrations/*"},
                    "Condition": {
                        "Null": {"s3:if-none-match": True},
                        "Bool": {"s3:ObjectCreationOperation": True},
                    },
                },
            ],
        },
    }


def in_bucket(resource: Any) -> list[str]:
    """Return the resources of a statement of the bucket's policy in a bucket `b`."""
    resources = resource if isinstance(resource, list) else [resource]
    return [one["Fn::Sub"].replace("${Bucket.Arn}", "arn:aws:s3:::b") for one in resources]


@pytest.mark.parametrize(
    ("key", "request_keys", "denied"),
    [
        ("models/v/forest.npz", {}, True),
        ("channels/stable.json", {}, True),
        ("calibrations/v/2026-11-29T05.json", {}, True),
        ("models/v/forest.npz", {"s3:if-none-match": "*"}, False),
        ("calibrations/v/2026-11-29T05.json", {"s3:if-none-match": "*"}, False),
        ("calibrations/v/2026-11-29T05.json", {"s3:if-match": '"etag"'}, True),
        ("models/v/manifest.sig", {"s3:if-match": '"etag"'}, False),
        ("channels/stable.json", {"s3:if-match": '"etag"'}, False),
        ("models/v/forest.npz", {"s3:ObjectCreationOperation": "false"}, False),  # a part of a multipart upload
        ("rejects/s/shardId-0/1.ndjson", {}, False),
        ("history/stable/1.json", {}, False),
        ("monitor/status.json", {}, False),
    ],
)
def test_write_of_a_model_or_channel_without_a_condition_is_denied(
    key: str, request_keys: dict[str, str], denied: bool
) -> None:
    denies = properties("BucketPolicy")["PolicyDocument"]["Statement"][-2:]
    allow = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    document = {"Statement": [allow, *({**deny, "Resource": in_bucket(deny["Resource"])} for deny in denies)]}
    context = {"s3:ObjectCreationOperation": "true", **request_keys}

    assert is_allowed([document], "s3:PutObject", f"arn:aws:s3:::b/{key}", context) is not denied


def test_only_records_expire_and_overwritten_objects_can_be_restored_for_90_days() -> None:
    rules = properties("Bucket")["LifecycleConfiguration"]["Rules"]
    expires = {"Status": "Enabled", "ExpirationInDays": {"Ref": "KeptRecordsDays"}}

    # No rule ends models, calibrations, channels or their history, or what the monitor knows.
    assert [{name: value for name, value in rule.items() if name != "Id"} for rule in rules] == [
        {
            "Status": "Enabled",
            "Prefix": "models/",
            "Transitions": [{"StorageClass": "STANDARD_IA", "TransitionInDays": 90}],  # cheaper, immediate access
        },
        *({"Prefix": prefix, **expires} for prefix in ("rejects/", "aws/lambda/", "redriven/")),
        *(
            {
                "Status": "Enabled",
                "Prefix": prefix,
                "ExpirationInDays": {"Ref": days},
                "NoncurrentVersionExpiration": {"NoncurrentDays": 1},  # personal data: an end is an end
            }
            for prefix, days in (("archive/", "ArchiveDays"), ("late/", "ArchiveDays"), ("labelled/", "LabelledDays"))
        ),
        {
            "Status": "Enabled",
            "Prefix": "loop/rides/",  # personal data, and of use for a day at most
            "ExpirationInDays": 7,
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        },
        {
            "Status": "Enabled",  # without a prefix: the whole bucket
            "NoncurrentVersionExpiration": {"NoncurrentDays": 90},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        },
    ]
    days = stack().template["Parameters"]["KeptRecordsDays"]
    assert (days["Type"], days["Default"], days["MinValue"]) == ("Number", 365, 30)


# Logs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOGS)
def test_logs_are_encrypted_and_expire_after_a_parameters_days(name: str) -> None:
    found = properties(name, **LOOP)
    assert found == {  # the generated name begins with the stack's, as the key's policy requires
        "KmsKeyId": arn_of("Key"),
        "RetentionInDays": {"Ref": "LogRetentionDays"},
        "Tags": found["Tags"],
    }


def test_log_level_that_would_log_rides_cannot_be_chosen() -> None:
    assert read_template(TEMPLATE)["Parameters"]["LogLevel"]["AllowedValues"] == ["INFO", "WARNING", "ERROR"]
