"""Check whether a version of the function can publish, without publishing: its stream, the stream's key, its role.

IAM simulates the permissions: the role's policies, its permissions boundary, and the organization's policies that have
no conditions. It does not see policies of the stream, the key, the bucket, the queue or a VPC endpoint.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from lambda_function.aws.rejects import PREFIX
from lambda_function.aws.settings import Settings

_DENIED = frozenset({"AccessDenied", "AccessDeniedException"})
_NOT_FOUND = frozenset({"NotFoundException", "ResourceNotFoundException"})
_TAKES_RECORDS = frozenset({"ACTIVE", "UPDATING"})
"""A stream whose number of shards changes is UPDATING, and takes records meanwhile."""

_KEY_OF_AWS = "alias/aws/kinesis"
"""The key that AWS keeps for Kinesis: whoever may use a stream of the account may use it, and nobody can disable it."""

Answer = Mapping[str, Any]


class _NotCheckedError(Exception):
    """The caller may not make a part of the check."""


@dataclass(frozen=True, slots=True)
class OutputPath:
    """Clients of AWS with which the output path of a version is checked."""

    functions: Any
    kinesis: Any
    kms: Any
    iam: Any

    def problem(self, version: str) -> str:
        """Return what is missing in the output path of a version, given by its ARN, in words; "" if nothing is.

        Raises:
            ConfigurationError: The version's settings are incomplete.
            ClientError: AWS does not answer. A refusal, even one of a part of the check, is a problem instead.
        """
        return "; ".join(self._problems(version))

    def _problems(self, version: str) -> Iterator[str]:
        """Yield the problems until a part cannot be checked, and then why."""
        try:
            yield from self._found(version)
        except _NotCheckedError as error:
            yield str(error)

    def _found(self, version: str) -> Iterator[str]:
        describe = self.functions.get_function_configuration
        found = _ask("lambda:GetFunctionConfiguration", version, describe, FunctionName=version)
        settings = Settings.from_env(found.get("Environment", {}).get("Variables", {}))
        _, partition, _, region, account, *_ = version.split(":")
        may_not = _Role(self.iam, found["Role"], {"aws:ResourceAccount": account}).may_not
        stream = f"arn:{partition}:kinesis:{region}:{account}:stream/{settings.output_stream}"
        yield from may_not("s3:PutObject", f"arn:{partition}:s3:::{settings.bucket}/{PREFIX}/")
        if queue := settings.rejects_queue_url.rpartition("/")[2]:
            yield from may_not("sqs:SendMessage", f"arn:{partition}:sqs:{region}:{account}:{queue}")
        yield from may_not("kinesis:PutRecords", stream)
        describe = self.kinesis.describe_stream_summary
        summary = _ask("kinesis:DescribeStreamSummary", stream, describe, StreamARN=stream)["StreamDescriptionSummary"]
        if summary["StreamStatus"] not in _TAKES_RECORDS:
            yield f"the output stream {stream} is {summary['StreamStatus']}"
        if summary.get("EncryptionType") == "KMS" and not summary["KeyId"].endswith(_KEY_OF_AWS):
            key = self._key(summary["KeyId"])
            if key["KeyState"] != "Enabled":
                yield f"the key {key['Arn']} of the output stream is {key['KeyState']}"
            through = {"kms:ViaService": f"kinesis.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"}
            yield from may_not("kms:GenerateDataKey", key["Arn"], through | self._tags(key["Arn"]))

    def _key(self, key_id: str) -> Answer:
        answer: Answer = _ask("kms:DescribeKey", key_id, self.kms.describe_key, KeyId=key_id)["KeyMetadata"]
        return answer

    def _tags(self, key: str) -> dict[str, str]:
        """Return a key's tags as condition keys: a permissions boundary may name them."""
        tags = _ask("kms:ListResourceTags", key, self.kms.list_resource_tags, KeyId=key)["Tags"]
        return {f"aws:ResourceTag/{tag['TagKey']}": tag["TagValue"] for tag in tags}


@dataclass(frozen=True, slots=True)
class _Role:
    """The version's role, whose permissions IAM simulates with the values of condition keys that are known."""

    iam: Any
    arn: str
    known: Mapping[str, str]

    def may_not(self, action: str, resource: str, known: Mapping[str, str] | None = None) -> Iterator[str]:
        """Yield a sentence if the role does not have a permission."""
        values = {**self.known, **(known or {})}
        answer = _ask(
            "iam:SimulatePrincipalPolicy",
            self.arn,
            self.iam.simulate_principal_policy,
            PolicySourceArn=self.arn,
            ActionNames=[action],
            ResourceArns=[resource],
            ContextEntries=[
                {"ContextKeyName": name, "ContextKeyType": "string", "ContextKeyValues": [value]}
                for name, value in values.items()
            ],
        )
        (result,) = answer["EvaluationResults"]
        if result["EvalDecision"] != "allowed":
            yield f"the version's role {self.arn} may not {action} on {resource}: {_reason(result)}"


def _reason(result: Answer) -> str:
    if not result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations", True):
        return "a policy of the organization forbids it"
    if not result.get("PermissionsBoundaryDecisionDetail", {}).get("AllowedByPermissionsBoundary", True):
        return "its permissions boundary does not allow it"
    if result["EvalDecision"] == "explicitDeny":
        return "a statement denies it"
    unknown = {
        name
        for one in (result, *result.get("ResourceSpecificResults", ()))
        for name in one.get("MissingContextValues", ())
    }
    conditions = (
        f" without a condition on {', '.join(sorted(unknown))}, which this check does not know" if unknown else ""
    )
    return f"no statement allows it{conditions}"


def _ask(permission: str, resource: str, call: Callable[..., Answer], **request: Any) -> Answer:
    """Make a call that needs a permission on a resource."""
    try:
        return call(**request)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _NOT_FOUND:
            raise _NotCheckedError(f"{resource} does not exist") from error
        if code in _DENIED:
            raise _NotCheckedError(f"the hook may not {permission} on {resource}, so it cannot check it") from error
        raise
