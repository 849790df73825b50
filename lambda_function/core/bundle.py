"""A model bundle: its contents, the checks before it serves, and its predictions."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.arrays import read_arrays
from lambda_function.core.calibration import Calibration, CalibrationTable, ride_cells, served_version
from lambda_function.core.events import DURATION_DECIMALS, decode_ride_event, ride_columns
from lambda_function.core.features import FEATURE_NAMES, RideColumns, feature_matrix
from lambda_function.core.forest import Forest
from lambda_function.core.intervals import Bounds, Interval, IntervalTables, problem_of
from lambda_function.core.pickup_time import pickup_minute
from lambda_function.core.versions import Sha256, Version
from lambda_function.errors import BundleError, ForestError, RejectError

MANIFEST, FOREST, GOLDEN = "manifest.json", "forest.npz", "golden.json"
BUNDLE_FORMAT = 1
PARITY_MINUTES = 1e-9
"""The most that a prediction may differ from scikit-learn's, which was exported with the model."""

MAX_GOLDEN_RIDES = 1000
"""Training makes 100. Each is predicted before the first real ride, and 4 MB could hold 40,000 of them."""

_MAX_SENTENCE = 1000

FileName = Annotated[str, msgspec.Meta(pattern=r"\A(?!manifest\.)[a-z][a-z0-9_-]{0,63}\.[a-z0-9]{1,16}\Z")]
"""A plain file name, because commands read and write files by it; not the manifest's or its signature's name."""


class FileDigest(msgspec.Struct, frozen=True):
    """The expected size and digest of a file in the bundle."""

    n_bytes: int
    sha256: Sha256


class TrainingData(msgspec.Struct, frozen=True):
    """A training file: its rows, and the rows left after cleaning."""

    file: str
    month: str
    sha256: str
    n_rows: int
    n_kept: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The description of a bundle. `files` are all other files in it; the function reads forest and golden rides.

    `duration_range_minutes` are the bounds of the training rides. `interval` is None if predictions have no interval.
    """

    format: int
    model_version: Version
    service: str
    train_months: tuple[str, ...]
    validate_months: tuple[str, ...]
    feature_names: tuple[str, ...]
    duration_range_minutes: tuple[float, float]
    files: dict[FileName, FileDigest]
    data: tuple[TrainingData, ...]
    parameters: dict[str, Any]
    metrics: dict[str, Any]
    software: dict[str, str]
    interval: Interval | None = None


class GoldenRide(msgspec.Struct, frozen=True, omit_defaults=True):
    """A ride event as it arrives, with the minutes and the interval that the exporter predicted for it."""

    event: msgspec.Raw
    duration_minutes: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """One trained model, checked and ready to predict, with a calibration or without.

    Attributes:
        intervals: The tables of the intervals as they are served; None if the bundle has no interval.
        calibration: The factors on the forest's minutes; None without a calibration.
        as_of: The hour until which the calibration has learned; None without one.
    """

    manifest: Manifest
    forest: Forest
    intervals: IntervalTables | None = None
    calibration: CalibrationTable | None = None
    as_of: str | None = None

    @property
    def model_version(self) -> str:
        """The immutable id of this model."""
        return self.manifest.model_version

    @property
    def served_version(self) -> str:
        """The version that predictions name: the model version, with the calibration's hour if there is one."""
        return served_version(self.model_version, self.as_of)

    def calibrated(self, calibration: Calibration) -> Self:
        """Return this model with a calibration that `problem_of_calibration` accepts, instead of its own."""
        range_minutes, interval = self.manifest.duration_range_minutes, self.manifest.interval
        scale = calibration.interval_scale
        return replace(
            self,
            intervals=IntervalTables.of(interval, range_minutes, scale) if interval else None,
            calibration=CalibrationTable.of(calibration, range_minutes),
            as_of=calibration.as_of,
        )

    def served_minutes(self, rides: RideColumns, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the minutes (n,) that are published for rides with these features: calibrated, in hundredths.

        They lie within the range of the training rides.
        """
        raw = self.predict(matrix)
        if self.calibration is None:
            return np.round(raw, DURATION_DECIMALS)
        return self.calibration.minutes(raw, ride_cells(rides, matrix))

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the forest's own minutes (n,) for features (n, n_features), within the range of the training rides.

        A calibration does not change them.
        """
        return self.forest.predict(matrix).clip(*self.manifest.duration_range_minutes)

    def interval_bounds(self, matrix: NDArray[np.float64], minutes: NDArray[np.float64]) -> Bounds | None:
        """Return low and high minutes (n,) as they are sent, or None if the bundle has no interval.

        The arguments are features (n, n_features) and the minutes for them (n,): `served_minutes`, or what `predict`
        returns for a model without a calibration. The minutes, in hundredths, lie within their bounds, and the bounds
        within the range of the training rides.
        """
        return self.intervals.bounds(minutes, matrix) if self.intervals else None

    def encoded_intervals(self, matrix: NDArray[np.float64], minutes: NDArray[np.float64]) -> list[msgspec.Raw] | None:
        """Return the JSON (n,) of what `interval_bounds` returns for the same arguments."""
        return self.intervals.encoded_bounds(minutes, matrix) if self.intervals else None


decode_manifest = msgspec.json.Decoder(Manifest).decode
decode_golden_rides = msgspec.json.Decoder(list[GoldenRide]).decode


def bundle_key(model_version: str, file: str) -> str:
    """Return the key of one file of a bundle in the bucket."""
    return f"models/{model_version}/{file}"


def sha256(data: bytes) -> str:
    """Return the SHA-256 of data in hex."""
    return hashlib.sha256(data).hexdigest()


def load_bundle(model_version: str, manifest_sha256: str, files: Mapping[str, bytes]) -> ModelBundle:
    """Check a bundle's files and build the model; the golden rides are predicted before the first real ride.

    Args:
        model_version: The version asked for.
        manifest_sha256: The manifest's digest, from the channel; the manifest holds the other files' digests.
        files: The bundle's files by name.

    Raises:
        BundleError: A file is wrong; the error names it and the problem.
    """
    try:
        return _load_bundle(model_version, manifest_sha256, files)
    except _ProblemError as problem:
        raise BundleError(model_version, problem.file, problem.sentence) from problem


def golden_columns(golden: Sequence[GoldenRide]) -> RideColumns:
    """Return golden rides (n,) by column. One without a pickup time begins at the epoch.

    Raises:
        RejectError: One is no ride event.
    """
    rides = [decode_ride_event(bytes(one.event)).ride for one in golden]
    return ride_columns(rides, np.array([pickup_minute(ride.pickup_datetime, 0.0) for ride in rides], np.int64))


class _ProblemError(Exception):
    def __init__(self, file: str, sentence: str) -> None:
        self.file = file
        self.sentence = sentence[:_MAX_SENTENCE]  # names in a hostile manifest could fill the log
        super().__init__(f"{file}: {self.sentence}")


def check_files(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Raise BundleError where a file that a manifest names is missing or another, even if no function needs it."""
    try:
        for name in manifest.files:
            _check_file(name, manifest, files)
    except _ProblemError as problem:
        raise BundleError(manifest.model_version, problem.file, problem.sentence) from problem


def _load_bundle(model_version: str, manifest_sha256: str, files: Mapping[str, bytes]) -> ModelBundle:
    manifest = _load_manifest(model_version, manifest_sha256, files)
    for name in (FOREST, GOLDEN):
        _check_file(name, manifest, files)
    try:
        forest = Forest.from_arrays(read_arrays(files[FOREST]), len(FEATURE_NAMES))
    except ForestError as error:
        raise _ProblemError(FOREST, str(error)) from error
    bundle = ModelBundle(manifest, forest, _interval_tables(manifest))
    _replay(bundle, files[GOLDEN])
    return bundle


def _load_manifest(model_version: str, manifest_sha256: str, files: Mapping[str, bytes]) -> Manifest:
    if MANIFEST not in files:
        raise _ProblemError(MANIFEST, "is missing")
    if sha256(files[MANIFEST]) != manifest_sha256:
        raise _ProblemError(MANIFEST, "is not the one that the channel names: its SHA-256 differs")
    try:
        manifest = decode_manifest(files[MANIFEST])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _ProblemError(MANIFEST, f"does not decode: {error}") from error
    if manifest.format != BUNDLE_FORMAT:
        raise _ProblemError(MANIFEST, f"has format {manifest.format}, this function reads {BUNDLE_FORMAT}")
    if manifest.model_version != model_version:
        raise _ProblemError(MANIFEST, f"is of version {manifest.model_version}")
    if manifest.feature_names != FEATURE_NAMES:
        got, want = ", ".join(manifest.feature_names), ", ".join(FEATURE_NAMES)
        raise _ProblemError(MANIFEST, f"has features {got}; this function computes {want}")
    return manifest


def _interval_tables(manifest: Manifest) -> IntervalTables | None:
    if manifest.interval is None:
        return None
    if problem := problem_of(manifest.interval, manifest.duration_range_minutes):
        raise _ProblemError(MANIFEST, f"has an interval that cannot be used: {problem}")
    return IntervalTables.of(manifest.interval, manifest.duration_range_minutes)


def _check_file(name: str, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    if name not in files or name not in manifest.files:
        raise _ProblemError(name, "is missing")
    expected, data = manifest.files[name], files[name]
    if len(data) != expected.n_bytes:
        raise _ProblemError(name, f"has {len(data)} bytes of {expected.n_bytes}: cut short or another file")
    if sha256(data) != expected.sha256:
        raise _ProblemError(name, "has other bytes than were exported: its SHA-256 differs")


def _replay(bundle: ModelBundle, data: bytes) -> None:
    try:
        golden = decode_golden_rides(data)
        if len(golden) > MAX_GOLDEN_RIDES:
            raise _ProblemError(GOLDEN, f"holds {len(golden):,} rides, where {MAX_GOLDEN_RIDES:,} are taken")
        rides = golden_columns(golden)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, RejectError) as error:
        raise _ProblemError(GOLDEN, f"does not decode: {error}") from error
    if not golden:
        raise _ProblemError(GOLDEN, "holds no rides")
    matrix = feature_matrix(rides)
    _compare_minutes(bundle.predict(matrix), golden)
    _compare_intervals(bundle, matrix, golden)


def _compare_minutes(predicted: NDArray[np.float64], golden: list[GoldenRide]) -> None:
    off = np.abs(predicted - [ride.duration_minutes for ride in golden])
    if not (off <= PARITY_MINUTES).all():
        worst = int(np.nan_to_num(off, nan=np.inf).argmax())
        raise _ProblemError(GOLDEN, f"ride {worst} is predicted {off[worst]:.3g} minutes off")


def _compare_intervals(bundle: ModelBundle, matrix: NDArray[np.float64], golden: list[GoldenRide]) -> None:
    """Compare the golden rides' intervals bit by bit, computed from the exported minutes and not from our own sums."""
    bounds = bundle.interval_bounds(matrix, np.array([ride.duration_minutes for ride in golden]))
    intervals = [None] * len(golden) if bounds is None else list(zip(*(ends.tolist() for ends in bounds), strict=True))
    for number, (ride, interval) in enumerate(zip(golden, intervals, strict=True)):
        if ride.interval != interval:
            raise _ProblemError(GOLDEN, f"ride {number} has the interval {ride.interval}, and here it is {interval}")
