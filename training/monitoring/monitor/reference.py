"""The reference of a model, `reference.json` in its bundle: the days of its training, with which monitoring compares.

Each day of training has a histogram of every data quantity, and sums of the errors of its rides. A model's errors are
too small on the rides that it learned from. So predictions and errors are out of fold: of models that did not learn
from the ride's week. The histograms of predicted minutes are of the same predictions, because to the model that
serves, the rides of a later day are new as well.

The file is compact. Counts are 16-bit numbers in base64: the rides in a bin and in those left of it. A day of more than
65,535 rides has their share instead, in 65,535ths.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import sha256
from lambda_function.core.features import MINUTES_PER_DAY, feature_matrix
from lambda_function.core.intervals import Interval
from lambda_function.errors import BundleError
from training.data.rides import Rides
from training.model.bundle import REFERENCE
from training.model.calibrate import Predict
from training.model.cross_fit import predict_out_of_fold
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.measured_days import measure_days
from training.monitoring.monitor.quantities import DATA_QUANTITIES, N_BINS, day_kinds, find_edges, quantity_values
from training.registry.bucket import Bucket
from training.registry.versions import read_file, read_manifest

REFERENCE_FORMAT = 1

MAX_REFERENCE_BYTES = 1_000_000
"""A larger file is not decoded. Training writes 0.2 MB at most."""

MAX_DAYS = 366
"""The days of training that are in a reference, the last ones: a year has all seasons and kinds of days."""

_MAX_EDGE_RIDES = 500_000
"""Edges are found on a sample of so many rides: a bin's share is then a twentieth to within a thousandth."""

_UINT16 = np.dtype("<u2")
_MAX_UINT16 = 65_535
_REMEDY = "train the model again with this version of ridecast"

Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
Sum = Annotated[float, msgspec.Meta(ge=-1e18, le=1e18)]
Square = Annotated[float, msgspec.Meta(ge=0, le=1e18)]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The reference days of a model.

    Attributes:
        edges: By data quantity, the ascending ends of its bins (m,).
        days: Days of training, ascending, at least one. Intervals are on all of them or on none.
    """

    edges: Mapping[str, NDArray[np.float64]]
    days: Days

    @property
    def n_rides(self) -> int:
        """The rides of all days."""
        return int(self.days.n.sum())


class _File(msgspec.Struct, frozen=True, kw_only=True):
    """The file: an entry a day. `n_within` is None without intervals, a variance is None on a day of one ride."""

    format: int
    days: tuple[date, ...]
    n: tuple[Count, ...]
    sum_error: tuple[Sum, ...]
    sum_squared_error: tuple[Square, ...]
    n_within: tuple[Count, ...] | None
    var_error: tuple[Square | None, ...]
    var_squared_error: tuple[Square | None, ...]
    edges: dict[str, tuple[Sum, ...]]
    counts: dict[str, bytes]  # uint16 (n_days, m + 1), little-endian


class _Format(msgspec.Struct, frozen=True):
    format: int


_decode_format = msgspec.json.Decoder(_Format).decode
_decode_file = msgspec.json.Decoder(_File).decode
_encode_file = msgspec.json.Encoder().encode


def build_reference(rides: Rides, fit: Callable[[Rides], Predict], interval: Interval | None) -> bytes | None:
    """Return the file for a model of these rides, which are sorted by pickup; None if they are of less than two days.

    Args:
        rides: The rides that the model learned from, and those that its intervals are calibrated on.
        fit: Fits a model in the same way as on all of these rides.
        interval: The model's intervals as they will be served; None if it has none.
    """
    last = last_days(rides)
    minutes = predict_out_of_fold(rides, fit, len(last))
    if minutes is None:
        return None
    step = -(-len(last) // _MAX_EDGE_RIDES)
    some = slice(None, None, step)
    values = quantity_values(feature_matrix(last.take(some).columns), minutes[some])
    edges = {name: find_edges(values[name]) for name in DATA_QUANTITIES}
    return encode_reference(Reference(edges, measure_days(last, minutes, edges, interval)))


def last_days(rides: Rides) -> Rides:
    """Return the rides of the last MAX_DAYS days; rides are sorted by pickup."""
    day = rides.columns.pickup_minute[-1:] // MINUTES_PER_DAY
    first_minute = (day - (MAX_DAYS - 1)) * MINUTES_PER_DAY
    return rides.take(slice(int(np.searchsorted(rides.columns.pickup_minute, first_minute)[0]), None))


def encode_reference(reference: Reference) -> bytes:
    """Encode a reference: all but the counts of days with more than 65,535 rides is kept exactly."""
    days = reference.days
    file = _File(
        format=REFERENCE_FORMAT,
        days=tuple(days.day.tolist()),
        n=_whole(days.n),
        sum_error=tuple(days.sum_error.tolist()),
        sum_squared_error=tuple(days.sum_squared_error.tolist()),
        n_within=None if np.isnan(days.n_within).any() else _whole(days.n_within),
        var_error=_or_none(days.var_error),
        var_squared_error=_or_none(days.var_squared_error),
        edges={name: tuple(reference.edges[name].tolist()) for name in DATA_QUANTITIES},
        counts={name: _pack(days.counts[name], days.n) for name in DATA_QUANTITIES},
    )
    return _encode_file(file) + b"\n"


def decode_reference(data: bytes, model_version: str = "") -> Reference:
    """Decode what `encode_reference` returns.

    Raises:
        BundleError: It is too large, damaged or of another format. The error names version, file and problem.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _ProblemError) as error:
        raise BundleError(model_version, REFERENCE, f"{error}; {_REMEDY}") from error


def load_reference(bucket: Bucket, model_version: str) -> Reference | None:
    """Return the reference of a stored version; None if its bundle has none.

    Raises:
        NoSuchVersionError: The bucket holds no such version.
        BundleError: The manifest does not decode, or the reference is missing, damaged or of another format.
        BucketError: S3 fails.
    """
    expected = read_manifest(bucket, model_version).files.get(REFERENCE)
    if expected is None:
        return None
    data = read_file(bucket, model_version, REFERENCE)
    if data is None:
        raise BundleError(model_version, REFERENCE, "is missing")
    if sha256(data) != expected.sha256:
        raise BundleError(model_version, REFERENCE, "has other bytes than were exported: its SHA-256 differs")
    return decode_reference(data, model_version)


class _ProblemError(Exception):
    """What is wrong with a file, as a sentence without a subject."""


def _decode(data: bytes) -> Reference:
    if len(data) > MAX_REFERENCE_BYTES:
        raise _ProblemError(f"has {len(data):,} bytes, and {MAX_REFERENCE_BYTES:,} are read")
    found = _decode_format(data).format
    if found != REFERENCE_FORMAT:
        raise _ProblemError(f"has format {found}, and this version reads {REFERENCE_FORMAT}")
    file = _decode_file(data)
    edges = {name: np.array(file.edges.get(name, ()), np.float64) for name in DATA_QUANTITIES}
    _check_edges(file, edges)
    _check_days(file)
    day = np.array(file.days, "datetime64[D]")
    n = np.array(file.n, np.float64)
    has_interval = file.n_within is not None
    return Reference(
        edges,
        Days(
            day=day,
            kind=day_kinds(day),
            counts={name: _unpack(name, file.counts[name], n, len(edges[name]) + 1) for name in DATA_QUANTITIES},
            n=n,
            sum_error=np.array(file.sum_error),
            sum_squared_error=np.array(file.sum_squared_error),
            n_with_interval=n if has_interval else np.zeros(len(n)),
            n_within=np.array(file.n_within, np.float64) if has_interval else np.full(len(n), np.nan),
            var_error=np.array(file.var_error, np.float64),  # None becomes NaN
            var_squared_error=np.array(file.var_squared_error, np.float64),
        ),
    )


def _check_edges(file: _File, edges: Mapping[str, NDArray[np.float64]]) -> None:
    for part, names in (("edges", file.edges), ("counts", file.counts)):
        if set(names) != set(DATA_QUANTITIES):
            raise _ProblemError(f"has {part} of {', '.join(names) or 'nothing'}, and not of the quantities watched")
    for name, values in edges.items():
        if len(values) >= N_BINS or not (np.diff(values) > 0).all():
            raise _ProblemError(f"has edges of {name} that are not at most {N_BINS - 1} ascending numbers")


def _check_days(file: _File) -> None:
    n_days = len(file.days)
    columns = {name: getattr(file, name) for name in _COLUMNS}
    for name, column in columns.items():
        if column is not None and len(column) != n_days:
            raise _ProblemError(f"has {len(column)} values of {name} for {n_days} days")
    if not n_days:
        raise _ProblemError("has no days")
    if any(one >= other for one, other in pairwise(file.days)):
        raise _ProblemError("has days that are not ascending")
    if not min(file.n) or any(within > n for within, n in zip(file.n_within or (), file.n, strict=False)):
        raise _ProblemError("has a day without rides, or with more rides within their interval than rides")


_COLUMNS = ("n", "sum_error", "sum_squared_error", "n_within", "var_error", "var_squared_error")


def _whole(values: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(values.astype(np.int64).tolist())


def _or_none(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else value for value in values.tolist())


def _scale(n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the number that stands for all rides of each day, float64 (n_days, 1)."""
    return np.minimum(n, _MAX_UINT16)[:, np.newaxis]


def _pack(counts: NDArray[np.float64], n: NDArray[np.float64]) -> bytes:
    """Return the cumulative counts of all columns but the last, whose count is the rest."""
    below = np.cumsum(counts, axis=1)[:, :-1]
    return np.rint(below * (_scale(n) / n[:, np.newaxis])).astype(_UINT16).tobytes()


def _unpack(name: str, packed: bytes, n: NDArray[np.float64], n_bins: int) -> NDArray[np.float64]:
    """Return the counts (n_days, n_bins + 1) that `_pack` packed."""
    if len(packed) != len(n) * n_bins * _UINT16.itemsize:
        raise _ProblemError(f"has counts of {name} in {len(packed)} bytes for {len(n)} days and {n_bins} bins")
    below = np.frombuffer(packed, _UINT16).reshape(len(n), n_bins).astype(np.float64)
    shares = np.diff(below, axis=1, prepend=0.0, append=_scale(n))
    if (shares < 0).any():
        raise _ProblemError(f"has counts of {name} below 0")
    return shares * (n[:, np.newaxis] / _scale(n))
