"""A calibrated model serves the forest's minutes times a factor by cell and tenth, with scaled intervals."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.bundle import ModelBundle, sha256
from lambda_function.core.calibration import (
    LOG_STEPS,
    MAX_WEIGHT,
    N_CELLS,
    N_WEIGHTS,
    Calibration,
    CalibrationTable,
    calibration_key,
    cell_design,
    decode_calibration,
    load_calibration,
    problem_of_calibration,
    ride_cells,
    split_version,
)
from lambda_function.core.events import decode_prediction
from lambda_function.core.features import RideColumns, feature_matrix
from lambda_function.core.processor import process
from lambda_function.errors import CalibrationError
from tests.builders import interval_bundle, kinesis_records, ride_bytes, ride_columns_of, small_bundle, small_rides
from tests.builders_calibrations import AS_OF, HALF, SOME, calibration_bytes, calibration_of

RANGE = (1.0, 60.0)
ZEROS = (0.0,) * N_WEIGHTS

weights = st.lists(st.floats(-3, 3), min_size=N_WEIGHTS, max_size=N_WEIGHTS).map(tuple)
scales = st.floats(0.5, 3.0).map(lambda q: round(q, 4))
calibrations = st.builds(lambda w, q: calibration_of(weights=w, interval_scale=q), weights, scales)


def take(rides: RideColumns, rows: Any) -> RideColumns:
    return RideColumns(
        rides.pickup_zone[rows], rides.dropoff_zone[rows], rides.trip_distance_miles[rows], rides.pickup_minute[rows]
    )


RIDES = take(small_rides().columns, slice(0, 200))
MATRIX = feature_matrix(RIDES)
MODEL = interval_bundle().model


def served(model: ModelBundle, rides: RideColumns = RIDES) -> list[list[float]]:
    """Return minutes, low and high of rides."""
    matrix = feature_matrix(rides)
    minutes = model.served_minutes(rides, matrix)
    bounds = model.interval_bounds(matrix, minutes)
    assert bounds is not None
    return [list(row) for row in zip(*(column.tolist() for column in (minutes, *bounds)), strict=True)]


# Cells ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pickup", "zones", "cell"),
    [
        ("2023-02-01T00:00", (4, 4), (0, 0, 0)),  # a Wednesday, Alphabet City
        ("2023-02-01T05:59", (4, 132), (0, 0, 1)),
        ("2023-02-01T06:00", (132, 1), (1, 0, 1)),
        ("2023-02-01T09:59", (130, 205), (1, 0, 2)),
        ("2023-02-01T10:00", (4, 130), (2, 0, 2)),
        ("2023-02-04T19:59", (4, 13), (2, 1, 0)),  # a Saturday
        ("2023-02-20T20:00", (138, 138), (3, 1, 1)),  # Washington's birthday, a Monday
        ("2023-12-27T23:59", (264, 265), (3, 1, 2)),  # between the years
    ],
)
def test_cell_is_band_of_hours_weekend_and_area(
    pickup: str, zones: tuple[int, int], cell: tuple[int, int, int]
) -> None:
    minute = int(np.datetime64(pickup, "m").astype(np.int64))
    ride = ride_columns_of(1, pickup_zone=[zones[0]], dropoff_zone=[zones[1]], pickup_minute=[minute])
    band, weekend, area = cell
    found = int(ride_cells(ride, feature_matrix(ride))[0])
    assert found == (2 * band + weekend) * 3 + area
    z = cell_design()[found]
    assert z.tolist() == [
        1.0,
        *(float(band == one) for one in range(4)),
        float(weekend),
        0.0,
        *(float(area == one) for one in range(3)),
    ]


def test_design_has_a_row_a_cell_and_no_two_are_equal() -> None:
    assert cell_design().shape == (N_CELLS, N_WEIGHTS)
    assert len({tuple(row) for row in cell_design().tolist()}) == N_CELLS


def test_logarithms_are_far_from_the_next_step_of_their_rounding() -> None:
    """So they are the same with every library of mathematics: those differ by 1e-16."""
    assert len(LOG_STEPS) == 591
    for step, rounded in enumerate(LOG_STEPS.tolist(), start=10):
        exact = math.log(step / 120)
        assert abs(abs(exact - rounded) - 0.5e-6) > 1e-12
        assert rounded == pytest.approx(exact, abs=0.5e-6)


# Minutes --------------------------------------------------------------------------------------------------------------


@given(calibrations)
def test_served_minutes_are_the_formula_of_the_design(calibration: Calibration) -> None:
    minutes = MODEL.calibrated(calibration).served_minutes(RIDES, MATRIX)
    cells = ride_cells(RIDES, MATRIX)
    for raw, cell, found in zip(MODEL.predict(MATRIX).tolist(), cells.tolist(), minutes.tolist(), strict=True):
        p = round(raw, 2)
        z = cell_design()[cell]
        z[6] = math.log(round(p * 10) / 120)
        factor = min(max(1 + float(z @ calibration.weights), 0.25), 4.0)
        assert found == pytest.approx(min(max(p * factor, 1.0), 60.0), abs=0.0051 + 60 * 1.1e-5)


@given(calibrations)
def test_served_minutes_are_hundredths_within_the_range_and_their_interval(calibration: Calibration) -> None:
    for minutes, low, high in served(MODEL.calibrated(calibration)):
        assert 1.0 <= low <= minutes <= high <= 60.0
        assert minutes == round(minutes, 2)
        assert (low, high) == (round(low, 2), round(high, 2))


@given(calibrations, st.integers(0, 199), st.permutations(range(6)))
def test_ride_gives_the_same_bits_alone_and_in_any_batch(calibration: Calibration, row: int, order: list[int]) -> None:
    model = MODEL.calibrated(calibration)
    rows = [(row + 31 * step) % 200 for step in order]
    batch = served(model, take(RIDES, rows))
    assert batch == [served(model, take(RIDES, [one]))[0] for one in rows]


@pytest.mark.parametrize("bundle", [small_bundle, interval_bundle], ids=["durations", "durations and intervals"])
def test_calibration_of_zeros_changes_nothing_but_the_version(bundle: Any) -> None:
    model = bundle().model
    zeros = model.calibrated(calibration_of(model, weights=ZEROS, interval_scale=1.0))
    records = kinesis_records(*(ride_bytes(n, PULocationID=n + 1, trip_distance=n / 7) for n in range(120)))
    plain, calibrated = process(records, model), process(records, zeros)
    version = model.model_version.encode()
    assert [(key, data.replace(version, version + b"+" + AS_OF.encode())) for key, data in plain.entries] == (
        calibrated.entries
    )


def test_predictions_name_the_served_version() -> None:
    model = MODEL.calibrated(calibration_of(MODEL))
    ((_, data),) = process(kinesis_records(ride_bytes()), model).entries
    version = decode_prediction(data).version
    assert version == f"{MODEL.model_version}+{AS_OF}" == model.served_version
    assert split_version(version) == (MODEL.model_version, AS_OF)
    assert model.model_version == MODEL.model_version


@pytest.mark.parametrize(("bias", "factor"), [(-5.0, 0.25), (-0.76, 0.25), (3.1, 4.0), (500.0, 4.0)])
def test_factor_is_bounded(bias: float, factor: float) -> None:
    table = CalibrationTable.of(calibration_of(weights=(bias, *ZEROS[1:])), RANGE)
    raw = np.array([4.0, 8.0, 12.0])
    assert table.minutes(raw, np.zeros(3, np.intp)).tolist() == (raw * factor).tolist()


def test_minutes_stay_within_the_range_of_training() -> None:
    table = CalibrationTable.of(calibration_of(weights=HALF), RANGE)
    assert table.minutes(np.array([1.0, 1.5, 60.0]), np.zeros(3, np.intp)).tolist() == [1.0, 1.0, 30.0]
    table = CalibrationTable.of(calibration_of(weights=(1.0, *ZEROS[1:])), RANGE)
    assert table.minutes(np.array([1.0, 29.99, 45.0]), np.zeros(3, np.intp)).tolist() == [2.0, 59.98, 60.0]


@pytest.mark.parametrize("range_minutes", [(0.0, 100.0), (2.5, 2.5), (0.0, 0.04), (5.0, 1440.0)])
def test_table_serves_any_range_that_intervals_serve(range_minutes: tuple[float, float]) -> None:
    table = CalibrationTable.of(calibration_of(), range_minutes)
    raw = np.linspace(*range_minutes, 50)
    for cell in range(N_CELLS):
        minutes = table.minutes(raw, np.full(50, cell))
        assert np.all((minutes >= range_minutes[0]) & (minutes <= round(range_minutes[1], 2)))


def test_last_bits_of_the_forests_sum_do_not_matter() -> None:
    table, cells = CalibrationTable.of(calibration_of(), RANGE), np.arange(N_CELLS)
    raw = np.linspace(1.01, 59.99, N_CELLS).round(2)
    assert table.minutes(np.nextafter(raw, 0), cells).tolist() == table.minutes(np.nextafter(raw, 99), cells).tolist()


def test_forests_own_minutes_stay_as_they_are() -> None:
    calibrated = MODEL.calibrated(calibration_of(MODEL, weights=HALF))
    assert np.array_equal(calibrated.predict(MATRIX), MODEL.predict(MATRIX))


# Intervals ------------------------------------------------------------------------------------------------------------


@given(scales)
def test_half_width_is_that_of_the_served_minutes_times_the_scale_rounded_up(scale: float) -> None:
    calibrated = MODEL.calibrated(calibration_of(MODEL, weights=HALF, interval_scale=scale))
    minutes = calibrated.served_minutes(RIDES, MATRIX)
    plain, scaled = (model.interval_bounds(MATRIX, minutes) for model in (MODEL, calibrated))
    assert plain is not None
    assert scaled is not None
    half, wanted = ((high - low) / 2 for low, high in (scaled, plain))
    inside = (plain[0] > 1.0) & (scaled[0] > 1.0) & (scaled[1] < 60.0)
    assert np.all(half[inside] >= wanted[inside] * scale - 1e-9)
    assert np.all(half[inside] <= wanted[inside] * scale + 0.01 + 1e-9)


def test_another_calibration_replaces_the_first() -> None:
    twice = MODEL.calibrated(calibration_of(MODEL, weights=HALF)).calibrated(calibration_of(MODEL))
    assert served(twice) == served(MODEL.calibrated(calibration_of(MODEL)))


# Objects --------------------------------------------------------------------------------------------------------------

VERSION = small_bundle().model_version
KEY = calibration_key(VERSION, AS_OF)


def load(data: bytes | None, digest: str | None = None, as_of: str = AS_OF) -> Calibration:
    return load_calibration(VERSION, as_of, digest or sha256(data or b""), data)


def test_object_may_have_more_fields_than_the_function_reads() -> None:
    assert load(calibration_bytes(calibration_of(), sums=[[1, 2], [3]])) == calibration_of()


BAD_NUMBERS: list[dict[str, Any]] = [
    {"format": 2},
    {"weights": SOME[1:]},
    {"weights": (*SOME, 0.0)},
    {"weights": (*SOME[1:], 1.01 * MAX_WEIGHT)},
    {"interval_scale": 0.49},
    {"interval_scale": 3.01},
]


@pytest.mark.parametrize("changes", BAD_NUMBERS, ids=str)
def test_calibration_out_of_bounds_cannot_serve(changes: dict[str, Any]) -> None:
    data = calibration_bytes(calibration_of(**changes))
    with pytest.raises(CalibrationError, match=rf"\A{KEY} has .*: put the right object back, or .* calibrate --off`\Z"):
        load(data)
    with pytest.raises(CalibrationError, match="the calibration has"):
        decode_calibration(data)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_cannot_serve(bad: float) -> None:
    assert problem_of_calibration(calibration_of(weights=(*SOME[1:], bad)))
    assert problem_of_calibration(calibration_of(interval_scale=bad))


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"\xff", b"[" * 100_000, b"{}", *(b'{"weights": [%s]}' % one for one in (b"NaN", b"1e999"))],
    ids=lambda data: repr(data[:20]),
)
def test_object_that_is_no_calibration_cannot_serve(data: bytes) -> None:
    with pytest.raises(CalibrationError, match=rf"\A{KEY} does not decode: .*: put the right object back"):
        load(data)


def test_object_of_another_name_or_digest_cannot_serve() -> None:
    data = calibration_bytes(calibration_of())
    with pytest.raises(CalibrationError, match=f"{KEY} is missing"):
        load(None)
    with pytest.raises(CalibrationError, match="its SHA-256 differs"):
        load(data, digest="ab" * 32)
    with pytest.raises(CalibrationError, match=r"is that of .*05: put"):
        load(data, as_of="2026-11-29T06")
    other = calibration_bytes(calibration_of(small_bundle(2).model))
    with pytest.raises(CalibrationError, match=f"is that of {small_bundle(2).model_version}"):
        load(other)


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda more: calibration_bytes(calibration_of()) + more))
def test_any_bytes_are_a_calibration_or_one_error(data: bytes) -> None:
    try:
        assert problem_of_calibration(decode_calibration(data)) is None
    except CalibrationError as error:
        assert str(error).startswith("the calibration ")  # noqa: PT017 - either is right


def test_calibration_survives_encoding() -> None:
    assert decode_calibration(msgspec.json.encode(calibration_of())) == calibration_of()
