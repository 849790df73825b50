"""Intervals by table: around every prediction, within the range, and the same in any batch."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.features import FEATURE_NAMES, FIRST_ZONE, LAST_ZONE, ZONE_PLACES, feature_matrix
from lambda_function.core.intervals import (
    KINDS,
    MIN_HALF_MINUTES,
    Interval,
    IntervalTables,
    centre_minutes,
    problem_of,
    ride_kinds,
    usual_cells,
)
from tests.builders import random_matrix, ride_columns_of, small_interval

RANGE_MINUTES = (1.0, 60.0)
MATRIX = random_matrix(200, missing_share=0.2)
MINUTES = st.floats(*RANGE_MINUTES)
ROWS = st.lists(st.tuples(MINUTES, st.integers(0, len(MATRIX) - 1)), min_size=1, max_size=40)
HALF_MINUTES = st.floats(MIN_HALF_MINUTES, 100).map(lambda half: round(half, 2))
INTERVALS = st.builds(
    lambda edges, halves: small_interval(
        edges_minutes=tuple(sorted(edges)),
        half_minutes={kind: tuple(halves[: len(edges) + 1]) for kind in KINDS},
    ),
    st.sets(MINUTES, max_size=5),
    st.lists(HALF_MINUTES, min_size=6, max_size=6),
)

TUESDAY_NOON = 26_830_800  # 2021-01-05T12:00 in minutes since 1970
HOUR, DAY = 60, 24 * 60


def tables(**changes: Any) -> IntervalTables:
    return IntervalTables.of(small_interval(**changes), RANGE_MINUTES)


def matrix_of(n: int = 1, **columns: Any) -> NDArray[np.float64]:
    """Return features of rides at noon of a working day from a usual zone."""
    return feature_matrix(ride_columns_of(n, **{"pickup_minute": [TUESDAY_NOON] * n, **columns}))


def columns_of(rows: list[tuple[float, int]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    minutes, picked = zip(*rows, strict=True)
    return np.array(minutes), MATRIX[list(picked)]


# Bounds -------------------------------------------------------------------------------------------------------------


def test_bounds_are_half_a_width_to_either_side_of_the_predictions_tenth() -> None:
    low, high = tables().bounds(np.array([12.34]), matrix_of())
    assert (low.tolist(), high.tolist()) == ([9.8], [14.8])  # 12.3, and 2.5 to either side


@pytest.mark.parametrize(("minutes", "half"), [(7.9, 1.25), (8.0, 2.5), (19.9, 2.5), (20.0, 5.25), (54.0, 5.25)])
def test_prediction_on_an_edge_is_of_the_step_that_begins_there(minutes: float, half: float) -> None:
    low, high = tables().bounds(np.array([minutes]), matrix_of())
    assert high[0] - low[0] == pytest.approx(2 * half)


def test_bounds_stay_in_the_range() -> None:
    low, high = tables().bounds(np.array([1.0, 60.0]), matrix_of(2))
    assert (low[0], high[1]) == RANGE_MINUTES


@given(INTERVALS, ROWS)
def test_sent_prediction_is_within_its_bounds_and_they_are_within_the_range(
    interval: Interval, rows: list[tuple[float, int]]
) -> None:
    assert problem_of(interval, RANGE_MINUTES) is None
    minutes, matrix = columns_of(rows)
    low, high = IntervalTables.of(interval, RANGE_MINUTES).bounds(minutes, matrix)
    sent = np.round(minutes, 2)
    assert (low <= sent).all()
    assert (sent <= high).all()
    assert (low >= RANGE_MINUTES[0]).all()
    assert (high <= RANGE_MINUTES[1]).all()


@given(ROWS, st.data())
def test_row_has_the_same_bounds_alone_as_in_any_batch(rows: list[tuple[float, int]], data: st.DataObject) -> None:
    minutes, matrix = columns_of(rows)
    picked = data.draw(st.lists(st.sampled_from(range(len(rows))), unique=True))
    for whole, part in zip(
        tables().bounds(minutes, matrix), tables().bounds(minutes[picked], matrix[picked]), strict=True
    ):
        assert whole[picked].tobytes() == part.tobytes()


@given(ROWS)
def test_rounding_a_prediction_first_makes_no_difference(rows: list[tuple[float, int]]) -> None:
    minutes, matrix = columns_of(rows)
    for unrounded, rounded in zip(
        tables().bounds(minutes, matrix), tables().bounds(np.round(minutes, 2), matrix), strict=True
    ):
        np.testing.assert_array_equal(unrounded, rounded)


@given(INTERVALS, ROWS)
def test_json_has_the_bounds_in_hundredths(interval: Interval, rows: list[tuple[float, int]]) -> None:
    minutes, matrix = columns_of(rows)
    laid_out = IntervalTables.of(interval, RANGE_MINUTES)
    texts = [bytes(text) for text in laid_out.encoded_bounds(minutes, matrix)]
    low, high = laid_out.bounds(minutes, matrix)
    assert [json.loads(text) for text in texts] == np.column_stack([low, high]).tolist()
    assert max(map(len, texts)) <= len(b"[12.34,56.78]")


@given(ROWS)
def test_centres_of_intervals_are_predictions_rounded_to_tenths(rows: list[tuple[float, int]]) -> None:
    minutes, _ = columns_of(rows)
    centres = centre_minutes(minutes)
    assert (np.abs(centres - np.round(minutes, 2)) <= MIN_HALF_MINUTES + 1e-12).all()
    np.testing.assert_array_equal(centres, np.round(centres, 1))


# Kinds --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({}, "busy_hours"),
        ({"pickup_minute": [TUESDAY_NOON - 5 * HOUR]}, "busy_hours"),
        ({"pickup_minute": [TUESDAY_NOON - 5 * HOUR - 1]}, "quiet_hours"),
        ({"pickup_minute": [TUESDAY_NOON + 6 * HOUR - 1]}, "busy_hours"),
        ({"pickup_minute": [TUESDAY_NOON + 6 * HOUR]}, "quiet_hours"),
        ({"pickup_minute": [TUESDAY_NOON + 4 * DAY]}, "busy_hours"),  # a Saturday
        ({"pickup_minute": [TUESDAY_NOON + 5 * DAY]}, "quiet_hours"),  # a Sunday
        ({"pickup_zone": [131]}, "unusual_pickup"),
        ({"pickup_zone": [264]}, "unusual_pickup"),
        ({"dropoff_zone": [265]}, "unusual_pickup"),
        ({"dropoff_zone": [131]}, "busy_hours"),
        ({"trip_distance_miles": [0.0]}, "no_distance"),
        ({"trip_distance_miles": [np.nan], "pickup_zone": [264]}, "no_distance"),
    ],
)
def test_kind_depends_on_distance_then_place_then_hour(columns: Mapping[str, Any], kind: str) -> None:
    assert KINDS[ride_kinds(matrix_of(**columns), usual_cells((130,)))[0]] == kind


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_each_kind_has_its_own_widths(number: int) -> None:
    columns: list[dict[str, Any]] = [
        {},
        {"pickup_minute": [TUESDAY_NOON + 5 * DAY]},
        {"pickup_zone": [131]},
        {"trip_distance_miles": [0.0]},
    ]
    low, high = tables().bounds(np.array([30.0]), matrix_of(**columns[number]))
    assert (high[0] - low[0]) / 2 == 5.25 + number


def test_matrix_without_any_value_has_a_kind() -> None:
    nothing = np.full((3, len(FEATURE_NAMES)), np.nan)
    assert {KINDS[kind] for kind in ride_kinds(nothing, usual_cells((130,)))} == {"no_distance"}


@pytest.mark.parametrize("zone", [4, 130, 263])
def test_usual_zone_makes_no_other_one_usual_but_those_at_the_same_place(zone: int) -> None:
    zones = np.arange(FIRST_ZONE, LAST_ZONE + 1)
    matrix = matrix_of(len(zones), pickup_zone=zones)
    usual = zones[ride_kinds(matrix, usual_cells((zone,))) == KINDS.index("busy_hours")]
    assert usual.tolist() == zones[(ZONE_PLACES[zones] == ZONE_PLACES[zone]).all(axis=1)].tolist()


def test_no_zone_may_be_usual_or_one_without_a_place() -> None:
    for zones in ((), (264, 265)):
        assert KINDS[ride_kinds(matrix_of(), usual_cells(zones))[0]] == "unusual_pickup"


# What cannot be used ------------------------------------------------------------------------------------------------


def halves(**changes: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    return {**small_interval().half_minutes, **changes}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"level": 1.0}, "level 1 is not between 0 and 1"),
        ({"level": float("nan")}, "level nan is not between 0 and 1"),
        ({"usual_pickup_zones": (74, 266)}, "usual_pickup_zones are not ascending zones from 1 to 265"),
        ({"usual_pickup_zones": (130, 74)}, "usual_pickup_zones are not ascending zones from 1 to 265"),
        ({"edges_minutes": (20.0, 8.0)}, "edges_minutes are not ascending"),
        ({"edges_minutes": (8.0, 8.0)}, "edges_minutes are not ascending"),
        ({"edges_minutes": (8.0, float("nan"))}, "edges_minutes are not ascending"),
        ({"edges_minutes": (8.0,)}, "half_minutes of busy_hours has 3 steps, not 2"),
        ({"half_minutes": halves(quiet_hours=(1.0, 2.0))}, "half_minutes of quiet_hours has 2 steps, not 3"),
        ({"half_minutes": halves(no_distance=(1.0, 2.0, -3.0))}, "of no_distance has a step below 0.05 minutes"),
        ({"half_minutes": halves(no_distance=(1.0, 2.0, 0.04))}, "of no_distance has a step below 0.05 minutes"),
        ({"half_minutes": halves(no_distance=(1.0, float("nan"), 3.0))}, "or not finite"),
        ({"half_minutes": halves(no_distance=(1.0, 2.0, float("inf")))}, "or not finite"),
        ({"half_minutes": {"busy_hours": (1.0, 2.0, 3.0)}}, "half_minutes has the kinds busy_hours; this function"),
        ({"half_minutes": {}}, "half_minutes has the kinds none; this function knows busy_hours, quiet_hours, "),
    ],
)
def test_damaged_interval_is_reported_in_a_sentence(changes: Mapping[str, Any], problem: str) -> None:
    assert problem in str(problem_of(small_interval(**changes), RANGE_MINUTES))


@pytest.mark.parametrize("range_minutes", [(1.0, 1e9), (60.0, 1.0), (-1.0, 60.0), (float("nan"), 60.0)])
def test_range_too_large_for_a_table_is_reported(range_minutes: tuple[float, float]) -> None:
    assert "there is no table for predictions" in str(problem_of(small_interval(), range_minutes))


def test_interval_without_edges_has_one_width() -> None:
    interval = small_interval(edges_minutes=(), half_minutes=dict.fromkeys(KINDS, (3.0,)))
    assert problem_of(interval, RANGE_MINUTES) is None
    low, high = IntervalTables.of(interval, RANGE_MINUTES).bounds(np.array([5.0, 50.0]), matrix_of(2))
    assert (high - low).tolist() == [6.0, 6.0]


def test_interval_comes_back_from_json_as_it_was() -> None:
    data = msgspec.json.encode(small_interval())
    assert msgspec.json.decode(data, type=Interval) == small_interval()
