"""The other resources of the stack: bucket, key, roles, queues, other functions, against the template."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from infra.operate.doctor.facts import Finding, StackFacts, counted, first_of, good
from infra.operate.doctor.faults import found
from infra.operate.doctor.reading import Reading
from infra.operate.doctor.variables import changed_variables

Properties = Mapping[str, Any]

_NO_ENCRYPTION = "ServerSideEncryptionConfigurationNotFoundError"
_ENABLED = "Enabled"
REJECTS_QUEUE = "RejectsQueue"
LOOP_FAILURES = "LoopFailures"
_FAULT_OF_QUEUE = {
    REJECTS_QUEUE: "rejects-queue-missing",
    "GivenUpBatches": "queue-missing",
    LOOP_FAILURES: "loop-queue-missing",
}
_FUNCTIONS = {
    "ApiFunction": ("api-function", "api", "the HTTP API's function"),
    "Archiver": ("archiver", "archive", "the archive function"),
    "Joiner": ("joiner", "join", "the function of the join"),
    "Monitor": ("monitor", "monitor", "the function of the monitor"),
    "Looper": ("looper", "loop", "the function of the loop"),
    "Collector": ("collector", "loop", "the collector"),
    "Trainer": ("trainer", "loop", "the trainer"),
}
"""By logical name: the beginning of its faults' names, its check, and what it is."""
_SCHEDULES = {
    "JoinerSchedule": ("join", "schedule"),
    "MonitorSchedule": ("monitor", "monitor-schedule"),
    "LooperSchedule": ("loop", "loop-schedule"),
}
"""By logical name: its check, and the beginning of its faults' names."""
_ROLES = {
    **dict.fromkeys(("PredictorRole", "ArchiverRole", "JoinerRole", "MonitorRole"), ()),
    "LooperRole": ("LooperExecutions",),
    "CollectorRole": ("LoopAnswers",),
    "TrainerRole": ("LoopAnswers",),
}
"""By logical name: the policies that are resources of their own."""
_USABLE_KEYS = {_ENABLED, "Creating", "Updating"}


def read(reading: Reading) -> dict[str, Any]:
    """Read each of them and compare it with the template."""
    outputs = reading.stack.outputs
    bucket, key = (outputs.get(name, "") for name in ("BucketName", "KeyArn"))
    s3, kms, sqs = map(reading.client, ("s3", "kms", "sqs"))
    no_bucket = found("bucket-missing", f"{bucket} does not exist", bucket=bucket)
    no_key = found("key-missing", f"{key} does not exist")
    parts = (
        reading.part("bucket", (), partial(probe_bucket, s3, bucket, reading.wanted("Bucket")), no_bucket),
        reading.part("key", (), partial(probe_key, kms, key), no_key),
        *(_role(reading, name, policies) for name, policies in _ROLES.items()),
        *(_queue(reading, sqs, name) for name in _FAULT_OF_QUEUE),
        *(_function(reading, name, *words) for name, words in _FUNCTIONS.items()),
        *(_schedule(reading, name, *words) for name, words in _SCHEDULES.items()),
    )
    reading.part(
        "http api", None, partial(_find_api, reading), found("api-missing", f"{outputs.get('ApiUrl')} does not exist")
    )
    return {"settings": tuple(finding for part in parts for finding in part)}


def _queue(reading: Reading, sqs: Any, name: str) -> tuple[Finding, ...]:
    queue = reading.stack.outputs.get(f"{name}Url", "")
    if not queue and name == LOOP_FAILURES:  # the stack has no loop
        return ()
    missing = found(_FAULT_OF_QUEUE[name], f"the queue {name} does not exist", stack=reading.stack.name)
    return reading.part(
        name, (), partial(probe_queue, sqs, queue, name, reading.stack.name, reading.wanted(name)), missing
    )


def _function(reading: Reading, name: str, fault: str, check: str, thing: str) -> tuple[Finding, ...]:
    function = reading.names.get(name, "")
    if not function:  # the stack is older than this function
        return ()
    missing = found(f"{fault}-missing", f"{function} does not exist")

    def probe() -> tuple[Finding, ...]:
        configuration = reading.client("lambda").get_function_configuration(FunctionName=function)
        if changed := list(changed_variables(configuration, reading.wanted(name))):
            what = f"{function} works with other settings than the stack's: {first_of(changed)}"
            return (found(f"{fault.removesuffix('-function')}-environment-wrong", what),)
        return (good(check, f"{thing}, {function}, exists, and its variables are as in the template"),)

    return reading.part(check, (), probe, missing)


def _schedule(reading: Reading, logical_name: str, check: str, fault: str) -> tuple[Finding, ...]:
    name, stack = reading.names.get(logical_name, ""), reading.stack.name
    if not name:
        return ()

    def probe() -> tuple[Finding, ...]:
        schedule = reading.client("scheduler").get_schedule(Name=name)
        what = f"the schedule {name} is {schedule['State']}, {schedule['ScheduleExpression']}"
        is_on = schedule["State"] == "ENABLED"
        return (good(check, what),) if is_on else (found(f"{fault}-disabled", what, stack=stack),)

    return reading.part(check, (), probe, found(f"{fault}-missing", f"{name} does not exist", stack=stack))


def _role(reading: Reading, logical_name: str, policies: Sequence[str]) -> tuple[Finding, ...]:
    name = reading.names.get(logical_name, "")
    own = reading.wanted(logical_name).get("Policies", ())
    statements = allowing([*own, *(reading.wanted(policy) for policy in policies)])
    if not name or not statements:
        return ()
    _, partition, _, region, account, *_ = reading.stack.outputs["FunctionAliasArn"].split(":")
    known = {
        "aws:ResourceAccount": account,
        "aws:ResourceTag/environment": reading.stack.parameters.get("Environment", ""),
        "aws:ResourceTag/project": "ridecast",
        "events:source": "ridecast",
        "kms:ViaService": f"kinesis.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}",
    }
    role_arn, no_role = f"arn:{partition}:iam::{account}:role/{name}", found("role-missing", f"{name} does not exist")
    return reading.part("role", (), partial(probe_role, reading.client("iam"), role_arn, statements, known), no_role)


def probe_bucket(s3: Any, bucket: str, wanted: Properties) -> tuple[Finding, ...]:
    """Compare a bucket's versioning and encryption with the template."""
    versioning = s3.get_bucket_versioning(Bucket=bucket).get("Status", "off")
    findings = []
    if versioning != wanted.get("VersioningConfiguration", {}).get("Status", versioning):
        what = f"versioning of {bucket} is {versioning}: a deleted or overwritten model or channel is gone"
        findings.append(found("bucket-not-versioned", what, bucket=bucket))
    for rule in wanted.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", ()):
        key = rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"]
        used = _key_of(s3, bucket)
        if key and used != key:
            what = f"{bucket} encrypts new objects with {used or 'a key of S3'}, not with the stack's key"
            findings.append(found("bucket-not-encrypted", what, bucket=bucket, key=key))
    return tuple(findings) or (good("bucket", f"{bucket} is versioned and encrypted as in the template"),)


def _key_of(s3: Any, bucket: str) -> str:
    """Return the KMS key that new objects of a bucket are encrypted with; "" if none."""
    try:
        rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] == _NO_ENCRYPTION:
            return ""
        raise
    return str(rules[0]["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID", ""))


def probe_key(kms: Any, key: str) -> tuple[Finding, ...]:
    """Check that the key can be used."""
    described = kms.describe_key(KeyId=key)["KeyMetadata"]
    state, key_id = described["KeyState"], described["KeyId"]
    what = f"the key of streams and bucket, {key_id}, is {state}"
    if state in _USABLE_KEYS:
        return (good("key", what),)
    ends = f" and will be gone on {described['DeletionDate']:%Y-%m-%d}" if "DeletionDate" in described else ""
    fault = "key-pending-deletion" if state == "PendingDeletion" else "key-disabled"
    return (found(fault, f"{what}{ends}: nothing can be read or written", key=key_id),)


def probe_queue(sqs: Any, queue: str, name: str, stack: str, wanted: Properties) -> tuple[Finding, ...]:
    """Check that a queue exists, is encrypted and keeps messages as in the template, and count its messages."""
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    key, wanted_key = attributes.get("KmsMasterKeyId"), wanted.get("KmsMasterKeyId")
    if wanted_key and key != wanted_key:
        what = f"{name} is encrypted with {key or 'no key'}, and not with the stack's key"
        return (found("queue-not-encrypted", what, queue=queue, key=wanted_key),)
    kept_s, wanted_s = int(attributes["MessageRetentionPeriod"]), int(wanted.get("MessageRetentionPeriod", 0))
    if kept_s < wanted_s:
        what = f"{name} keeps messages for {kept_s:,} s, and the template says {wanted_s:,} s: then SQS deletes them"
        return (found("queue-retention-short", what, queue=queue, seconds=wanted_s),)
    counts = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    if name == REJECTS_QUEUE and (n_messages := sum(int(attributes[count]) for count in counts)):
        what = f"{counted(n_messages, 'message')} with rejects that the bucket did not take"
        return (found("rejects-in-queue", what, stack=stack),)
    if name == LOOP_FAILURES and (n_messages := sum(int(attributes[count]) for count in counts)):
        what = f"{counted(n_messages, 'event')} of the loop failed for good"
        return (found("loop-failed", what, stack=stack, queue=queue),)
    return (good("queue", f"{name} exists, and encrypts and keeps messages as in the template"),)


def _find_api(reading: Reading) -> None:
    if api_id := reading.names.get("Api"):
        reading.client("apigatewayv2").get_api(ApiId=api_id)


def probe_role(
    iam: Any, role_arn: str, statements: Sequence[Properties], known: Mapping[str, str]
) -> tuple[Finding, ...]:
    """Let IAM simulate whether a role may do what statements allow: its policies and its boundary decide.

    `known` has the values of condition keys that a permissions boundary may name.
    """
    context = [
        {"ContextKeyName": name, "ContextKeyType": "string", "ContextKeyValues": [value]}
        for name, value in known.items()
    ]
    denied = []
    for statement in statements:
        answer = iam.simulate_principal_policy(
            PolicySourceArn=role_arn,
            ActionNames=_listed(statement["Action"]),
            ResourceArns=[resource.replace("*", "any") for resource in _listed(statement["Resource"])],
            ContextEntries=context,
        )
        results = [one for one in answer["EvaluationResults"] if one["EvalDecision"] != "allowed"]
        denied += [f"{one['EvalActionName']} on {one['EvalResourceName']}" for one in results]
    role = role_arn.rpartition("/")[2]
    if denied:
        return (found("role-lacks-permission", f"{role} may not {first_of(denied)}"),)
    return (good("role", f"{role} may do what the template allows"),)


def allowing(policies: Iterable[Properties]) -> list[Properties]:
    """Return the statements of policies that allow something, of which all references are known."""
    statements = [one for policy in policies if policy for one in policy["PolicyDocument"]["Statement"]]
    return [one for one in statements if one["Effect"] == "Allow" and None not in _listed(one["Resource"])]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def check_settings(facts: StackFacts) -> Iterator[Finding]:
    """Check bucket, key, roles, queues and functions."""
    yield from facts.settings
