"""Collect the labelled rides of a span of days into one object of plain arrays, with DuckDB.

The function that joins has DuckDB and no pyarrow; the function that trains has neither. Rides come in the same order as
`training.data.labelled_file` gives them. The object depends on the rides alone, not on the files that hold them.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np

from lambda_function.core.bundle import sha256
from training.data.labelled import FOLDER, LABELLED, keys_from
from training.data.labelled_rides import LabelledRows
from training.data.ride_arrays import RideArrays, decode_ride_arrays, encode_ride_arrays
from training.errors import BucketError, bucket_address
from training.registry.bucket import Bucket, StoredObject
from training.workflows.answers import answer_once
from training.workflows.day_split import GATE_DAYS, MAX_RIDES, TooFewRidesError, TooManyRidesError, split_days
from training.workflows.loop.requests import Collected, CollectRequest

_FILES_AT_ONCE = 256
"""Of an hour each: enough that DuckDB reads them in parallel, and few enough for a function's temporary storage."""

_ONE_DAY = timedelta(days=1)

_TABLE = """
create table rides (pickup_time timestamp, ride_id varchar, pickup_zone smallint, dropoff_zone smallint,
  trip_distance_miles double, duration_minutes double, has_pickup_time boolean, is_labelled boolean)
"""

_ADD = f"""
insert into rides
select pickup_time, ride_id, pickup_zone, dropoff_zone, trip_distance_miles, duration_minutes, has_pickup_time,
  status = '{LABELLED}'
from read_parquet(?) where pickup_time >= ? and pickup_time < ?
"""  # noqa: S608 - our own name

_ROWS = """
select pickup_time, coalesce(pickup_zone, 0) as pickup_zone, coalesce(dropoff_zone, 0) as dropoff_zone,
  coalesce(trip_distance_miles, 0) as trip_distance_miles,
  coalesce(duration_minutes, 'nan'::double) as duration_minutes, coalesce(has_pickup_time, false) as has_pickup_time,
  coalesce(is_labelled, false) as is_labelled
from rides
order by rides.pickup_time, strlen(ride_id), ride_id, rides.pickup_zone, rides.dropoff_zone, rides.trip_distance_miles,
  rides.duration_minutes, rides.has_pickup_time, rides.is_labelled
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectOptions:
    """The limits of a collection.

    Attributes:
        max_rides: More are refused, as soon as so many are read.
        threads: DuckDB's threads. The result does not depend on it.
        memory_mb: DuckDB's share of the memory; what does not fit is in temporary files.
    """

    max_rides: int = MAX_RIDES
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    memory_mb: int = 1_200


def collect(
    bucket: Bucket,
    request: CollectRequest,
    on_step: Callable[[str], None] = lambda _: None,
    options: CollectOptions | None = None,
) -> Collected:
    """Collect the rides with a pickup in the span of a request, and store them under its key.

    The collected span begins with the first whole day that has rides, and ends with the last. Called again for the same
    run, it returns the first answer and does nothing; an object that is there already stays.

    Raises:
        TooFewRidesError: There is no whole day with rides.
        TooManyRidesError: There are more rides than a function can train on.
        BucketError: S3 failed, or a file does not hold labelled rides.
    """
    options = options or CollectOptions()
    return answer_once(
        bucket, request.run_id, "collect", Collected, lambda: _collect(bucket, request, on_step, options)
    )


def _collect(
    bucket: Bucket, request: CollectRequest, on_step: Callable[[str], None], options: CollectOptions
) -> Collected:
    stored = bucket.read(request.key)  # of a run that stored the rides, but not its answer
    body = stored.body if stored else None
    if body is None:
        body = encode_ride_arrays(_whole_days(_read(bucket, request, on_step, options), request, bucket.name))
        on_step("storing the rides")
        body = bucket.write_once(request.key, body)
    arrays = decode_ride_arrays(body)
    is_usable, dropped = arrays.rows.usable()
    return Collected(
        key=request.key,
        sha256=sha256(body),
        n_rides=int(np.count_nonzero(is_usable)),
        first=str(arrays.first),
        last=str(arrays.last),
        dropped=dropped,
    )


def _read(
    bucket: Bucket, request: CollectRequest, on_step: Callable[[str], None], options: CollectOptions
) -> LabelledRows:
    """Read the rows with a pickup in the span."""
    on_step("listing the labelled rides")
    first, last = date.fromisoformat(request.first), date.fromisoformat(request.last)
    keys = list(keys_from(bucket.keys(f"{FOLDER}/"), first))
    with tempfile.TemporaryDirectory(prefix="collect-") as folder, _connect(Path(folder), options) as table:
        for begin, objects in _batches(bucket.read_all(keys)):
            on_step(f"reading {len(keys):,} files of labelled rides: {begin:,}")
            _add(bucket, table, Path(folder), objects, (first, last + _ONE_DAY))
            ((n_rows,),) = table.execute("select count(*) from rides").fetchall()
            if n_rows > options.max_rides:
                raise _too_many(bucket, request, n_rows, options.max_rides)
        on_step("sorting the rides")
        return _rows(table)


def _connect(folder: Path, options: CollectOptions) -> duckdb.DuckDBPyConnection:
    table = duckdb.connect(config={"threads": options.threads, "temp_directory": str(folder / "spilled")})
    table.execute(f"set memory_limit = '{options.memory_mb}MB'; set preserve_insertion_order = false")
    return table.execute(_TABLE)


def _batches(objects: Iterable[StoredObject]) -> Iterator[tuple[int, Sequence[StoredObject]]]:
    """Return objects by the batch, each with the number of those before it."""
    iterator = iter(objects)
    for begin in itertools.count(step=_FILES_AT_ONCE):
        batch = list(itertools.islice(iterator, _FILES_AT_ONCE))
        if not batch:
            return
        yield begin, batch


def _add(
    bucket: Bucket,
    table: duckdb.DuckDBPyConnection,
    folder: Path,
    objects: Sequence[StoredObject],
    span: tuple[date, date],
) -> None:
    """Add the rides of files; of files that can't be read together, name the first one that can't be read alone."""
    paths = [folder / f"{number}.parquet" for number in range(len(objects))]
    for path, stored in zip(paths, objects, strict=True):
        path.write_bytes(stored.body)
    try:
        table.execute(_ADD, [[str(path) for path in paths], *span])
    except duckdb.Error as error:
        if len(objects) == 1:
            problem = "holds no labelled rides, or is cut short: join that hour again, or leave the file out"
            raise BucketError(bucket.name, objects[0].key, problem) from error
        for stored in objects:
            _add(bucket, table, folder, [stored], span)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _rows(table: duckdb.DuckDBPyConnection) -> LabelledRows:
    found = table.execute(_ROWS).fetchnumpy()
    pickup_time, *columns = (
        column.data if isinstance(column, np.ma.MaskedArray) else column for column in found.values()
    )
    return LabelledRows(pickup_time.astype("M8[s]"), *columns)


def _whole_days(rows: LabelledRows, request: CollectRequest, bucket: str) -> RideArrays:
    """Return the rides of the whole days: an archive that begins or ends within the span does so within a day."""
    first, last = date.fromisoformat(request.first), date.fromisoformat(request.last)
    usable = rows.pickup_time[rows.usable()[0]]
    if len(usable):
        begin, end = (at.astype("M8[D]").item() for at in usable[[0, -1]])
        first = begin if begin == first else begin + _ONE_DAY
        last = end if end == last else end - _ONE_DAY
    if not len(usable) or last < first:
        hint = "outcomes must be sent and joined first: see `ridecast outcomes join`"
        raise TooFewRidesError(
            f"{bucket_address(bucket)} has no whole day of labelled rides from {request.first} to {request.last}", hint
        )
    return RideArrays(first, last, rows.between(np.datetime64(first), np.datetime64(last + _ONE_DAY)))


def _too_many(bucket: Bucket, request: CollectRequest, n_rides: int, max_rides: int) -> TooManyRidesError:
    first, last = date.fromisoformat(request.first), date.fromisoformat(request.last)
    address = bucket_address(bucket.name)
    command = f"ridecast train --labelled {address}"
    with suppress(TooFewRidesError):  # a busy week has too many rides, and too few days
        command = split_days(first, last, GATE_DAYS).command(address)
    return TooManyRidesError(
        f"from {first} to {last} there are at least {n_rides:,} labelled rides, and a function has time to train on"
        f" {max_rides:,}",
        f"take fewer days (TrainingDays), or train on another machine: {command}",
    )
