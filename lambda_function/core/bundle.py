"""A model bundle: what it holds, how it is checked before it serves, and how it predicts."""

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.events import decode_ride_event, ride_columns
from lambda_function.core.features import FEATURE_NAMES, feature_matrix
from lambda_function.core.forest import Forest
from lambda_function.core.intervals import Bounds, Interval, IntervalTables, problem_of
from lambda_function.core.pickup_time import pickup_minute
from lambda_function.errors import BundleError, ForestError, RejectError

# MERGED FROM lambda_function/arrays.py
# Plain arrays out of an .npz: what it claims to hold is checked before memory is taken for it.
# `np.load` believes what it reads: 100 bytes can declare an array of a terabyte, and 16 MB can unpack to 16 GB. Here an
# archive is refused by what it declares, and gives no more than it has declared.
MAX_ARRAYS = 32
MAX_UNPACKED_BYTES = 1 << 24
"""All arrays together. A forest of 400 trees has 0.3 MB."""

_SUFFIX = ".npy"
_METHODS = {ZIP_STORED, ZIP_DEFLATED}  # what numpy writes; the others unpack as much as they like at once


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Reads an archive's arrays by name; they cannot be written to.

    Raises:
        ForestError: It is none, is too large, or holds something else than plain arrays.
    """
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            _check(archive)
            return {one.filename.removesuffix(_SUFFIX): _array(_unpack(archive, one)) for one in archive.infolist()}
    except BadZipFile as error:
        raise ForestError(f"is no archive of plain arrays: {error}, and no pickle is read") from error
    except Exception as error:  # of damaged bytes numpy, zipfile and zlib raise a dozen kinds
        raise ForestError(f"is no archive of plain arrays: {error}") from error


def _check(archive: ZipFile) -> None:
    members = archive.infolist()
    n_bytes = sum(member.file_size for member in members)
    if len(members) > MAX_ARRAYS or n_bytes > MAX_UNPACKED_BYTES:
        raise ForestError(f"{len(members):,} arrays of {n_bytes:,} bytes, where {MAX_UNPACKED_BYTES:,} are taken")
    if not {member.compress_type for member in members} <= _METHODS:
        raise ForestError("it is compressed in a way that numpy does not write")


def _unpack(archive: ZipFile, member: ZipInfo) -> bytes:
    """Unpacks as many bytes as a member has declared: `ZipFile.read` unpacks all that there are, and then counts."""
    with archive.open(member) as file:
        return file.read(member.file_size)


def _array(member: bytes) -> NDArray[Any]:
    """Lays an array over a member's bytes: none are copied, and none can be missing."""
    file = io.BytesIO(member)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ForestError("a header that numpy does not write for plain arrays")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    body = memoryview(member)[file.tell() :]
    if dtype.hasobject:
        raise ForestError("Object arrays cannot be loaded: they are pickled")
    if math.prod(shape) * dtype.itemsize != len(body):
        raise ForestError(f"an array of shape {shape} in {len(body):,} bytes")
    return np.ndarray(shape, dtype, body, order="F" if is_fortran else "C")


MANIFEST, FOREST, GOLDEN = "manifest.json", "forest.npz", "golden.json"
BUNDLE_FORMAT = 1
PARITY_MINUTES = 1e-9
"""How far a prediction may be from the one that was exported with the model: scikit-learn's."""

_MAX_SENTENCE = 1000

Version = Annotated[str, msgspec.Meta(pattern=r"\A[a-z]+-\d{4}-\d{2}-[0-9a-f]{12}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
FileName = Annotated[str, msgspec.Meta(pattern=r"\A(?!manifest\.)[a-z][a-z0-9_-]{0,63}\.[a-z0-9]{1,16}\Z")]
"""No path, for people's commands read and write files by these names; and not the manifest's or its signature's."""


class FileDigest(msgspec.Struct, frozen=True):
    """What a file of the bundle must be."""

    n_bytes: int
    sha256: Sha256


class TrainingData(msgspec.Struct, frozen=True):
    """A file that the model learnt from: rows in it, rows kept after cleaning."""

    file: str
    month: str
    sha256: str
    n_rows: int
    n_kept: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a bundle says of itself; `files` are all others in it, of which the function needs forest and golden rides.

    `duration_range_minutes` are the bounds of the rides it learnt from. `interval` is None where predictions have none.
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


class Channel(msgspec.Struct, frozen=True):
    """A mutable pointer to a model version. `moved_at` is ISO 8601 in UTC."""

    model_version: Version
    manifest_sha256: Sha256
    previous: Version | None
    moved_at: str


class GoldenRide(msgspec.Struct, frozen=True, omit_defaults=True):
    """A ride event as it would arrive, the minutes that the exporting side predicts for it, and their interval."""

    event: msgspec.Raw
    duration_minutes: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """One trained model, checked and ready."""

    manifest: Manifest
    forest: Forest
    intervals: IntervalTables | None = None

    @property
    def model_version(self) -> str:
        """The immutable id of this model."""
        return self.manifest.model_version

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns minutes (n,) for a feature matrix (n, n_features), within the range of the rides it learnt from."""
        return self.forest.predict(matrix).clip(*self.manifest.duration_range_minutes)

    def interval_bounds(self, matrix: NDArray[np.float64], minutes: NDArray[np.float64]) -> Bounds | None:
        """Returns low and high minutes (n,) as they are sent, or None where the bundle has no interval.

        They go by features (n, n_features) and by what `predict` gives for these (n,), rounded as on the wire or not.
        The rounded minutes lie within their bounds, and the bounds within the range of the rides learnt from.
        """
        return self.intervals.bounds(minutes, matrix) if self.intervals else None

    def encoded_intervals(self, matrix: NDArray[np.float64], minutes: NDArray[np.float64]) -> list[msgspec.Raw] | None:
        """Returns the JSON (n,) of what `interval_bounds` returns for the same arguments."""
        return self.intervals.encoded_bounds(minutes, matrix) if self.intervals else None


decode_channel = msgspec.json.Decoder(Channel).decode
decode_manifest = msgspec.json.Decoder(Manifest).decode
decode_golden_rides = msgspec.json.Decoder(list[GoldenRide]).decode


def channel_key(channel: str) -> str:
    """Returns the key of a channel in the bucket."""
    return f"channels/{channel}.json"


def bundle_key(model_version: str, file: str) -> str:
    """Returns the key of one file of a bundle in the bucket."""
    return f"models/{model_version}/{file}"


def sha256(data: bytes) -> str:
    """Returns the SHA-256 of data in hex."""
    return hashlib.sha256(data).hexdigest()


def load_bundle(model_version: str, manifest_sha256: str, files: Mapping[str, bytes]) -> ModelBundle:
    """Checks a bundle's files and makes a model of them; the golden rides are replayed before the first real one.

    Args:
        model_version: The version asked for.
        manifest_sha256: What the channel says of the manifest; the manifest says it of the other files.
        files: The bundle's files by name.

    Raises:
        BundleError: Something about it is wrong: which file, and what.
    """
    try:
        return _load_bundle(model_version, manifest_sha256, files)
    except _ProblemError as problem:
        raise BundleError(model_version, problem.file, problem.sentence) from problem


class _ProblemError(Exception):
    def __init__(self, file: str, sentence: str) -> None:
        self.file = file
        self.sentence = sentence[:_MAX_SENTENCE]  # a hostile manifest's names would fill the log
        super().__init__(f"{file}: {self.sentence}")


def check_files(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Raises BundleError where a file that a manifest names is missing or another, even if no function needs it."""
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
        rides = [decode_ride_event(bytes(ride.event)).ride for ride in golden]
        minutes = np.array([pickup_minute(ride.pickup_datetime, 0.0) for ride in rides], np.int64)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, RejectError) as error:
        raise _ProblemError(GOLDEN, f"does not decode: {error}") from error
    if not rides:
        raise _ProblemError(GOLDEN, "holds no rides")
    matrix = feature_matrix(ride_columns(rides, minutes))
    _compare_minutes(bundle.predict(matrix), golden)
    _compare_intervals(bundle, matrix, golden)


def _compare_minutes(predicted: NDArray[np.float64], golden: list[GoldenRide]) -> None:
    off = np.abs(predicted - [ride.duration_minutes for ride in golden])
    if not (off <= PARITY_MINUTES).all():
        worst = int(np.nan_to_num(off, nan=np.inf).argmax())
        raise _ProblemError(GOLDEN, f"ride {worst} is predicted {off[worst]:.3g} minutes off")


def _compare_intervals(bundle: ModelBundle, matrix: NDArray[np.float64], golden: list[GoldenRide]) -> None:
    """Compares the golden rides' intervals to the bit: those of the minutes exported, not of our own sums'."""
    bounds = bundle.interval_bounds(matrix, np.array([ride.duration_minutes for ride in golden]))
    intervals = [None] * len(golden) if bounds is None else list(zip(*(ends.tolist() for ends in bounds), strict=True))
    for number, (ride, interval) in enumerate(zip(golden, intervals, strict=True)):
        if ride.interval != interval:
            raise _ProblemError(GOLDEN, f"ride {number} has the interval {ride.interval}, and here it is {interval}")
