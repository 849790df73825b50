"""Faults to plant in a deployed stack of the local AWS, each with words of the doctor's remedy."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.operate.doctor.doctor import Doctor, check
from infra.operate.doctor.facts import Finding, Severity
from tests.kits.stack import TemplateStack
from training.monitoring.calibration.status import CalibrationStatus
from training.monitoring.monitor.status import STATUS_KEY, GroupStatus, MonitorStatus, encode_status
from training.registry.bucket import Bucket
from training.workflows.loop.lease import hold_lease, release_lease
from training.workflows.loop.state import RunRecord, Waiting, change_run

_ALWAYS = {"nobody-subscribed"}
"""What the doctor finds in a healthy stack of the local AWS, which never confirms a subscription."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployed stack with a model, to plant faults in."""

    stack: TemplateStack
    client: Callable[[str], Any]  # makes a client of a service

    @property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        return dict(self.stack.outputs())

    def name(self, logical_name: str) -> str:
        """Return a resource's physical name."""
        return self.stack.names()[logical_name]

    def problems(self) -> dict[str, Finding]:
        """Findings that are not good, by fault."""
        findings = check(Doctor(self.client, self.stack.name).gather())
        problems = [one for one in findings if one.severity is not Severity.good]
        return {one.fault: one for one in problems if one.fault not in _ALWAYS}


Plant = Callable[[Deployed], None]

FROZEN = CalibrationStatus(
    state="frozen", text="The last calibration is kept.", frozen_reason="12% of the outcomes were dropped."
)


def in_alarm(group: str) -> GroupStatus:
    """Return the status of a group in alarm."""
    return GroupStatus(group=group, state="alarm", evidence=400.0, text="predicted_minutes has changed")


def delete_input_stream(on: Deployed) -> None:
    on.client("kinesis").delete_stream(StreamName=on.outputs["RideEventsStream"])


def delete_output_stream(on: Deployed) -> None:
    on.client("kinesis").delete_stream(StreamName=on.outputs["RidePredictionsStream"])


def delete_outcomes_stream(on: Deployed) -> None:
    on.client("kinesis").delete_stream(StreamName=on.outputs["RideOutcomesStream"])


def delete_function(on: Deployed) -> None:
    on.client("lambda").delete_function(FunctionName=on.outputs["FunctionName"])


def delete_alias(on: Deployed) -> None:
    on.client("lambda").delete_alias(FunctionName=on.outputs["FunctionName"], Name="live")


def delete_api_function(on: Deployed) -> None:
    on.client("lambda").delete_function(FunctionName=on.outputs["ApiFunctionName"])


def delete_api(on: Deployed) -> None:
    on.client("apigatewayv2").delete_api(ApiId=on.name("Api"))


def delete_bucket(on: Deployed) -> None:
    s3, bucket = on.client("s3"), on.outputs["BucketName"]
    for version in s3.list_object_versions(Bucket=bucket).get("Versions", ()):
        s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
    s3.delete_bucket(Bucket=bucket)


def delete_queue(on: Deployed) -> None:
    on.client("sqs").delete_queue(QueueUrl=on.outputs["GivenUpBatchesUrl"])


def delete_topic(on: Deployed) -> None:
    on.client("sns").delete_topic(TopicArn=on.outputs["AlarmTopicArn"])


def delete_mapping(on: Deployed) -> None:
    on.client("lambda").delete_event_source_mapping(UUID=on.name("PredictorRides"))


def disable_mapping(on: Deployed) -> None:
    on.client("lambda").update_event_source_mapping(UUID=on.name("PredictorRides"), Enabled=False)


def delete_alarm(on: Deployed) -> None:
    on.client("cloudwatch").delete_alarms(AlarmNames=[on.name("ThrottlesAlarm")])


def delete_named(output: str) -> Plant:
    return lambda on: on.client("lambda").delete_function(FunctionName=on.outputs[output])


def delete_archive_mapping(on: Deployed) -> None:
    on.client("lambda").delete_event_source_mapping(UUID=on.name("ArchiverPredictions"))


def disable_archive_mapping(on: Deployed) -> None:
    on.client("lambda").update_event_source_mapping(UUID=on.name("ArchiverOutcomes"), Enabled=False)


def change_variables_of(output: str) -> Plant:
    def plant(on: Deployed) -> None:
        aws_lambda, function = on.client("lambda"), on.outputs[output]
        variables = aws_lambda.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        environment = {"Variables": {**variables, "BUCKET": "another"}}
        aws_lambda.update_function_configuration(FunctionName=function, Environment=environment)

    return plant


def delete_schedule(logical_name: str) -> Plant:
    return lambda on: on.client("scheduler").delete_schedule(Name=on.name(logical_name))


def disable_schedule(logical_name: str) -> Plant:
    def plant(on: Deployed) -> None:
        scheduler, name = on.client("scheduler"), on.name(logical_name)
        schedule = scheduler.get_schedule(Name=name)
        kept = {key: schedule[key] for key in ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
        scheduler.update_schedule(**kept, State="DISABLED")

    return plant


def store_status(age: timedelta = timedelta(), **fields: Any) -> Plant:
    """Store the monitor's status, of a model without an alarm unless fields say otherwise."""

    def plant(on: Deployed) -> None:
        written_at = (datetime.now(UTC) - age).isoformat()
        groups = tuple(GroupStatus(group=name, state="ok") for name in ("data", "performance"))
        status = MonitorStatus(**{"written_at": written_at, "channel": "stable", "groups": groups, **fields})
        on.client("s3").put_object(Bucket=on.outputs["BucketName"], Key=STATUS_KEY, Body=encode_status(status))

    return plant


def store_no_status(on: Deployed) -> None:
    on.client("s3").put_object(Bucket=on.outputs["BucketName"], Key=STATUS_KEY, Body=b"{")


def store_run(waits: Waiting | None = None, *, holds_lease: bool = True) -> Plant:
    """Store the record of a run that has not ended, and its lease."""

    def plant(on: Deployed) -> None:
        bucket, now = Bucket(on.client("s3"), on.outputs["BucketName"]), datetime.now(UTC)
        run = RunRecord(
            run_id="r1",
            channel="stable",
            trigger="schedule",
            reason="",
            started_at=now - timedelta(days=2),
            waiting=waits,
        )
        change_run(bucket, "r1", lambda _: run)
        hold_lease(bucket, "r1", now)
        if not holds_lease:
            release_lease(bucket, "r1", now)

    return plant


def waits_for(what: str, hours: float, callback_id: str | None = None) -> Waiting:
    """Return what a run waits for until some hours from now."""
    return Waiting(what=what, until=datetime.now(UTC) + timedelta(hours=hours), callback_id=callback_id)


def send_failed_event_to_queue(on: Deployed) -> None:
    on.client("sqs").send_message(QueueUrl=on.outputs["LoopFailuresUrl"], MessageBody='{"trigger": "schedule"}')


def delete_queue_of_the_loop(on: Deployed) -> None:
    on.client("sqs").delete_queue(QueueUrl=on.outputs["LoopFailuresUrl"])


def take_policy(role: str, policy: str) -> Plant:
    return lambda on: on.client("iam").delete_role_policy(RoleName=on.name(role), PolicyName=policy)


def shorten_retention(on: Deployed) -> None:
    shorter = {"StreamName": on.outputs["RideEventsStream"], "RetentionPeriodHours": 24}
    on.client("kinesis").decrease_stream_retention_period(**shorter)


def shorten_retention_of_the_output(on: Deployed) -> None:
    shorter = {"StreamName": on.outputs["RidePredictionsStream"], "RetentionPeriodHours": 24}
    on.client("kinesis").decrease_stream_retention_period(**shorter)


def stop_encryption_of(output: str) -> Plant:
    def plant(on: Deployed) -> None:
        stream, key = on.outputs[output], on.outputs["KeyArn"]
        on.client("kinesis").stop_stream_encryption(StreamName=stream, EncryptionType="KMS", KeyId=key)

    return plant


def suspend_versioning(on: Deployed) -> None:
    suspended = {"Status": "Suspended"}
    on.client("s3").put_bucket_versioning(Bucket=on.outputs["BucketName"], VersioningConfiguration=suspended)


def delete_encryption(on: Deployed) -> None:
    on.client("s3").delete_bucket_encryption(Bucket=on.outputs["BucketName"])


def disable_key(on: Deployed) -> None:
    on.client("kms").disable_key(KeyId=on.name("Key"))


def schedule_deletion_of_the_key(on: Deployed) -> None:
    on.client("kms").schedule_key_deletion(KeyId=on.name("Key"), PendingWindowInDays=7)


def take_permission(sid: str, function: str = "Predictor") -> Plant:
    def plant(on: Deployed) -> None:
        iam, policy = on.client("iam"), {"RoleName": on.name(f"{function}Role"), "PolicyName": function.lower()}
        document = iam.get_role_policy(**policy)["PolicyDocument"]
        left = [one for one in document["Statement"] if one["Sid"] != sid]
        assert left != document["Statement"]
        iam.put_role_policy(**policy, PolicyDocument=json.dumps({**document, "Statement": left}))

    return plant


def deny_everything(on: Deployed) -> None:
    deny = {"Effect": "Deny", "Action": "kinesis:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    on.client("iam").put_role_policy(RoleName=on.name("PredictorRole"), PolicyName="more", PolicyDocument=document)


def delete_role(on: Deployed) -> None:
    iam, role = on.client("iam"), on.name("PredictorRole")
    iam.delete_role_policy(RoleName=role, PolicyName="predictor")
    iam.delete_role(RoleName=role)


def change_variable(name: str, value: str) -> Plant:
    """Serve a version with another value of a variable."""

    def plant(on: Deployed) -> None:
        aws_lambda, function = on.client("lambda"), on.outputs["FunctionName"]
        variables = aws_lambda.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        assert name in variables
        environment = {"Variables": {**variables, name: value}}
        aws_lambda.update_function_configuration(FunctionName=function, Environment=environment)
        version = aws_lambda.publish_version(FunctionName=function)["Version"]
        aws_lambda.update_alias(FunctionName=function, Name="live", FunctionVersion=version)

    return plant


def change_mapping(**properties: object) -> Plant:
    def plant(on: Deployed) -> None:
        on.client("lambda").update_event_source_mapping(UUID=on.name("PredictorRides"), **properties)

    return plant


def delete_rejects_queue(on: Deployed) -> None:
    on.client("sqs").delete_queue(QueueUrl=on.outputs["RejectsQueueUrl"])


def take_encryption_from_queue(on: Deployed) -> None:
    url = on.outputs["RejectsQueueUrl"]
    on.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": ""})


def shorten_queue_retention(on: Deployed) -> None:
    url = on.outputs["RejectsQueueUrl"]
    on.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"MessageRetentionPeriod": "60"})


def send_reject_to_queue(on: Deployed) -> None:
    on.client("sqs").send_message(QueueUrl=on.outputs["RejectsQueueUrl"], MessageBody="a part of an object")


Planted = tuple[str, Plant, str]
"""A fault, how it is planted, and words of the remedy."""

PLANTED: list[Planted] = [
    ("input-stream-missing", delete_input_stream, "aws kinesis create-stream --stream-name events-"),
    ("output-stream-missing", delete_output_stream, "aws kinesis create-stream --stream-name predictions-"),
    ("function-missing", delete_function, "docs/runbook.md#repair"),
    ("alias-missing", delete_alias, "--name live --function-version 1`"),
    ("api-function-missing", delete_api_function, "docs/runbook.md#repair"),
    ("api-missing", delete_api, "docs/runbook.md#repair"),
    ("bucket-missing", delete_bucket, "`ridecast models release"),
    ("queue-missing", delete_queue, "docs/runbook.md#repair"),
    ("topic-missing", delete_topic, "docs/runbook.md#repair"),
    ("mapping-missing", delete_mapping, "docs/runbook.md#repair"),
    ("mapping-disabled", disable_mapping, "`aws lambda update-event-source-mapping --uuid"),
    ("alarm-deleted", delete_alarm, "docs/runbook.md#repair"),
    ("input-retention-short", shorten_retention, "--retention-period-hours 48`"),
    ("output-retention-short", shorten_retention_of_the_output, "--retention-period-hours 48`"),
    ("input-stream-not-encrypted", stop_encryption_of("RideEventsStream"), "`aws kinesis start-stream-encryption"),
    ("output-stream-not-encrypted", stop_encryption_of("RidePredictionsStream"), "--key-id arn:aws:kms:"),
    ("bucket-not-versioned", suspend_versioning, "--versioning-configuration Status=Enabled`"),
    ("bucket-not-encrypted", delete_encryption, "docs/runbook.md#repair"),
    ("key-disabled", disable_key, "`aws kms enable-key --key-id "),
    ("key-pending-deletion", schedule_deletion_of_the_key, "`aws kms cancel-key-deletion --key-id "),
    ("role-lacks-permission", take_permission("PublishPredictions"), "docs/runbook.md#repair"),
    ("role-lacks-permission", take_permission("ReadRideEvents"), "docs/runbook.md#repair"),
    ("role-lacks-permission", deny_everything, "docs/runbook.md#repair"),
    ("role-missing", delete_role, "docs/runbook.md#repair"),
    ("environment-wrong", change_variable("OUTPUT_STREAM", "nope"), "--name live --function-version 1`"),
    ("environment-wrong", change_variable("BUCKET", "another"), "--name live --function-version 1`"),
    ("environment-wrong", change_variable("REJECTS_QUEUE_URL", ""), "--name live --function-version 1`"),
    ("api-environment-wrong", change_variables_of("ApiFunctionName"), "docs/runbook.md#repair"),
    ("mapping-changed", change_mapping(BisectBatchOnFunctionError=False), "--bisect-batch-on-function-error`"),
    ("mapping-changed", change_mapping(MaximumRetryAttempts=3), "--maximum-retry-attempts "),
    ("mapping-changed", change_mapping(DestinationConfig={}), "--destination-config '{"),
    ("rejects-queue-missing", delete_rejects_queue, "docs/runbook.md#repair"),
    ("queue-not-encrypted", take_encryption_from_queue, "`aws sqs set-queue-attributes"),
    ("queue-retention-short", shorten_queue_retention, "MessageRetentionPeriod=1209600`"),
    ("outcomes-stream-missing", delete_outcomes_stream, "aws kinesis create-stream --stream-name outcomes-"),
    ("outcomes-stream-not-encrypted", stop_encryption_of("RideOutcomesStream"), "--key-id arn:aws:kms:"),
    ("role-lacks-permission", take_permission("ReadStreams", "Archiver"), "docs/runbook.md#repair"),
    ("archiver-missing", delete_named("ArchiverName"), "docs/runbook.md#repair"),
    ("archiver-environment-wrong", change_variables_of("ArchiverName"), "docs/runbook.md#repair"),
    ("archive-mapping-missing", delete_archive_mapping, "docs/runbook.md#repair"),
    ("archive-mapping-disabled", disable_archive_mapping, "`aws lambda update-event-source-mapping --uuid"),
    ("joiner-missing", delete_named("JoinerName"), "docs/runbook.md#repair"),
    ("joiner-environment-wrong", change_variables_of("JoinerName"), "docs/runbook.md#repair"),
    ("schedule-missing", delete_schedule("JoinerSchedule"), "`ridecast outcomes join --from 6h --stack ridecast-"),
    ("schedule-disabled", disable_schedule("JoinerSchedule"), "docs/runbook.md#repair"),
    ("monitor-missing", delete_named("MonitorName"), "docs/runbook.md#repair"),
    ("monitor-environment-wrong", change_variables_of("MonitorName"), "docs/runbook.md#repair"),
    ("monitor-schedule-missing", delete_schedule("MonitorSchedule"), "docs/runbook.md#repair"),
    ("monitor-schedule-disabled", disable_schedule("MonitorSchedule"), "docs/runbook.md#repair"),
    ("role-lacks-permission", take_permission("SendEvents", "Monitor"), "docs/runbook.md#repair"),
    ("status-old", store_status(timedelta(minutes=61)), "docs/runbook.md#monitorerrorsalarm"),
    ("status-damaged", store_no_status, "docs/runbook.md#monitorerrorsalarm"),
    ("data-changed", store_status(groups=(in_alarm("data"),)), "`ridecast monitor status --stack ridecast-"),
    ("performance-changed", store_status(groups=(in_alarm("performance"),)), "docs/runbook.md#performancealarm"),
    ("not-monitored", store_status(groups=(GroupStatus(group="data"),), n_days=1), "`ridecast monitor status --stack "),
    ("calibration-frozen", store_status(calibration=FROZEN), "docs/runbook.md#calibrationfrozenalarm"),
    ("looper-missing", delete_named("LooperName"), "docs/runbook.md#repair"),
    ("looper-environment-wrong", change_variables_of("LooperName"), "docs/runbook.md#repair"),
    ("collector-missing", delete_named("CollectorName"), "docs/runbook.md#repair"),
    ("collector-environment-wrong", change_variables_of("CollectorName"), "docs/runbook.md#repair"),
    ("trainer-missing", delete_named("TrainerName"), "docs/runbook.md#repair"),
    ("trainer-environment-wrong", change_variables_of("TrainerName"), "docs/runbook.md#repair"),
    ("role-lacks-permission", take_permission("StartCollectorAndTrainer", "Looper"), "docs/runbook.md#repair"),
    ("role-lacks-permission", take_policy("LooperRole", "executions"), "docs/runbook.md#repair"),
    ("role-lacks-permission", take_policy("TrainerRole", "answers"), "docs/runbook.md#repair"),
    ("loop-schedule-missing", delete_schedule("LooperSchedule"), "docs/runbook.md#repair"),
    ("loop-schedule-disabled", disable_schedule("LooperSchedule"), "docs/runbook.md#repair"),
    ("loop-queue-missing", delete_queue_of_the_loop, "docs/runbook.md#repair"),
    ("loop-failed", send_failed_event_to_queue, "`aws sqs purge-queue --queue-url "),
    ("loop-run-lost", store_run(holds_lease=False), "docs/runbook.md#loopfailuresalarm"),
    ("loop-run-stuck", store_run(waits_for("the trainer's answer", -7)), "docs/runbook.md#loopfailuresalarm"),
    (
        "loop-waits-for-approval",
        store_run(waits_for("approval of v", 100, "c")),
        "`ridecast loop approve r1 --stack ridecast-",
    ),
    ("rejects-in-queue", send_reject_to_queue, "`ridecast records list --kind reject --stack ridecast-"),
]
