"""Load TLC months as clean rides by column: found or downloaded, checked, cleaned, sorted by pickup.

A file is read in batches of rows, and only the five columns that training needs. So the rides left after cleaning
decide how much memory a month takes, not the file.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import FIRST_ZONE, LAST_ZONE
from training.data.download import fetch_month
from training.data.months import (
    MONTHS_HINT,
    Month,
    Service,
    default_cache_dir,
    default_data_dir,
    find_month,
    sample_span,
)
from training.data.rides import (
    MAX_DURATION_MINUTES,
    MIN_DURATION_MINUTES,
    Load,
    Rides,
    Source,
    compact_columns,
    concat_rides,
    count_dropped,
    month_facts,
)
from training.data.synthetic import synthetic_rides
from training.data.tlc_file import DOWNLOAD_AGAIN, Rows, concat_rows, read_batches
from training.errors import UserError

DROP_REASONS = ("time_missing", "pickup_outside_month", "duration_out_of_range", "zone_out_of_range")
"""Why a row is dropped, in the order of the checks: a row counts for the first that applies."""

SYNTHETIC_SEED = 2021
"""The seed of made-up rides in runs. A manifest does not contain it; the rides' digest depends on it."""


def tlc_months(service: Service) -> Load:
    """Return a loader of a service's months: from the folder that TLC_DATA_DIR names, the cache, or TLC."""
    return lambda months: load_rides(service, months, data_dir=default_data_dir())


def synthetic_months(n_rides_a_month: int) -> Load:
    """Return a loader of made-up months."""
    return lambda months: concat_rides(synthetic_rides(month, n_rides_a_month, SYNTHETIC_SEED) for month in months)


def load_rides(
    service: Service,
    months: Sequence[Month],
    *,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    fetch: Callable[[Service, Month, Path], Path] = fetch_month,
) -> Rides:
    """Load months of a service: from the data folder, else the cache, else from TLC through the cache.

    Needs memory for all the rides, for one column more, and for the rows of one month.

    The data folder has TLC's files, and samples like ``yellow_tripdata_sample_2018.parquet``. The months may have any
    order. The clean rides are sorted by pickup; rides of one second keep the file's order.

    Raises:
        MonthUnavailableError: A month is in neither folder and cannot be downloaded.
        UserError: No month is given, or one twice; the data folder does not exist; or a file lacks a column, is not
            Parquet, is cut short or contains no ride of its month.
    """
    if not months or len(set(months)) < len(months):
        text = ",".join(str(month) for month in months)
        raise UserError(f"{text!r} has no month, or names one twice", MONTHS_HINT)
    folder = cache_dir or default_cache_dir()

    def load(month: Month) -> Rides:
        path = find_month(service, month, data_dir, folder) or fetch(service, month, folder)
        return _load_month(path, service, month)

    return concat_rides(load(month) for month in sorted(months))


def _load_month(path: Path, service: Service, month: Month) -> Rides:
    try:
        with path.open("rb") as file:  # one open file throughout: a download may replace it meanwhile
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            rows, n_rows, dropped = _read_clean(file, path, service, month)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})", "make it readable") from error
    if not len(rows):
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in dropped.items() if n)
        of_rows = f"all of its {n_rows:,} rows were dropped: {reasons}" if n_rows else "it has no rows"
        raise UserError(f"{path} contains no usable ride of {month} ({of_rows})", DOWNLOAD_AGAIN)
    rows = rows.take(np.argsort(rows.pickup, kind="stable"))
    pickup_time = rows.pickup.astype("datetime64[s]")
    columns = compact_columns(rows.pickup_zone, rows.dropoff_zone, rows.trip_distance, pickup_time)
    duration_minutes = rows.duration_minutes()
    facts = month_facts(month, columns, pickup_time, duration_minutes)
    source = Source(path.name, month, sha256, n_rows, len(rows), dropped, facts)
    return Rides(columns, pickup_time, duration_minutes, (source,))


def _read_clean(file: BinaryIO, path: Path, service: Service, month: Month) -> tuple[Rows, int, dict[str, int]]:
    """Return the clean rows in the file's order, the number of all rows, and the number dropped, by reason."""
    is_sample = sample_span(path.name) is not None
    kept, n_rows, dropped = [], 0, dict.fromkeys(DROP_REASONS, 0)
    for batch in read_batches(file, path, service):
        rows = batch.take(_in_month(batch, month)) if is_sample else batch
        n_rows += len(rows)
        kept.append(rows.take(_clean(rows, month, dropped)))
    return concat_rows(kept), n_rows, dropped


def _in_month(rows: Rows, month: Month) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (rows.pickup >= month.start) & (rows.pickup < month.end)
    return inside


def _clean(rows: Rows, month: Month, dropped: dict[str, int]) -> NDArray[np.bool_]:
    """Return the mask of the clean rows, bool (n,), and count the others, by reason, into `dropped`."""
    minutes = rows.duration_minutes()
    checks = (
        ~(np.isnat(rows.pickup) | np.isnat(rows.dropoff)),
        _in_month(rows, month),
        (minutes >= MIN_DURATION_MINUTES) & (minutes <= MAX_DURATION_MINUTES),
        _is_zone(rows.pickup_zone) & _is_zone(rows.dropoff_zone),
    )
    return count_dropped(checks, dropped)


def _is_zone(zone: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = (zone >= FIRST_ZONE) & (zone <= LAST_ZONE) & (zone == np.floor(zone))
    return whole
