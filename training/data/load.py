"""Load TLC months as clean rides by column: found or downloaded, checked, cleaned, sorted by pickup.

A file is read in batches of rows, and only the five columns that training needs. So the rides left after cleaning
decide how much memory a month takes, not the file.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lambda_function.core.features import FIRST_ZONE, LAST_ZONE
from training.data.download import fetch_month
from training.data.month_folders import near_names, part_files
from training.data.months import (
    MONTHS_HINT,
    Month,
    Service,
    default_cache_dir,
    default_data_dir,
    find_month,
    local_months,
    sample_span,
    tlc_file_name,
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
from training.data.tlc_file import Rows, Timestamps, concat_rows, describe_beginning, open_tlc_file, parse_timestamps
from training.errors import MonthUnavailableError, UserError

DROP_REASONS = ("time_missing", "pickup_outside_month", "duration_out_of_range", "zone_out_of_range")
"""Why a row is dropped, in the order of the checks: a row counts for the first that applies."""

SYNTHETIC_SEED = 2021
"""The seed of made-up rides in runs. A manifest does not contain it; the rides' digest depends on it."""

_DOWNLOAD_AGAIN = "delete this download, and it is downloaded from TLC again"
_REPLACE = "replace it with the file that TLC publishes, or unset TLC_DATA_DIR, and it is downloaded from TLC"

_N_NAMED = 4  # names of files in a message
_HEAD_BYTES = 64


def tlc_months(service: Service, timestamps: Timestamps | None = None) -> Load:
    """Return a loader of a service's months: from the folder that TLC_DATA_DIR names, the cache, or TLC.

    Times with a time zone are read as `timestamps` says, else as TLC_TIMESTAMPS does.
    """
    return lambda months: load_rides(service, months, data_dir=default_data_dir(), timestamps=timestamps)


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
    timestamps: Timestamps | None = None,
) -> Rides:
    """Load months of a service: from the data folder, else the cache, else from TLC through the cache.

    Needs memory for all the rides, for one column more, and for the rows of one month.

    The data folder has TLC's files, or folders of part files, and samples like ``yellow_tripdata_sample_2018.parquet``.
    The months may have any order. The clean rides are sorted by pickup; rides of one second keep the file's order.
    Times with a time zone are read as `timestamps` says, by default as the variable TLC_TIMESTAMPS does.

    Raises:
        MonthUnavailableError: A month is in neither folder and cannot be downloaded.
        UserError: No month is given, or one twice; the data folder does not exist, or has the month under another name
            only; or a file lacks a column, is not Parquet, is cut short or contains no ride of its month.
    """
    if not months or len(set(months)) < len(months):
        text = ",".join(str(month) for month in months)
        raise UserError(f"{text!r} has no month, or names one twice", MONTHS_HINT)
    folder = cache_dir or default_cache_dir()
    reading = timestamps or default_timestamps()

    def load(month: Month) -> Rides:
        path = find_month(service, month, data_dir, folder) or _fetch(service, month, data_dir, folder, fetch)
        is_download = data_dir is None or not path.is_relative_to(data_dir)
        advice = _DOWNLOAD_AGAIN if is_download else _REPLACE
        return _load_month(_MonthFiles(path, service, month, reading, advice))

    return concat_rides(load(month) for month in sorted(months))


def default_timestamps() -> Timestamps | None:
    """Return how times with a time zone are read: the value of TLC_TIMESTAMPS, or None."""
    return parse_timestamps(os.environ.get("TLC_TIMESTAMPS"))


def _fetch(
    service: Service,
    month: Month,
    data_dir: Path | None,
    cache_dir: Path,
    fetch: Callable[[Service, Month, Path], Path],
) -> Path:
    """Download a month; if the data folder has something like it, say so instead."""
    if data_dir is None:
        return fetch(service, month, cache_dir)
    name = tlc_file_name(service, month)
    if near := near_names(service, month.year, month.month, data_dir):
        shown = ", ".join(map(repr, near[:_N_NAMED]))
        is_parquet = near[0].lower().endswith(".parquet")
        hint = (
            f"name the right one {name}"
            if is_parquet
            else f"write it as Parquet, its times as timestamps, under the name {name}"
        )
        raise UserError(f"{data_dir} has no {name}, but it has {shown}", f"{hint}, or unset TLC_DATA_DIR")
    try:
        return fetch(service, month, cache_dir)
    except MonthUnavailableError as error:
        problem = f"{error.problem}, and {data_dir} {_described(service, data_dir)}"
        raise MonthUnavailableError(name, problem, error.hint) from error


def _described(service: Service, data_dir: Path) -> str:
    """Say which months and other things a folder has."""
    span = ", ".join(_spans(local_months(service, data_dir, data_dir)))
    entries = sorted(path.name for path in data_dir.iterdir() if "_tripdata_" not in path.name)
    others = ", ".join(entries[:_N_NAMED]) + (", ..." if len(entries) > _N_NAMED else "")
    shown = f"has the {service} months {span}" if span else f"has no {service} month"
    return shown + (f" and {others}" if others else "")


def _spans(months: Sequence[Month]) -> list[str]:
    """Return ascending months, as text, with each run of them as its first and last.

    >>> _spans([Month(2020, 12), Month(2021, 1), Month(2021, 2), Month(2022, 1)])
    ['2020-12 to 2021-02', '2022-01']
    """
    after = {month.next() for month in months}
    firsts = [month for month in months if month not in after]
    lasts = [month for month in months if month.next() not in months]
    return [str(a) if a == b else f"{a} to {b}" for a, b in zip(firsts, lasts, strict=True)]


@dataclass(frozen=True, slots=True)
class _MonthFiles:
    """The file, or the folder of part files, of a month, and how to read it."""

    path: Path
    service: Service
    month: Month
    timestamps: Timestamps | None
    advice: str  # what to do about a damaged file

    @property
    def name(self) -> str:
        """The name in a source: that of the file or folder; of a folder ``month=01``, also the year's."""
        path = self.path
        return f"{path.parent.name}/{path.name}" if path.name.startswith("month=") else path.name

    def parts(self) -> list[Path]:
        """Return the files, at least one."""
        if not self.path.is_dir():
            return [self.path]
        parts = part_files(self.path)
        if not parts:
            raise UserError(f"{self.path} has no files", "put the month's part files into it, or move it away")
        return parts


class _Counts:
    """What is counted while files are read."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.dropped = dict.fromkeys(DROP_REASONS, 0)
        self.digests: list[str] = []  # of the files, in hexadecimal
        self.has_zone = False  # whether times have a time zone


def _load_month(files: _MonthFiles) -> Rides:
    counts, month = _Counts(), files.month
    rows = concat_rows([rows for part in files.parts() for rows in _read_part(part, files, counts)])
    if not len(rows):
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in counts.dropped.items() if n)
        of_rows = f"all of its {counts.n_rows:,} rows were dropped: {reasons}" if counts.n_rows else "it has no rows"
        raise UserError(f"{files.path} contains no usable ride of {month} ({of_rows})", files.advice)
    rows = rows.take(np.argsort(rows.pickup, kind="stable"))
    pickup_time = rows.pickup.astype("datetime64[s]")
    columns = compact_columns(rows.pickup_zone, rows.dropoff_zone, rows.trip_distance, pickup_time)
    facts = month_facts(month, columns, pickup_time, rows.duration_minutes)
    digest = counts.digests[0]
    if files.path.is_dir():
        digest = hashlib.sha256("".join(counts.digests).encode()).hexdigest()
    name = f"{files.name}, times read as {files.timestamps}" if counts.has_zone else files.name
    source = Source(name, month, digest, counts.n_rows, len(rows), counts.dropped, facts)
    return Rides(columns, pickup_time, rows.duration_minutes, (source,))


def _read_part(path: Path, files: _MonthFiles, counts: _Counts) -> Iterator[Rows]:
    """Yield the clean rows of a file in its order, and count."""
    is_sample = sample_span(path.name) is not None
    try:
        with path.open("rb") as file:  # one open file throughout: a download may replace it meanwhile
            counts.digests.append(hashlib.file_digest(file, "sha256").hexdigest())
            try:
                found = open_tlc_file(file, path, files.service, files.timestamps)
                counts.has_zone |= found.timestamps is not None
                for batch in found.batches():
                    rows = batch.take(_in_month(batch, files.month)) if is_sample else batch
                    counts.n_rows += len(rows)
                    yield rows.take(_clean(rows, files.month, counts.dropped))
            except (pa.ArrowException, OSError) as error:
                file.seek(0)
                seen = describe_beginning(file.read(_HEAD_BYTES))
                raise UserError(f"{path} is not Parquet, or is cut short ({seen})", files.advice) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})", "make it readable") from error


def _in_month(rows: Rows, month: Month) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (rows.pickup >= month.start) & (rows.pickup < month.end)
    return inside


def _clean(rows: Rows, month: Month, dropped: dict[str, int]) -> NDArray[np.bool_]:
    """Return the mask of the clean rows, bool (n,), and count the others, by reason, into `dropped`."""
    minutes = rows.duration_minutes
    checks = (
        ~(np.isnat(rows.pickup) | np.isnan(minutes)),
        _in_month(rows, month),
        (minutes >= MIN_DURATION_MINUTES) & (minutes <= MAX_DURATION_MINUTES),
        _is_zone(rows.pickup_zone) & _is_zone(rows.dropoff_zone),
    )
    return count_dropped(checks, dropped)


def _is_zone(zone: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = (zone >= FIRST_ZONE) & (zone <= LAST_ZONE) & (zone == np.floor(zone))
    return whole
