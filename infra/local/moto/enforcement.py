"""IAM enforcement that replaces moto's, for the calls of this project. Off until `POST /moto-api/reset-auth`.

moto 5.2.5 differs from AWS: a Kinesis call has the resource ``*``, so that a statement with an ARN refuses it;
conditions are not evaluated, and a failed one denies everything; KMS keys may be used by anyone, and no stream,
bucket or queue is encrypted. Here one that a stack's template encrypts needs the key too, by the caller's policies and
by the key's policy. What the bucket's policy denies for writes is denied, except by protocol. S3 reports a missing
object only to callers who may list the bucket, as on AWS.

Not supported: topic, queue and function policies; permission boundaries; the caller's own service roles.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from moto.cloudformation.models import cloudformation_backends
from moto.codedeploy.models import codedeploy_backends
from moto.core.exceptions import JsonRESTError
from moto.iam.access_control import IAMRequestBase
from moto.iam.models import Policy
from moto.kinesis.models import kinesis_backends
from moto.kinesis.utils import decompose_shard_iterator
from moto.kms.models import kms_backends
from moto.moto_api._internal import urls
from moto.s3.models import FakeKey, s3_backends
from moto.s3.responses import ACTION_MAP

from infra.local.moto.durable import execution_and_question
from infra.local.moto.policies import is_allowed

_USES_OF_A_KEY = {
    **dict.fromkeys(("kinesis:GetRecords", "s3:GetObject", "sqs:ReceiveMessage"), ("kms:Decrypt",)),
    **dict.fromkeys(("kinesis:PutRecord", "kinesis:PutRecords", "s3:PutObject"), ("kms:GenerateDataKey",)),
    "sqs:SendMessage": ("kms:GenerateDataKey", "kms:Decrypt"),
}
"""What a caller needs on the key of an encrypted stream, bucket or queue, by action."""

_OTHER_NAMES = {
    "apigateway:GetApi": "apigateway:GET",
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:HeadObject": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
}

_JSON_SERVICES = {"codedeploy", "events", "kinesis", "kms", "lambda", "logs", "monitoring", "scheduler", "sqs"}
"""Services that answer in JSON. moto refuses in XML, in which their clients find no error code."""


class Permission(NamedTuple):
    """A permission that a request needs: an action on a resource, with condition keys."""

    action: str
    resource: str
    context: Mapping[str, str] = {}


_asked: dict[tuple[str, str, str, tuple[tuple[str, str], ...]], None] = {}
"""What was asked since somebody last took it: caller, action, resource and condition keys, each once, in order."""

ASKED_PATH = "/moto-api/permissions"
"""Where it is taken, as a JSON list."""


def patch_enforcement() -> None:
    """Replace moto's check with the one of this file, in the whole process."""
    IAMRequestBase.check_action_permitted = _check
    urls.url_paths[f"{{0}}{ASKED_PATH}"] = _take_asked
    IAMRequestBase.check_signature = lambda _: None  # moto computes another one if a path holds an ARN
    ACTION_MAP["BUCKET"]["GET"]["encryption"] = "GetEncryptionConfiguration"  # moto takes it for a listing


_moto_check = IAMRequestBase.check_action_permitted


def _take_asked(*_: object) -> tuple[int, dict[str, str], str]:
    taken = list(_asked)
    _asked.clear()
    return 200, {}, json.dumps(taken)


def _check(request: IAMRequestBase, resource: str) -> None:
    """Raise the service's access error unless the caller's policies allow all that the request needs."""
    if request._service == "sts":
        _moto_check(request, resource)
        return
    documents = [_document(policy) for policy in request._access_key.collect_policies()] + _bucket_policies(request)
    for needed in _permissions(request, resource):
        caller, context = request._access_key.arn, tuple(sorted(needed.context.items()))
        _asked[caller, needed.action, needed.resource, context] = None
        if not is_allowed(documents, *needed) or not _key_allows(request, needed):
            _refuse(request, needed)


def _refuse(request: IAMRequestBase, needed: Permission) -> None:
    request._action = needed.action  # moto names it in the message
    if request._service not in _JSON_SERVICES:
        request._raise_access_denied()
    message = (
        f"User: {request._access_key.arn} is not authorized to perform: {needed.action} on resource: {needed.resource}"
    )
    raise JsonRESTError("AccessDeniedException", message)


def _document(policy: Any) -> Mapping[str, Any]:
    if isinstance(policy, Policy):
        policy = next(version.document for version in policy.versions if version.is_default)
    document: Mapping[str, Any] = json.loads(policy if isinstance(policy, str) else policy["policy_document"])
    return document


def _permissions(request: IAMRequestBase, resource: str) -> Iterator[Permission]:
    action = _OTHER_NAMES.get(request._action, request._action).replace("monitoring:", "cloudwatch:")
    service, region = request._service, request._region
    resource = _resource(request) or resource
    if action == "events:PutEvents":
        yield from _for_each_event(request)
        return
    yield Permission(action, resource, _context(request, action))
    if action == "cloudformation:CreateChangeSet":
        yield from _for_a_change_set(request)
    if action == "s3:GetObject" and not _exists(request, resource):
        yield Permission("s3:ListBucket", resource.partition("/")[0])
    if (uses := _USES_OF_A_KEY.get(action)) and (key := _key_of(request, resource)):
        through = {"kms:ViaService": f"{service}.{region}.amazonaws.com", **_tags(request, key)}
        yield from (Permission(use, key, through) for use in uses)


def _bucket_policies(request: IAMRequestBase) -> list[Mapping[str, Any]]:
    """Return the policies of all stacks' buckets: their statements deny by resource."""
    if request._service != "s3":
        return []
    return [
        resolved["Properties"]["PolicyDocument"]
        for stack in cloudformation_backends[request.account_id]["us-east-1"].stacks.values()
        for resolved in getattr(stack, "applied", {}).values()
        if resolved["Type"] == "AWS::S3::BucketPolicy"
    ]


def _write_conditions(request: IAMRequestBase) -> Mapping[str, str]:
    headers = {name.lower(): str(value) for name, value in request._headers.items()}
    given = {f"s3:{name}": headers[name] for name in ("if-match", "if-none-match") if name in headers}
    return {"s3:ObjectCreationOperation": "true", **given}


def _tags(request: IAMRequestBase, key: str) -> Mapping[str, str]:
    """Return a key's tags as condition keys."""
    tags = kms_backends[request.account_id][request._region].tagger.get_tag_dict_for_resource(key.rpartition("/")[2])
    return {f"aws:ResourceTag/{name}": value for name, value in tags.items()}


def _context(request: IAMRequestBase, action: str) -> Mapping[str, str]:
    """Return the condition keys of a request."""
    found = {"aws:ResourceAccount": str(request.account_id)}
    match action:
        case "s3:PutObject":
            return {**found, **_write_conditions(request)}
        case "cloudformation:CreateChangeSet":
            (role,) = request._data.get("RoleARN", [""])
            return {**found, "cloudformation:RoleArn": role} if role else found
    return found


def _for_a_change_set(request: IAMRequestBase) -> Iterator[Permission]:
    """Yield what CloudFormation needs besides: the template by the caller's permissions, SAM's macro, and the role."""
    bucket, _, key = urlsplit(request._data["TemplateURL"][0]).path.lstrip("/").partition("/")
    yield Permission("s3:GetObject", f"arn:aws:s3:::{bucket}/{unquote(key)}")
    macro = f"arn:aws:cloudformation:{request._region}:aws:transform/Serverless-2016-10-31"
    yield Permission("cloudformation:CreateChangeSet", macro)
    if role := _context(request, "cloudformation:CreateChangeSet").get("cloudformation:RoleArn"):
        yield Permission("iam:PassRole", role, {"iam:PassedToService": "cloudformation.amazonaws.com"})


def _for_each_event(request: IAMRequestBase) -> Iterator[Permission]:
    """Yield what each event of a request needs: all must be allowed, or none is sent."""
    for entry in _body(request).get("Entries", ()):
        context = {"events:source": str(entry.get("Source")), "events:detail-type": str(entry.get("DetailType"))}
        yield Permission(
            "events:PutEvents", _arn(request, f"event-bus/{entry.get('EventBusName', 'default')}"), context
        )


def _exists(request: IAMRequestBase, resource: str) -> bool:
    bucket, _, key = resource.rpartition(":")[2].partition("/")
    found = s3_backends[request.account_id]["aws"].buckets.get(bucket)
    return found is None or isinstance(found.keys.get(unquote(key)), FakeKey)  # a deleted one leaves a marker


def _resource(request: IAMRequestBase) -> str:
    """Return the ARN of the resource that a request names; "" if it names none."""
    reader = _RESOURCES.get(request._service)
    return reader(request) if reader else ""


def _arn(request: IAMRequestBase, path: str) -> str:
    return f"arn:aws:{request._service}:{request._region}:{request.account_id}:{path}"


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
    if of_an_execution := _EXECUTION_PATH.search(unquote(request._path)):
        return of_an_execution[1] or execution_and_question(of_an_execution[2])[0]
    named = _FUNCTION_PATH.search(request._path)
    name = unquote(named[1]) if named else ""
    qualifiers = parse_qs(urlsplit(request._path).query).get("Qualifier", [])
    qualified = ":".join((name, *qualifiers))
    return qualified if name.startswith("arn:") or not name else _arn(request, f"function:{qualified}")


def _alarm(request: IAMRequestBase) -> str:
    """Return the alarm that a request changes, and all for DescribeAlarms, whatever it names; metrics have no ARN."""
    match request._action.rpartition(":")[2]:
        case "SetAlarmState":
            name = _body(request)["AlarmName"]
        case "DescribeAlarms":
            name = "*"
        case _:
            name = ""
    return _arn(request, f"alarm:{name}").replace(":monitoring:", ":cloudwatch:") if name else ""


def _role(request: IAMRequestBase) -> str:
    """Return the role of a simulation; the project makes no other calls of IAM under a role."""
    (arn,) = request._data.get("PolicySourceArn", [""])
    return str(arn)


def _api(request: IAMRequestBase) -> str:
    path = request._path.partition("/v2")[2]
    return f"arn:aws:apigateway:{request._region}::{path}"


def _deployment_group(request: IAMRequestBase) -> str:
    deployments = codedeploy_backends[request.account_id][request._region].deployments
    found = deployments.get(_body(request).get("deploymentId", ""))
    return _arn(request, f"deploymentgroup:{found.application_name}/{found.deployment_group_name}") if found else ""


def _schedule(request: IAMRequestBase) -> str:
    name = urlsplit(request._path).path.partition("/schedules/")[2]
    return _arn(request, f"schedule/default/{unquote(name)}") if name else ""


def _stack(request: IAMRequestBase) -> str:
    (name,) = request._data.get("StackName", [""])
    stacks = cloudformation_backends[request.account_id][request._region].stacks.values()
    missing = _arn(request, f"stack/{name}/*") if name else ""
    return next((stack.stack_id for stack in stacks if name in {stack.name, stack.stack_id}), missing)


def _queue(request: IAMRequestBase) -> str:
    url = str(_body(request).get("QueueUrl", ""))
    return _arn(request, url.rpartition("/")[2]) if url else ""


def _topic(request: IAMRequestBase) -> str:
    (arn,) = request._data.get("TopicArn", [""])
    return str(arn)


_FUNCTION_PATH = re.compile(r"/functions/([^/?]+)")
_EXECUTION_PATH = re.compile(r"/durable-executions/(.+)/(?:checkpoint|state)|/durable-execution-callbacks/([^/?]+)")

_RESOURCES = {
    "apigateway": _api,
    "cloudformation": _stack,
    "codedeploy": _deployment_group,
    "iam": _role,
    "kinesis": _stream,
    "kms": _key,
    "lambda": _function,
    "logs": _log_stream,
    "monitoring": _alarm,
    "scheduler": _schedule,
    "sns": _topic,
    "sqs": _queue,
}


def _body(request: IAMRequestBase) -> Mapping[str, Any]:
    body: Mapping[str, Any] = json.loads(request._body or b"{}")
    return body


def _key_of(request: IAMRequestBase, resource: str) -> str | None:
    """Return the ARN of the key of a stream, bucket or queue, of a stack's by its template; None for no key."""
    name = resource.rpartition(":")[2].removeprefix("stream/").partition("/")[0]
    region = "us-east-1" if request._service == "s3" else request._region  # S3 has one backend
    for stack in cloudformation_backends[request.account_id][region].stacks.values():
        for logical_name, resolved in getattr(stack, "applied", {}).items():
            model = stack.resource_map._parsed_resources.get(logical_name)
            # A queue's id is its URL, which ends with its name.
            if str(getattr(model, "physical_resource_id", "")).rpartition("/")[2] == name:
                return _own_key(resolved.get("Properties", {}))
    stream = kinesis_backends[request.account_id][region].streams.get(name) if ":stream/" in resource else None
    return stream.key_id if stream and str(stream.key_id).startswith("arn:") else None


def _own_key(properties: Mapping[str, Any]) -> str | None:
    key: str = properties.get("StreamEncryption", {}).get("KeyId") or properties.get("KmsMasterKeyId", "")
    for rule in properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", ()):
        key = rule["ServerSideEncryptionByDefault"].get("KMSMasterKeyID", "")
    return key if key.startswith("arn:") else None


def _key_allows(request: IAMRequestBase, needed: Permission) -> bool:
    """Return whether the key's policy allows the account's principals the action; True if the resource is not a key."""
    if not needed.action.startswith("kms:") or ":key/" not in needed.resource:
        return True
    keys = kms_backends[request.account_id][request._region].keys
    key = keys.get(needed.resource.rpartition("/")[2])
    if key is None:
        return False
    policy = json.loads(key.policy)
    ours = [
        one for one in policy["Statement"] if "AWS" in (one["Principal"] if one["Principal"] != "*" else {"AWS": 1})
    ]
    return is_allowed([{"Statement": ours}], *needed)
