"""A release on its way to AWS: checked, uploaded under its digests, and compared with what Lambda runs in the end.

A deployment names a package by an object's version: nobody can replace what the reviewer approved.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from infra.stack.describe import list_resources
from infra.stack.template import FUNCTION_TYPE, read_template
from training.errors import UserError

TEMPLATE_NAME, DIGESTS_NAME = "template.yaml", "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Release:
    """The files of a release, as `infra.stack.release` wrote them.

    Attributes:
        template: It names each function's package by its file.
        packages: The zips by file.
    """

    template: dict[str, Any]
    packages: Mapping[str, bytes]

    def package_of(self, function: str) -> bytes:
        """Return a function's package by the function's name in the template."""
        return self.packages[self.template["Resources"][function]["Properties"]["CodeUri"]]

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of the template's functions."""
        return tuple(name for name, one in self.template["Resources"].items() if one["Type"] == FUNCTION_TYPE)


def read_release(folder: Path) -> Release:
    """Read a release and compare each file with its digest.

    Raises:
        UserError: A file is missing, or differs from its digest.
    """
    try:
        lines = (folder / DIGESTS_NAME).read_text(encoding="utf-8").splitlines()
        files = {
            name: ((folder / name).read_bytes(), digest) for digest, name in (line.split("  ", 1) for line in lines)
        }
    except OSError as error:
        raise UserError(f"{folder} is not a whole release: {error}", "fetch it again") from error
    for name, (data, digest) in files.items():
        if hashlib.sha256(data).hexdigest() != digest:
            raise UserError(
                f"{folder / name} is not what was built: {DIGESTS_NAME} has another digest", "build it again"
            )
    if TEMPLATE_NAME not in files:
        raise UserError(f"{folder / DIGESTS_NAME} does not list {TEMPLATE_NAME}", "build it again")
    packages = {name: data for name, (data, _) in files.items() if name.endswith(".zip")}
    return Release(read_template(folder / TEMPLATE_NAME), packages)


def upload(s3: Any, bucket: str, prefix: str, release: Release) -> str:
    """Upload a release's packages, and its template, which names their versions; return the template's address.

    What is uploaded already is not uploaded again: its version stays the same, so a second deployment changes nothing.

    Raises:
        UserError: The bucket keeps no versions, or holds other bytes under a digest.
    """
    versions = {file: _store(s3, bucket, prefix, data, ".zip") for file, data in release.packages.items()}
    resources = dict(release.template["Resources"])
    for name in release.functions:
        key, version = versions[resources[name]["Properties"]["CodeUri"]]
        code = {"Bucket": bucket, "Key": key, "Version": version}
        resources[name] = {**resources[name], "Properties": {**resources[name]["Properties"], "CodeUri": code}}
    template = {**release.template, "Resources": resources}
    return upload_template(s3, bucket, prefix, msgspec.json.encode(template))  # CloudFormation takes no aliases of YAML


def upload_template(s3: Any, bucket: str, prefix: str, text: bytes) -> str:
    """Upload a template and return its address: CloudFormation takes more than 51,200 bytes only from a bucket.

    Raises:
        UserError: As for `upload`.
    """
    key, _ = _store(s3, bucket, prefix, text, ".template")
    return f"{s3.meta.endpoint_url}/{bucket}/{key}"


def _store(s3: Any, bucket: str, prefix: str, data: bytes, suffix: str) -> tuple[str, str]:
    """Store bytes under their digest unless they are there, and compare what is there then; return key and version."""
    key = f"{prefix}/{hashlib.sha256(data).hexdigest()}{suffix}"
    digest = base64_digest(data)
    stored = _stored(s3, bucket, key)
    if stored is None:
        # S3 refuses other bytes than those of the digest.
        s3.put_object(Bucket=bucket, Key=key, Body=data, ChecksumAlgorithm="SHA256", ChecksumSHA256=digest)
        stored = _stored(s3, bucket, key) or {}
    if stored.get("ChecksumSHA256") != digest:
        what = f"s3://{bucket}/{key} has other bytes than its name says"
        raise UserError(what, "find out who has replaced it, delete that version of the object, and plan again")
    if stored.get("VersionId") in {None, "null"}:
        raise UserError(
            f"bucket {bucket} keeps no versions of its objects", "use the bucket of infra/stack/bootstrap.yaml"
        )
    return key, stored["VersionId"]


def _stored(s3: Any, bucket: str, key: str) -> dict[str, Any] | None:
    """Return S3's description of an object; None if there is none."""
    try:
        found: dict[str, Any] = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_FOUND:
            return None
        raise
    return found


def base64_digest(data: bytes) -> str:
    """Return the SHA-256 of bytes in base64, as S3 and Lambda write it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def differing_functions(cloudformation: Any, lambda_client: Any, stack_name: str, release: Release) -> list[str]:
    """Return a sentence for each function of a deployed stack that runs other code than the release's.

    Compared are the digests of the newest code and of the code behind each alias, as Lambda states them. A function
    that the stack's parameters leave out is not compared.
    """
    resources = list_resources(cloudformation, stack_name)
    names = {one.logical_name: one.physical_name for one in resources if one.type == "AWS::Lambda::Function"}
    aliases = [one.physical_name for one in resources if one.type == "AWS::Lambda::Alias"]  # their ARNs
    problems = []
    for function in filter(names.__contains__, release.functions):
        wanted = base64_digest(release.package_of(function))
        for served in [names[function], *(arn for arn in aliases if f":function:{names[function]}:" in arn)]:
            found = lambda_client.get_function_configuration(FunctionName=served)["CodeSha256"]
            if found != wanted:
                problems.append(f"{served} has code with the SHA-256 {found}, and the release's is {wanted}")
    return problems
