"""Load a model from a bucket or a folder, and predict the rides of a DataFrame as the function does."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lambda_function.aws.clients import make_s3_client
from lambda_function.core.bundle import MANIFEST, ModelBundle, decode_manifest
from lambda_function.core.calibration import split_version
from lambda_function.core.channel import Segment
from lambda_function.core.events import UNDECODABLE
from lambda_function.core.features import feature_matrix
from lambda_function.errors import BundleError
from training.errors import FOLDER_PREFIX, UserError
from training.inference.frames import RowProblem, find_fields, read_rides, rows_error
from training.model.bundle import read_bundle
from training.project import build_folder
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.folder_s3 import FolderS3
from training.registry.versions import read_calibration, read_stored, resolve_version

if TYPE_CHECKING:
    import pandas as pd

_BLOCK_ROWS = 1 << 16
"""Rows at a time: memory stays that of the frame and a few megabytes."""

_READ_TIMEOUT_S, _N_ATTEMPTS = 60, 3  # a person waits, not a stream


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that has passed the function's checks.

    Attributes:
        model: What the function would serve, with its calibration if it has one.
    """

    model: ModelBundle

    @property
    def version(self) -> str:
        """The version that predictions name: the model's, with ``+<hour>`` if it has a live calibration."""
        return self.model.served_version

    def predict(self, frame: "pd.DataFrame", errors: Literal["raise", "coerce"] = "raise") -> "pd.DataFrame":
        """Predict the rides of a pandas DataFrame, with the numbers that the function publishes for the same rides.

        The frame has the columns ``PULocationID``, ``DOLocationID``, ``trip_distance`` and a pickup time:
        ``pickup_datetime``, or TLC's ``lpep_pickup_datetime`` or ``tpep_pickup_datetime``. Columns of flattened ride
        events (``ride.PULocationID``) and names in another case are taken too, and other columns are ignored.

        Values are read as in ride events: zones may be whole numbers of any type or the same in text. Times without a
        zone are New York's; times with a zone are converted. A missing, zero or too long distance is a ride without
        one.

        Args:
            frame: One ride a row, in any order and with any index.
            errors: What to do about a row that the function would reject, or that has no pickup time: raise an error
                that names the first such row and its column, or give NaN for such rows ("coerce").

        Returns:
            A frame with the index of the given one and the columns ``minutes``, ``low`` and ``high`` (minutes between
            which four rides in five end; NaN if the model has no intervals) and ``version``.

        Raises:
            UserError: A column is missing, or a row cannot be predicted.
        """
        import pandas as pd  # noqa: PLC0415 - takes half a second, and only this needs it

        if not isinstance(frame, pd.DataFrame):
            raise UserError(f"predict takes a pandas DataFrame, not {type(frame).__name__}", "give one ride a row")
        if errors not in {"raise", "coerce"}:
            raise UserError(f"errors is {errors!r}", 'give "raise" or "coerce"')
        fields = find_fields(frame)
        predicted = np.full((3, len(frame)), np.nan)
        problems: dict[int, RowProblem] = {}
        for start in range(0, len(frame), _BLOCK_ROWS):
            rides = read_rides(frame.iloc[start : start + _BLOCK_ROWS], fields)
            problems |= {start + row: problem for row, problem in rides.problems.items()}
            matrix = feature_matrix(rides.columns)
            minutes = self.model.served_minutes(rides.columns, matrix)
            rows = start + rides.rows
            predicted[0, rows] = minutes
            bounds = self.model.interval_bounds(matrix, minutes)
            if bounds:
                predicted[1:, rows] = bounds
        if problems and errors == "raise":
            raise rows_error(frame, problems)
        minutes, low, high = predicted
        columns = {"minutes": minutes, "low": low, "high": high, "version": self.version}
        return pd.DataFrame(columns, index=frame.index)


def load_model(name_or_path: str | Path, bucket: str | Bucket | None = None) -> LoadedModel:
    """Load a model and check it as the function does: by the digests of its files, and by its golden rides.

    By a channel's name, it is the model that serves a ride which arrives now, with its live calibration; in a split,
    the champion. By a version, it is that model alone; by the ``version`` of a prediction, with that calibration.

    Args:
        name_or_path: A channel (``"stable"``), a version or its beginning, or the folder of a bundle
            (``"build/bundles/green-2021-01-c983ee001b48"``).
        bucket: The bucket of the models: an S3 bucket's name, a folder as ``file:PATH``, or a `Bucket`. By default
            the project's folder ``build/bucket``; versions in ``build/bundles`` are found then too.

    Returns:
        The model. Its ``predict`` takes a pandas DataFrame.

    Raises:
        UserError: There is no such model, or the bucket cannot be read.
        BundleError: A file of the model is missing or wrong.

    Example:
        ```python
        import pandas as pd

        from training import load_model

        model = load_model("stable")
        rides = pd.read_parquet("green_tripdata_2021-02.parquet")
        print(model.version, model.predict(rides))
        ```
    """
    if isinstance(name_or_path, Path) or "/" in name_or_path:
        return read_model(Path(name_or_path).expanduser())
    build = build_folder()
    if bucket is None:
        bucket = f"{FOLDER_PREFIX}{build / 'bucket'}"
        local = build / "bundles" / name_or_path
        if (local / MANIFEST).is_file():
            return read_model(local)
    return LoadedModel(_load(name_or_path, bucket if isinstance(bucket, Bucket) else _open_bucket(bucket)))


def read_model(folder: Path) -> LoadedModel:
    """Read a model from the folder of its bundle, whatever the folder's name.

    Raises:
        UserError: The folder has no bundle.
        BundleError: A file is missing or wrong.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is not the folder of a bundle: it has no {MANIFEST}", "give the folder of a version")
    try:
        version = decode_manifest(path.read_bytes()).model_version
    except UNDECODABLE as error:
        raise BundleError("", str(path), f"does not decode: {error}") from error
    return LoadedModel(read_bundle(folder, version).model)


def _load(name: str, bucket: Bucket) -> ModelBundle:
    channel = read_channel(bucket, name).state
    if channel:
        return _load_segment(bucket, channel.segment_at(time.time()))
    model = read_stored(bucket, resolve_version(bucket, name)).model
    _, as_of = split_version(name)
    return model if as_of is None else model.calibrated(read_calibration(bucket, model.model_version, as_of))


def _load_segment(bucket: Bucket, segment: Segment) -> ModelBundle:
    """Return the champion's model of a segment, checked by the digests that the channel has."""
    arm, reference = segment.arm, segment.calibration_of(segment.arm)
    bundle = read_stored(bucket, arm.model_version)
    if bundle.manifest_sha256 != arm.manifest_sha256:
        raise BundleError(arm.model_version, MANIFEST, "is not the one that the channel names: its SHA-256 differs")
    if reference is None:
        return bundle.model
    calibration = read_calibration(bucket, arm.model_version, reference.as_of, reference.sha256)
    return bundle.model.calibrated(calibration)


def _open_bucket(name: str) -> Bucket:
    if name.startswith(FOLDER_PREFIX):
        folder = name.removeprefix(FOLDER_PREFIX)
        if not folder:
            raise UserError(f"the bucket {name} names no folder", f"write it as {FOLDER_PREFIX}PATH")
        return Bucket(FolderS3(Path(folder).expanduser()), name)
    return Bucket(make_s3_client(_READ_TIMEOUT_S, _N_ATTEMPTS), name.removeprefix("s3://").rstrip("/"))
