"""Load months: found, read in every schema, cleaned, counted and sorted."""

import hashlib
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.features import RideColumns, feature_matrix
from tests.builders_tlc import SCHEMAS, TO_2023_01, Schema, TlcRow, row_at, tlc_table, write_month
from training.data.load import load_rides
from training.data.months import Month, Service, tlc_file_name
from training.data.rides import Rides, compact_columns, concat_rides
from training.data.tlc_file import BATCH_ROWS
from training.errors import MonthUnavailableError, UserError

JANUARY, FEBRUARY = Month(2021, 1), Month(2021, 2)
GOOD = row_at("2021-01-05T08:15:00")

times = st.datetimes(datetime(2020, 12, 30), datetime(2021, 2, 2))  # noqa: DTZ001
zones = st.none() | st.integers(-1, 267)
dirty_rows = st.builds(TlcRow, st.none() | times, st.none() | times, zones, zones, st.none() | st.floats()) | st.builds(
    row_at, times, minutes=st.floats(-5, 70) | st.sampled_from([0, 1, 60])
)


def no_fetch(service: Service, month: Month, cache_dir: Path) -> Path:
    raise MonthUnavailableError(tlc_file_name(service, month), "nothing is downloaded", "name another")


def load(folder: Path, *months: Month, service: Service = "green") -> Rides:
    return load_rides(service, months or [JANUARY], data_dir=folder, cache_dir=folder, fetch=no_fetch)


def load_rows(folder: Path, *rows: TlcRow, schema: Schema = TO_2023_01) -> Rides:
    write_month(folder, rows, JANUARY, schema=schema)
    return load(folder)


def write_sample(folder: Path, rows: list[TlcRow], span: str) -> Path:
    path = folder / f"yellow_tripdata_sample_{span}.parquet"
    pq.write_table(tlc_table(rows, "yellow"), path)
    return path


def dropped(rides: Rides) -> dict[str, int]:
    return {reason: n for reason, n in rides.sources[0].dropped.items() if n}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize("service", ["green", "yellow"])
def test_every_schema_gives_the_same_rides(tmp_path: Path, service: Service, schema: Schema) -> None:
    rows = [row_at("2021-01-05T08:15:59"), row_at("2021-01-06T00:00:00", pickup_zone=None, trip_distance=0)]
    write_month(tmp_path, rows, JANUARY, service, schema)
    rides = load(tmp_path, service=service)
    assert len(rides) == 1
    assert rides.columns.pickup_zone.tolist() == [130]
    assert rides.columns.dropoff_zone.tolist() == [205]
    assert rides.columns.trip_distance_miles.tolist() == [3.66]
    assert rides.columns.pickup_minute.tolist() == [26830575]
    assert rides.pickup_time.tolist() == [datetime(2021, 1, 5, 8, 15, 59)]  # noqa: DTZ001
    assert rides.duration_minutes.tolist() == [12.5]
    assert rides.columns.pickup_zone.dtype == rides.columns.dropoff_zone.dtype == np.int32
    assert rides.columns.pickup_minute.dtype == np.int32
    assert rides.columns.trip_distance_miles.dtype == rides.duration_minutes.dtype == np.float64
    assert rides.pickup_time.dtype == np.dtype("datetime64[s]")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (TlcRow(pickup=None), "time_missing"),
        (TlcRow(dropoff=None), "time_missing"),
        (row_at("2009-01-01T00:03:25"), "pickup_outside_month"),
        (row_at("2020-12-31T23:59:59"), "pickup_outside_month"),
        (row_at("2021-02-01T00:00:00"), "pickup_outside_month"),
        (row_at("2021-01-05T08:15:00", minutes=0), "duration_out_of_range"),
        (row_at("2021-01-05T08:15:00", minutes=-3), "duration_out_of_range"),
        (row_at("2021-01-05T08:15:00", minutes=59 / 60), "duration_out_of_range"),
        (row_at("2021-01-05T08:15:00", minutes=60 + 1 / 60), "duration_out_of_range"),
        (row_at("2021-01-05T08:15:00", pickup_zone=None), "zone_out_of_range"),
        (row_at("2021-01-05T08:15:00", dropoff_zone=0), "zone_out_of_range"),
        (row_at("2021-01-05T08:15:00", dropoff_zone=266), "zone_out_of_range"),
    ],
)
def test_bad_row_is_dropped_and_counted(tmp_path: Path, row: TlcRow, reason: str) -> None:
    rides = load_rows(tmp_path, GOOD, row, GOOD)
    assert len(rides) == 2
    assert dropped(rides) == {reason: 1}
    assert (rides.sources[0].n_rows, rides.sources[0].n_kept) == (3, 2)


@pytest.mark.parametrize(
    "row",
    [
        row_at("2021-01-01T00:00:00"),
        row_at("2021-01-31T23:59:59"),
        row_at("2021-01-05T08:15:00", minutes=1),
        row_at("2021-01-05T08:15:00", minutes=60),
        row_at("2021-01-05T08:15:00", pickup_zone=1, dropoff_zone=265),
        row_at("2021-01-05T08:15:00", trip_distance=-24.49),
        row_at("2021-01-05T08:15:00", trip_distance=292_611.0),
        row_at("2021-01-05T08:15:00", trip_distance=None),
    ],
)
def test_row_at_the_edge_is_kept(tmp_path: Path, row: TlcRow) -> None:
    rides = load_rows(tmp_path, row)
    assert dropped(rides) == {}
    distance = np.nan if row.trip_distance is None else row.trip_distance
    np.testing.assert_array_equal(rides.columns.trip_distance_miles, [distance])


@given(rows=st.lists(dirty_rows, max_size=30))
def test_cleaning_keeps_only_good_rides_sorted_and_counts_the_others(
    tmp_path_factory: pytest.TempPathFactory, rows: list[TlcRow]
) -> None:
    rides = load_rows(tmp_path_factory.mktemp("tlc"), *rows, GOOD)
    source = rides.sources[0]
    assert ((rides.duration_minutes >= 1) & (rides.duration_minutes <= 60)).all()
    assert ((rides.pickup_time >= JANUARY.start) & (rides.pickup_time < JANUARY.end)).all()
    for zones in (rides.columns.pickup_zone, rides.columns.dropoff_zone):
        assert ((zones >= 1) & (zones <= 265)).all()
    assert (np.diff(rides.pickup_time) >= np.timedelta64(0, "s")).all()
    assert (rides.columns.pickup_minute == rides.pickup_time.astype("datetime64[m]").astype(np.int64)).all()
    assert len(rides) == source.n_kept == source.n_rows - sum(source.dropped.values())
    assert source.n_rows == len(rows) + 1


def test_rides_of_one_second_keep_the_order_of_the_file(tmp_path: Path) -> None:
    late, early = "2021-01-05T08:15:00", "2021-01-04T08:15:00"
    rows = [row_at(late, pickup_zone=zone) for zone in range(1, 40)] + [row_at(early, pickup_zone=99)]
    assert load_rows(tmp_path, *rows).columns.pickup_zone.tolist() == [99, *range(1, 40)]


def test_months_come_in_the_order_of_time_each_with_its_source(tmp_path: Path) -> None:
    paths = [
        write_month(tmp_path, [row_at("2021-02-03T10:00:00"), row_at("2021-02-01T00:00:00")], FEBRUARY),
        write_month(tmp_path, [row_at("2021-01-31T23:00:00")], JANUARY),
    ]
    rides = load(tmp_path, FEBRUARY, JANUARY)
    assert (np.diff(rides.pickup_time) > np.timedelta64(0, "s")).all()
    assert [(source.month, source.n_kept) for source in rides.sources] == [(JANUARY, 1), (FEBRUARY, 2)]
    assert [source.file for source in rides.sources] == [path.name for path in reversed(paths)]
    assert [source.sha256 for source in rides.sources] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in reversed(paths)
    ]


def test_month_of_several_batches_and_row_groups_is_loaded_whole(tmp_path: Path) -> None:
    rows = [row_at(f"2021-01-{day:02d}T10:00:00", pickup_zone=day) for day in (9, 3, 7, 31, 1)]
    table = tlc_table([*rows, TlcRow(pickup=None), TlcRow(pickup=None)])
    n_times = BATCH_ROWS // len(table) + 2
    path = tmp_path / tlc_file_name("green", JANUARY)
    pq.write_table(pa.concat_tables([table] * n_times), path, row_group_size=BATCH_ROWS // 2)
    rides = load(tmp_path)
    assert np.array_equal(rides.columns.pickup_zone, np.repeat([1, 3, 7, 9, 31], n_times))
    assert rides.sources[0].n_rows == 7 * n_times
    assert dropped(rides) == {"time_missing": 2 * n_times}


@given(
    zone=st.integers(1, 265),
    miles=st.floats(),
    pickup=st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
)
def test_compact_columns_give_the_same_features_to_the_bit(zone: int, miles: float, pickup: datetime) -> None:
    zones, distance, time = np.array([zone]), np.array([miles]), np.array([pickup], "datetime64[s]")
    wide = RideColumns(zones, zones[::-1], distance, time.astype("datetime64[m]").astype(np.int64))
    compact = compact_columns(zones, zones[::-1], distance, time)
    assert feature_matrix(compact).tobytes() == feature_matrix(wide).tobytes()


def test_joining_a_generator_of_months_needs_little_more_memory_than_the_result() -> None:
    n_rides, n_months = 20_000, 8

    def months() -> Iterator[Rides]:
        for number in range(n_months):
            time = np.full(n_rides, JANUARY.start)
            zones = np.full(n_rides, number + 1, np.int32)
            columns = compact_columns(zones, zones, np.zeros(n_rides), time)
            yield Rides(columns, time, np.zeros(n_rides), ())

    tracemalloc.start()
    try:
        rides = concat_rides(months())
        kept_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(rides) == n_rides * n_months
    assert kept_bytes < 40 * len(rides)
    assert peak_bytes < 1.4 * kept_bytes


def test_parts_join_to_the_whole(tmp_path: Path) -> None:
    whole = load_rows(tmp_path, *(row_at(f"2021-01-0{day}T10:00:00", pickup_zone=day) for day in range(1, 8)))
    joined = concat_rides([whole.head(3), whole.take(slice(3, None))])
    assert whole.head(3).columns.pickup_zone.tolist() == [1, 2, 3]
    assert all(np.array_equal(one, other) for one, other in zip(joined.arrays(), whole.arrays(), strict=True))
    assert len(whole.head(99)) == 7
    assert len(whole.head(-1)) == 0


def test_data_folder_goes_before_the_cache_and_the_cache_before_a_download(tmp_path: Path) -> None:
    data_dir, cache_dir = tmp_path / "data", tmp_path / "cache"
    fetched = []

    def fetch(service: Service, month: Month, folder: Path) -> Path:
        fetched.append(month)
        folder.mkdir(exist_ok=True)
        return write_month(folder, [row_at("2021-01-05T08:15:00", pickup_zone=3)], month, service)

    def first_zone() -> int:
        rides = load_rides("green", [JANUARY], data_dir=data_dir, cache_dir=cache_dir, fetch=fetch)
        return int(rides.columns.pickup_zone[0])

    data_dir.mkdir()
    assert [first_zone(), first_zone()] == [3, 3]
    assert fetched == [JANUARY]
    write_month(data_dir, [row_at("2021-01-05T08:15:00", pickup_zone=1)], JANUARY)
    assert first_zone() == 1


def test_month_is_taken_from_a_sample_of_several_if_it_is_nowhere_whole(tmp_path: Path) -> None:
    rows = [
        row_at(start, pickup_zone=zone)
        for start, zone in [("2009-01-01T00:00:00", 9), ("2020-01-31T23:59:59", 1), ("2020-02-01T00:00:00", 2)]
    ]
    write_sample(tmp_path, [*rows, row_at("2020-02-02T00:00:00", minutes=0)], "2020-01_2020-02")
    (tmp_path / "yellow_tripdata_sample_of_old.parquet").touch()
    rides = load(tmp_path, Month(2020, 2), service="yellow")
    assert rides.columns.pickup_zone.tolist() == [2]
    assert (rides.sources[0].n_rows, dropped(rides)) == (2, {"duration_out_of_range": 1})
    with pytest.raises(MonthUnavailableError, match="yellow_tripdata_2020-03"):
        load(tmp_path, Month(2020, 3), service="yellow")
    whole = write_month(tmp_path, [row_at("2020-02-03T00:00:00")], Month(2020, 2), "yellow")
    assert load(tmp_path, Month(2020, 2), service="yellow").sources[0].file == whole.name


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        *(
            (Schema(without=(column,)), f"has no column {column}")
            for column in ("lpep_pickup_datetime", "lpep_dropoff_datetime", "PULocationID", "DOLocationID")
        ),
        (Schema(without=("trip_distance",)), "has no column trip_distance"),
        (Schema(time=pa.string()), "lpep_pickup_datetime instead of times without a zone"),
        (Schema(zone=pa.date32()), r"has date32\[day\] in column PULocationID instead of numbers"),
    ],
)
def test_missing_column_and_column_of_a_wrong_type_are_named(tmp_path: Path, schema: Schema, complaint: str) -> None:
    with pytest.raises(UserError, match=f"green_tripdata_2021-01.parquet .*{complaint}: use the trip record file"):
        load_rows(tmp_path, GOOD, schema=schema)


@given(kept=st.floats(0, 1, exclude_max=True))
def test_file_cut_short_anywhere_is_reported(tmp_path_factory: pytest.TempPathFactory, kept: float) -> None:
    path = write_month(tmp_path_factory.mktemp("tlc"), [GOOD], JANUARY)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(
        UserError, match=r"is not Parquet, or is cut short \(it .*\): replace it with the file that TLC"
    ):
        load(path.parent)
    with pytest.raises(UserError, match=r"\): delete this download, and it is downloaded from TLC again"):
        load_rides("green", [JANUARY], cache_dir=path.parent, fetch=no_fetch)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "it has no rows"),
        (
            [row_at("2021-03-01T00:00:00"), row_at("2021-03-02T00:00:00"), TlcRow(pickup=None)],
            "all of its 3 rows were dropped: time_missing 1, pickup_outside_month 2",
        ),
    ],
)
def test_file_without_a_ride_of_its_month_is_reported(tmp_path: Path, rows: list[TlcRow], reason: str) -> None:
    with pytest.raises(UserError, match=rf"contains no usable ride of 2021-01 \({reason}\): replace it"):
        load_rows(tmp_path, *rows)


@pytest.mark.parametrize("months", [[], [FEBRUARY, JANUARY, FEBRUARY]])
def test_no_month_and_a_month_given_twice_are_refused(tmp_path: Path, months: list[Month]) -> None:
    with pytest.raises(UserError, match="has no month, or names one twice: write months as"):
        load_rides("green", months, data_dir=tmp_path)


def test_nanoseconds_below_a_second_do_not_move_a_ride(tmp_path: Path) -> None:
    start = datetime(2021, 1, 31, 23, 59, 59, 999_999)  # noqa: DTZ001
    row = TlcRow(pickup=start, dropoff=start + timedelta(minutes=1))
    rides = load_rows(tmp_path, row, schema=SCHEMAS["nanoseconds"])
    assert rides.pickup_time[0] == np.datetime64("2021-01-31T23:59:59")
