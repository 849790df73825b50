"""A month that went through a warehouse gives the same rides, or one sentence that says what to do."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.outcomes import elapsed_minutes as elapsed_minutes_of_one
from tests.builders_tlc import TlcRow, row_at, tlc_table
from tests.unit.test_load import no_fetch
from training.data.elapsed import elapsed_minutes
from training.data.load import load_rides
from training.data.month_folders import passed_over
from training.data.months import Month, Service, local_months
from training.data.rides import Rides
from training.data.tlc_file import Timestamps
from training.errors import MonthUnavailableError, UserError

JANUARY = Month(2021, 1)
NAME = "green_tripdata_2021-01.parquet"
ZONES = ("PULocationID", "DOLocationID")
TIMES = ("lpep_pickup_datetime", "lpep_dropoff_datetime")
ROWS = [
    *(row_at(f"2021-01-{day:02d}T10:00:00", pickup_zone=day, trip_distance=day * 0.19) for day in range(28, 0, -1)),
    *(row_at("2021-01-05T08:15:00", pickup_zone=zone, trip_distance=miles) for zone, miles in [(264, -24.49), (3, 0)]),
    row_at("2021-01-06T08:15:00", pickup_zone=None),
    row_at("2021-01-06T08:15:00", trip_distance=None),
    row_at("2021-02-06T08:15:00"),
    TlcRow(dropoff=None),
]
HUNDREDTHS = pa.decimal128(12, 2)


def load(folder: Path, service: Service = "green", timestamps: Timestamps | None = None) -> Rides:
    return load_rides(
        service, [JANUARY], data_dir=folder, cache_dir=folder / "cache", fetch=no_fetch, timestamps=timestamps
    )


def written(folder: Path, table: pa.Table, name: str = NAME) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / name)
    return folder


def month_table(rows: list[TlcRow] | None = None) -> pa.Table:
    table = tlc_table(ROWS if rows is None else rows)
    return changed(table, {"trip_distance": lambda miles: pc.round(miles, 2)})


def changed(table: pa.Table, changes: dict[str, Callable[[pa.ChunkedArray], pa.ChunkedArray]]) -> pa.Table:
    for name, change in changes.items():
        table = table.set_column(table.schema.get_field_index(name), name, change(table[name]))
    return table


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([[None if value is None else str(value) for value in column.to_pylist()]], pa.string())


def as_decimal(kind: pa.DataType) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    def change(column: pa.ChunkedArray) -> pa.ChunkedArray:
        values = [None if value is None else Decimal(str(value)) for value in column.to_pylist()]
        return pa.chunked_array([values], kind)

    return change


def in_zone(zone: str) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    return lambda column: column.cast(pa.timestamp("us", zone))


TYPES: dict[str, dict[str, Callable[[pa.ChunkedArray], pa.ChunkedArray]]] = {
    "decimals": {**dict.fromkeys(ZONES, as_decimal(pa.decimal128(38, 0))), "trip_distance": as_decimal(HUNDREDTHS)},
    "large decimals": {"trip_distance": as_decimal(pa.decimal256(50, 9))},
    "text": dict.fromkeys((*ZONES, "trip_distance"), as_text),
    "text of floats": dict.fromkeys(ZONES, lambda column: as_text(column.cast(pa.float64()))),
    "large text": dict.fromkeys(ZONES, lambda column: as_text(column).cast(pa.large_string())),
    "dictionary of text": dict.fromkeys(ZONES, lambda column: as_text(column).dictionary_encode()),
    "dictionary of numbers": dict.fromkeys(ZONES, lambda column: column.dictionary_encode()),
    "small integers": dict.fromkeys(ZONES, lambda column: column.cast(pa.int16())),
    "single floats": dict.fromkeys(ZONES, lambda column: column.cast(pa.float32())),
}


def expect_same(found: Rides, expected: Rides) -> None:
    for one, other in zip(found.arrays(), expected.arrays(), strict=True):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    (source,), (wanted,) = found.sources, expected.sources
    assert replace(source, file="", sha256="") == replace(wanted, file="", sha256="")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Rides:
    rides = load(written(tmp_path_factory.mktemp("plain"), month_table()))
    assert len(rides) == 31
    return rides


@pytest.mark.parametrize("changes", TYPES.values(), ids=TYPES)
def test_other_types_give_the_same_rides(
    tmp_path: Path, expected: Rides, changes: dict[str, Callable[[pa.ChunkedArray], pa.ChunkedArray]]
) -> None:
    expect_same(load(written(tmp_path, changed(month_table(), changes))), expected)


@pytest.mark.parametrize("rename", [str.lower, str.upper, str.swapcase])
def test_other_case_gives_the_same_rides(tmp_path: Path, expected: Rides, rename: Callable[[str], str]) -> None:
    table = month_table()
    expect_same(load(written(tmp_path, table.rename_columns(list(map(rename, table.column_names))))), expected)


@given(miles=st.lists(st.decimals(-99_999, 99_999, places=2), min_size=1, max_size=30))
def test_distance_in_decimals_or_text_is_the_nearest_float(
    tmp_path_factory: pytest.TempPathFactory, miles: list[Decimal]
) -> None:
    rows = [row_at("2021-01-05T08:15:00", trip_distance=float(each)) for each in miles]
    table = tlc_table(rows)
    for kind in (lambda _: pa.chunked_array([miles], HUNDREDTHS), as_text):
        rides = load(written(tmp_path_factory.mktemp("tlc"), changed(table, {"trip_distance": kind})))
        assert rides.columns.trip_distance_miles.tolist() == [float(each) for each in miles]


def test_text_that_is_no_number_as_in_serving_is_missing(tmp_path: Path) -> None:
    texts = ["3.66", "", " 1", "0x1", "1e999", "nan", "3,66", "01"]
    table = tlc_table([row_at("2021-01-05T08:15:00") for _ in texts])
    changes = {"trip_distance": lambda _: pa.chunked_array([texts])}
    rides = load(written(tmp_path, changed(table, changes)))
    np.testing.assert_array_equal(rides.columns.trip_distance_miles, [3.66, *[np.nan] * 7])


# Time zones ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "+00:00", "America/New_York"])
def test_times_with_a_zone_are_refused_until_somebody_says_what_they_are(tmp_path: Path, zone: str) -> None:
    folder = written(tmp_path, changed(month_table(), dict.fromkeys(TIMES, in_zone(zone))))
    with pytest.raises(UserError, match=r"true points in time or .*: give --timestamps local or --timestamps utc"):
        load(folder)


def test_wall_clock_times_that_are_labelled_utc_give_the_same_rides(tmp_path: Path, expected: Rides) -> None:
    folder = written(tmp_path, changed(month_table(), dict.fromkeys(TIMES, in_zone("UTC"))))
    rides = load(folder, timestamps="local")
    expect_same(rides, expected)
    assert rides.sources[0].file == f"{NAME}, times read as local"


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_true_points_in_time_give_the_same_rides(
    tmp_path: Path, expected: Rides, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def localised(column: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.assume_timezone(column, "America/New_York").cast(pa.timestamp("us", zone))

    folder = written(tmp_path, changed(month_table(), dict.fromkeys(TIMES, localised)))
    expect_same(load(folder, timestamps="utc"), expected)
    monkeypatch.setenv("TLC_TIMESTAMPS", "utc")
    expect_same(load(folder), expected)
    monkeypatch.setenv("TLC_TIMESTAMPS", "UTC")
    with pytest.raises(UserError, match="'UTC' is no way to read times with a zone: choose local or utc"):
        load(folder)


def test_times_without_a_zone_are_new_yorks_whatever_the_option_says(tmp_path: Path, expected: Rides) -> None:
    expect_same(load(written(tmp_path, month_table()), timestamps="utc"), expected)


# Changes of the clock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pickup", "dropoff", "minutes"),
    [
        ("2021-03-14T01:50:00", "2021-03-14T03:10:00", 20),  # the clock went forward at 2 o'clock
        ("2021-03-14T02:10:00", "2021-03-14T02:30:00", 20),  # times that the clock skipped
        ("2021-11-07T01:50:00", "2021-11-07T01:10:00", 20),  # the clock went back
        ("2021-11-07T01:10:00", "2021-11-07T01:50:00", 40),
        ("2021-11-07T00:50:00", "2021-11-07T02:20:00", 150),
        ("2021-11-07T12:00:00", "2021-11-07T12:20:00", 20),
    ],
)
def test_minutes_are_true_beside_changes_of_the_clock(pickup: str, dropoff: str, minutes: float) -> None:
    times = [np.array([time], "M8[us]") for time in (pickup, dropoff)]
    assert elapsed_minutes(*times).tolist() == [minutes]


@given(
    st.sampled_from([datetime(2021, 3, 14), datetime(2021, 11, 7), datetime(2021, 1, 5)]),  # noqa: DTZ001
    st.integers(-300, 1_500),
    st.integers(-90, 120),
)
def test_minutes_are_those_of_an_outcome(day: datetime, begin_minutes: int, lasts_minutes: int) -> None:
    begin = day + timedelta(minutes=begin_minutes)
    pickup, dropoff = np.array([[begin], [begin + timedelta(minutes=lasts_minutes)]], "M8[us]")
    theirs = elapsed_minutes_of_one(str(pickup[0]), str(dropoff[0]))
    found = elapsed_minutes(pickup, dropoff)[0]
    assert found == theirs or not (1 <= found <= 60 or 1 <= theirs <= 60)


def test_months_of_a_change_keep_rides_by_their_true_minutes(tmp_path: Path) -> None:
    rows = [
        TlcRow(datetime(2021, 3, 14, 1, 50), datetime(2021, 3, 14, 3, 10)),  # noqa: DTZ001
        TlcRow(pickup=datetime(2300, 1, 1), dropoff=datetime(2021, 3, 14, 1, 50)),  # noqa: DTZ001
    ]
    pq.write_table(tlc_table(rows), tmp_path / "green_tripdata_2021-03.parquet")
    rides = load_rides("green", [Month(2021, 3)], data_dir=tmp_path)
    assert rides.duration_minutes.tolist() == [20]


# Folders and names ---------------------------------------------------------------------------------------------------


def parts(table: pa.Table, n_parts: int = 12) -> Iterator[tuple[str, pa.Table]]:
    """Return the parts of a table, the tenth named before the second in the order of the alphabet."""
    step = len(table) // n_parts + 1
    return ((f"part-{number}.parquet", table.slice(number * step, step)) for number in range(n_parts))


@pytest.mark.parametrize(
    "folder",
    [
        NAME,
        "green_tripdata_2021-01",
        "year=2021/month=01",
        "green/year=2021/month=1",
        "a/service=green/year=2021/month=01",
    ],
)
def test_folder_of_part_files_is_one_month(tmp_path: Path, expected: Rides, folder: str) -> None:
    for name, part in parts(month_table()):
        written(tmp_path, part, f"{folder}/{name}")
    for name in ("_SUCCESS", ".part-0.parquet.crc", "_temporary/0/part-0.parquet"):
        (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_bytes(b"no data")
    rides = load(tmp_path)
    expect_same(rides, expected)
    assert rides.sources[0].file == folder[folder.find("year=") :].replace("a/", "") or folder.startswith("green_")
    assert local_months("green", tmp_path, tmp_path / "cache") == (JANUARY,)
    if "green" not in folder:
        assert local_months("yellow", tmp_path, tmp_path / "cache") == ()
    digest = rides.sources[0].sha256
    written(tmp_path, month_table(), f"{folder}/part-99.parquet")
    assert load(tmp_path).sources[0].sha256 != digest


def test_hive_folder_as_pyarrow_writes_it_is_one_month(tmp_path: Path, expected: Rides) -> None:
    table = (
        month_table()
        .append_column("year", pa.array([2021] * len(ROWS)))
        .append_column("month", pa.array([1] * len(ROWS)))
    )
    pa.dataset.write_dataset(
        table, tmp_path, format="parquet", partitioning=["year", "month"], partitioning_flavor="hive", use_threads=False
    )
    expect_same(load(tmp_path), expected)


def test_ending_in_capitals_is_the_months_file(tmp_path: Path, expected: Rides) -> None:
    expect_same(load(written(tmp_path, month_table(), "green_tripdata_2021-01.PARQUET")), expected)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("green_tripdata_2021-01 (1).parquet", f"name the right one {NAME}"),
        ("green/green_tripdata_2021_01.parquet", f"name the right one {NAME}"),
        ("rides_202101.parquet", f"name the right one {NAME}"),
        ("green_tripdata_2021-01.csv", f"write it as Parquet, its times as timestamps, under the name {NAME}"),
        ("green_tripdata_2021-01.csv.gz", f"write it as Parquet, its times as timestamps, under the name {NAME}"),
    ],
)
def test_near_name_is_mentioned_and_not_passed_over(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(UserError) as found:
        load(tmp_path)
    assert str(found.value).startswith(f"{tmp_path} has no {NAME}, but it has {name!r}: {hint}")
    assert not isinstance(found.value, MonthUnavailableError)  # the demo must not use made-up rides in its place


def test_two_folders_of_a_month_are_both_mentioned(tmp_path: Path) -> None:
    for root in ("a", "b"):
        written(tmp_path, month_table(), f"{root}/year=2021/month=01/part-0.parquet")
    with pytest.raises(UserError, match=r"but it has 'a/year=2021/month=01', 'b/year=2021/month=01'"):
        load(tmp_path)


def test_month_that_is_nowhere_comes_with_what_the_folder_has(tmp_path: Path) -> None:
    for name in (
        "green_tripdata_2021-02",
        "green_tripdata_2021-04",
        "green_tripdata_2021-05",
        "yellow_tripdata_2021-01",
    ):
        written(tmp_path, month_table(), f"{name}.parquet")
    (tmp_path / "sample.csv").touch()
    with pytest.raises(MonthUnavailableError) as found:
        load(tmp_path)
    assert f"and {tmp_path} has the green months 2021-02, 2021-04 to 2021-05 and sample.csv: " in str(found.value)


def test_names_that_no_month_is_read_from_are_known(tmp_path: Path) -> None:
    names = ["green_tripdata_2021-02.csv", "green_tripdata_2021-02 (1).parquet", "green_202103.parquet"]
    for name in (
        *names,
        "green_tripdata_2021-04.PARQUET",
        "green_tripdata_sample_2020-01.parquet",
        "yellow_2021-01.csv",
    ):
        (tmp_path / name).touch()
    written(tmp_path, month_table())
    assert passed_over("green", tmp_path) == sorted(names)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (
            b"VendorID,lpep_pickup_datetime\n1,2021-01-01",
            "looks like CSV and begins with 'VendorID,lpep_pickup_datetime'",
        ),
        ("\ufeffVendorID,lpep".encode(), "looks like CSV and begins with 'VendorID,lpep'"),  # as Excel writes it
        (b"VendorID\tlpep", "looks like CSV"),
        (b"<html>log in", "looks like a web page"),
        (b"\x1f\x8b\x08", "is compressed with gzip"),
        (b"", "is empty"),
        (b"\x00\x01\x02", "is some other binary file"),
        (b"PAR1 and no more", "begins as Parquet, and is cut short"),
    ],
)
def test_file_that_is_not_parquet_is_described(tmp_path: Path, content: bytes, seen: str) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(UserError, match=f"is not Parquet, or is cut short .it {seen}.*: replace it with the file"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"VendorID": "pulocationid", "PULocationID": "PULOCATIONID"}, "has the columns pulocationid and PULOCATIONID"),
        ({"VendorID": "PULocationID"}, "has two columns PULocationID"),
        (
            {name: name.replace("lpep", "tpep") for name in TIMES},
            "has yellow rides, not green ones: give --service yellow",
        ),
    ],
)
def test_columns_that_are_unclear_are_named(tmp_path: Path, changes: dict[str, str], sentence: str) -> None:
    table = month_table()
    names = [changes.get(name, name) for name in table.column_names]
    with pytest.raises(UserError, match=sentence):
        load(written(tmp_path, table.rename_columns(names)))


def test_folder_without_files_is_reported(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(UserError, match=rf"{NAME} has no files: put the month's part files into it"):
        load(tmp_path)
