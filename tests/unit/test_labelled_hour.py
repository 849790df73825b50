"""Labelled rides of an hour by column: what monitoring and calibration read."""

from datetime import timedelta

import numpy as np
import pytest

from tests.builders_labelled import labelled_bucket, labelled_row, parquet_of
from training.data.labelled import NO_OUTCOME, REJECTED
from training.errors import BucketError
from training.monitoring.hours import Hour
from training.monitoring.labelled_hour import DamagedLabelledError, LabelledHour, read_labelled_hour

HOUR = Hour.parse("2021-01-05T13")
KEY = "labelled/dt=2021-01-05/hh=13/rides.parquet"
CALIBRATED = "green-2021-02-000000000000+2021-01-05T05"
ARRIVAL = labelled_row()["arrival_time"]


def read(*rows: dict[str, object]) -> LabelledHour:
    """Return the hour of a bucket that holds these rows."""
    hour = read_labelled_hour(labelled_bucket({KEY: parquet_of(rows)}), HOUR)
    assert hour is not None
    return hour


def test_columns_hold_the_rides_that_have_a_prediction_in_the_files_order() -> None:
    no_prediction = {"model_version": None, "predicted_minutes": None, "duration_minutes": None, "status": REJECTED}
    hour = read(
        labelled_row(pickup_zone=1, low_minutes=10.0, high_minutes=30.0, outcome_time=ARRIVAL + timedelta(minutes=18)),
        labelled_row(pickup_zone=2, **no_prediction),
        labelled_row(pickup_zone=3, duration_minutes=None, status=NO_OUTCOME, model_version=CALIBRATED),
        labelled_row(pickup_zone=4, has_pickup_time=False),
    )
    assert hour.rides.pickup_zone.tolist() == [1, 3, 4]
    assert hour.rides.pickup_zone.dtype == hour.rides.pickup_minute.dtype == np.int64
    assert hour.rides.pickup_minute.tolist() == [26830575] * 3
    assert hour.duration_minutes[[0, 2]].tolist() == [17.4, 17.4]
    assert hour.has_outcome.tolist() == [True, False, True]
    assert hour.is_judged.tolist() == [True, False, False]
    assert hour.low_minutes[0] == 10.0
    assert np.isnan(hour.low_minutes[1:]).all()
    assert hour.outcome_delay_s[0] == 18 * 60
    assert [hour.versions[number] for number in hour.version] == [
        "green-2021-01-3f2a9c1d0b7e",
        CALIBRATED,
        "green-2021-01-3f2a9c1d0b7e",
    ]


@pytest.mark.parametrize(("minutes", "judged"), [(0.99, False), (1.0, True), (60.0, True), (60.01, False)])
def test_rides_of_1_to_60_minutes_are_judged(minutes: float, judged: bool) -> None:
    assert read(labelled_row(duration_minutes=minutes)).is_judged.tolist() == [judged]


def test_an_hour_without_rides_has_empty_columns() -> None:
    hour = read()
    assert len(hour) == len(hour.rides) == len(hour.version) == 0
    assert hour.versions == ()


def test_an_hour_without_a_file_is_none() -> None:
    assert read_labelled_hour(labelled_bucket({}), HOUR) is None


@pytest.mark.parametrize("body", [b"", b"PAR1", parquet_of([labelled_row()])[:-20]])
def test_a_damaged_file_is_named(body: bytes) -> None:
    with pytest.raises(BucketError, match=r"hh=13/rides.parquet holds no labelled rides.*join the hour again"):
        read_labelled_hour(labelled_bucket({KEY: body}), HOUR)


@pytest.mark.parametrize(
    "values",
    [
        {"pickup_zone": 266},
        {"pickup_zone": None},
        {"has_pickup_time": None},
        {"dropoff_zone": -1},
        {"predicted_minutes": 1e200},
        {"duration_minutes": -1e200},
    ],
)
def test_a_file_with_values_that_no_join_writes_is_damaged(values: dict[str, float]) -> None:
    with pytest.raises(DamagedLabelledError, match="join the hour again"):
        read(labelled_row(), labelled_row(**values))
