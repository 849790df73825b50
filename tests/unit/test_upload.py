"""A release is checked, uploaded once under its digests, and compared with the code that Lambda runs."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from infra.stack.upload import Release, base64_digest, differing_functions, read_release, upload
from tests.fakes import BUCKET
from tests.fakes_deployment import VersionedS3
from training.errors import UserError
from training.registry.folder_s3 import client_error

STACK = "ridecast-dev"
TEMPLATE = """
Resources:
  Predictor: { Type: AWS::Serverless::Function, Properties: { CodeUri: package-Predictor.zip, Handler: a.b } }
  ApiFunction: { Type: AWS::Serverless::Function, Properties: { CodeUri: package-ApiFunction.zip } }
  Rides: { Type: AWS::Kinesis::Stream }
"""
FUNCTIONS = ("Predictor", "ApiFunction")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release of two functions with different code."""
    files = {f"package-{name}.zip": name.encode() for name in FUNCTIONS} | {"template.yaml": TEMPLATE.encode()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    digests = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    (tmp_path / "SHA256SUMS").write_text(digests)
    return tmp_path


def uploaded_template(s3: VersionedS3, url: str) -> dict[str, Any]:
    address = f"{s3.meta.endpoint_url}/{BUCKET}/"
    assert url.startswith(address)
    found: dict[str, Any] = msgspec.json.decode(s3.objects[url.removeprefix(address)])
    return found


def test_template_names_the_version_of_each_package(folder: Path) -> None:
    release, s3 = read_release(folder), VersionedS3()

    resources = uploaded_template(s3, upload(s3, BUCKET, STACK, release))["Resources"]

    assert release.functions == FUNCTIONS
    for name in FUNCTIONS:
        code = resources[name]["Properties"]["CodeUri"]
        assert code["Bucket"] == BUCKET
        assert code["Key"] == f"{STACK}/{hashlib.sha256(release.package_of(name)).hexdigest()}.zip"
        assert s3.objects[code["Key"]] == release.package_of(name)
        assert s3.stored[code["Key"]]["VersionId"] == code["Version"]
    assert resources["Predictor"]["Properties"]["Handler"] == "a.b"
    assert resources["Rides"] == release.template["Resources"]["Rides"]


def test_second_upload_of_a_release_stores_nothing_and_has_the_same_address(folder: Path) -> None:
    release, s3 = read_release(folder), VersionedS3()
    first = upload(s3, BUCKET, STACK, release)
    before = dict(s3.stored)

    assert upload(s3, BUCKET, STACK, release) == first
    assert s3.stored == before


def test_package_that_somebody_replaced_in_the_bucket_is_not_deployed(folder: Path) -> None:
    release, s3 = read_release(folder), VersionedS3()
    upload(s3, BUCKET, STACK, release)
    key = next(key for key in s3.stored if key.endswith(".zip"))
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"other code")

    with pytest.raises(UserError, match=f"s3://{BUCKET}/{key} has other bytes than its name says"):
        upload(s3, BUCKET, STACK, release)


def test_bucket_without_versions_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="keeps no versions"):
        upload(VersionedS3(has_versions=False), BUCKET, STACK, read_release(folder))


def test_refusal_of_s3_is_raised_as_it_is(folder: Path) -> None:
    s3 = VersionedS3()
    s3.head_object = lambda **_: (_ for _ in ()).throw(client_error(403, "403", "HeadObject"))  # type: ignore[method-assign]

    with pytest.raises(Exception, match="403"):
        upload(s3, BUCKET, STACK, read_release(folder))


@pytest.mark.parametrize("name", ["template.yaml", "package-Predictor.zip"])
def test_release_with_a_changed_or_missing_file_is_not_read(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(UserError, match=f"{name} is not what was built"):
        read_release(folder)

    path.unlink()
    with pytest.raises(UserError, match="is not a whole release"):
        read_release(folder)


class _Lambda:
    """CloudFormation and Lambda of a stack that runs given code, by function or alias."""

    def __init__(self, code: dict[str, bytes]) -> None:
        self._code = code

    def get_function_configuration(self, *, FunctionName: str) -> dict[str, str]:  # noqa: N803
        return {"CodeSha256": base64_digest(self._code[FunctionName])}

    def get_paginator(self, operation: str) -> Any:
        assert operation == "list_stack_resources"
        found = [
            {
                "LogicalResourceId": name.split("-")[0] if ":" not in name else "PredictorAliaslive",
                "PhysicalResourceId": name,
                "ResourceType": "AWS::Lambda::Alias" if ":" in name else "AWS::Lambda::Function",
            }
            for name in self._code
        ]
        return SimpleNamespace(paginate=lambda **_: [{"StackResourceSummaries": found}])


ALIAS = "arn:aws:lambda:eu-west-1:123456789012:function:Predictor-1X:live"
RELEASE = Release(
    template={"Resources": {n: {"Type": "AWS::Serverless::Function", "Properties": {"CodeUri": n}} for n in FUNCTIONS}},
    packages={"Predictor": b"new", "ApiFunction": b"api"},
)


@pytest.mark.parametrize(
    ("code", "differing"),
    [
        ({"Predictor-1X": b"new", ALIAS: b"new", "ApiFunction-2Y": b"api"}, []),
        ({"Predictor-1X": b"new", ALIAS: b"new"}, []),  # a parameter leaves the other function out
        ({"Predictor-1X": b"new", ALIAS: b"old"}, [ALIAS]),
        ({"Predictor-1X": b"old", ALIAS: b"old", "ApiFunction-2Y": b"new"}, ["Predictor-1X", ALIAS, "ApiFunction-2Y"]),
    ],
    ids=["same", "without the API", "alias", "all"],
)
def test_functions_that_run_other_code_are_named(code: dict[str, bytes], differing: list[str]) -> None:
    aws = _Lambda(code)

    assert [one.split(" has ")[0] for one in differing_functions(aws, aws, STACK, RELEASE)] == differing
