"""How commands reach an AWS, the real one or another by `--endpoint-url`, or the folder that stands in for a bucket."""

from pathlib import Path
from typing import Annotated, Any

import typer

EndpointUrl = Annotated[str | None, typer.Option(help="Another AWS than the real one, as in http://127.0.0.1:5000.")]
Profile = Annotated[str | None, typer.Option(help="AWS profile.")]
Region = Annotated[str | None, typer.Option(help="AWS region.")]

LOCAL_BUCKET = "file:build/bucket"
"""The models' bucket unless told otherwise: a folder that needs no AWS."""

ModelBucket = Annotated[str, typer.Option("--bucket", help="The stack's bucket, or a folder, as in file:build/bucket.")]


def open_bucket(
    bucket: str, endpoint_url: str | None = None, profile: str | None = None, region: str | None = None
) -> tuple[Any, str]:
    """Opens a bucket of an AWS, or a folder that stands in for one.

    Args:
        bucket: A bucket's name, ``s3://`` before it or not, or ``file:`` and a folder, which is made when it is needed.
        endpoint_url: As `aws_client` takes them; a folder needs none.
        profile: Likewise.
        region: Likewise.

    Returns:
        What has boto3's face, and the name to ask it by.
    """
    from training.errors import FOLDER_PREFIX

    if not bucket.startswith(FOLDER_PREFIX):
        name = bucket.removeprefix("s3://").rstrip("/")
        return aws_client("s3", endpoint_url, profile, region), name

    from infra.local.folder_s3 import FolderS3

    folder = bucket.removeprefix(FOLDER_PREFIX)
    if not folder:
        raise typer.BadParameter(f"names no folder: write it as {LOCAL_BUCKET}", param_hint="'--bucket'")
    return FolderS3(Path(folder).expanduser()), bucket


def aws_client(service: str, endpoint_url: str | None, profile: str | None, region: str | None) -> Any:
    """Makes a client that gives up early: a person is waiting."""
    import boto3
    from botocore.config import Config

    session: Any = boto3.Session(profile_name=profile, region_name=region)
    retries = Config(connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
    try:
        return session.client(service, endpoint_url=endpoint_url, config=retries)
    except ValueError as error:  # botocore's way to say that this is no URL
        problem = f"{error}: write it as http://127.0.0.1:5000"
        raise typer.BadParameter(problem, param_hint="'--endpoint-url'") from error
