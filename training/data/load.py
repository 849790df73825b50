"""TLC months into clean rides by column: found or downloaded, checked, cleaned, sorted by pickup.

A file is read in batches of rows, and of these only the five columns that training needs: what a month's rides take
in memory is decided by what is kept of them, not by the file.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import Manifest
from lambda_function.core.features import FIRST_ZONE, LAST_ZONE
from training.data.download import fetch_month
from training.data.months import (
    Month,
    Service,
    default_cache_dir,
    default_data_dir,
    find_month,
    months_in_hand,
    sample_span,
)
from training.data.rides import (
    MAX_DURATION_MINUTES,
    MIN_DURATION_MINUTES,
    Rides,
    Source,
    compact_columns,
    concat_rides,
    month_facts,
)
from training.data.synthetic import SOURCE_NAME, synthetic_rides
from training.data.tlc_file import Rows, concat_rows, read_batches
from training.errors import DataFileError, DataFolderError, MonthsError

DROP_REASONS = ("time_missing", "pickup_outside_month", "duration_out_of_range", "zone_out_of_range")
"""Why a row is dropped, in the order of the checks: a row counts for the first that applies."""

Fetch = Callable[[Service, Month, Path], Path]
"""Brings a month's file into a cache folder; raises MonthUnavailableError where it cannot."""


def load_rides(
    service: Service,
    months: Sequence[Month],
    *,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    fetch: Fetch | None = None,
) -> Rides:
    """Loads months of a service: from the data folder, else the cache, else from TLC through the cache.

    Needs memory for all the rides, for one column more, and for the rows of one month.

    Args:
        service: Whose rides.
        months: At least one, in any order, none twice.
        data_dir: A folder of TLC's files, and of samples like ``yellow_tripdata_sample_2018.parquet``.
        cache_dir: Where downloads are kept; `default_cache_dir` if not given.
        fetch: Downloads a month; `training.data.download.fetch_month` if not given.

    Returns:
        The clean rides of all the months, sorted by pickup; rides of one second keep the file's order.

    Raises:
        MonthsError: No month is given, or one twice.
        DataFolderError: The data folder is not there.
        DataFileError: A file lacks a column, is not Parquet, is cut short or holds no ride of its month.
        MonthUnavailableError: A month is in neither folder and cannot be downloaded.
    """
    _check_months(months)
    if data_dir is not None and not data_dir.is_dir():
        raise DataFolderError(data_dir)
    folder = cache_dir or default_cache_dir()

    def load(month: Month) -> Rides:
        path = find_month(service, month, data_dir, folder) or (fetch or fetch_month)(service, month, folder)
        return _load_month(path, service, month)

    return concat_rides(load(month) for month in sorted(months))


def _check_months(months: Sequence[Month]) -> None:
    text = ",".join(str(month) for month in months)
    if not months:
        raise MonthsError(text, "names no month")
    if len(set(months)) < len(months):
        twice = next(month for month in months if months.count(month) > 1)
        raise MonthsError(text, f"names {twice} twice")


def _load_month(path: Path, service: Service, month: Month) -> Rides:
    try:
        with path.open("rb") as file:  # one open file throughout: a download that replaces it meanwhile changes nothing
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            rows, n_rows, dropped = _read_clean(file, path, service, month)
    except OSError as error:
        raise DataFileError(path, f"cannot be read ({error.strerror or error})", "make it readable") from error
    if not len(rows):
        raise _nothing_left(path, month, n_rows, dropped)
    rows = rows.take(np.argsort(rows.pickup, kind="stable"))
    pickup_time = rows.pickup.astype("datetime64[s]")
    columns = compact_columns(rows.pickup_zone, rows.dropoff_zone, rows.trip_distance, pickup_time)
    duration_minutes = rows.duration_minutes()
    facts = month_facts(month, columns, pickup_time, duration_minutes)
    source = Source(path.name, month, sha256, n_rows, len(rows), dropped, facts)
    return Rides(columns, pickup_time, duration_minutes, (source,))


def _nothing_left(path: Path, month: Month, n_rows: int, dropped: dict[str, int]) -> DataFileError:
    """Says why there is no ride: no row at all, or how many were dropped for what."""
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in dropped.items() if n)
    of_rows = f"all of its {n_rows:,} rows were dropped: {reasons}" if n_rows else "it has no rows"
    return DataFileError(path, f"holds no usable ride of {month} ({of_rows})")


def _read_clean(file: BinaryIO, path: Path, service: Service, month: Month) -> tuple[Rows, int, dict[str, int]]:
    """Returns the rows kept in the file's order, how many there were, and how many were dropped, by reason."""
    is_sample = sample_span(path.name) is not None
    kept, n_rows, dropped = [], 0, dict.fromkeys(DROP_REASONS, 0)
    for batch in read_batches(file, path, service):
        rows = batch.take(_in_month(batch, month)) if is_sample else batch
        keep = _clean(rows, month, dropped)
        n_rows += len(rows)
        kept.append(rows.take(keep))
    return concat_rows(kept), n_rows, dropped


def _in_month(rows: Rows, month: Month) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (rows.pickup >= month.start) & (rows.pickup < month.end)
    return inside


def _clean(rows: Rows, month: Month, dropped: dict[str, int]) -> NDArray[np.bool_]:
    """Returns the mask of the rows kept, bool (n,), and counts the others, by reason, into `dropped`."""
    minutes = rows.duration_minutes()
    checks = (
        ~(np.isnat(rows.pickup) | np.isnat(rows.dropoff)),
        _in_month(rows, month),
        (minutes >= MIN_DURATION_MINUTES) & (minutes <= MAX_DURATION_MINUTES),
        _is_zone(rows.pickup_zone) & _is_zone(rows.dropoff_zone),
    )
    keep = np.ones(len(minutes), dtype=np.bool_)
    for reason, good in zip(DROP_REASONS, checks, strict=True):
        dropped[reason] += int(np.count_nonzero(keep & ~good))
        keep &= good
    return keep


def _is_zone(zone: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = (zone >= FIRST_ZONE) & (zone <= LAST_ZONE) & (zone == np.floor(zone))
    return whole


# MERGED FROM training/data/loading.py
# Where a run's rides come from: TLC's months, or a generator's.
SYNTHETIC_SEED = 2021
"""Of made-up rides in runs: a manifest does not name it, their digest tells whether it was this one."""

Load = Callable[[Sequence[Month]], Rides]
"""Brings the rides of months, at least one, sorted by pickup."""


def tlc_months(service: Service) -> Load:
    """Returns what loads a service's months: from the folder that TLC_DATA_DIR names, the cache, or TLC."""
    return lambda months: load_rides(service, months, data_dir=default_data_dir())


def synthetic_months(n_rides_a_month: int) -> Load:
    """Returns what makes months up, each joined to the others and forgotten."""
    return lambda months: concat_rides(synthetic_rides(month, n_rides_a_month, SYNTHETIC_SEED) for month in months)


def rides_of(manifest: Manifest) -> tuple[Load, tuple[Month, ...]]:
    """Returns what brings rides as a model's were brought, and the months that it brings without a download."""
    if any(part.file == SOURCE_NAME for part in manifest.data):
        return synthetic_months(manifest.data[0].n_rows), ()
    service = cast("Service", manifest.service)
    return tlc_months(service), months_in_hand(service, default_data_dir())
