"""An account with the template's stack in use, and roles with its policies, complete or without one part."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from botocore.exceptions import ClientError

from infra.local.aws import LocalAws
from infra.local.moto.enforcement import ASKED_PATH
from infra.local.moto.policies import is_allowed
from infra.local.runtime.function import read_function
from lambda_function.core.calibration import calibration_key
from lambda_function.core.channel import BEGINNING, Arm, Channel, Segment, channel_key
from tests.builders import small_bundle
from tests.builders_calibrations import calibration_bytes, calibration_of, reference_of
from tests.builders_monitored import MonitoredStack
from tests.kits.stack import TemplateStack
from tests.kits.streams import make_streams
from tests.kits.template import EXISTING_STREAMS, KEYS_OF_STREAMS, LOOP, ROLES, SIGNING_KEY, as_list, statements
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.registry.signing import Signer
from training.registry.versions import put_artifact

POLICIES = ("ModelPublisherPolicy", "OperatorPolicy", "JudgePolicy", "ForgetPolicy", "DoctorPolicy")
FIRST, SECOND, THIRD = small_bundle(1), small_bundle(2), small_bundle(3)
AS_OF = "2021-01-01T05"
CALIBRATION = calibration_of(FIRST.model, AS_OF)
CALIBRATION_KEY = calibration_key(FIRST.model_version, AS_OF)
SERVED = FIRST.model.calibrated(CALIBRATION)
"""The first model as the channel serves it."""

OTHER_BUCKET = "other"

Credentials = Mapping[str, str]

Asked = tuple[str, str, dict[str, str]]
"""What a request needs: an action, a resource and condition keys."""


class Cut(NamedTuple):
    """A part of a policy's statement: one of its actions, one of its resources by index, or the complete statement."""

    sid: str
    action: str | None = None
    resource: int | None = None

    def __str__(self) -> str:
        part = self.action if self.resource is None else f"resource {self.resource}"
        return f"{self.sid}, {part}" if part else self.sid

    def role_name(self, name: str) -> str:
        """Return the name of a role that has the policies of another one but not this part."""
        return f"{name}-without-{self.sid}-{self.action or self.resource}".replace(":", "-")

    def of(self, statement: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a statement without this part; None if nothing is left."""
        if statement["Sid"] != self.sid:
            return dict(statement)
        actions = [one for one in as_list(statement["Action"]) if one != self.action]
        resources = [one for place, one in enumerate(as_list(statement["Resource"])) if place != self.resource]
        is_whole = self.action is None and self.resource is None
        return None if is_whole else {**statement, "Action": actions, "Resource": resources}


def cuts(name: str) -> list[Cut]:
    """Return the smallest parts of a role or policy of the template, including conditional statements."""
    parameters: dict[str, str | int] = {
        "ModelSigningKeyArn": SIGNING_KEY,
        **LOOP,
        **EXISTING_STREAMS,
        **KEYS_OF_STREAMS,
    }
    return cuts_of(statements(name, **parameters).values())


def cuts_of(listed: Iterable[Mapping[str, Any]]) -> list[Cut]:
    """Return the smallest parts of statements."""
    return [cut for statement in listed for cut in _cuts(statement)]


def _cuts(statement: Mapping[str, Any]) -> Iterator[Cut]:
    actions, resources = as_list(statement["Action"]), as_list(statement["Resource"])
    if len(actions) == len(resources) == 1:
        yield Cut(statement["Sid"])
    if len(actions) > 1:
        yield from (Cut(statement["Sid"], action=action) for action in actions)
    if len(resources) > 1:
        yield from (Cut(statement["Sid"], resource=place) for place in range(len(resources)))


class Account:
    """A stack in use, whose models are signed; `roles` has role names by purpose.

    Its streams existed before, each with a key of its own: so every statement of the template is there. On streams of
    the stack's own the roles may do the same (tests/contract/test_template_streams.py).
    """

    def __init__(self, aws: LocalAws) -> None:
        self.aws = aws
        _post_to_moto(aws, "config", {"lambda": {"use_docker": False}})  # an invocation returns a prepared answer
        kms = aws.client("kms")
        self.signing_key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
        self.other_key = kms.create_key()["KeyMetadata"]["Arn"]
        self.stack = TemplateStack(aws)
        self.streams = make_streams(aws)
        parameters = {"BatchWindowSeconds": 0, "ModelSigningKeyArn": self.signing_key, **LOOP, **self.streams}
        assert self.stack.change(**parameters) == "CREATE_COMPLETE"
        self.names, self.outputs = self.stack.names(), self.stack.outputs()
        self.bucket = self.outputs["BucketName"]
        self.function_arn = self.outputs["FunctionAliasArn"].rpartition(":")[0]
        self.archiver_arn = self.arn("Archiver")
        (self.version,) = (arn for name, arn in self.names.items() if name.startswith("PredictorVersion"))
        self.mapping = self.stack.mapping(BatchWindowSeconds=0, **self.streams)
        self.roles = {role: self.names[role] for role in ROLES} | {policy: policy for policy in POLICIES}
        for policy in POLICIES:
            aws.client("iam").create_role(RoleName=policy, AssumeRolePolicyDocument="{}")
            aws.client("iam").attach_role_policy(RoleName=policy, PolicyArn=self.names[policy])
        self._fill()

    def _fill(self) -> None:
        """Store two signed models, the second with a passed gate; one without a signature; and other objects."""
        s3, signer = self.aws.client("s3"), Signer(self.aws.client("kms"), self.signing_key)
        for bundle, its_signer in ((FIRST, signer), (SECOND, signer), (THIRD, None)):
            store_bundle(Bucket(s3, self.bucket), bundle, its_signer)
        move_channel(Bucket(s3, self.bucket), "stable", FIRST.model_version, FIRST.manifest_sha256)
        self.serve_calibrated()
        verdict = {
            "model_version": SECOND.model_version,
            "against": FIRST.model_version,
            "channel": "stable",
            "passed": True,
        }
        put_artifact(Bucket(s3, self.bucket), SECOND.model_version, "gate-stable.json", json.dumps(verdict).encode())
        s3.create_bucket(Bucket=OTHER_BUCKET)
        s3.put_object(Bucket=OTHER_BUCKET, Key="models/a", Body=b"a")
        s3.put_object(Bucket=self.bucket, Key="elsewhere/a", Body=b"a")

    def serve_calibrated(self) -> None:
        """Let the channel serve the first model with a calibration, from the beginning on."""
        s3, data = self.aws.client("s3"), calibration_bytes(CALIBRATION)
        s3.put_object(Bucket=self.bucket, Key=CALIBRATION_KEY, Body=data)
        arm = Arm(FIRST.model_version, FIRST.manifest_sha256)
        channel = Channel(
            segments=(Segment(BEGINNING, (arm,), reference_of(data, AS_OF)),), moved_at="2021-01-01T00:00:00Z"
        )
        s3.put_object(Bucket=self.bucket, Key=channel_key("stable"), Body=msgspec.json.encode(channel))

    def delete_old_versions(self) -> None:
        """Delete all versions of the bucket's objects but the present ones, and the marks of deleted objects."""
        s3 = self.aws.client("s3")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket):
            old = [one for one in page.get("Versions", ()) if not one["IsLatest"]] + page.get("DeleteMarkers", [])
            if old:
                named = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in old]
                s3.delete_objects(Bucket=self.bucket, Delete={"Objects": named})

    def role_without(self, name: str, cut: Cut) -> str:
        """Create a role with the policies of another, but without one part; return its name."""
        return self.make_role(cut.role_name(name), self.documents_without(name, cut))

    def make_role(self, name: str, documents: Iterable[Mapping[str, Any]]) -> str:
        """Create a role with these policies; return its name."""
        iam = self.aws.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        for number, document in enumerate(documents):
            policy = json.dumps(document)
            iam.put_role_policy(RoleName=name, PolicyName=f"policy-{number}", PolicyDocument=policy)
        return name

    def documents_without(self, name: str, cut: Cut) -> list[dict[str, Any]]:
        """Return the deployed policy documents of a role or a policy without one part."""
        return documents_without(self.documents(name), cut)

    def documents(self, *names: str) -> list[dict[str, Any]]:
        """Return the deployed policy documents of roles and policies."""
        return [document for name in names for document in self._documents(name)]

    def take_asked(self, role_name: str) -> list[Asked]:
        """Return what a role has asked for since the last call."""
        return take_asked(self.aws, role_name)

    def parts_without_use(self, name: str) -> list[Cut]:
        """Return the parts of a role's policies without which it may still do all that it has asked for.

        Args:
            name: The role or policy, which has done its work since `take_asked` was called last.
        """
        return unused(cuts(name), self.documents(name), self.take_asked(self.roles[name]))

    def store_labelled_day(self, n_hours: int = 2) -> date:
        """Store joined hours of labelled rides that the first model served, of a day that is long over; return it."""
        stack, day = MonitoredStack(bundle=FIRST), datetime.now(UTC).date() - timedelta(days=5)
        stack.store_day(day, n_hours=n_hours)
        for key, body in stack.s3.objects.items():
            if key.startswith(("labelled/", "monitor/hours/")):
                self.aws.client("s3").put_object(Bucket=self.bucket, Key=key, Body=body)
        return day

    def _documents(self, name: str) -> list[dict[str, Any]]:
        """Return the deployed policy documents of a role or a policy."""
        iam = self.aws.client("iam")
        if name in POLICIES:
            version = iam.get_policy_version(PolicyArn=self.names[name], VersionId="v1")["PolicyVersion"]
            return [deepcopy(version["Document"])]
        policies = iam.list_role_policies(RoleName=self.roles[name])["PolicyNames"]
        return [
            iam.get_role_policy(RoleName=self.roles[name], PolicyName=policy)["PolicyDocument"] for policy in policies
        ]

    def clients(self, role_name: str, *services: str) -> dict[str, Any]:
        """Return clients with a role's credentials; they do not retry."""
        credentials = self.aws.assume(role_name)
        return {service: self.aws.client(service, 1, credentials) for service in services}

    def variables(self, role_name: str) -> dict[str, str]:
        """Return environment variables that give a process on this machine a role."""
        found = self.aws.assume(role_name)
        return {**self.aws.environment, **{name.upper(): value for name, value in found.items()}}

    def function_variables(self, logical_name: str) -> dict[str, str]:
        """Return a function's environment variables."""
        return dict(read_function(self.aws, self.names[logical_name]).environment)

    def arn(self, function: str) -> str:
        """Return a function's ARN."""
        return self.function_arn.replace(self.names["Predictor"], self.names[function])

    def write_logs(self, logs: Any, log_group: str) -> None:
        """Write a function's log as Lambda does with the function's role."""
        log = {"logGroupName": self.names[log_group], "logStreamName": "now"}
        with suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_stream(**log)
        logs.put_log_events(**log, logEvents=[{"timestamp": 1, "message": "hello"}])

    def set_next_answer(self, answer: object) -> None:
        """Set the answer of the local Lambda, which runs no code, to its next invocation."""
        _post_to_moto(self.aws, "static/lambda-simple/response", {"results": [json.dumps(answer)]})


def is_denial(error: ClientError) -> bool:
    """Return whether an error is a refusal by IAM."""
    return error.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}


def documents_without(whole: Sequence[Mapping[str, Any]], cut: Cut) -> list[dict[str, Any]]:
    """Return policy documents without one part."""
    found = []
    for document in whole:
        left = [cut.of(statement) for statement in document["Statement"]]
        found.append({**document, "Statement": [statement for statement in left if statement]})
    assert found != list(whole), f"{cut} is not part of the policies"
    return found


def unused(parts: Iterable[Cut], whole: Sequence[Mapping[str, Any]], asked: Iterable[Asked]) -> list[Cut]:
    """Return the parts of policy documents without which they still allow all that they allow of what was asked."""
    granted = [one for one in asked if is_allowed(whole, *one)]  # a refusal that the work tolerates needs no part
    return [cut for cut in parts if all(is_allowed(documents_without(whole, cut), *one) for one in granted)]


def take_asked(aws: LocalAws, role_name: str) -> list[Asked]:
    """Return what a role has asked for since anybody called this."""
    with closing(HTTPConnection(urlsplit(aws.endpoint_url).netloc, timeout=120)) as connection:
        connection.request("GET", ASKED_PATH)
        asked = json.loads(connection.getresponse().read())
    return [
        (action, resource, dict(context))
        for caller, action, resource, context in asked
        if f":assumed-role/{role_name}/" in caller
    ]


def _post_to_moto(aws: LocalAws, path: str, message: Mapping[str, Any]) -> None:
    connection = HTTPConnection(urlsplit(aws.endpoint_url).netloc, timeout=120)
    with closing(connection):
        connection.request("POST", f"/moto-api/{path}", json.dumps(message), {"Content-Type": "application/json"})
        assert connection.getresponse().status < 300
