"""MLflow kept in step with a bucket, where MLflow is in use: a move counts whether MLflow hears of it or not."""

import os
import sys
from pathlib import Path

from training.errors import TrackingError
from training.registry.bucket import Bucket
from training.tracking.mirror import Sources, catch_up, follow_channels
from training.tracking.mlflow_store import LOCAL_DATABASE, TRACKING_URI, open_store


def is_in_use() -> bool:
    """Whether anything has been tracked from here, or a server is named: else a move would make a database."""
    return bool(os.environ.get(TRACKING_URI)) or LOCAL_DATABASE.is_file()


def follow(bucket: Bucket, published: tuple[str, Path] | None = None) -> None:
    """Points MLflow's aliases where the channels point, and tells on standard error where it cannot be told.

    Args:
        bucket: Where the channels are.
        published: A version that is new in the bucket, and the folder of bundles that it comes from: MLflow gets its
            run, or finds it, and registers it.
    """
    if not is_in_use():
        return
    store = open_store()
    try:
        if published:
            version, folder = published
            catch_up(store, Sources(bucket, folder), version)
        follow_channels(store, bucket)
    except TrackingError as error:
        sys.stderr.write(f"ridecast: {error}\n")
