"""The tables of a join in DuckDB: rides, outcomes and later ride events in, the labelled rides as Parquet out.

The result depends on the rows alone, and on the version of DuckDB: not on their order, nor on the number of threads.

A database is opened, and its tables are made, once a process: that takes longer than the join of a small hour. A join
is one transaction, and is rolled back at its end, so that the tables are empty again.
"""

import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple, Self

import duckdb
import numpy as np
from numpy.typing import NDArray

from training.data.labelled import COLUMNS, FILE, LABELLED, NO_OUTCOME
from training.monitoring.accuracy import PredictedRides

SAME_SCHEMA = "set disabled_optimizers = 'statistics_propagation'"
"""Before a COPY: otherwise a column is declared `not null` in the hours in which it has no null."""

_ANY_SCHEMA = "reset disabled_optimizers"

ROWS_PER_GROUP = 122_880
"""DuckDB's own default, and a multiple of its vectors; fixed, because the file's bytes depend on it."""


_LABELLED_TABLE = f"""
create table labelled ({
    ", ".join(
        "version integer" if column.name == "model_version" else f"{column.name} {column.duckdb}" for column in COLUMNS
    )
});
create table versions (version integer, model_version varchar)
"""

_PART_TABLES = ("rides", "later", "outcomes", "replaced", "statuses", "flags", "measured", "matched")

_TABLES = """
create table rides ("row" bigint, id varchar, key varchar, "at" bigint, pickup_zone smallint, dropoff_zone smallint,
  miles double, pickup_s bigint, has_pickup boolean, pickup varchar, version integer, minutes double, low double,
  high double);
create table later (key varchar, "at" bigint);
create table outcomes (id varchar, key varchar, "at" bigint, minutes double, is_of_hour boolean, dropoff varchar);
create table replaced ("row" bigint, version integer, minutes double, low double, high double);
create table statuses ("row" bigint, status varchar);
create table flags ("row" bigint, conflicting boolean, skewed boolean);
create table measured (id varchar, minutes double);
"""

# Each outcome to the last ride event with its key that arrived before it, or at the same time. Of events that arrived
# at the same time, the one with the greatest id has it. An event of a later hour takes it away: row -1.
_MATCH = """
create table matched as
with events as (
  select key, "at", arg_max("row", id) as "row"
  from (select key, "at", id, "row" from rides union all select key, "at", '', -1 from later)
  group by key, "at")
select o.id, o.key, o."at", o.minutes, o.is_of_hour, o.dropoff, e."row"
from outcomes o asof left join events e on o.key = e.key and o."at" >= e."at"
"""

_UNMEASURED = """
select m.id, m.dropoff, r.pickup, r."at" from matched m join rides r on r."row" = m."row" where m.minutes is null
"""

_MEASURE = """
update matched set minutes = (select m.minutes from measured m where m.id = matched.id) where minutes is null
"""

_UNMATCHED = """
select key, count(*) from matched where "row" is null and is_of_hour group by key
"""

_REPLACE = """
update rides set version = r.version, minutes = r.minutes, low = r.low, high = r.high
from replaced r where rides."row" = r."row"
"""

# The first outcome of each ride that has one.
_LABELLED = f"""
insert into labelled
with first as (
  select "row", o.minutes, o."at", o.id, contradicting
  from (
    select "row", min(struct_pack("at" := "at", id := id, minutes := minutes)) as o,
      min(minutes) < max(minutes) as contradicting
    from matched where "row" >= 0 and minutes is not null group by "row"))
select r.id as event_id, r.key as ride_id, make_timestamp(r."at") as arrival_time, r.pickup_zone, r.dropoff_zone,
  r.miles as trip_distance_miles, make_timestamp(r.pickup_s * 1000000) as pickup_time, r.has_pickup as has_pickup_time,
  r.version, r.minutes as predicted_minutes, r.low as low_minutes,
  r.high as high_minutes, f.minutes as duration_minutes, make_timestamp(f."at") as outcome_time,
  f.id as outcome_id,
  case when s.status is not null then s.status when f.id is null then '{NO_OUTCOME}' else '{LABELLED}' end as status,
  coalesce(f.contradicting, false) as contradicting, coalesce(g.conflicting, false) as conflicting,
  coalesce(g.skewed, false) as skewed
from rides r left join first f on f."row" = r."row"
  left join statuses s on s."row" = r."row" left join flags g on g."row" = r."row"
"""  # noqa: S608 - our own names

_COUNTS = """
select status, count(*) as n, count(*) filter (contradicting) as n_contradicting,
  count(*) filter (conflicting) as n_conflicting, count(*) filter (skewed) as n_skewed
from labelled group by status order by status
"""

_PREDICTED = """
select version, predicted_minutes, coalesce(low_minutes, 'nan'::double), coalesce(high_minutes, 'nan'::double),
  coalesce(duration_minutes, 'nan'::double)
from labelled where predicted_minutes is not null
"""


class RideRows(NamedTuple):
    """Rides by column (n,), to add to the table. DuckDB takes NaN for null: no prediction, or no interval."""

    row: Sequence[int]
    id: Sequence[str]
    key: Sequence[str]
    at_us: Sequence[int]
    pickup_zone: NDArray[np.int64]
    dropoff_zone: NDArray[np.int64]
    trip_distance_miles: NDArray[np.float64]
    pickup_s: NDArray[np.int64]
    pickup: Sequence[str | None]
    version: Sequence[int]
    minutes: Sequence[float]
    low_minutes: Sequence[float]
    high_minutes: Sequence[float]


class OutcomeRow(NamedTuple):
    """An outcome to match; minutes are NaN if they follow from its ride event only."""

    id: str
    key: str
    at_us: int
    minutes: float
    is_of_hour: bool  # whether it arrived in the hour itself
    dropoff: str | None


class Unmeasured(NamedTuple):
    """An outcome that was matched, but whose minutes follow from its ride event only."""

    outcome_id: str
    dropoff: str
    pickup: str | None
    ride_at_us: int


class Counts(NamedTuple):
    """Numbers of rides."""

    n: int
    n_contradicting: int
    n_conflicting: int
    n_skewed: int


KEPT_RIDES = 100_000
"""After a join of more rides the database is closed, so that its memory is free again."""


_idle: dict[tuple[int, int], list[duckdb.DuckDBPyConnection]] = {}
"""Databases with empty tables that wait for a join, by threads and memory."""


def _open_database(n_threads: int, memory_mb: int) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": n_threads})
    connection.execute(f"set memory_limit = '{memory_mb}MB'; set preserve_insertion_order = false")
    return connection.execute(_LABELLED_TABLE).execute(_TABLES)


class RideTable:
    """The tables of one join; use as a context manager, which closes them."""

    def __init__(self, folder: Path, n_threads: int, memory_mb: int) -> None:
        """Create the tables.

        Args:
            folder: An empty folder for the Parquet file, and for what does not fit in memory.
            n_threads: DuckDB's threads.
            memory_mb: DuckDB's share of the memory.
        """
        self._folder, self._spilled = folder, folder / "spilled"
        self._idle = _idle.setdefault((n_threads, memory_mb), [])
        self._connection = self._idle.pop() if self._idle else _open_database(n_threads, memory_mb)
        self._connection.execute(f"set temp_directory = '{self._spilled}'; begin")
        self._n_rides = 0
        self._has_dropoffs = False  # whether an outcome's minutes follow from its ride only
        self._is_labelled = False  # whether the rides of the last part are labelled, so that their tables can go
        self._counts: dict[str, Counts] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._n_rides > KEPT_RIDES or self._spilled.exists():
            self._connection.close()
        else:
            self._connection.execute("rollback")
            self._idle.append(self._connection)

    def add_rides(self, rows: RideRows) -> None:
        """Add rides that were not added before."""
        self._n_rides += len(rows.row)
        pickup = _texts(rows.pickup)
        has_pickup = np.array([text is not None for text in rows.pickup], np.bool_)
        self._insert("rides", [
            np.array(rows.row, np.int64), _texts(rows.id), _texts(rows.key), np.array(rows.at_us, np.int64),
            rows.pickup_zone.astype(np.int16), rows.dropoff_zone.astype(np.int16), rows.trip_distance_miles,
            rows.pickup_s, has_pickup, pickup, np.array(rows.version, np.int32), np.array(rows.minutes, np.float64),
            np.array(rows.low_minutes, np.float64), np.array(rows.high_minutes, np.float64),
        ])  # fmt: skip

    def add_outcomes(self, rows: Sequence[OutcomeRow]) -> None:
        """Add outcomes that were not added before."""
        if rows:
            ids, keys, at_us, minutes, is_of_hour, dropoff = zip(*rows, strict=True)
            self._has_dropoffs |= any(map(math.isnan, minutes))
            self._insert("outcomes", [
                _texts(ids), _texts(keys), np.array(at_us, np.int64), np.array(minutes, np.float64),
                np.array(is_of_hour, np.bool_), _texts(dropoff),
            ])  # fmt: skip

    def add_later(self, events: Sequence[tuple[str, int]]) -> None:
        """Add the keys and arrivals (microseconds) of ride events that arrived after the hour."""
        if events:
            keys, at_us = zip(*events, strict=True)
            self._insert("later", [_texts(keys), np.array(at_us, np.int64)])

    def replace_predictions(self, rows: Sequence[tuple[int, int, float, float, float]]) -> None:
        """Set version, minutes, low and high of rides by row."""
        if rows:
            row, version, *minutes = zip(*rows, strict=True)
            values = [np.array(column, np.float64) for column in minutes]
            self._insert("replaced", [np.array(row, np.int64), np.array(version, np.int32), *values])
            self._connection.execute(_REPLACE)

    def set_statuses(self, statuses: Mapping[int, str]) -> None:
        """Set the status of rides without prediction, by row."""
        if statuses:
            self._insert("statuses", [np.array(list(statuses), np.int64), _texts(list(statuses.values()))])

    def set_flags(self, conflicting: Set[int], skewed: Set[int]) -> None:
        """Set the flags of rides, by row."""
        rows = sorted(conflicting | skewed)
        if rows:
            flags = [np.array([row in one for row in rows]) for one in (conflicting, skewed)]
            self._insert("flags", [np.array(rows), *flags])

    def match(self) -> list[Unmeasured]:
        """Match outcomes with rides, and return those whose minutes follow from the ride."""
        self._begin_part()
        self._connection.execute(_MATCH)
        if not self._has_dropoffs:
            return []
        return [Unmeasured(*row) for row in self._connection.execute(_UNMEASURED).fetchall()]

    def measure(self, minutes: Mapping[str, float]) -> None:
        """Set the minutes of outcomes by id; those that were to be measured and are not here count for no ride."""
        if minutes:
            values = np.array(list(minutes.values()), np.float64)
            self._insert("measured", [_texts(list(minutes)), values])
        if self._has_dropoffs:
            self._connection.execute(_MEASURE)

    def unmatched(self) -> dict[str, int]:
        """Return how many outcomes of the hour itself have no ride event before them, by key."""
        return dict(self._connection.execute(_UNMATCHED).fetchall())

    def label(self) -> None:
        """Add the rides to the labelled rides. What is added later is of the next part."""
        self._connection.execute(_LABELLED)
        self._is_labelled, self._counts = True, None
        if self._n_rides > KEPT_RIDES:  # the next part needs the memory
            self._begin_part()

    def write(self, versions: Sequence[str]) -> bytes:
        """Return the labelled rides as Parquet; `versions` are the names of the versions' numbers."""
        if versions:
            self._insert("versions", [np.arange(len(versions), dtype=np.int32), _texts(versions)])
        path = self._folder / FILE
        columns = ", ".join(column.name for column in COLUMNS)
        rows = f"select {columns} from labelled left join versions using (version) order by arrival_time, event_id"  # noqa: S608 - our own names
        form = f"format parquet, compression zstd, row_group_size {ROWS_PER_GROUP}"
        self._connection.execute(SAME_SCHEMA).execute(f"copy ({rows}) to '{path}' ({form})").execute(_ANY_SCHEMA)
        return path.read_bytes()

    def n_rides(self) -> int:
        """Return the number of labelled rides; only after `label`."""
        return sum(one.n for one in self.counts().values())

    def n_rides_of(self, parquet: bytes) -> int:
        """Return the number of rides in a Parquet file; 0 if it is damaged."""
        path = self._folder / "before.parquet"
        path.write_bytes(parquet)
        try:
            with self._connection.cursor() as other:  # an error must not end the transaction
                return other.read_parquet(str(path)).count("*").fetchall()[0][0]  # type: ignore[no-any-return]
        except duckdb.Error:
            return 0
        finally:
            path.unlink()

    def counts(self) -> dict[str, Counts]:
        """Return counts by status; only after `label`."""
        if self._counts is None:
            found = self._connection.execute(_COUNTS).fetchall()
            self._counts = {status: Counts(*numbers) for status, *numbers in found}
        return self._counts

    def predicted(self, versions: Sequence[str]) -> PredictedRides:
        """Return the rides that have a prediction; only after `label`."""
        columns = self._connection.execute(_PREDICTED).fetchnumpy()
        version, *minutes = (np.asarray(column) for column in columns.values())
        return PredictedRides(version.astype(np.int64), tuple(versions), *minutes)

    def _begin_part(self) -> None:
        """Empty the tables of a part whose rides are labelled."""
        if self._is_labelled:
            self._connection.execute("; ".join(f"drop table {table}" for table in _PART_TABLES)).execute(_TABLES)
            self._is_labelled = self._has_dropoffs = False

    def _insert(self, table: str, columns: Sequence[NDArray[Any]]) -> None:
        if table in _PART_TABLES:
            self._begin_part()
        added = {str(place): column for place, column in enumerate(columns)}  # noqa: F841 - DuckDB finds it by name
        self._connection.execute(f"insert into {table} select * from added")  # noqa: S608 - our own names


def _texts(values: Sequence[str | None]) -> NDArray[np.object_]:
    """Return texts as an array that holds them without a copy."""
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array
