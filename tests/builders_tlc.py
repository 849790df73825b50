"""Builders of small TLC months: rows, and files in every schema that TLC has used; and real rides, if there are any."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.load import load_rides
from training.data.months import Month, Service, default_data_dir, parse_months, tlc_file_name
from training.data.rides import MonthFacts, Rides, Source

needs_real_months = pytest.mark.skipif(
    not os.environ.get("TLC_DATA_DIR"), reason="TLC_DATA_DIR names no folder of TLC months"
)


@dataclass(frozen=True, slots=True)
class TlcRow:
    """A row of a TLC file; None is a null. Times are New York wall-clock times without a zone."""

    pickup: datetime | None = datetime(2021, 1, 5, 8, 15)  # noqa: DTZ001
    dropoff: datetime | None = datetime(2021, 1, 5, 8, 27, 30)  # noqa: DTZ001
    pickup_zone: int | None = 130
    dropoff_zone: int | None = 205
    trip_distance: float | None = 3.66


@dataclass(frozen=True, slots=True)
class Schema:
    """The column types of a month's file, and the columns that not every month has."""

    zone: pa.DataType = field(default_factory=pa.int64)
    time: pa.DataType = field(default_factory=lambda: pa.timestamp("us"))
    flag: pa.DataType = field(default_factory=pa.string)
    extra_columns: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


TO_2023_01 = Schema()
FROM_2023_02 = Schema(zone=pa.int32(), flag=pa.large_string())
FROM_2025 = replace(FROM_2023_02, extra_columns=("cbd_congestion_fee", "Airport_fee"))
SCHEMAS = {
    "to 2023-01": TO_2023_01,
    "from 2023-02": FROM_2023_02,
    "from 2025": FROM_2025,
    "airport_fee": replace(TO_2023_01, extra_columns=("airport_fee",)),
    "nanoseconds": replace(TO_2023_01, time=pa.timestamp("ns")),
    "milliseconds": replace(TO_2023_01, time=pa.timestamp("ms")),
    "zones through a data frame with nulls": replace(TO_2023_01, zone=pa.float64()),
}


def row_at(pickup: datetime | str, *, minutes: float = 12.5, **changes: float | None) -> TlcRow:
    """Return a good row that begins at a time, ISO 8601 if a text, and lasts so many minutes."""
    start = datetime.fromisoformat(pickup) if isinstance(pickup, str) else pickup
    return replace(TlcRow(pickup=start, dropoff=start + timedelta(minutes=minutes)), **changes)  # type: ignore[arg-type]


def tlc_table(rows: Iterable[TlcRow], service: Service = "green", schema: Schema = TO_2023_01) -> pa.Table:
    """Return the rows as TLC's table of a service."""
    rows = list(rows)
    prefix = {"green": "lpep", "yellow": "tpep"}[service]
    nothing = [None] * len(rows)
    columns = {
        "VendorID": pa.array(nothing, pa.int64()),
        f"{prefix}_pickup_datetime": pa.array([row.pickup for row in rows], pa.timestamp("us")).cast(schema.time),
        f"{prefix}_dropoff_datetime": pa.array([row.dropoff for row in rows], pa.timestamp("us")).cast(schema.time),
        "store_and_fwd_flag": pa.array(["N" for _ in rows], schema.flag),
        "PULocationID": pa.array([row.pickup_zone for row in rows], schema.zone),
        "DOLocationID": pa.array([row.dropoff_zone for row in rows], schema.zone),
        "trip_distance": pa.array([row.trip_distance for row in rows], pa.float64()),
        "ehail_fee": pa.array(nothing, pa.null()),
        **{name: pa.array(nothing, pa.float64()) for name in schema.extra_columns},
    }
    return pa.table({name: values for name, values in columns.items() if name not in schema.without})


def write_month(
    folder: Path, rows: Iterable[TlcRow], month: Month, service: Service = "green", schema: Schema = TO_2023_01
) -> Path:
    """Write the rows under TLC's name for the month."""
    path = folder / tlc_file_name(service, month)
    pq.write_table(tlc_table(rows, service, schema), path)
    return path


def month_bytes(rows: Iterable[TlcRow] = (TlcRow(),)) -> bytes:
    """Return a green month's file as TLC would send it."""
    sink = pa.BufferOutputStream()
    pq.write_table(tlc_table(rows), sink)
    return bytes(sink.getvalue())


def source_of(month: Month, n_rows: int = 60_000, *, facts: MonthFacts | None = None, **changes: object) -> Source:
    """Return the source of a good month, none of its rows dropped, with these changes."""
    source = Source(f"green_tripdata_{month}.parquet", month, "0" * 64, n_rows, n_rows, {}, facts or facts_of(month))
    return replace(source, **changes)  # type: ignore[arg-type]


def facts_of(month: Month, **changes: object) -> MonthFacts:
    """Return the facts of a good month, with these changes."""
    n_days = (month.end - month.start).astype("timedelta64[D]").astype(int)
    facts = MonthFacts((2_000,) * n_days, 0, 0, 12.0, 2.0)
    return replace(facts, **changes)  # type: ignore[arg-type]


def real_rides(months: str, service: Service = "green") -> Rides:
    """Load real months, or skip the test if the folder lacks one: a test downloads nothing."""

    def skip(service: Service, month: Month, cache_dir: Path) -> Path:
        pytest.skip(f"TLC_DATA_DIR has no {service} rides of {month}")

    return load_rides(service, parse_months(months), data_dir=default_data_dir(), fetch=skip)
