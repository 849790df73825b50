"""The figures of an hour for a model: how its rides differ from training, and how wrong predictions were.

They are sums and counts, so that hours add up to days. The model is that which the channel serves now: its raw minutes
are computed anew for every judged ride, whoever served it. So a change of the model during an hour, and live
calibration, change no figure but the served ones.

An hour's figures are stored once, after its first join. The same labelled rides and model give the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.events import DURATION_DECIMALS
from lambda_function.core.features import LAST_ZONE, RideColumns, feature_matrix
from training.data.labelled import FAILED, LABELLED, LOST, NO_OUTCOME, REJECTED, WAITING
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, take_columns
from training.errors import BucketError
from training.evaluation.slices import BOROUGH_OF_ZONE, BOROUGHS, Slicing, slicings
from training.monitoring.accuracy import Errors, merge_sums
from training.monitoring.hours import Hour
from training.monitoring.labelled_hour import LabelledHour
from training.monitoring.monitor.quantities import count_all, quantity_values
from training.monitoring.summary import HourSummary, Sums
from training.registry.bucket import Bucket

FIGURES_FORMAT = 1
FOLDER = "monitor/figures/"

BAND_EDGES_MINUTES = (5.0, 10.0, 15.0, 20.0, 30.0)
"""Bands of predicted minutes, for which outcomes are counted: are those of long rides missing more often?"""

LATENESS_EDGES_MINUTES = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 240.0, 720.0, 1440.0)
"""An outcome's lateness is the time from the end of its ride until it arrived, if the ride began when its event came.
The first bin is all below a minute."""

_BLOCK_RIDES = 100_000  # predicted at once: the features of a block take 10 MB
_NOT_SLICED = {"boroughs", "zone pair"}

Floats = NDArray[np.float64]
Edges = Mapping[str, Floats]
"""The ascending edges of the bins (m,) by data quantity, from the model's reference; empty without one."""


T = TypeVar("T")


class RawAndServed(msgspec.Struct, frozen=True):
    """Sums of errors of the same rides: of the forest's own minutes, and of what was published."""

    raw: Sums = Sums()
    served: Sums = Sums()


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and sums of rides; those of several hours add up with `merge`.

    Attributes:
        n_by_status: Ride events by `labelled.STATUSES`, records that are no ride event among them.
        n_rejected_by_reason: Rejects of the hour's ride events by reason.
        n_predicted: Rides that have a prediction.
        n_without_pickup_time: Of these, those whose event has no pickup time.
        n_with_outcome: Of these, those that have an outcome.
        n_out_of_range: Of these, those that did not take 1 to 60 minutes.
        n_judged: Rides with outcome and pickup time that took 1 to 60 minutes: all that follows but bands and lateness
            is about these.
        n_by_band: Predicted rides by served minutes, see BAND_EDGES_MINUTES.
        n_with_outcome_by_band: Of these, those that have an outcome.
        n_by_lateness: Outcomes by lateness, see LATENESS_EDGES_MINUTES.
        n_by_version: Judged rides by the served version.
        counts: Judged rides by bin of the model's reference, the last bin those without a value, by data quantity; none
            without a reference.
        errors: Of all judged rides.
        by_slice: The same by criterion and slice; a slice without rides is left out.
    """

    n_by_status: dict[str, int] = {}
    n_rejected_by_reason: dict[str, int] = {}
    n_predicted: int = 0
    n_without_pickup_time: int = 0
    n_with_outcome: int = 0
    n_out_of_range: int = 0
    n_judged: int = 0
    n_by_band: tuple[int, ...] = ()
    n_with_outcome_by_band: tuple[int, ...] = ()
    n_by_lateness: tuple[int, ...] = ()
    n_by_version: dict[str, int] = {}
    counts: dict[str, tuple[int, ...]] = {}
    errors: RawAndServed = RawAndServed()
    by_slice: dict[str, dict[str, RawAndServed]] = {}


class HourFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of an hour of arrival for a model.

    Attributes:
        hour: As ``2026-08-01T09``, UTC.
        model_version: Whose raw minutes are in the figures; without calibration.
        labelled_sha256: Of the labelled rides that the figures were made of: the second join may change the file later.
    """

    format: int = FIGURES_FORMAT
    hour: str
    model_version: str
    labelled_sha256: str = ""
    figures: Figures


def _slicings() -> tuple[Slicing, ...]:
    """Return the slicings of the report that are the same for every model, and pickup boroughs."""
    all_pairs = np.ones((LAST_ZONE + 1, LAST_ZONE + 1), np.bool_)
    by_pickup = Slicing("pickup borough", BOROUGHS, lambda rides: BOROUGH_OF_ZONE[rides.pickup_zone])
    return (*(one for one in slicings(all_pairs) if one.by not in _NOT_SLICED), by_pickup)


class Predicted(NamedTuple):
    """What a model predicts for rides (n,), as it would publish it without calibration."""

    minutes: Floats
    low_minutes: Floats  # NaN without interval
    high_minutes: Floats
    counts: dict[str, NDArray[np.int64]]  # rides by bin of each data quantity


def raw_predictions(model: ModelBundle, rides: RideColumns, edges: Edges) -> Predicted:
    """Predict rides with a model without calibration, and count them by bin."""
    n = len(rides)
    minutes, low, high = (np.full(n, np.nan) for _ in range(3))
    counts = {name: np.zeros(len(ends) + 2, np.int64) for name, ends in edges.items()}
    for start in range(0, n, _BLOCK_RIDES):
        rows = slice(start, start + _BLOCK_RIDES)
        matrix = feature_matrix(take_columns(rides, rows))
        minutes[rows] = block = np.round(model.predict(matrix), DURATION_DECIMALS)
        bounds = model.interval_bounds(matrix, block)
        if bounds:
            low[rows], high[rows] = bounds
        for name, counted in count_all(quantity_values(matrix, block), edges).items():
            counts[name] += counted[0]
    return Predicted(minutes, low, high, counts)


def hour_figures(hour: LabelledHour, summary: HourSummary, model: ModelBundle, edges: Edges) -> Figures:
    """Return the figures of an hour.

    Args:
        hour: Its labelled rides.
        summary: What the join found: statuses and rejects of records that are no ride too.
        model: Whose raw minutes are compared.
        edges: Of the model's reference.
    """
    judged = hour.is_judged
    rides = take_columns(hour.rides, judged)
    duration = hour.duration_minutes[judged]
    raw = raw_predictions(model, rides, edges)
    of_raw = Errors.of(raw.minutes, raw.low_minutes, raw.high_minutes, duration)
    of_served = Errors.of(hour.predicted_minutes[judged], hour.low_minutes[judged], hour.high_minutes[judged], duration)
    version = hour.version[judged]
    has_outcome = hour.has_outcome
    in_range = (hour.duration_minutes >= MIN_DURATION_MINUTES) & (hour.duration_minutes <= MAX_DURATION_MINUTES)
    lateness_minutes = hour.outcome_delay_s[has_outcome] / 60 - hour.duration_minutes[has_outcome]
    n_by_version = np.bincount(version, minlength=len(hour.versions)).tolist()
    return Figures(
        n_by_status=_n_by_status(summary),
        n_rejected_by_reason=dict(summary.n_rejected_by_reason),
        n_predicted=len(hour),
        n_without_pickup_time=int(np.count_nonzero(~hour.has_pickup_time)),
        n_with_outcome=int(np.count_nonzero(has_outcome)),
        n_out_of_range=int(np.count_nonzero(has_outcome & ~in_range)),
        n_judged=len(duration),
        n_by_band=_binned(hour.predicted_minutes, BAND_EDGES_MINUTES),
        n_with_outcome_by_band=_binned(hour.predicted_minutes[has_outcome], BAND_EDGES_MINUTES),
        n_by_lateness=_binned(lateness_minutes[~np.isnan(lateness_minutes)], LATENESS_EDGES_MINUTES),
        n_by_version={name: n for name, n in zip(hour.versions, n_by_version, strict=True) if n},
        counts={name: tuple(counted.tolist()) for name, counted in raw.counts.items()},
        errors=RawAndServed(of_raw.sums(), of_served.sums()),
        by_slice=_by_slice(rides, of_raw, of_served),
    )


def _n_by_status(summary: HourSummary) -> dict[str, int]:
    return {
        LABELLED: summary.n_labelled,
        NO_OUTCOME: summary.n_without_outcome,
        REJECTED: summary.n_rejected,
        FAILED: summary.n_failed,
        WAITING: summary.n_waiting,
        LOST: summary.n_lost,
    }


def _binned(values: Floats, edges: tuple[float, ...]) -> tuple[int, ...]:
    """Count values by bin; one on an edge is of the bin that begins there."""
    bins = np.searchsorted(edges, values, side="right")
    return tuple(np.bincount(bins, minlength=len(edges) + 1).tolist())


def _by_slice(rides: RideColumns, raw: Errors, served: Errors) -> dict[str, dict[str, RawAndServed]]:
    found: dict[str, dict[str, RawAndServed]] = {}
    for slicing in _slicings():
        number, n = slicing.number(rides), len(slicing.names)
        sums = zip(slicing.names, raw.sums_by(number, n), served.sums_by(number, n), strict=True)
        found.setdefault(slicing.by, {}).update({name: RawAndServed(*both) for name, *both in sums if both[0].n})
    return found


def merge(parts: Iterable[Figures]) -> Figures:
    """Add up figures; the order does not matter. All have the same bins, or none."""
    figures = list(parts)
    if not figures:
        return Figures()
    criteria = sorted({name for one in figures for name in one.by_slice})
    return Figures(
        n_by_status=_add_dicts(one.n_by_status for one in figures),
        n_rejected_by_reason=_add_dicts(one.n_rejected_by_reason for one in figures),
        n_predicted=sum(one.n_predicted for one in figures),
        n_without_pickup_time=sum(one.n_without_pickup_time for one in figures),
        n_with_outcome=sum(one.n_with_outcome for one in figures),
        n_out_of_range=sum(one.n_out_of_range for one in figures),
        n_judged=sum(one.n_judged for one in figures),
        n_by_band=_add_tuples(one.n_by_band for one in figures),
        n_with_outcome_by_band=_add_tuples(one.n_with_outcome_by_band for one in figures),
        n_by_lateness=_add_tuples(one.n_by_lateness for one in figures),
        n_by_version=_add_dicts(one.n_by_version for one in figures),
        counts=_add_counts([one.counts for one in figures if one.counts]),
        errors=merge_errors(one.errors for one in figures),
        by_slice={name: _merge_slices([one.by_slice.get(name, {}) for one in figures]) for name in criteria},
    )


def _add_dicts(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in parts:
        for name, n in one.items():
            total[name] = total.get(name, 0) + n
    return dict(sorted(total.items()))


def _add_tuples(parts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*filter(None, parts), strict=True)))


def _add_counts(parts: list[dict[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    return {name: _add_tuples(one[name] for one in parts) for name in parts[0]} if parts else {}


def _merge_slices(parts: list[dict[str, RawAndServed]]) -> dict[str, RawAndServed]:
    names = sorted({name for one in parts for name in one})
    return {name: merge_errors(one[name] for one in parts if name in one) for name in names}


def merge_errors(parts: Iterable[RawAndServed]) -> RawAndServed:
    """Add up sums of errors; the order does not matter."""
    both = list(parts)
    return RawAndServed(merge_sums(one.raw for one in both), merge_sums(one.served for one in both))


# -- in the bucket


_decode = msgspec.json.Decoder(HourFigures).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def figures_key(model_version: str, hour: Hour) -> str:
    """Return the key of an hour's figures for a model.

    >>> figures_key("green-2021-01-3f2a9c1d0b7e", Hour.parse("2026-08-01T09"))
    'monitor/figures/green-2021-01-3f2a9c1d0b7e/dt=2026-08-01/hh=09.json'
    """
    return f"{FOLDER}{model_version}/{hour.partition}.json"


def encode_figures(figures: HourFigures) -> bytes:
    """Encode an hour's figures as JSON with its keys sorted."""
    return _encode(figures) + b"\n"


def load_figures(bucket: Bucket, model_version: str, hour: Hour) -> HourFigures | None:
    """Return an hour's figures for a model; None if there are none.

    Raises:
        BucketError: S3 fails, or the object has another form.
    """
    key = figures_key(model_version, hour)
    stored = bucket.read(key)
    return decode_stored(bucket, key, stored.body, _decode, FIGURES_FORMAT) if stored else None


class _Stored(msgspec.Struct):
    format: int


_decode_format = msgspec.json.Decoder(_Stored).decode


def decode_stored(bucket: Bucket, key: str, body: bytes, decode: Callable[[bytes], T], wanted_format: int) -> T:
    """Decode an object of the monitor.

    Raises:
        BucketError: It is damaged or of another format.
    """
    try:
        found = _decode_format(body).format
        if found == wanted_format:
            return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BucketError(bucket.name, key, f"is damaged ({error}): delete it, and it is made again") from error
    problem = f"has format {found}, and this version of ridecast reads {wanted_format}: delete it, and it is made again"
    raise BucketError(bucket.name, key, problem)


def hours_with_figures(bucket: Bucket, model_version: str, first: Hour) -> Iterator[str]:
    """List the keys of a model's figures from an hour on, oldest first."""
    prefix = f"{FOLDER}{model_version}/"
    before = figures_key(model_version, first + -1)
    return (one.key for one in bucket.list_objects(prefix, start_after=before))
