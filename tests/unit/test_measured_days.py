"""Rides by day: counts and sums are those of the rides, whatever their order, and parts add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.features import feature_matrix
from lambda_function.core.intervals import IntervalTables
from tests.builders import small_interval, small_rides
from training.data.rides import Rides
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.measured_days import measure_days
from training.monitoring.monitor.quantities import (
    DATA_QUANTITIES,
    DayKind,
    bin_counts,
    day_kinds,
    find_edges,
    quantity_values,
)

RIDES = small_rides()
DAY = RIDES.columns.pickup_minute // 1440
MINUTES = np.random.default_rng(0).uniform(1, 60, len(RIDES)).round(2)
EDGES = {name: find_edges(values) for name, values in quantity_values(feature_matrix(RIDES.columns), MINUTES).items()}


def measured(rows: NDArray[np.intp] | slice = slice(None), *, has_interval: bool = True) -> Days:
    interval = small_interval() if has_interval else None
    return measure_days(RIDES.take(rows), MINUTES[rows], EDGES, interval)


def test_sums_of_a_day_are_those_of_its_rides() -> None:
    days = measured()
    low, high = IntervalTables.of(small_interval(), (1.0, 60.0)).bounds(MINUTES, feature_matrix(RIDES.columns))
    for row, day in enumerate(np.unique(DAY)):
        of_day = day == DAY
        error = (MINUTES - RIDES.duration_minutes)[of_day]
        assert days.day[row] == np.datetime64(int(day), "D")
        assert days.n[row] == days.n_with_interval[row] == len(error)
        within = (low <= RIDES.duration_minutes) & (RIDES.duration_minutes <= high)
        assert days.n_within[row] == np.count_nonzero(within[of_day])
        assert days.sum_error[row] == pytest.approx(error.sum(), abs=0.005 * len(error))
        assert days.sum_squared_error[row] == pytest.approx((error**2).sum(), rel=0.001)
        assert days.var_error[row] == pytest.approx(error.var(), rel=0.001)
        assert days.var_squared_error[row] == pytest.approx((error**2).var(), rel=0.001)


def test_counts_of_a_day_are_those_of_its_rides() -> None:
    days, values = measured(), quantity_values(feature_matrix(RIDES.columns), MINUTES)
    for row, day in enumerate(np.unique(DAY)):
        for name in DATA_QUANTITIES:
            expected = bin_counts(values[name][day == DAY], EDGES[name])
            assert days.counts[name][row].tolist() == expected[0].tolist()


def test_without_intervals_coverage_is_unknown() -> None:
    days = measured(has_interval=False)
    assert np.isnan(days.n_within).all()
    assert not days.n_with_interval.any()


def test_a_day_of_one_ride_has_no_variance() -> None:
    days = measured(slice(1))
    assert days.n.tolist() == [1]
    assert np.isnan(days.var_error).all()
    assert np.isnan(days.var_squared_error).all()


@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rides_does_not_matter(seed: int) -> None:
    days, shuffled = measured(), measured(np.random.default_rng(seed).permutation(len(RIDES)))
    assert [column.tobytes() for column in days.columns()] == [column.tobytes() for column in shuffled.columns()]
    for name in DATA_QUANTITIES:
        assert days.counts[name].tobytes() == shuffled.counts[name].tobytes()


def test_more_rides_than_a_block_are_the_sum_of_their_parts() -> None:
    many = np.tile(np.arange(len(RIDES)), 1 + (1 << 17) // len(RIDES))
    times = len(many) / len(RIDES)
    few, days = measured(), measured(many)
    for one, other in zip(few.columns()[:5], days.columns()[:5], strict=True):
        np.testing.assert_allclose(one * times, other, rtol=1e-12)
    for one, other in zip(few.columns()[5:], days.columns()[5:], strict=True):
        np.testing.assert_array_equal(one, other)  # variances
    for name in DATA_QUANTITIES:
        np.testing.assert_array_equal(few.counts[name] * times, days.counts[name])


# Quantities ---------------------------------------------------------------------------------------------------------


def test_a_feature_that_is_missing_throughout_is_counted_as_missing() -> None:
    columns = RIDES.columns
    without = Rides(
        type(columns)(
            columns.pickup_zone, columns.dropoff_zone, columns.trip_distance_miles * np.nan, columns.pickup_minute
        ),
        RIDES.pickup_time,
        RIDES.duration_minutes,
        (),
    )
    days = measure_days(without, MINUTES, EDGES, None)
    counts = days.counts["trip_distance_miles"]
    assert not counts[:, :-1].any()
    assert counts[:, -1].tolist() == days.n.tolist()


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([], []),
        ([np.nan], []),
        ([3.0], [3.0]),
        ([1.0] * 50 + [2.0] * 50, [1.0, 2.0]),
        (list(range(20)), list(range(19))),
    ],
)
def test_edges_are_values_that_divide_them_into_twentieths(values: list[float], edges: list[float]) -> None:
    assert find_edges(np.array(values, np.float64)).tolist() == edges


numbers = st.floats(-100, 100) | st.sampled_from([0.0, 1.0, np.nan])


@given(values=st.lists(numbers), seed=st.integers(0, 99))
def test_each_value_is_in_one_bin_and_parts_add_up(values: list[float], seed: int) -> None:
    array = np.array(values, np.float64)
    edges = find_edges(array)
    group = np.random.default_rng(seed).integers(0, 3, len(array))
    counts = bin_counts(array, edges, group, 3)
    assert counts.shape == (3, len(edges) + 2)
    assert counts.sum() == len(array)
    assert counts[:, -1].sum() == np.count_nonzero(np.isnan(array))
    np.testing.assert_array_equal(counts.sum(axis=0), bin_counts(array, edges)[0])


@pytest.mark.parametrize(
    ("day", "kind"),
    [
        ("2020-03-13", DayKind.WEEKDAY),
        ("2020-03-14", DayKind.WEEKEND),
        ("2020-03-15", DayKind.WEEKEND),
        ("2020-07-04", DayKind.HOLIDAY),  # a Saturday
        ("2020-12-28", DayKind.HOLIDAY),  # between the years
    ],
)
def test_kinds_of_days(day: str, kind: DayKind) -> None:
    assert day_kinds(np.array([day], "datetime64[D]")).tolist() == [kind]
