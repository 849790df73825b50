"""Rides from labelled rides: the same as those that were sent, however they arrived; and one sentence for a mistake."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_function.core.bundle import MANIFEST, Manifest
from tests.builders import FEBRUARY, JANUARY, SMALL_PARAMETERS, small_rides
from tests.builders_labelled import (
    PICKUP_TIME,
    SCHEMA,
    Row,
    hour_key,
    hourly_files,
    labelled_bucket,
    labelled_row,
    parquet_of,
    rows_of,
)
from tests.kits.cli import Cli
from training.data.labelled import COLUMNS
from training.data.months import parse_days
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.errors import UserError
from training.workflows.pipeline import train
from training.workflows.ride_source import labelled_source

FEW = synthetic_rides(JANUARY, 40, seed=7)
PARAMETERS = {**SMALL_PARAMETERS, "max_iter": 5}


def loaded(rows: list[Row], days: str = "2021-01") -> Rides:
    return labelled_source(labelled_bucket(hourly_files(rows))).load(parse_days(days))


def same(a: Rides, b: Rides) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(a.arrays(), b.arrays(), strict=True))


def daily_files(*months: Rides) -> dict[str, bytes]:
    """Files of rides, all of which arrived at noon: there are fewer files than hours."""
    return hourly_files(
        {**row, "arrival_time": row["arrival_time"].replace(hour=12)} for rides in months for row in rows_of(rides)
    )


def crowded(rides: Rides) -> Rides:
    """The rides with pickups at the beginning of a week, so that many begin in the same second."""
    pickup_time = rides.pickup_time.astype("M8[W]").astype("M8[s]")
    pickup_time = np.maximum(pickup_time, JANUARY.start)
    columns = replace(rides.columns, pickup_minute=pickup_time.astype("M8[m]").astype(np.int32))
    return replace(rides, columns=columns, pickup_time=pickup_time)


@settings(max_examples=10)  # each builds a file for each of many hours
@given(st.data())
def test_rides_come_back_in_their_order_however_they_arrived(data: st.DataObject) -> None:
    sent = crowded(FEW)
    late = data.draw(st.lists(st.timedeltas(timedelta(), timedelta(days=3)), min_size=len(sent), max_size=len(sent)))
    rows = [{**row, "arrival_time": row["arrival_time"] + late[i]} for i, row in enumerate(rows_of(sent))]
    again = loaded(data.draw(st.permutations(rows)))
    assert same(again, sent)
    assert again.sources == loaded(rows).sources


def test_model_of_labelled_rides_is_that_of_the_rides_that_were_sent() -> None:
    sent = small_rides(), synthetic_rides(FEBRUARY, 500, seed=7)
    source = labelled_source(labelled_bucket(daily_files(*sent)))
    direct = train("green", *sent, PARAMETERS).bundle
    labelled = train("green", source.load([JANUARY]), source.load([FEBRUARY]), PARAMETERS).bundle
    assert {name for name in direct.files if direct.files[name] != labelled.files[name]} == {MANIFEST}
    differing = {
        name
        for name in Manifest.__struct_fields__
        if getattr(direct.model.manifest, name) != getattr(labelled.model.manifest, name)
    }
    assert differing == {"model_version", "data"}  # the version is a digest, of the data's names and digests too
    (data,) = labelled.model.manifest.data
    assert (data.file, data.month, data.n_rows, data.n_kept) == ("labelled/2021-01", "2021-01", 2000, 2000)
    assert labelled.model_version.startswith("green-2021-01-")


def test_only_labelled_rides_with_a_pickup_time_and_a_usual_duration_are_kept() -> None:
    rows = [
        labelled_row(ride_id="1"),
        labelled_row(ride_id="2", contradicting=True),
        labelled_row(ride_id="3", status="no_outcome", duration_minutes=None),
        labelled_row(ride_id="4", status="lost", has_pickup_time=False),
        labelled_row(ride_id="5", has_pickup_time=False),
        labelled_row(ride_id="6", duration_minutes=0.99),
        labelled_row(ride_id="7", duration_minutes=60.01),
        labelled_row(ride_id="8", duration_minutes=60.0),
    ]
    rides = loaded(rows)
    (source,) = rides.sources
    assert len(rides) == source.n_kept == 3
    assert source.n_rows == 8
    assert source.dropped == {"not_labelled": 2, "pickup_time_missing": 1, "duration_out_of_range": 2}


def test_days_are_those_of_the_pickup_in_new_york() -> None:
    midnight = datetime(2021, 1, 15)  # noqa: DTZ001 - New York's wall clock
    pickups = [midnight - timedelta(seconds=1), midnight, midnight + timedelta(days=2), midnight + timedelta(days=3)]
    rows = [labelled_row(ride_id=str(i), pickup_time=pickup) for i, pickup in enumerate(pickups)]
    rides = loaded(rows, "2021-01-15..2021-01-17")
    assert rides.pickup_time.tolist() == pickups[1:3]
    (source,) = rides.sources
    assert source.file == "labelled/2021-01-15..2021-01-17"
    assert source.facts.n_rides_by_day == (1, 0, 1)
    assert [str(month) for month in loaded(rows, "2021-01-14..2021-01-17").months] == ["2021-01-14..2021-01-17"]


def test_rides_of_days_in_two_months_have_a_source_each() -> None:
    rows = [labelled_row(pickup_time=datetime(2021, month, day)) for month, day in ((1, 30), (2, 2))]  # noqa: DTZ001
    rides = loaded(rows, "2021-01-30..2021-02-05")
    assert [(str(one.month), one.n_kept) for one in rides.sources] == [
        ("2021-01-30..2021-01-31", 1),
        ("2021-02-01..2021-02-05", 1),
    ]


def test_event_may_arrive_a_day_before_its_pickup_or_years_after() -> None:
    new_year = datetime(2021, 1, 1, 0, 10)  # noqa: DTZ001 - New York's wall clock
    arrivals = [new_year + shift for shift in (-timedelta(days=1), timedelta(days=2000))]
    rows = [labelled_row(pickup_time=new_year, arrival_time=arrival) for arrival in arrivals]
    assert len(loaded(rows)) == 2


def test_digest_depends_on_the_values_of_the_rides() -> None:
    (before,), (after,) = (loaded([labelled_row(duration_minutes=minutes)]).sources for minutes in (17.4, 17.5))
    assert before.sha256 != after.sha256


def schema_with(**types: pa.DataType | None) -> pa.Schema:
    """The join's schema, with another type in some columns, or without them."""
    fields = {field.name: field.type for field in SCHEMA} | types
    return pa.schema([(name, kind) for name, kind in fields.items() if kind is not None])


KEY = hour_key(PICKUP_TIME)
WHOLE = parquet_of([labelled_row()])


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "labelled-rides has no usable labelled ride of 2021-01 .no file with such pickups.: name a bucket"),
        ({"labelled/dt=2021-01-01/hh=00/notes.txt": b"x"}, "no file with such pickups"),
        ({KEY: parquet_of([])}, "no file with such pickups"),
        (
            {KEY: parquet_of([labelled_row(status="lost")])},
            "2021-01 .all of its 1 rows were dropped: not_labelled 1.: choose days between 2021-01-05 and 2021-01-05",
        ),
        ({KEY: WHOLE[:-9]}, f"{KEY} is not Parquet, or is cut short: join that hour again"),
        (
            {KEY: parquet_of([{}], schema_with(has_pickup_time=None))},
            f"{KEY} has no column has_pickup_time",
        ),
        (
            {KEY: parquet_of([{}], schema_with(pickup_zone=pa.int64()))},
            f"{KEY} has int64 in column pickup_zone instead of int16",
        ),
    ],
)
def test_what_cannot_be_used_is_named_in_one_sentence(files: dict[str, bytes], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        labelled_source(labelled_bucket(files)).load([JANUARY])


def test_columns_are_those_of_the_form() -> None:
    assert SCHEMA.names == [column.name for column in COLUMNS]


# The command line --------------------------------------------------------------------------------------------------

DAYS = ("--train", "2021-01-01..2021-01-20", "--validate", "2021-01-21..2021-01-31")
QUICK = ("--set", "max_iter=5", "--no-track", "--no-report", "--allow", "rows")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The command line, in a folder whose subfolder `bucket` has labelled rides of two months."""
    months = synthetic_rides(JANUARY, 2000, seed=7), synthetic_rides(FEBRUARY, 1900, seed=7)
    for key, body in daily_files(*months).items():
        path = tmp_path / "bucket" / key
        path.parent.mkdir(parents=True)
        path.write_bytes(body)
    monkeypatch.chdir(tmp_path)
    return Cli(monkeypatch, capsys)


@pytest.mark.slow
def test_labelled_rides_are_learned_gated_released_reported_and_reproduced(cli: Cli) -> None:
    labelled, models = ("--labelled", "file:bucket"), ("--bucket", "file:models")
    test = ("--test", "2021-02-01..2021-02-14", "--channel", "stable", "--force", *models)
    trained = cli("train", *labelled, *DAYS, *QUICK, *test, code=0)
    version = trained["model_version"]
    assert version.startswith("green-2021-01-")
    assert trained["gate"]["months"] == ["2021-02-01..2021-02-14"]
    shown = cli("models", "show", version, *models)
    assert shown["train_months"] == ["2021-01-01..2021-01-20"]
    assert cli("models", "reproduce", version, *labelled, *models)["identical"]
    report = Path(cli("report", version, *labelled, *models)["report"]).read_text()
    assert "labelled/2021-01-01..2021-01-20" in report
    assert "TLC" not in report.split("Training months")[1].split("</table>")[0]
    release = ("models", "release", f"build/bundles/{version}", "--judge-only", *labelled, *models)
    assert "no days are named for the gate to judge on" in cli.refuses(*release)
    assert cli(*release, "--test", "2021-02-15..2021-02-28", code=1)["months"] == ["2021-02-15..2021-02-28"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--labelled", "file:nowhere", *DAYS), "there is no folder nowhere: name one that has labelled/"),
        (("--labelled", "file:", *DAYS), "names no folder"),
        (("--labelled", "my/rides", *DAYS), "my/rides is no bucket: write a folder as file:PATH"),
        (("--labelled", "file:bucket", *DAYS, "--channel", "stable"), "no days are named for the gate to judge on"),
        (("--labelled", "file:bucket", "--train", "2021-01-32"), "'2021-01-32' is neither a day nor a month"),
        (("--labelled", "file:bucket", "--synthetic", "9"), "cannot be used with --synthetic"),
        (
            ("--labelled", "file:bucket", "--train", "2021-01", "--validate", "2021-01-31..2021-02-03"),
            "--validate names 2021-01-31, which is a training month",
        ),
        (
            ("--labelled", "file:bucket", "--train", "2026-08", "--validate", "2026-09"),
            "file:bucket has no usable labelled ride of 2026-08",
        ),
        (DAYS, "'2021-01-01' is not a month"),
    ],
)
def test_mistake_is_refused_in_one_sentence(
    words: tuple[str, ...],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "bucket").mkdir()
    monkeypatch.chdir(tmp_path)
    code, out, err = Cli(monkeypatch, capsys).ended("train", *words)
    assert (code, out) == (2, "")
    assert sentence in err.splitlines()[-1]
