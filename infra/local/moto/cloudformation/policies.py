"""moto's IAM enforcement made true for what this project calls; off until `POST /moto-api/reset-auth`.

What moto 5.2.5 does otherwise: a Kinesis call has the resource ``*``, so that a statement with an ARN refuses it; a
condition is held against nothing, and one that fails denies whatever else is allowed; keys are free to all, and no
stream or bucket is encrypted. Here what a stack's template encrypts takes the key too, by the caller's policies and by
the key's own. And S3 tells only who may list a bucket that it lacks an object, as in AWS.

What is not here: bucket, topic, queue and function policies; permission boundaries; the caller's own service roles.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import translate
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from moto.cloudformation.models import cloudformation_backends
from moto.codedeploy.models import codedeploy_backends
from moto.core.exceptions import JsonRESTError
from moto.iam.access_control import IAMRequestBase
from moto.iam.models import Policy
from moto.kinesis.utils import decompose_shard_iterator
from moto.kms.models import kms_backends
from moto.s3.models import FakeKey, s3_backends

# MERGED FROM infra/local/deploy/policies.py
# IAM policies decided: whether statements let an action on a resource through, conditions among them. Pure.
Context = Mapping[str, str]
"""Condition keys of a request, as in ``kms:ViaService``; one that is not there is not known, so nothing equals it."""


class UnknownConditionError(Exception):
    """A condition's operator that is not known here: to guess would be to let through, or to refuse, at random."""


def is_allowed(
    documents: Iterable[Mapping[str, Any]], action: str, resource: str, context: Context | None = None
) -> bool:
    """Decides: some statement allows it, and none denies it.

    Args:
        documents: Policy documents, all of one principal.
        action: As in ``kinesis:PutRecords``.
        resource: An ARN; ``*`` for an action that has none.
        context: Condition keys.

    >>> document = {"Statement": {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::rides/models/*"}}
    >>> is_allowed([document], "s3:GetObject", "arn:aws:s3:::rides/models/a/forest.npz")
    True
    >>> is_allowed([document], "s3:GetObject", "arn:aws:s3:::rides/rejects/a")
    False
    """
    effects = {
        statement["Effect"]
        for document in documents
        for statement in _listed(document["Statement"])
        if _concerns(statement, action, resource, context or {})
    }
    return effects == {"Allow"}


def _concerns(statement: Mapping[str, Any], action: str, resource: str, context: Context) -> bool:
    return (
        _matches(statement.get("Action"), statement.get("NotAction"), action.lower(), str.lower)
        and _matches(statement.get("Resource", "*"), statement.get("NotResource"), resource, str)
        and all(
            _holds(operator, key, wanted, context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _matches(patterns: Any, but_not: Any, value: str, fold: Callable[[str], str]) -> bool:
    if but_not is not None:
        return not any(like(fold(pattern), value) for pattern in _listed(but_not))
    return any(like(fold(pattern), value) for pattern in _listed(patterns))


def _holds(operator: str, key: str, wanted: Any, context: Context) -> bool:
    value = context.get(key)
    values = [str(one) for one in _listed(wanted)]
    if operator.endswith("IfExists"):
        return value is None or _holds(operator.removesuffix("IfExists"), key, wanted, context)
    match operator:
        case "StringEquals" | "Bool":
            return value is not None and value.lower() in [one.lower() for one in values]
        case "StringLike" | "ArnLike" | "ArnEquals":
            return value is not None and any(like(pattern, value) for pattern in values)
        case "StringNotEquals":
            return value not in values
        case "NumericLessThan":
            return value is not None and any(float(value) < float(limit) for limit in values)
    raise UnknownConditionError(operator)


def like(pattern: str, value: str) -> bool:
    """Says whether a value is like a pattern of IAM's, in which ``*`` and ``?`` stand for anything."""
    return _compiled(pattern).match(value) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace("[", "[[]")))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


Documents = list[Mapping[str, Any]]

_READS = {"kinesis:GetRecords", "s3:GetObject"}
_WRITES = {"kinesis:PutRecord", "kinesis:PutRecords", "s3:PutObject"}
_OTHER_NAMES = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:HeadObject": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
}

_JSON_SERVICES = {"codedeploy", "kinesis", "kms", "lambda", "logs", "monitoring"}
"""They are answered in JSON; moto refuses in XML, in which their clients find no error's name."""


class Need(NamedTuple):
    """What a request takes: an action on a resource, under condition keys."""

    action: str
    resource: str
    context: Mapping[str, str] = {}


def patch_enforcement() -> None:
    """Puts this file's check in the place of moto's, for the whole process."""
    IAMRequestBase.check_action_permitted = _check
    IAMRequestBase.check_signature = lambda _: None  # moto gets another one where a path holds an ARN


_moto_check = IAMRequestBase.check_action_permitted


def _check(request: IAMRequestBase, resource: str) -> None:
    """Lets a request through if the caller's policies cover all that it takes; else raises what its service answers."""
    if request._service == "sts":  # noqa: SLF001 - moto has no other door
        _moto_check(request, resource)
        return
    documents = [_document(policy) for policy in request._access_key.collect_policies()]  # noqa: SLF001
    for need in _needs(request, resource):
        if not is_allowed(documents, *need) or not _key_agrees(request, need):
            _refuse(request, need)


def _refuse(request: IAMRequestBase, need: Need) -> None:
    request._action = need.action  # noqa: SLF001 - named in what the caller is told
    if request._service not in _JSON_SERVICES:  # noqa: SLF001
        request._raise_access_denied()  # noqa: SLF001
    said = f"User: {request._access_key.arn} is not authorized to perform: {need.action} on resource: {need.resource}"  # noqa: SLF001
    raise JsonRESTError("AccessDeniedException", said)


def _document(policy: Any) -> Mapping[str, Any]:
    if isinstance(policy, Policy):
        policy = next(version.document for version in policy.versions if version.is_default)
    document: Mapping[str, Any] = json.loads(policy if isinstance(policy, str) else policy["policy_document"])
    return document


def _needs(request: IAMRequestBase, resource: str) -> Iterator[Need]:
    action = _OTHER_NAMES.get(request._action, request._action).replace("monitoring:", "cloudwatch:")  # noqa: SLF001
    service, region = request._service, request._region  # noqa: SLF001
    resource = _resource(request) or resource
    yield Need(action, resource)
    if action == "s3:GetObject" and not _is_there(request, resource):
        yield Need("s3:ListBucket", resource.partition("/")[0])
    key = _key_of(request, resource)
    if key and action in _READS | _WRITES:
        through = {"kms:ViaService": f"{service}.{region}.amazonaws.com"}
        yield Need("kms:Decrypt" if action in _READS else "kms:GenerateDataKey", key, through)


def _is_there(request: IAMRequestBase, resource: str) -> bool:
    bucket, _, key = resource.rpartition(":")[2].partition("/")
    found = s3_backends[request.account_id]["aws"].buckets.get(bucket)
    return found is None or isinstance(found.keys.get(unquote(key)), FakeKey)  # a deleted one leaves a mark


def _resource(request: IAMRequestBase) -> str:
    """Returns the ARN of what a request is about, where it says it in a way known here; "" where not."""
    reader = _RESOURCES.get(request._service)  # noqa: SLF001
    return reader(request) if reader else ""


def _arn(request: IAMRequestBase, path: str) -> str:
    return f"arn:aws:{request._service}:{request._region}:{request.account_id}:{path}"  # noqa: SLF001


def _stream(request: IAMRequestBase) -> str:
    body = _body(request)
    if "ShardIterator" in body:
        return _arn(request, f"stream/{decompose_shard_iterator(body['ShardIterator'])[0]}")
    name = body.get("StreamName")
    return str(body.get("StreamARN") or (_arn(request, f"stream/{name}") if name else ""))


def _key(request: IAMRequestBase) -> str:
    key_id = _body(request).get("KeyId", "")
    return key_id if key_id.startswith("arn:") or not key_id else _arn(request, f"key/{key_id}")


def _log_stream(request: IAMRequestBase) -> str:
    body = _body(request)
    return _arn(request, f"log-group:{body['logGroupName']}:log-stream:{body.get('logStreamName', '')}")


def _function(request: IAMRequestBase) -> str:
    named = _FUNCTION_PATH.search(request._path)  # noqa: SLF001
    name = unquote(named[1]) if named else ""
    qualifiers = parse_qs(urlsplit(request._path).query).get("Qualifier", [])  # noqa: SLF001
    qualified = ":".join((name, *qualifiers))
    return qualified if name.startswith("arn:") or not name else _arn(request, f"function:{qualified}")


def _alarm(request: IAMRequestBase) -> str:
    """Returns what AWS asks of who describes alarms, whichever they are; metrics have no ARN."""
    is_about_alarms = request._action.endswith(":DescribeAlarms")  # noqa: SLF001
    return _arn(request, "alarm:*").replace(":monitoring:", ":cloudwatch:") if is_about_alarms else ""


def _deployment_group(request: IAMRequestBase) -> str:
    deployments = codedeploy_backends[request.account_id][request._region].deployments  # noqa: SLF001
    found = deployments.get(_body(request).get("deploymentId", ""))
    return _arn(request, f"deploymentgroup:{found.application_name}/{found.deployment_group_name}") if found else ""


def _stack(request: IAMRequestBase) -> str:
    (name,) = request._data.get("StackName", [""])  # noqa: SLF001
    stacks = cloudformation_backends[request.account_id][request._region].stacks.values()  # noqa: SLF001
    return next((stack.stack_id for stack in stacks if name in {stack.name, stack.stack_id}), "")


def _topic(request: IAMRequestBase) -> str:
    (arn,) = request._data.get("TopicArn", [""])  # noqa: SLF001
    return str(arn)


_FUNCTION_PATH = re.compile(r"/functions/([^/?]+)")

_RESOURCES = {
    "cloudformation": _stack,
    "codedeploy": _deployment_group,
    "kinesis": _stream,
    "kms": _key,
    "lambda": _function,
    "logs": _log_stream,
    "monitoring": _alarm,
    "sns": _topic,
}


def _body(request: IAMRequestBase) -> Mapping[str, Any]:
    body: Mapping[str, Any] = json.loads(request._body or b"{}")  # noqa: SLF001
    return body


def _key_of(request: IAMRequestBase, resource: str) -> str | None:
    """Returns the ARN of the key that a stack's template encrypts a stream or bucket with; None for none of its own."""
    name = resource.rpartition(":")[2].removeprefix("stream/").partition("/")[0]
    region = "us-east-1" if request._service == "s3" else request._region  # noqa: SLF001 - S3 has one backend
    for stack in cloudformation_backends[request.account_id][region].stacks.values():
        for logical_name, resolved in getattr(stack, "applied", {}).items():
            model = stack.resource_map._parsed_resources.get(logical_name)  # noqa: SLF001
            if getattr(model, "physical_resource_id", None) == name:
                return _own_key(resolved.get("Properties", {}))
    return None


def _own_key(properties: Mapping[str, Any]) -> str | None:
    key: str = properties.get("StreamEncryption", {}).get("KeyId", "")
    for rule in properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", ()):
        key = rule["ServerSideEncryptionByDefault"].get("KMSMasterKeyID", "")
    return key if key.startswith("arn:") else None


def _key_agrees(request: IAMRequestBase, need: Need) -> bool:
    """Says whether the key's own policy lets the account's principals do what is needed; true of what is no key."""
    if not need.action.startswith("kms:") or ":key/" not in need.resource:
        return True
    keys = kms_backends[request.account_id][request._region].keys  # noqa: SLF001
    key = keys.get(need.resource.rpartition("/")[2])
    if key is None:
        return False
    policy = json.loads(key.policy) if isinstance(key.policy, str) else key.policy
    ours = [
        one for one in policy["Statement"] if "AWS" in (one["Principal"] if one["Principal"] != "*" else {"AWS": 1})
    ]
    return is_allowed([{"Statement": ours}], *need)
