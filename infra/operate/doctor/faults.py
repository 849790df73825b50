"""The faults of a stack: what each is, what sees it, and its remedy. One list for doctor, alarms and runbook.

The doctor's findings take their check, severity and remedy from here. docs/runbook.md shows the list as a table.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter

from infra.operate.doctor.facts import Finding, Severity

_BAD, _WARNING, _UNKNOWN = Severity.bad, Severity.warning, Severity.unknown

_COMPOSITE = ("StackAlarm", "AuditAlarm", "MonitorAlarm", "LoopAlarm")
"""Alarms of other alarms: they have no section in the runbook."""

REPAIR = "docs/runbook.md#repair"
"""The section that makes a stack again what its template says."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that a stack can have."""

    name: str  # stays the same: `doctor --json` writes it
    what: str  # as the runbook's table says it
    check: str  # the check of the doctor that finds it; "" if only alarms see it
    severity: Severity
    remedy: str  # names in braces are filled in by the finding
    alarms: tuple[str, ...] = ()  # logical names of the alarms that it sets off
    in_table: str = ""  # the remedy for the runbook's table, if the finding's own depends on what it found


_STACK = (
    Fault(
        "stack-failed",
        "the last operation of CloudFormation failed and left the stack unusable",
        "stack",
        _BAD,
        "{next}; `aws cloudformation describe-stack-events --stack-name {stack}` gives the reason",
        in_table="delete the stack, or continue its rollback, and deploy again; `aws cloudformation "
        "describe-stack-events --stack-name STACK` gives the reason",
    ),
    Fault(
        "stack-rolled-back",
        "the last update failed and was rolled back",
        "stack",
        _WARNING,
        "`aws cloudformation describe-stack-events --stack-name {stack}` gives the reason",
    ),
    Fault(
        "stack-in-progress",
        "an operation of CloudFormation is running",
        "stack",
        _WARNING,
        "run this command again when the operation has ended",
    ),
    Fault(
        "stack-not-deployed",
        "the stack has a change set and was never deployed",
        "stack",
        _WARNING,
        "execute its change set, or delete it and deploy again",
    ),
    Fault(
        "template-differs",
        "the template here is not the deployed one",
        "template diff",
        _WARNING,
        "run `sam build && sam deploy`, or check out what is deployed",
    ),
    Fault(
        "parameters-changed",
        "a value that a parameter sets was changed by hand",
        "parameters",
        _WARNING,
        "to keep this, deploy with {values}; else undo it as in docs/runbook.md#repair, because a deployment with the "
        "same values does not",
        in_table="deploy with the new value to keep it; else undo it as in docs/runbook.md#repair: a deployment with "
        "the same values does not",
    ),
    Fault(
        "resources-drifted",
        "CloudFormation's drift detection found resources that are not as deployed",
        "resources",
        _WARNING,
        "`aws cloudformation describe-stack-resource-drifts --stack-name {stack}` names them: deploy the right values, "
        "and run `detect-stack-drift` again",
    ),
)

_RELEASE = (
    Fault(
        "rollout-running",
        "a new version gets a part of the batches",
        "release",
        _WARNING,
        "a rollout is running: run this command again when it has ended. "
        "`aws deploy stop-deployment --auto-rollback-enabled` takes it back; "
        "if CodeDeploy has no deployment running, deploy again",
    ),
    Fault(
        "version-not-serving",
        "the alias does not serve the version that the stack published last",
        "release",
        _WARNING,
        "a rollout may be about to begin; else deploy again, or `aws lambda update-alias --function-name {function} "
        "--name {alias} --function-version {version}`",
    ),
    Fault(
        "rollout-unwatched",
        "no alarm rolls new code back (RolloutAlarms=Ignored)",
        "release",
        _WARNING,
        "deploy with RolloutAlarms=Watched as soon as the urgent fix is deployed",
    ),
)

_MISSING = (
    Fault(
        "function-missing",
        "the predictor does not exist",
        "function",
        _BAD,
        f"rides wait in the stream for 48 hours; make it again as in {REPAIR}",
        ("NoPredictionsAlarm",),
    ),
    Fault(
        "alias-missing",
        "the alias that the mapping invokes does not exist",
        "release",
        _BAD,
        "`aws lambda create-alias --function-name {function} --name {alias} --function-version {version}`",
        ("NoPredictionsAlarm",),
    ),
    Fault(
        "bucket-missing",
        "the bucket does not exist, and the models in it are gone",
        "bucket",
        _BAD,
        f"make it again as in {REPAIR}; then `ridecast models release build/bundles/<version> --bucket {{bucket}}`",
        ("RefreshFailuresAlarm", "FunctionErrorsAlarm"),
    ),
    Fault(
        "key-missing",
        "the key of streams and bucket does not exist: nothing that it encrypted can be read again",
        "key",
        _BAD,
        f"make it again as in {REPAIR}; producers must send the rides of the last 48 hours again",
        ("NoPredictionsAlarm", "RefreshFailuresAlarm"),
    ),
    Fault(
        "role-missing",
        "the function's role does not exist",
        "role",
        _BAD,
        f"make it again as in {REPAIR}",
        ("NoPredictionsAlarm", "FunctionErrorsAlarm"),
    ),
    Fault(
        "api-function-missing",
        "the HTTP API's function does not exist",
        "api",
        _BAD,
        f"callers get 500; rides on the stream are not affected. Make it again as in {REPAIR}",
        ("ApiErrorsAlarm",),
    ),
    Fault(
        "api-missing",
        "the HTTP API does not exist: its callers get no answer",
        "api",
        _BAD,
        f"make it again as in {REPAIR}, and tell its callers the new address; rides on the stream are not affected",
    ),
    Fault(
        "queue-missing",
        "the queue of failed batches does not exist: no alarm tells of a failed batch",
        "queue",
        _BAD,
        f"make it again as in {REPAIR}, and look with `ridecast records list --kind failure --stack {{stack}}`",
    ),
    Fault(
        "rejects-queue-missing",
        "the queue for rejects that the bucket does not take does not exist",
        "queue",
        _BAD,
        f"make it again as in {REPAIR}; until then, rejects wait whenever the bucket refuses them",
    ),
    Fault(
        "topic-missing",
        "the alarm topic does not exist: nobody is notified",
        "alarm topic",
        _BAD,
        f"make it again as in {REPAIR}, and subscribe to it again",
    ),
)

_CHANGED = (
    Fault(
        "bucket-not-versioned",
        "the bucket keeps no old versions: a deleted model or channel can't be restored",
        "bucket",
        _BAD,
        "`aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled`",
    ),
    Fault(
        "bucket-not-encrypted",
        "the bucket does not encrypt new objects with the stack's key",
        "bucket",
        _BAD,
        f"restore its encryption as in {REPAIR}; objects that were stored meanwhile keep theirs",
    ),
    Fault(
        "queue-not-encrypted",
        "the queue of rejects is not encrypted with the stack's key",
        "queue",
        _BAD,
        "`aws sqs set-queue-attributes --queue-url {queue} --attributes KmsMasterKeyId={key}`",
    ),
    Fault(
        "queue-retention-short",
        "a queue keeps messages for a shorter time than the template says: rejects in it would be lost earlier",
        "queue",
        _BAD,
        "`aws sqs set-queue-attributes --queue-url {queue} --attributes MessageRetentionPeriod={seconds}`",
    ),
    Fault(
        "key-disabled",
        "the key of streams and bucket is disabled",
        "key",
        _BAD,
        "`aws kms enable-key --key-id {key}`",
        ("NoPredictionsAlarm", "RefreshFailuresAlarm", "FunctionErrorsAlarm"),
    ),
    Fault(
        "key-pending-deletion",
        "the key of streams and bucket will be deleted: after that nothing that it encrypted can be read",
        "key",
        _BAD,
        "`aws kms cancel-key-deletion --key-id {key}`, then `aws kms enable-key --key-id {key}`",
        ("NoPredictionsAlarm", "RefreshFailuresAlarm", "FunctionErrorsAlarm"),
    ),
    Fault(
        "role-lacks-permission",
        "the function's role may not do what the template allows",
        "role",
        _BAD,
        f"restore its policies as in {REPAIR}; if they are as in template.yaml, the permissions boundary forbids it",
        ("FunctionErrorsAlarm", "NoPredictionsAlarm", "RefreshFailuresAlarm", "UndeliveredBatchesAlarm"),
    ),
    Fault(
        "environment-wrong",
        "the version that serves works with another stream, bucket or key than the stack's",
        "function",
        _BAD,
        "`aws lambda update-alias --function-name {function} --name live --function-version {version}` serves the last "
        f"deployed version. If that one has these settings, restore the function as in {REPAIR}",
        ("FunctionErrorsAlarm", "NoPredictionsAlarm"),
    ),
    Fault(
        "api-environment-wrong",
        "the HTTP API's function works with another bucket or key than the stack's",
        "api",
        _BAD,
        f"restore it as in {REPAIR}",
        ("ApiErrorsAlarm",),
    ),
    Fault(
        "mapping-wrong-stream",
        "the event source mapping reads another stream than the stack's",
        "mapping",
        _BAD,
        f"no ride of this stack is read; restore the mapping as in {REPAIR}",
        ("NoPredictionsAlarm",),
    ),
    Fault(
        "mapping-changed",
        "the event source mapping handles failed batches otherwise than the template says",
        "mapping",
        _BAD,
        "`aws lambda update-event-source-mapping --uuid {uuid} {options}`",
        in_table="`aws lambda update-event-source-mapping --uuid UUID`, with the options that the finding names",
    ),
)


def _of_stream(
    role: str, shards: str, missing: str, kept: str, growing: str, alarms: tuple[tuple[str, ...], tuple[str, ...]]
) -> Iterator[Fault]:
    """Yield the faults of a stream.

    Args:
        role: As in StreamFacts.
        shards: The parameter with its number of shards.
        missing: What its absence means.
        kept: What it keeps, and for how long.
        growing: What to do while it grows by itself.
        alarms: Those that sound if it is missing, and if it refuses records.
    """
    check, stream = f"{role} stream", f"the {role} stream"
    yield Fault(
        f"{role}-stream-missing",
        f"{stream} does not exist: {missing}",
        check,
        _BAD,
        "`aws kinesis create-stream --stream-name {name} --shard-count {shards}`, then run this command again: it "
        f"names the settings that are left. Or {REPAIR}",
        alarms[0],
    )
    yield Fault(
        f"{role}-retention-short",
        f"{stream} keeps {kept}",
        check,
        _BAD,
        "`aws kinesis increase-stream-retention-period --stream-name {name} --retention-period-hours {hours}`",
    )
    yield Fault(
        f"{role}-stream-not-encrypted",
        f"{stream} is not encrypted with the stack's key",
        check,
        _BAD,
        "`aws kinesis start-stream-encryption --stream-name {name} --encryption-type KMS --key-id {key}`",
    )
    more = f"deploy with {shards}={{shards}}, or with StreamMode=ON_DEMAND"
    yield Fault(f"{role}-stream-full", f"{stream} refuses records: its shards are full", check, _BAD, more, alarms[1])
    yield Fault(
        f"{role}-stream-growing",
        f"{stream} is on demand and refuses records, because the traffic grows faster than it",
        check,
        _BAD,
        f"Kinesis adds capacity within minutes: {growing}",
        alarms[1],
    )
    yield Fault(f"{role}-stream-busy", f"{stream} is more than 70% full in its busiest minute", check, _WARNING, more)


_SEND_SLOWER = "send at a lower rate until then, and spread the partition keys"
_STREAMS = (
    *_of_stream(
        "input",
        "RideEventsShards",
        "producers get errors",
        "records for a shorter time than the template says, or than a batch is retried",
        _SEND_SLOWER,
        ((), ()),
    ),
    *_of_stream(
        "output",
        "RidePredictionsShards",
        "no prediction can be published",
        "predictions for a shorter time than the template says",
        "the function resends until then",
        (
            ("FunctionErrorsAlarm", "NoPredictionsAlarm"),
            ("PublishRetriesAlarm", "DurationAlarm", "IteratorAgeAlarm"),
        ),
    ),
    *_of_stream(
        "outcomes",
        "RideOutcomesShards",
        "producers of outcomes get errors",
        "outcomes for a shorter time than the template says",
        _SEND_SLOWER,
        ((), ()),
    ),
    Fault(
        "existing-stream-missing",
        "a stream that existed before the stack does not exist any more",
        "input stream",
        _BAD,
        "ask its owner; without {parameter}, a deployment makes a stream of the stack's own",
        ("FunctionErrorsAlarm", "NoPredictionsAlarm"),
    ),
    Fault(
        "existing-stream-key",
        "a stream that existed before the stack is encrypted with a key that the stack's roles may not use",
        "input stream",
        _BAD,
        "deploy with {parameter}={key}",
        ("FunctionErrorsAlarm", "NoPredictionsAlarm"),
        in_table="deploy with its ARN as RideEventsKeyArn, RidePredictionsKeyArn or RideOutcomesKeyArn",
    ),
    Fault(
        "existing-stream-full",
        "a stream that existed before the stack refuses records: its shards are full",
        "input stream",
        _BAD,
        "ask its owner for {shards} shards, or for the mode ON_DEMAND",
        ("PublishRetriesAlarm", "DurationAlarm", "IteratorAgeAlarm"),
    ),
    Fault(
        "existing-stream-busy",
        "a stream that existed before the stack is more than 70% full in its busiest minute",
        "input stream",
        _WARNING,
        "ask its owner for {shards} shards, or for the mode ON_DEMAND",
    ),
    Fault(
        "concurrency-zero",
        "the function's reserved concurrency is 0: Lambda does not invoke it",
        "concurrency",
        _BAD,
        "ask who has switched the function off; {next}",
        ("ThrottlesAlarm", "NoPredictionsAlarm", "IteratorAgeAlarm"),
        "ask who has switched the function off; deploy with a sufficient ReservedConcurrency",
    ),
    Fault(
        "concurrency-short",
        "less concurrency is reserved than the shards need: they wait for each other",
        "concurrency",
        _WARNING,
        "{next}",
        ("ThrottlesAlarm", "IteratorAgeAlarm"),
        "deploy with ReservedConcurrency of at least shards times ParallelizationFactor",
    ),
    Fault(
        "concurrency-shared",
        "the concurrency that all functions share is less than the shards need",
        "concurrency",
        _WARNING,
        "raise {quota}, or lower the reservations of other functions",
        ("ThrottlesAlarm", "IteratorAgeAlarm"),
        "raise Lambda's quota of concurrent executions, or lower the reservations of other functions",
    ),
    Fault(
        "quota-nearly-used",
        "more than 90% of a quota of the account is used",
        "quota",
        _WARNING,
        "ask for more in Service Quotas before you scale",
    ),
)

_MAPPING = (
    Fault(
        "mapping-missing",
        "no event source mapping leads from the input stream to the alias",
        "mapping",
        _BAD,
        f"no ride is read; they wait in the stream for 48 hours. Make it again as in {REPAIR}",
        ("NoPredictionsAlarm",),
    ),
    Fault(
        "mapping-disabled",
        "the event source mapping is disabled",
        "mapping",
        _BAD,
        "`aws lambda update-event-source-mapping --uuid {uuid} --enabled`: no ride is read; they wait in the stream "
        "for 48 hours",
        ("NoPredictionsAlarm",),
    ),
    Fault(
        "mapping-failing",
        "the event source mapping can't read the stream or invoke the function",
        "mapping",
        _BAD,
        "read the function's log; if it has no error, its role lacks a permission or its key is not usable: see `role` "
        "and `key`",
        ("NoPredictionsAlarm", "FunctionErrorsAlarm"),
    ),
    Fault(
        "mapping-updating",
        "the event source mapping is being changed",
        "mapping",
        _WARNING,
        "run this command again in a minute",
    ),
)

_FUNCTION = (
    Fault(
        "function-pending",
        "Lambda is creating the function's version",
        "function",
        _WARNING,
        "run this command again in a minute: Lambda is creating it and its snapshot",
    ),
    Fault(
        "function-failed",
        "Lambda could not create the function's version",
        "function",
        _BAD,
        "correct what Lambda reports, and deploy again",
        ("NoPredictionsAlarm",),
    ),
    Fault(
        "settings-wrong",
        "a setting of the function is missing or not allowed",
        "function",
        _BAD,
        "correct the variable in template.yaml and deploy",
        ("FunctionErrorsAlarm", "NoPredictionsAlarm"),
    ),
    Fault(
        "refresh-failing",
        "the function can't load its channel's model now",
        "refresh",
        _BAD,
        "see `model`; if it is good, the function's log has `refresh_failed` with the reason",
        ("RefreshFailuresAlarm", "StaleChannelAlarm"),
    ),
    Fault(
        "refresh-failed",
        "the function could not load its channel's model a while ago",
        "refresh",
        _WARNING,
        "refreshes succeed again; `refresh_failed` in the log has the reason",
    ),
    Fault(
        "channel-stale",
        "the function has not read its channel for longer than a new model takes to begin serving",
        "refresh",
        _BAD,
        "it may serve a model that was replaced: docs/runbook.md#stalechannelalarm",
        ("StaleChannelAlarm",),
    ),
    Fault(
        "invocations-failed",
        "invocations end in an exception of the function",
        "work",
        _BAD,
        "search the function's log for `invocation failed`; see docs/runbook.md#functionerrorsalarm",
        ("FunctionErrorsAlarm",),
    ),
    Fault(
        "invocations-ended",
        "invocations end in a timeout or for lack of memory",
        "work",
        _BAD,
        "search the function's log for `Task timed out` or `Runtime exited`; see docs/runbook.md#functionerrorsalarm",
        ("FunctionErrorsAlarm", "DurationAlarm"),
    ),
    Fault(
        "no-predictions",
        "no record is predicted, and Lambda retries all",
        "work",
        _BAD,
        "see `output stream`, `role` and `key`, and `problem` in the function's log",
        ("NoPredictionsAlarm", "IteratorAgeAlarm"),
    ),
    Fault(
        "only-rejects",
        "every record is a reject",
        "work",
        _BAD,
        "`ridecast records list --kind reject --stack {stack}` shows the reasons; inform the producer",
        ("RejectShareAlarm",),
    ),
    Fault(
        "many-rejects",
        "more than 1% of the records are rejects",
        "work",
        _WARNING,
        "`ridecast records list --kind reject --stack {stack}` shows the reasons; inform the producer",
        ("RejectShareAlarm",),
    ),
    Fault(
        "many-without-pickup-time",
        "more than 1% of the rides have no pickup time that is read: they are predicted as of their arrival",
        "work",
        _WARNING,
        "ask the producer to send `pickup_datetime`, spelt so, in ISO 8601; nothing is wrong if rides begin when they "
        "arrive",
    ),
    Fault(
        "rejects-not-stored",
        "neither bucket nor queue takes rejects: the records behind them wait",
        "work",
        _BAD,
        "see `bucket`, `queue`, `key` and `role`; docs/runbook.md#rejectsnotstoredalarm",
        ("RejectsNotStoredAlarm", "IteratorAgeAlarm"),
    ),
    Fault(
        "records-retried",
        "the function could not finish records in time or was refused, and they come again",
        "work",
        _WARNING,
        "`problem` in the function's log has AWS's answer: a missing permission or key (see `role`, `key`), or a full "
        "output stream (see `output stream`)",
        ("RetriedRecordsAlarm", "PublishRetriesAlarm", "IteratorAgeAlarm"),
    ),
    Fault(
        "throttled",
        "Lambda refuses invocations for lack of concurrency",
        "work",
        _WARNING,
        "see `concurrency`; if it is good, other functions use up the account's: reserve some",
        ("ThrottlesAlarm",),
    ),
    Fault(
        "rides-waited",
        "rides wait longer than five minutes, and nothing fails",
        "work",
        _WARNING,
        "raise ParallelizationFactor or the number of shards",
        ("IteratorAgeAlarm",),
    ),
    Fault(
        "rides-waited-for-a-cause",
        "rides wait longer than five minutes, because something fails",
        "work",
        _WARNING,
        "more shards do not help: remove the cause first, see {causes}",
        ("IteratorAgeAlarm",),
        "more shards do not help: remove the cause first",
    ),
    Fault(
        "nothing-reported",
        "rides arrive, and the function reports none",
        "work",
        _WARNING,
        "see `mapping`; if it is good, run this command again in some minutes: metrics arrive late",
        ("NoPredictionsAlarm",),
    ),
)

_MODEL = (
    Fault(
        "no-model",
        "the channel holds no model: rides wait",
        "model",
        _BAD,
        "train a first one with `ridecast train`, then "
        "`ridecast models release build/bundles/<version> --bucket {bucket}`",
        ("FunctionErrorsAlarm", "NoPredictionsAlarm"),
    ),
    Fault(
        "channel-damaged",
        "the channel is damaged",
        "model",
        _BAD,
        "`ridecast models restore --channel {channel} --bucket {bucket}`; running functions keep their models",
        ("RefreshFailuresAlarm", "StaleChannelAlarm"),
    ),
    Fault(
        "channel-lost",
        "the channel's object is gone, and its history is left",
        "model",
        _BAD,
        "`ridecast models restore --channel {channel} --bucket {bucket}`; running functions keep their models",
        ("RefreshFailuresAlarm", "StaleChannelAlarm", "FunctionErrorsAlarm"),
    ),
    Fault(
        "model-damaged",
        "the channel's newest model is damaged, missing or not signed",
        "model",
        _BAD,
        "`ridecast models rollback VERSION --channel {channel} --bucket {bucket}`, or release another; running "
        "functions keep theirs",
        ("RefreshFailuresAlarm",),
    ),
    Fault(
        "calibration-damaged",
        "the calibration of the channel's newest model is damaged or missing",
        "model",
        _BAD,
        "`ridecast models calibrate --off --channel {channel} --bucket {bucket}` serves the model without it; running "
        "functions keep the calibration that they have",
        ("RefreshFailuresAlarm",),
    ),
)

_ALARMS = (
    Fault(
        "alarm-sounds",
        "an alarm sounds",
        "alarm",
        _BAD,
        "docs/runbook.md{section} describes what to do",
        _COMPOSITE,
        "the alarm's section here",
    ),
    Fault(
        "alarm-deleted",
        "somebody has deleted an alarm",
        "alarm",
        _BAD,
        f"CloudFormation does not notice: make it again as in {REPAIR}",
    ),
    Fault(
        "alarm-muted",
        "an alarm's actions are disabled: nobody is notified",
        "alarm",
        _WARNING,
        "`aws cloudwatch enable-alarm-actions --alarm-names {names}`",
    ),
    Fault(
        "nobody-subscribed",
        "the alarm topic has no confirmed subscription: nobody is notified",
        "alarm topic",
        _WARNING,
        "deploy with AlarmEmail, or subscribe to the stack's AlarmTopicArn, and confirm AWS's message",
    ),
    Fault(
        "failures-waiting",
        "failed batches wait for a redrive: their rides have no prediction, or are not in the archive",
        "failures",
        _BAD,
        "`ridecast records list --kind failure --stack {stack}`, and `ridecast records redrive --kind failure --stack "
        "{stack}` once the cause is gone",
        ("GivenUpBatchesAlarm", "UnresolvedBatchesAlarm"),
    ),
    Fault(
        "rejects-waiting",
        "rejects wait for a redrive",
        "rejects",
        _WARNING,
        "`ridecast records list --kind reject --stack {stack}`, and `ridecast records redrive --kind reject --stack "
        "{stack}` once the cause is gone",
    ),
    Fault(
        "rejects-in-queue",
        "rejects wait in the queue: after 14 days SQS deletes them",
        "queue",
        _WARNING,
        "`ridecast records list --kind reject --stack {stack}` moves them into the bucket once it takes objects; "
        "see docs/runbook.md#rejectsinqueuealarm",
        ("RejectsInQueueAlarm",),
    ),
    Fault(
        "batch-not-stored",
        "Lambda could not store a failed batch: its rides will be lost",
        "",
        _BAD,
        "correct the permission at once; docs/runbook.md#undeliveredbatchesalarm",
        ("UndeliveredBatchesAlarm",),
    ),
)

_OUTCOMES = (
    Fault(
        "archiver-missing",
        "the archive function does not exist",
        "archive",
        _BAD,
        f"records wait on the streams for 48 hours; make it again as in {REPAIR}",
        ("NoLabelledRidesAlarm",),
    ),
    Fault(
        "archiver-environment-wrong",
        "the archive function works with another bucket or stream than the stack's",
        "archive",
        _BAD,
        f"restore it as in {REPAIR}",
        ("ArchiverErrorsAlarm",),
    ),
    Fault(
        "archive-mapping-missing",
        "no event source mapping leads from a stream to the archive function",
        "archive",
        _BAD,
        f"its records are not archived; they wait in the stream for 48 hours. Make it again as in {REPAIR}",
        ("NoLabelledRidesAlarm",),
    ),
    Fault(
        "archive-mapping-disabled",
        "an event source mapping of the archive function is disabled",
        "archive",
        _BAD,
        "`aws lambda update-event-source-mapping --uuid {uuid} --enabled`: its records are not archived; they wait in "
        "the stream for 48 hours",
        ("NoLabelledRidesAlarm",),
    ),
    Fault(
        "archive-mapping-failing",
        "an event source mapping can't read its stream or invoke the archive function",
        "archive",
        _BAD,
        "read the function's log; if it has no error, its role lacks a permission or its key is not usable: see `role` "
        "and `key`",
        ("ArchiverErrorsAlarm", "NoLabelledRidesAlarm"),
    ),
    Fault(
        "joiner-missing",
        "the function of the join does not exist",
        "join",
        _WARNING,
        f"hours are joined once it is there again; make it again as in {REPAIR}",
        ("NoLabelledRidesAlarm",),
    ),
    Fault(
        "joiner-environment-wrong",
        "the join works with another bucket, stream or key than the stack's",
        "join",
        _WARNING,
        f"restore it as in {REPAIR}",
        ("JoinerErrorsAlarm",),
    ),
    Fault(
        "schedule-missing",
        "the schedule of the join does not exist: no hour is joined",
        "join",
        _WARNING,
        f"make it again as in {REPAIR}; until then, `ridecast outcomes join --from 6h --stack {{stack}}`",
        ("NoLabelledRidesAlarm",),
    ),
    Fault(
        "schedule-disabled",
        "the schedule of the join is disabled: no hour is joined",
        "join",
        _WARNING,
        f"restore it as in {REPAIR}; until then, `ridecast outcomes join --from 6h --stack {{stack}}`",
        ("NoLabelledRidesAlarm",),
    ),
    Fault(
        "archive-failing",
        "the archive function fails: records wait on the streams",
        "",
        _BAD,
        "docs/runbook.md#archivererrorsalarm",
        ("ArchiverErrorsAlarm", "ArchiveAgeAlarm"),
    ),
    Fault(
        "join-failing",
        "the join fails: hours are not labelled",
        "",
        _WARNING,
        "docs/runbook.md#joinererrorsalarm",
        ("JoinerErrorsAlarm",),
    ),
    Fault(
        "nothing-labelled",
        "rides or outcomes arrive, and no ride is labelled",
        "",
        _WARNING,
        "docs/runbook.md#nolabelledridesalarm",
        ("NoLabelledRidesAlarm",),
    ),
    Fault(
        "rides-lost",
        "rides have neither a prediction nor a reject",
        "",
        _BAD,
        "`ridecast outcomes audit --from 26h --show lost --stack {stack}`, and docs/runbook.md#lostridesalarm",
        ("LostRidesAlarm",),
    ),
    Fault(
        "predictions-conflict",
        "a ride event has two different predictions",
        "",
        _BAD,
        "`ridecast outcomes audit --from 26h --show conflicting --stack {stack}`, and "
        "docs/runbook.md#conflictingpredictionsalarm",
        ("ConflictingPredictionsAlarm",),
    ),
    Fault(
        "predictions-skewed",
        "a version that served computes other predictions now",
        "",
        _BAD,
        "`ridecast outcomes audit --from 26h --show skew --stack {stack}`, and docs/runbook.md#skewedpredictionsalarm",
        ("SkewedPredictionsAlarm",),
    ),
    Fault(
        "rides-not-recomputed",
        "a version that served can't be loaded again",
        "",
        _WARNING,
        "restore or sign it: docs/runbook.md#unrecomputedridesalarm",
        ("UnrecomputedRidesAlarm",),
    ),
    Fault(
        "archive-damaged",
        "objects of the archive are damaged",
        "",
        _WARNING,
        "docs/runbook.md#damagedarchivealarm",
        ("DamagedArchiveAlarm",),
    ),
    Fault(
        "outcomes-rejected",
        "too many outcomes are rejects",
        "",
        _WARNING,
        "`ridecast records list --kind reject --stack {stack}`, and docs/runbook.md#outcomerejectsalarm",
        ("OutcomeRejectsAlarm",),
    ),
)

_MONITORING = (
    Fault(
        "monitor-missing",
        "the monitor's function does not exist: nothing is watched, and the predictions do not learn",
        "monitor",
        _WARNING,
        f"make it again as in {REPAIR}; then it catches up",
        ("NoJudgedRidesAlarm",),
    ),
    Fault(
        "monitor-environment-wrong",
        "the monitor works with another bucket, channel, mode or key than the stack's",
        "monitor",
        _WARNING,
        f"restore it as in {REPAIR}",
        ("MonitorErrorsAlarm",),
    ),
    Fault(
        "monitor-schedule-missing",
        "the schedule of the monitor does not exist: it does not run",
        "monitor",
        _WARNING,
        f"make it again as in {REPAIR}; then it catches up",
        ("NoJudgedRidesAlarm",),
    ),
    Fault(
        "monitor-schedule-disabled",
        "the schedule of the monitor is disabled: it does not run",
        "monitor",
        _WARNING,
        f"restore it as in {REPAIR}; then it catches up",
        ("NoJudgedRidesAlarm",),
    ),
    Fault(
        "status-old",
        "monitor/status.json is older than an hour: the monitor does not get through",
        "monitor",
        _WARNING,
        "read the log of the monitor: docs/runbook.md#monitorerrorsalarm",
        ("MonitorErrorsAlarm", "NoJudgedRidesAlarm"),
    ),
    Fault(
        "status-damaged",
        "monitor/status.json can't be read as a status",
        "monitor",
        _WARNING,
        "the next run of the monitor writes it again; if it stays, docs/runbook.md#monitorerrorsalarm",
        ("MonitorErrorsAlarm",),
    ),
    Fault(
        "data-changed",
        "the rides are no longer like those that the model was trained on",
        "monitor",
        _WARNING,
        "`ridecast monitor status --stack {stack}`, and docs/runbook.md#datadriftalarm",
        ("DataDriftAlarm", "MonitorAlarm"),
    ),
    Fault(
        "performance-changed",
        "the model predicts worse than it did in training",
        "monitor",
        _WARNING,
        "`ridecast monitor status --stack {stack}`, and docs/runbook.md#performancealarm",
        ("PerformanceAlarm", "MonitorAlarm"),
    ),
    Fault(
        "not-monitored",
        "monitoring can't judge the served model, because something that it needs is missing",
        "monitor",
        _WARNING,
        "`ridecast monitor status --stack {stack}` says what; train and release a model if its reference is missing",
    ),
    Fault(
        "calibration-frozen",
        "the outcomes look wrong, and the predictions do not learn from them",
        "calibration",
        _WARNING,
        "`ridecast monitor status --stack {stack}`, and docs/runbook.md#calibrationfrozenalarm",
        ("CalibrationFrozenAlarm", "MonitorAlarm"),
    ),
    Fault(
        "monitor-failing",
        "the monitor fails, as a whole or in a step",
        "",
        _WARNING,
        "docs/runbook.md#monitorerrorsalarm",
        ("MonitorErrorsAlarm",),
    ),
    Fault(
        "nothing-judged",
        "rides arrive, and monitoring and calibration see none of them",
        "",
        _WARNING,
        "docs/runbook.md#nojudgedridesalarm",
        ("NoJudgedRidesAlarm",),
    ),
)

_LOOP = (
    Fault(
        "looper-missing",
        "the function of the loop does not exist: no run starts or goes on",
        "loop",
        _WARNING,
        f"make it again as in {REPAIR}: its runs are gone, and their experiments go on",
    ),
    Fault(
        "looper-environment-wrong",
        "the loop works with other settings than the stack's",
        "loop",
        _WARNING,
        f"restore it as in {REPAIR}; a run goes on with the version that it began with",
    ),
    Fault(
        "collector-missing",
        "the collector does not exist: a run of the loop fails",
        "loop",
        _WARNING,
        f"make it again as in {REPAIR}",
        ("LoopFailuresAlarm",),
    ),
    Fault(
        "collector-environment-wrong",
        "the collector works with another bucket than the stack's",
        "loop",
        _WARNING,
        f"restore it as in {REPAIR}",
        ("LoopFailuresAlarm",),
    ),
    Fault(
        "trainer-missing",
        "the trainer does not exist: a run of the loop fails",
        "loop",
        _WARNING,
        f"make it again as in {REPAIR}",
        ("LoopFailuresAlarm",),
    ),
    Fault(
        "trainer-environment-wrong",
        "the trainer works with another bucket or key than the stack's",
        "loop",
        _WARNING,
        f"restore it as in {REPAIR}",
        ("LoopFailuresAlarm",),
    ),
    Fault(
        "loop-schedule-missing",
        "the schedule of the loop does not exist: only alarms and people start a run",
        "loop",
        _WARNING,
        f"make it again as in {REPAIR}; until then, `ridecast loop start --stack {{stack}}`",
    ),
    Fault(
        "loop-schedule-disabled",
        "the schedule of the loop is disabled: only alarms and people start a run",
        "loop",
        _WARNING,
        f"restore it as in {REPAIR}; until then, `ridecast loop start --stack {{stack}}`",
    ),
    Fault(
        "loop-queue-missing",
        "the queue of the loop's failed events does not exist: no alarm tells of a failed run",
        "queue",
        _WARNING,
        f"make it again as in {REPAIR}, and look with `ridecast loop status --stack {{stack}}`",
    ),
    Fault(
        "loop-failed",
        "a run of the loop has failed, or its trainer or collector",
        "queue",
        _WARNING,
        "`ridecast loop status --stack {stack}` says why: docs/runbook.md#loopfailuresalarm. Then "
        "`aws sqs purge-queue --queue-url {queue}`",
        ("LoopFailuresAlarm", "LoopAlarm"),
    ),
    Fault(
        "loop-run-lost",
        "a run of the loop has not ended, and its lease has expired: nothing carries it on",
        "loop",
        _WARNING,
        "`ridecast loop stop {run} --stack {stack}`, and docs/runbook.md#loopfailuresalarm",
    ),
    Fault(
        "loop-run-stuck",
        "a run of the loop waits longer than it should",
        "loop",
        _WARNING,
        "`ridecast loop status {run} --stack {stack}`, and docs/runbook.md#loopfailuresalarm",
    ),
    Fault(
        "loop-waits-for-approval",
        "a run of the loop waits for somebody to approve its model",
        "loop",
        _WARNING,
        "`ridecast loop status {run} --stack {stack}` shows the comparison. "
        "`ridecast loop approve {run} --stack {stack}` promotes the model; with `--decline`, or without an answer in "
        "time, the present one stays",
    ),
    Fault(
        "loop-invocations-failing",
        "invocations of the loop, its trainer or its collector fail",
        "",
        _WARNING,
        "docs/runbook.md#looperrorsalarm",
        ("LoopErrorsAlarm",),
    ),
    Fault(
        "loop-nearly-too-slow",
        "the trainer or the collector needs nearly all of its 15 minutes",
        "",
        _WARNING,
        "docs/runbook.md#loopdurationalarm",
        ("LoopDurationAlarm",),
    ),
)

_NOT_LOOKED_AT = (
    Fault(
        "denied",
        "the caller may not read a part of the stack",
        "any",
        _UNKNOWN,
        "attach the stack's DoctorPolicy to your role, and run this again",
    ),
    Fault(
        "not-read",
        "AWS did not answer for a part of the stack: throttled, cut off or not reachable",
        "any",
        _UNKNOWN,
        "run this again; if it stays, remove the cause that AWS names",
    ),
)

FAULTS = {
    fault.name: fault
    for group in (
        *(_STACK, _RELEASE, _MISSING, _CHANGED, _STREAMS, _MAPPING, _FUNCTION, _MODEL),
        *(_ALARMS, _OUTCOMES, _MONITORING, _LOOP, _NOT_LOOKED_AT),
    )
    for fault in group
}
"""All faults by name, in the order of the runbook's table."""


def found(name: str, what: str, /, *, check: str = "", **values: object) -> Finding:
    """Return the finding of a fault.

    Args:
        name: The fault's name.
        what: What was found, with figures.
        check: The check, for a fault that several checks find.
        values: Fill in the names in the remedy.

    >>> found("mapping-updating", "the mapping is Updating").remedy
    'run this command again in a minute'
    """
    fault = FAULTS[name]
    return Finding(check or fault.check, fault.severity, what, fault.remedy.format(**values), name)


def table() -> Iterator[str]:
    """Yield the lines of the runbook's table."""
    yield "| fault | `ridecast doctor` | alarms | remedy |"
    yield "|---|---|---|---|"
    for fault in FAULTS.values():
        seen = f"*{fault.check}*, {_WORDS[fault.severity]}" if fault.check else "not seen"
        alarms = ", ".join(f"[{name}](#{name.lower()})" for name in fault.alarms if name not in _COMPOSITE) or "none"
        yield f"| {fault.what} | {seen} | {alarms} | {_with_names(fault.in_table or fault.remedy)} |"


_WORDS = {_BAD: "bad", _WARNING: "warning", _UNKNOWN: "not looked at"}


def _with_names(remedy: str) -> str:
    """Return a remedy for the table: names in braces in capitals, and places in the runbook as links."""
    text = "".join(text + (name.upper() if name else "") for text, name, _, _ in Formatter().parse(remedy))
    headings = {name.lower(): name for fault in FAULTS.values() for name in fault.alarms}
    return re.sub(
        r"docs/runbook.md#(\w+)", lambda found: f"[{headings.get(found[1], found[1].title())}](#{found[1]})", text
    )
