"""Models in Python: a frame's predictions are the function's, for every form of a column, and errors name the row."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.bundle import MANIFEST
from lambda_function.core.processor import process
from lambda_function.errors import BundleError
from tests.builders import interval_bundle, kinesis_records, ride_bytes, small_bundle
from tests.builders_calibrations import AS_OF, calibrate, calibration_of
from tests.builders_channels import bucket_of_three, move, new_bucket, version
from training import load_model
from training.errors import UserError
from training.inference.load import LoadedModel
from training.model.bundle import write_bundle
from training.registry.bucket import Bucket
from training.registry.channels import Mover, store_bundle
from training.registry.folder_s3 import FolderS3

CALIBRATED = LoadedModel(interval_bundle().model.calibrated(calibration_of(interval_bundle().model)))
PICKUPS = ["2021-01-05T08:15:00", "2021-01-09T23:59:59", "2021-07-04T12:00:30", "2021-01-05T03:00:00"]
FRAME = pd.DataFrame(
    {
        "lpep_pickup_datetime": pd.to_datetime(PICKUPS),
        "PULocationID": [130, 74, 41, 264],
        "DOLocationID": [205, 75, 42, 7],
        "trip_distance": [3.66, 0.0, 1.5, 12.25],
        "tip_amount": [0.0, 1.0, 2.0, None],
    }
)


def predicted(frame: pd.DataFrame, model: LoadedModel = CALIBRATED) -> list[tuple[Any, ...]]:
    """Return a frame's predictions, a tuple a row."""
    return list(model.predict(frame).itertuples(index=False, name=None))


# The same as on the stream ------------------------------------------------------------------------------------------

WHOLE = st.one_of(st.integers(-1, 270), st.sampled_from([130.0, 130.5, "130", "74.0", "x", "", 10**30, True, None]))
MILES = st.one_of(st.floats(-1, 70, allow_nan=False), st.sampled_from([0, 3, "3.66", "far", 1e300]))
TIMES = st.one_of(
    st.datetimes().map(datetime.isoformat),
    st.sampled_from([*PICKUPS, "2021-01-05T08:15:00Z", "2021-01-05T08:15:00.5-08:00", "2021-01-05", "noon", ""]),
)


@given(st.lists(st.tuples(WHOLE, WHOLE, MILES, TIMES), min_size=1, max_size=20))
def test_rows_are_predicted_or_refused_as_their_events_are(rows: list[tuple[Any, ...]]) -> None:
    names = ["PULocationID", "DOLocationID", "trip_distance", "pickup_datetime"]
    events = [
        json.dumps({"ride": dict(zip(names, row, strict=True)), "ride_id": number}).encode()
        for number, row in enumerate(rows)
    ]
    batch = process(kinesis_records(*events), CALIBRATED.model)
    expected = dict.fromkeys(range(len(rows)), (None, None, None))
    for _, data in batch.entries:
        prediction = json.loads(data)
        expected[prediction["prediction"]["ride_id"]] = (
            prediction["prediction"]["ride_duration"],
            *prediction["interval"],
        )
        assert prediction["version"] == CALIBRATED.version
    frame = pd.DataFrame(rows, columns=names, dtype=object)
    found = CALIBRATED.predict(frame, errors="coerce")[["minutes", "low", "high"]].astype(object)
    assert dict(enumerate(found.where(found.notna(), None).itertuples(index=False, name=None))) == expected


def recast(**types: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return a change of columns' types; `zones` stands for both zones."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        zones = {name: types["zones"] for name in ("PULocationID", "DOLocationID") if "zones" in types}
        return frame.astype({**zones, **{name: kind for name, kind in types.items() if name != "zones"}})

    return change


def with_pickups(change: Callable[[pd.Series], Any]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.assign(lpep_pickup_datetime=change(frame.lpep_pickup_datetime))


FORMS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "float": recast(zones="float64"),
    "small": recast(zones="int16", trip_distance="float64"),
    "nullable": recast(zones="Int64", trip_distance="Float64"),
    "arrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "arrow times": with_pickups(lambda times: times.astype(pd.ArrowDtype(pa.timestamp("ns")))),
    "categorical": recast(zones="category", trip_distance="category", lpep_pickup_datetime="category"),
    "text": recast(zones="str", trip_distance="str"),
    "objects": recast(zones=object, trip_distance=object, lpep_pickup_datetime=object),
    "decimal": lambda frame: frame.assign(
        PULocationID=[Decimal(zone) for zone in frame.PULocationID.tolist()],
        trip_distance=[Decimal(str(miles)) for miles in frame.trip_distance.tolist()],
    ),
    "arrow decimal": recast(zones=pd.ArrowDtype(pa.decimal128(38, 0))),
    "times in text": with_pickups(lambda times: times.dt.strftime("%Y-%m-%d %H:%M:%S")),
    "New York's zone": with_pickups(lambda times: times.dt.tz_localize("America/New_York")),
    "UTC": with_pickups(lambda times: times.dt.tz_localize("America/New_York").dt.tz_convert("UTC")),
    "arrow with a zone": with_pickups(
        lambda times: times.dt.tz_localize("America/New_York").astype(pd.ArrowDtype(pa.timestamp("us", "UTC")))
    ),
    "seconds": with_pickups(lambda times: times.astype("datetime64[s]")),
    "yellow": lambda frame: frame.rename(columns={"lpep_pickup_datetime": "tpep_pickup_datetime"}),
    "upper case": lambda frame: frame.rename(columns=str.upper),
    "flattened events": lambda frame: frame.rename(columns=lambda name: f"ride.{name}"),
    "two pickups": lambda frame: frame.assign(
        pickup_datetime=frame.lpep_pickup_datetime.where([True, False, True, False])
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_columns_give_the_same_predictions(form: str) -> None:
    assert predicted(FORMS[form](FRAME)) == predicted(FRAME)


def test_missing_distance_is_a_ride_without_one() -> None:
    for missing in (None, float("nan")):
        assert predicted(FRAME.assign(trip_distance=missing)) == predicted(FRAME.assign(trip_distance=0.0))
    nullable = FRAME.assign(trip_distance=pd.array([None] * 4, "Float64"))
    assert predicted(nullable) == predicted(FRAME.assign(trip_distance=0))


def test_result_has_the_index_of_the_frame_in_any_order_and_with_duplicates() -> None:
    frame = FRAME.iloc[[2, 0, 3, 1]].set_axis(["b", "a", "b", "c"])
    found = CALIBRATED.predict(frame)
    assert found.index.equals(frame.index)
    assert predicted(frame) == [predicted(FRAME)[row] for row in (2, 0, 3, 1)]


def test_frame_without_rows_gives_no_predictions() -> None:
    found = CALIBRATED.predict(FRAME.head(0))
    assert list(found.columns) == ["minutes", "low", "high", "version"]
    assert (len(found), str(found.minutes.dtype)) == (0, "float64")


def test_model_without_intervals_gives_minutes_only() -> None:
    found = LoadedModel(small_bundle().model).predict(FRAME)
    assert found.minutes.notna().all()
    assert found[["low", "high"]].isna().all(axis=None)


# What cannot be predicted -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"PULocationID": [130, 999, 41, 0]}, r"2 of 4 rows .* first is row 1, whose PULocationID is 999: .* <= 265"),
        ({"DOLocationID": [205, None, 42, 7]}, r"row 1, whose DOLocationID is None: .*got `null`"),
        ({"trip_distance": [1.0, 1.0, -2.5, 1.0]}, r"row 2, whose trip_distance is -2.5: .* >= 0"),
        ({"trip_distance": ["1", "1", "far", "1"]}, r"row 2, whose trip_distance is 'far'"),
        ({"lpep_pickup_datetime": [*PICKUPS[:3], None]}, r"row 3, whose lpep_pickup_datetime is None: .*pickup time"),
        ({"lpep_pickup_datetime": "2021-01-05"}, r"4 of 4 rows.*Expected a time after the date"),
        ({"PULocationID": [130, "\ud800", 41, 7]}, r"row 1, whose ride is .*cannot be written as JSON"),
        ({"trip_distance": [1.0, 10**5000, 1.0, 1.0]}, r"row 1, whose .* is a number of thousands of digits: "),
    ],
)
def test_error_names_the_first_row_and_its_column(changes: dict[str, Any], sentence: str) -> None:
    frame = FRAME.assign(**{name: pd.Series(value, FRAME.index, object) for name, value in changes.items()})
    with pytest.raises(UserError, match=sentence):
        CALIBRATED.predict(frame)
    assert CALIBRATED.predict(frame, errors="coerce").minutes.isna().any()


def test_arrows_dates_lack_a_time_as_dates_in_text_do() -> None:
    dates = pd.array([date(2021, 1, 5)] * 4, pd.ArrowDtype(pa.date32()))
    with pytest.raises(UserError, match=r"4 of 4 rows.*Expected a time after the date"):
        CALIBRATED.predict(FRAME.assign(lpep_pickup_datetime=dates))


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (FRAME.drop(columns="DOLocationID"), r"has the columns PULocationID, DOLocationID, .*this one has lpep_pickup"),
        (FRAME.drop(columns="lpep_pickup_datetime"), r"one of pickup_datetime, lpep_pickup_datetime, tpep_"),
        (pd.DataFrame(), r"this one has no columns"),
        (
            FRAME.rename(columns={"PULocationID": "pulocationid"}).assign(PULOCATIONID=1),
            r"this one has .*pulocationid, .*PULOCATIONID",
        ),
        (pd.DataFrame({"ride": [{}], "ride_id": [1]}), r"json_normalize"),
        (pd.DataFrame([[1] * 30]), r"and 10 more"),
        (pd.concat([FRAME, FRAME[["PULocationID"]]], axis=1), r"several columns PULocationID"),
        ([{"PULocationID": 130}], r"takes a pandas DataFrame, not list"),
    ],
)
def test_frame_that_holds_no_rides_is_one_sentence(frame: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        CALIBRATED.predict(frame)


# Loading ------------------------------------------------------------------------------------------------------------


def at(year: int) -> Mover:
    return Mover("ada", lambda: datetime(year, 1, 1, tzinfo=UTC))


def test_channel_gives_the_model_and_the_calibration_of_a_ride_that_arrives_now() -> None:
    bucket = new_bucket()
    for seed in (1, 2):
        store_bundle(bucket, small_bundle(seed))
    move(bucket, mover=at(2020))
    assert load_model("stable", bucket).version == version(1)
    calibrate(bucket, mover=at(2021))
    model = load_model("stable", bucket)
    assert model.version == f"{version(1)}+{AS_OF}"
    prediction = json.loads(process(kinesis_records(ride_bytes()), model.model).entries[0][1])
    assert model.predict(FRAME).minutes[0] == prediction["prediction"]["ride_duration"]
    assert load_model(prediction["version"], bucket).predict(FRAME).equals(model.predict(FRAME))
    # AND a version that serves later rides does not count yet
    move(bucket, 2, mover=at(2100))
    assert load_model("stable", bucket).version == f"{version(1)}+{AS_OF}"


def test_version_its_beginning_and_its_folder_give_the_model_alone(tmp_path: Path) -> None:
    bucket = bucket_of_three()
    folder = write_bundle(small_bundle(2), tmp_path)
    for name in (version(2), version(2)[:-3]):
        assert load_model(name, bucket).version == version(2)
    assert load_model(str(folder)).version == version(2)
    assert load_model(folder.rename(tmp_path / "copy")).version == version(2)


def test_default_bucket_is_the_projects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RIDECAST_BUILD", str(tmp_path))
    bucket = Bucket(FolderS3(tmp_path / "bucket"), "rides")
    store_bundle(bucket, small_bundle(1))
    move(bucket)
    write_bundle(small_bundle(2), tmp_path / "bundles")
    assert load_model("stable").version == load_model("stable", f"file:{tmp_path}/bucket").version == version(1)
    assert load_model(version(2)).version == version(2)


def test_model_that_does_not_exist_or_is_damaged_is_an_error(tmp_path: Path) -> None:
    bucket = bucket_of_three()
    with pytest.raises(UserError, match="names no folder"):
        load_model("stable", "file:")
    with pytest.raises(UserError, match="holds no version and no channel 'stabel'"):
        load_model("stabel", bucket)
    with pytest.raises(UserError, match=r"nowhere is not the folder of a bundle: it has no manifest\.json"):
        load_model(tmp_path / "nowhere")
    folder = write_bundle(small_bundle(), tmp_path)
    (folder / MANIFEST).write_bytes(b"{")
    with pytest.raises(BundleError, match="does not decode"):
        load_model(folder)
    bucket.s3.objects[f"models/{version(1)}/forest.npz"] += b"x"
    with pytest.raises(BundleError, match=r"forest\.npz"):
        load_model("stable", bucket)


def test_importing_training_imports_nothing_that_takes_time() -> None:
    heavy = "{'numpy', 'botocore', 'msgspec', 'pandas'}"
    code = f"import sys, training; assert not {heavy} & set(sys.modules)"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)  # noqa: S603 - this Python, with words from here
