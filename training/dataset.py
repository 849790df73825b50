"""TLC months into clean rides by column: found or downloaded, checked, cleaned, sorted by pickup."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lambda_function.features import FIRST_ZONE, LAST_ZONE, RideColumns
from training.download import fetch_month
from training.errors import DataFileError, DataFolderError, MonthsError
from training.months import Month, Service, tlc_file_name
from training.tlc_file import Rows, read_rows

MIN_DURATION_MINUTES, MAX_DURATION_MINUTES = 1.0, 60.0
"""The rides kept, both ends included: what lies outside is a meter left running or switched on by mistake."""

DROP_REASONS = ("time_missing", "pickup_outside_month", "duration_out_of_range", "zone_out_of_range")
"""Why a row is dropped, in the order of the checks: a row counts for the first that applies."""

Fetch = Callable[[Service, Month, Path], Path]
"""Brings a month's file into a cache folder; raises MonthUnavailableError where it cannot."""

_SAMPLE_SPAN = re.compile(r".*_sample_([0-9]{4})(-(?:0[1-9]|1[0-2]))?(?:_([0-9]{4})(-(?:0[1-9]|1[0-2]))?)?\.parquet")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a month's rides come from and what became of its rows.

    Attributes:
        file: The file's name without its folder, or ``synthetic``.
        month: The month taken from it.
        sha256: Digest of the whole file, in hexadecimal.
        n_rows: Rows in the file; of a file of several months, those with a pickup in this one.
        n_kept: Rows left after cleaning.
        dropped: Rows dropped, by DROP_REASONS.
    """

    file: str
    month: Month
    sha256: str
    n_rows: int
    n_kept: int
    dropped: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Rides:
    """Rides whose durations are known, by column, sorted by pickup.

    Attributes:
        columns: What the features are computed from. A distance that TLC does not give is NaN.
        pickup_time: datetime64[s] (n,), New York wall-clock time, ascending.
        duration_minutes: float64 (n,), 1 to 60.
        sources: The months' files, ascending by month; a part of the rides still names all of them.
    """

    columns: RideColumns
    pickup_time: NDArray[np.datetime64]
    duration_minutes: NDArray[np.float64]
    sources: tuple[Source, ...]

    def __len__(self) -> int:
        return len(self.duration_minutes)

    def head(self, n_rides: int) -> "Rides":
        """The first rides, or all where there are fewer."""
        return self.take(slice(max(n_rides, 0)))

    def take(self, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> "Rides":
        """The rides in these rows: a slice, a mask or indices."""
        columns = RideColumns(
            pickup_zone=self.columns.pickup_zone[rows],
            dropoff_zone=self.columns.dropoff_zone[rows],
            trip_distance_miles=self.columns.trip_distance_miles[rows],
            pickup_minute=self.columns.pickup_minute[rows],
        )
        return Rides(columns, self.pickup_time[rows], self.duration_minutes[rows], self.sources)


def default_data_dir() -> Path | None:
    """The folder that TLC_DATA_DIR names, or None where it is not set."""
    folder = os.environ.get("TLC_DATA_DIR")
    return Path(folder).expanduser() if folder else None


def default_cache_dir() -> Path:
    """Where downloaded months are kept: ``$XDG_CACHE_HOME/ridecast/tlc``, or ``~/.cache/ridecast/tlc``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ridecast" / "tlc"


def load_rides(
    service: Service,
    months: Sequence[Month],
    *,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    fetch: Fetch | None = None,
) -> Rides:
    """Loads months of a service: from the data folder, else the cache, else from TLC through the cache.

    Args:
        service: Whose rides.
        months: At least one, in any order.
        data_dir: A folder of TLC's files, and of samples like ``yellow_tripdata_sample_2018.parquet``.
        cache_dir: Where downloads are kept; `default_cache_dir` if not given.
        fetch: Downloads a month; `training.download.fetch_month` if not given.

    Returns:
        The clean rides of all the months, sorted by pickup; rides of one second keep the file's order.

    Raises:
        MonthsError: No month is given.
        DataFolderError: The data folder is not there.
        DataFileError: A file lacks a column, is not Parquet, is cut short or holds no ride of its month.
        MonthUnavailableError: A month is in neither folder and cannot be downloaded.
    """
    if not months:
        raise MonthsError("", "names no month")
    if data_dir is not None and not data_dir.is_dir():
        raise DataFolderError(data_dir)
    cache_dir = cache_dir or default_cache_dir()
    parts = []
    for month in sorted(set(months)):
        path = _find(service, month, data_dir, cache_dir) or (fetch or fetch_month)(service, month, cache_dir)
        parts.append(_load_month(path, service, month))
    return concat_rides(parts)


def concat_rides(parts: Sequence[Rides]) -> Rides:
    """Joins rides, at least one part, one after the other: the caller brings them in the order of time."""
    columns = RideColumns(
        pickup_zone=np.concatenate([part.columns.pickup_zone for part in parts]),
        dropoff_zone=np.concatenate([part.columns.dropoff_zone for part in parts]),
        trip_distance_miles=np.concatenate([part.columns.trip_distance_miles for part in parts]),
        pickup_minute=np.concatenate([part.columns.pickup_minute for part in parts]),
    )
    return Rides(
        columns,
        pickup_time=np.concatenate([part.pickup_time for part in parts]),
        duration_minutes=np.concatenate([part.duration_minutes for part in parts]),
        sources=tuple(source for part in parts for source in part.sources),
    )


def sample_span(file_name: str) -> tuple[Month, Month] | None:
    """First and last month that a sample's name promises, or None where it promises none.

    >>> [str(month) for month in sample_span("yellow_tripdata_sample_2018.parquet")]
    ['2018-01', '2018-12']
    >>> [str(month) for month in sample_span("yellow_tripdata_sample_2020-01_2020-06.parquet")]
    ['2020-01', '2020-06']
    """
    found = _SAMPLE_SPAN.fullmatch(file_name)
    if found is None:
        return None
    first_year, first_month, last_year, last_month = found.groups()
    last = last_year + (last_month or "-12") if last_year else first_year + (first_month or "-12")
    return Month.parse(first_year + (first_month or "-01")), Month.parse(last)


def _find(service: Service, month: Month, data_dir: Path | None, cache_dir: Path) -> Path | None:
    name = tlc_file_name(service, month)
    paths = [cache_dir / name]
    if data_dir:
        samples = sorted(data_dir.glob(f"{service}_tripdata_sample_*.parquet"))
        paths = [data_dir / name, *(path for path in samples if _covers(path, month)), *paths]
    return next((path for path in paths if path.is_file()), None)


def _covers(sample: Path, month: Month) -> bool:
    span = sample_span(sample.name)
    return span is not None and span[0] <= month <= span[1]


def _load_month(path: Path, service: Service, month: Month) -> Rides:
    content = _read_file(path)
    rows = read_rows(content, path, service)
    if sample_span(path.name):
        rows = rows.take(_in_month(rows, month))
    keep, dropped = _clean(rows, month)
    n_kept = int(np.count_nonzero(keep))
    if not n_kept:
        raise DataFileError(path, f"holds no usable ride of {month}")
    sha256 = hashlib.sha256(content).hexdigest()
    return _to_rides(rows.take(keep), Source(path.name, month, sha256, len(keep), n_kept, dropped))


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataFileError(path, f"cannot be read ({error.strerror})", "make it readable") from error


def _in_month(rows: Rows, month: Month) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (rows.pickup >= month.start) & (rows.pickup < month.end)
    return inside


def _clean(rows: Rows, month: Month) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Returns the mask of the rows kept, bool (n,), and how many were dropped, by reason."""
    minutes = rows.duration_minutes()
    checks = (
        ~(np.isnat(rows.pickup) | np.isnat(rows.dropoff)),
        _in_month(rows, month),
        (minutes >= MIN_DURATION_MINUTES) & (minutes <= MAX_DURATION_MINUTES),
        _is_zone(rows.pickup_zone) & _is_zone(rows.dropoff_zone),
    )
    keep = np.ones(len(minutes), dtype=np.bool_)
    dropped = {}
    for reason, good in zip(DROP_REASONS, checks, strict=True):
        dropped[reason] = int(np.count_nonzero(keep & ~good))
        keep &= good
    return keep, dropped


def _is_zone(zone: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = (zone >= FIRST_ZONE) & (zone <= LAST_ZONE) & (zone == np.floor(zone))
    return whole


def _to_rides(rows: Rows, source: Source) -> Rides:
    rows = rows.take(np.argsort(rows.pickup, kind="stable"))
    columns = RideColumns(
        pickup_zone=rows.pickup_zone.astype(np.int64),
        dropoff_zone=rows.dropoff_zone.astype(np.int64),
        trip_distance_miles=rows.trip_distance,
        pickup_minute=rows.pickup.astype("datetime64[m]").astype(np.int64),
    )
    return Rides(columns, rows.pickup.astype("datetime64[s]"), rows.duration_minutes(), (source,))
