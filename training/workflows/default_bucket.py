"""Leave a model in the default bucket, a folder, where `report`, `serve`, `rollback` and `load_model` find it."""

from pathlib import Path

from training.errors import FOLDER_PREFIX, UserError
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import move_channel, store_bundle
from training.registry.folder_s3 import FolderS3

CHANNEL = "stable"

_FOLDER = "bucket"


def leave_model(bundle: ExportedBundle, build: Path) -> str:
    """Store a bundle in the bucket of a build folder; the channel `stable` points at it if it held no model before.

    Args:
        bundle: The model.
        build: The build folder; the bucket is its folder `bucket`.

    Returns:
        Why the model could not be left, in a sentence; "" if it is there.
    """
    folder = (build / _FOLDER).resolve()
    bucket = Bucket(FolderS3(folder), f"{FOLDER_PREFIX}{folder}")
    try:
        store_bundle(bucket, bundle)
        if read_channel(bucket, CHANNEL).model_version is None:
            move_channel(bucket, CHANNEL, bundle.model_version, bundle.manifest_sha256)
    except (UserError, OSError) as error:
        return f"the model could not be left in {folder}: {error}"
    return ""
