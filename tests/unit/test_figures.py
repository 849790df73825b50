"""The figures of hours and days: sums that add up to what a direct computation over the rides gives."""

import math
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_function.core.features import feature_matrix
from tests.builders import interval_bundle, small_bundle, small_rides
from tests.builders_labelled import labelled_bucket, labelled_hour, store_hour
from training.data.labelled import LABELLED
from training.data.rides import Rides
from training.errors import BucketError
from training.monitoring.hours import FIRST, Hour
from training.monitoring.labelled_hour import LabelledHour, read_labelled_hour
from training.monitoring.monitor.day_figures import day_figures, encode_day, is_testable, to_days
from training.monitoring.monitor.figures import (
    Edges,
    Figures,
    HourFigures,
    encode_figures,
    figures_key,
    hour_figures,
    load_figures,
    merge,
)
from training.monitoring.monitor.quantities import DATA_QUANTITIES, bin_counts, find_edges, quantity_values
from training.monitoring.new_york_days import hours_of_day
from training.monitoring.summary import HourSummary, Sums

HOUR = Hour.parse("2021-01-05T13")
MODEL = interval_bundle().model
MATRIX = feature_matrix(small_rides().columns)
EDGES: Edges = {name: find_edges(values) for name, values in quantity_values(MATRIX, MODEL.predict(MATRIX)).items()}


def summary_of(hour: LabelledHour) -> HourSummary:
    return HourSummary(hour=str(hour.hour), pass_number=FIRST, horizon_minutes=180, n_labelled=len(hour))


def figures_of(hour: LabelledHour, edges: Edges = EDGES) -> Figures:
    return hour_figures(hour, summary_of(hour), MODEL, edges)


def hour_of(rides: Rides, number: int = 0, **changes: object) -> LabelledHour:
    return labelled_hour(HOUR + number, MODEL, rides, **changes)


def direct_sums(minutes: np.ndarray, low: np.ndarray, high: np.ndarray, duration: np.ndarray) -> list[float]:
    """The fields of `Sums`, computed otherwise."""
    error = minutes - duration
    within = [a <= y <= b for a, y, b in zip(low, duration, high, strict=True)]
    return [
        len(error),
        error.sum(),
        (error**2).sum(),
        abs(error).sum(),
        np.isfinite(low).sum(),
        sum(within),
        np.nansum(high - low),
        (error**4).sum(),
    ]


def values(sums: Sums) -> list[float]:
    return [getattr(sums, name) for name in Sums.__struct_fields__]


# -- an hour


def test_figures_of_an_uncalibrated_hour_are_those_of_what_was_served() -> None:
    rides = small_rides().head(500)
    figures = figures_of(hour_of(rides))
    assert figures.errors.raw == figures.errors.served
    minutes = np.round(MODEL.predict(feature_matrix(rides.columns)), 2)
    low, high = MODEL.interval_bounds(feature_matrix(rides.columns), minutes) or pytest.fail("no interval")
    assert values(figures.errors.raw) == pytest.approx(direct_sums(minutes, low, high, rides.duration_minutes))
    assert (figures.n_predicted, figures.n_judged, figures.n_by_status[LABELLED]) == (500, 500, 500)
    assert figures.n_by_version == {MODEL.model_version: 500}


def test_raw_minutes_are_those_of_the_model_whoever_served() -> None:
    rides = small_rides().head(300)
    served = np.full(300, 30.0)
    other = hour_of(rides, predicted_minutes=served, low_minutes=served - 1, high_minutes=served + 1)
    figures, own = figures_of(other), figures_of(hour_of(rides))
    assert figures.errors.raw == own.errors.raw
    assert figures.counts == own.counts
    direct = direct_sums(served, served - 1, served + 1, rides.duration_minutes)
    assert values(figures.errors.served) == pytest.approx(direct)


def test_only_rides_that_training_would_keep_are_judged() -> None:
    duration, has_pickup_time = np.array([0.5, 1.0, 60.0, 61.0, math.nan, 10.0]), np.array([True] * 5 + [False])
    hour = hour_of(small_rides().head(6), duration_minutes=duration, has_pickup_time=has_pickup_time)
    figures = figures_of(hour)
    assert (figures.n_predicted, figures.n_with_outcome, figures.n_out_of_range) == (6, 5, 2)
    assert (figures.n_without_pickup_time, figures.n_judged, figures.errors.raw.n) == (1, 2, 2)
    assert all(sum(counts) == 2 for counts in figures.counts.values())


def test_slices_add_up_to_all_rides() -> None:
    figures = figures_of(hour_of(small_rides().head(700)))
    assert set(figures.by_slice) == {"hour", "weekday", "pickup borough", "distance", "airport"}
    for criterion in set(figures.by_slice) - {"airport"}:
        slices = figures.by_slice[criterion].values()
        assert sum(one.raw.n for one in slices) == 700
        total = math.fsum(one.served.sum_squared_error for one in slices)
        assert total == pytest.approx(figures.errors.served.sum_squared_error, rel=1e-12)


def test_bins_are_those_of_the_reference() -> None:
    rides = small_rides().head(400)
    figures = figures_of(hour_of(rides))
    matrix = feature_matrix(rides.columns)
    for name, direct in quantity_values(matrix, MODEL.predict(matrix)).items():
        assert figures.counts[name] == tuple(bin_counts(direct, EDGES[name])[0].tolist())


def test_a_model_without_reference_and_intervals_has_errors_all_the_same() -> None:
    plain = small_bundle().model
    hour = labelled_hour(HOUR, plain, small_rides().head(50))
    figures = hour_figures(hour, summary_of(hour), plain, {})
    assert figures.counts == {}
    assert (figures.errors.raw.n, figures.errors.raw.n_with_interval, figures.errors.served.n_within_interval) == (
        50,
        0,
        0,
    )


def test_outcomes_are_counted_by_band_and_by_lateness() -> None:
    duration = np.array([10.0, math.nan, 10.0, 10.0])
    hour = hour_of(
        small_rides().head(4),
        predicted_minutes=np.array([4.0, 5.0, 12.0, 40.0]),
        duration_minutes=duration,
        outcome_delay_s=60 * (duration + np.array([0.0, 0.0, 5.0, 2000.0])),
    )
    figures = figures_of(hour)
    assert figures.n_by_band == (1, 1, 1, 0, 0, 1)
    assert figures.n_with_outcome_by_band == (1, 0, 1, 0, 0, 1)
    assert figures.n_by_lateness == (1, 0, 1, 0, 0, 0, 0, 0, 0, 1)


def test_an_hour_without_rides_has_figures() -> None:
    figures = figures_of(hour_of(small_rides().head(0)))
    assert (figures.n_predicted, figures.n_judged, figures.errors.raw, figures.by_slice["hour"]) == (0, 0, Sums(), {})
    assert all(sum(counts) == 0 for counts in figures.counts.values())


def test_a_feature_that_is_missing_throughout_fills_the_last_bin() -> None:
    rides = small_rides().head(90)
    hour = hour_of(rides)
    hour.rides.trip_distance_miles[:] = 0.0
    counts = figures_of(hour).counts["trip_distance_miles"]
    assert (counts[-1], sum(counts)) == (90, 90)


def test_the_same_file_gives_the_same_bytes_and_order_changes_no_total() -> None:
    bucket = labelled_bucket({})
    hour = hour_of(small_rides().head(200))
    store_hour(bucket, hour)
    read = [read_labelled_hour(bucket, HOUR) for _ in range(2)]
    first, again = (
        encode_figures(HourFigures(hour=str(HOUR), model_version=MODEL.model_version, figures=figures_of(one)))
        for one in read
        if one
    )
    assert first == again
    backwards = hour_of(small_rides().take(np.arange(200)[::-1]))
    assert figures_of(backwards).errors == figures_of(hour).errors


def test_a_stored_hour_is_read_as_it_was_built() -> None:
    bucket = labelled_bucket({})
    hour = hour_of(small_rides().head(60), duration_minutes=np.where(np.arange(60) % 7, 12.5, np.nan))
    store_hour(bucket, hour)
    read = read_labelled_hour(bucket, HOUR)
    assert read
    assert figures_of(read) == figures_of(hour)


# -- days


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), min_size=1, max_size=5))
def test_hours_add_up_to_the_figures_of_all_their_rides(cuts: list[int]) -> None:
    rides = small_rides().head(300)
    ends = [0, *sorted(cuts), 300]
    parts = [figures_of(hour_of(rides.take(slice(*pair)))) for pair in pairwise(ends)]
    merged, whole = merge(parts), figures_of(hour_of(rides))
    assert merge(parts[::-1]) == merged
    assert merged.counts == whole.counts
    assert merged.n_by_lateness == whole.n_by_lateness
    assert values(merged.errors.raw) == pytest.approx(values(whole.errors.raw), rel=1e-12)
    for criterion, slices in whole.by_slice.items():
        assert merged.by_slice[criterion].keys() == slices.keys()
        for name, one in slices.items():
            assert values(merged.by_slice[criterion][name].served) == pytest.approx(values(one.served), rel=1e-11)


def figures_on(day: date, n_hours: int | None = None, n_rides: int = 12) -> list[HourFigures]:
    """The figures of the first hours of a day."""
    return [
        HourFigures(hour=str(hour), model_version=MODEL.model_version, figures=figures_of(
            labelled_hour(hour, MODEL, small_rides().take(slice(12 * place, 12 * place + n_rides)))
        ))
        for place, hour in enumerate(hours_of_day(day)[:n_hours])
    ]  # fmt: skip


@pytest.mark.parametrize(("day", "n_hours"), [((2026, 3, 8), 23), ((2026, 8, 1), 24), ((2026, 11, 1), 25)])
def test_a_day_has_the_hours_of_new_yorks_calendar(day: tuple[int, int, int], n_hours: int) -> None:
    hours = figures_on(date(*day))
    figures = day_figures(date(*day), MODEL.model_version, reversed(hours))
    assert len(figures.hours) == n_hours
    assert figures.figures.n_judged == 12 * n_hours
    assert figures.hours[0].hour == str(hours_of_day(date(*day))[0])
    assert encode_day(figures) == encode_day(day_figures(date(*day), MODEL.model_version, hours))


def test_a_day_without_rides_is_a_day() -> None:
    day = date(2026, 8, 1)
    figures = day_figures(day, MODEL.model_version, figures_on(day, n_rides=0))
    assert is_testable(figures, EDGES)
    days = to_days([figures], EDGES)
    assert (days.n.tolist(), days.var_error.tolist(), np.isnan(days.n_within).tolist()) == ([0.0], [0.0], [True])


def test_a_day_with_a_missing_hour_names_it_and_is_not_tested() -> None:
    day = date(2026, 8, 1)
    *_, last = hours_of_day(day)
    figures = day_figures(day, MODEL.model_version, figures_on(day, 23), [last])
    assert figures.missing_hours == ("2026-08-02T03",)
    assert not is_testable(figures, EDGES)


def test_days_for_the_detectors_have_the_moments_of_the_rides() -> None:
    day = date(2026, 8, 1)
    n = 24 * 12
    days = to_days([day_figures(day, MODEL.model_version, figures_on(day))], EDGES)
    rides = small_rides().head(n)
    error = np.round(MODEL.predict(feature_matrix(rides.columns)), 2) - rides.duration_minutes
    assert (days.n[0], days.kind[0], days.day[0]) == (n, 1, np.datetime64(day))
    assert days.var_error[0] == pytest.approx(error.var(), rel=1e-9)
    assert days.var_squared_error[0] == pytest.approx((error**2).var(), rel=1e-9)
    assert set(days.counts) == set(DATA_QUANTITIES)


def test_hours_of_days_are_all_hours() -> None:
    first = datetime(2026, 1, 1, 5, tzinfo=UTC)
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(365)]
    hours = [hour for day in days for hour in hours_of_day(day)]
    assert hours == [Hour(first + timedelta(hours=number)) for number in range(365 * 24)]


# -- in the bucket


@pytest.mark.parametrize(("body", "problem"), [(b"{", "is damaged"), (b'{"format":9}', "has format 9")])
def test_an_object_that_is_no_figures_is_named(body: bytes, problem: str) -> None:
    bucket = labelled_bucket({figures_key("green-2021-01-3f2a9c1d0b7e", HOUR): body})
    with pytest.raises(BucketError, match=rf"hh=13.json {problem}.*delete it, and it is made again"):
        load_figures(bucket, "green-2021-01-3f2a9c1d0b7e", HOUR)
