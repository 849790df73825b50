"""A small release to deploy on the local AWS: a stream, and a function with a role."""

import hashlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from infra.stack.release import write_archive

STACK = "ridecast-dev"

TEMPLATE: dict[str, Any] = {
    "Transform": "AWS::Serverless-2016-10-31",
    "Parameters": {"Name": {"Type": "String"}, "Shards": {"Type": "Number", "Default": 1}},
    "Resources": {
        "Rides": {"Type": "AWS::Kinesis::Stream", "Properties": {"Name": {"Ref": "Name"}, "ShardCount": 1}},
        "Predictor": {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "CodeUri": "package.zip",
                "Runtime": "python3.13",
                "Handler": "handler.handler",
                "AutoPublishAlias": "live",
                "Policies": [{"Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}],
            },
        },
    },
}
SAMCONFIG = """
[dev.deploy.parameters]
capabilities = "CAPABILITY_IAM"
parameter_overrides = "Name=rides"
tags = "project=ridecast environment=dev"
"""


def write_release(folder: Path, shards: int = 1, code: str = "", action: str = "s3:GetObject") -> Path:
    """Write a release and return its folder.

    Args:
        folder: A folder for it and its sources.
        shards: Of its stream.
        code: A line of its function.
        action: What its function may do.
    """
    release, source = folder / "release", folder / "source"
    release.mkdir(exist_ok=True)
    source.mkdir(exist_ok=True)
    (source / "handler.py").write_text(f"{code}\ndef handler(event, context): pass\n")
    write_archive(source, release / "package.zip")
    template = deepcopy(TEMPLATE)
    template["Resources"]["Rides"]["Properties"]["ShardCount"] = shards
    template["Resources"]["Predictor"]["Properties"]["Policies"][0]["Statement"][0]["Action"] = action
    (release / "template.yaml").write_text(yaml.safe_dump(template))
    files = ("package.zip", "template.yaml")
    digests = [f"{hashlib.sha256((release / name).read_bytes()).hexdigest()}  {name}\n" for name in files]
    (release / "SHA256SUMS").write_text("".join(digests))
    return release


def make_artefact_bucket(s3: Any, name: str) -> None:
    """Make a bucket that keeps versions."""
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
