"""The bucket that models are in: one of an AWS, or the folder that stands in for one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from infra.commands.aws import Aws

LOCAL_BUCKET = "file:build/bucket"
"""The models' bucket unless told otherwise: a folder that needs no AWS."""

ModelBucket = Annotated[str, typer.Option("--bucket", help="The stack's bucket, or a folder, as in file:build/bucket.")]


def open_bucket(bucket: str, aws: Aws | None = None) -> tuple[Any, str]:
    """Opens a bucket of an AWS, or a folder that stands in for one.

    Args:
        bucket: A bucket's name, ``s3://`` before it or not, or ``file:`` and a folder, which is made when it is needed.
        aws: Where the bucket is; the real one where not given. A folder needs none.

    Returns:
        What has boto3's face, and the name to ask it by.
    """
    from training.errors import FOLDER_PREFIX

    if not bucket.startswith(FOLDER_PREFIX):
        return (aws or Aws()).client("s3"), bucket.removeprefix("s3://").rstrip("/")

    from infra.local.folder_s3 import FolderS3

    folder = bucket.removeprefix(FOLDER_PREFIX)
    if not folder:
        raise typer.BadParameter(f"names no folder: write it as {LOCAL_BUCKET}", param_hint="'--bucket'")
    return FolderS3(Path(folder).expanduser()), bucket
