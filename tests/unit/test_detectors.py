"""The detectors find what changes, seldom anything else, whatever the sizes of the days, and say it in words."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders_days import FIRST_DAY, reference_of, steady_days, without_intervals, without_values
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.detectors import (
    RULES,
    Alarm,
    Evidence,
    Rules,
    data_scores,
    error_scores,
    growth_start,
    rank_shares,
    watch,
)
from training.monitoring.monitor.explain import explain

N_REFERENCE = 364
SERVED_FROM = FIRST_DAY + np.timedelta64(N_REFERENCE, "D")
FIRST_SERVED: date = SERVED_FROM.item()
LATER = SERVED_FROM + np.timedelta64(28, "D")

REFERENCE = steady_days(N_REFERENCE)
STEADY = steady_days(28, first=SERVED_FROM, seed=1)


def served(n_days: int = 14, *, n_rides: int = 2_200, shift: float = 0.0, bias_minutes: float = 0.0) -> Days:
    return steady_days(n_days, n_rides=n_rides, first=SERVED_FROM, seed=2, shift=shift, bias_minutes=bias_minutes)


def groups(evidence: Evidence) -> list[str]:
    return [alarm.group for alarm in evidence.alarms]


def day_after(n_days: int) -> date:
    return FIRST_SERVED + timedelta(days=n_days)


def test_steady_days_raise_no_alarm_and_join_the_reference() -> None:
    evidence = watch(REFERENCE, STEADY)
    assert evidence.alarms == ()
    assert evidence.joined.all()
    assert (evidence.p > 0).all()
    assert not any(evidence.is_on.values())


def test_changed_data_raise_one_data_alarm_that_says_since_when() -> None:
    days = Days.concat(STEADY, steady_days(10, first=LATER, seed=3, shift=3.0))
    evidence = watch(REFERENCE, days)
    (alarm,) = evidence.alarms
    assert alarm.group == "data"
    assert day_after(28 - 7) <= alarm.since <= day_after(28) < alarm.day
    assert alarm.day <= day_after(28 + 7)
    assert evidence.is_on == {"data": True, "performance": False}


def test_growing_errors_raise_one_performance_alarm() -> None:
    (alarm,) = watch(REFERENCE, served(bias_minutes=2.0)).alarms
    assert (alarm.group, alarm.since) == ("performance", day_after(0))
    assert alarm.day <= day_after(7)


def test_predictions_too_short_and_too_long_are_found() -> None:
    for bias_minutes in (-1.5, 1.5):
        assert groups(watch(REFERENCE, served(bias_minutes=bias_minutes))) == ["performance"]


def test_smaller_errors_and_wider_coverage_are_no_alarm() -> None:
    days = served(28)
    better = replace(days, sum_squared_error=days.sum_squared_error / 2, n_within=days.n * 0.95)
    assert watch(REFERENCE, better).alarms == ()


def test_falling_coverage_alone_is_found() -> None:
    days = served()
    (alarm,) = watch(REFERENCE, replace(days, n_within=np.floor(days.n * 0.6))).alarms
    assert (alarm.group, alarm.quantity) == ("performance", "coverage")


def test_a_model_without_intervals_has_two_performance_quantities() -> None:
    evidence = watch(without_intervals(REFERENCE), without_intervals(served(bias_minutes=2.0)))
    assert evidence.names[-2:] == ("bias", "mse")
    assert groups(evidence) == ["performance"]


def test_served_days_without_intervals_leave_coverage_untested() -> None:
    evidence = watch(REFERENCE, without_intervals(served()))
    assert np.isnan(evidence.p[:, evidence.names.index("coverage")]).all()
    assert evidence.alarms == ()


def test_a_quantity_that_is_missing_from_all_rides_is_found() -> None:
    (alarm,) = watch(REFERENCE, without_values(served(), "trip_distance_miles")).alarms
    assert (alarm.group, alarm.quantity) == ("data", "trip_distance_miles")


def test_a_quantity_that_was_always_missing_is_no_news_until_it_comes() -> None:
    reference = without_values(REFERENCE, "straight_line_miles")
    assert watch(reference, without_values(STEADY, "straight_line_miles")).alarms == ()
    (alarm,) = watch(reference, served()).alarms
    assert alarm.quantity == "straight_line_miles"


def test_a_day_without_rides_leaves_the_evidence_and_the_reference_as_they_are() -> None:
    n_rides = np.full(28, 2_200)
    n_rides[9] = 0
    evidence = watch(REFERENCE, steady_days(28, n_rides=n_rides, first=SERVED_FROM, seed=1))
    assert np.isnan(evidence.p[9]).all()
    assert (evidence.path[9] == evidence.path[8]).all()
    assert evidence.joined.tolist() == [day != 9 for day in range(28)]


def test_no_served_days_at_all() -> None:
    evidence = watch(REFERENCE, STEADY.take(slice(0, 0)))
    assert (evidence.alarms, len(evidence.data)) == ((), 0)


def test_days_with_fewer_than_nine_reference_days_of_their_kind_are_not_tested() -> None:
    weekends = (REFERENCE.kind == 1).nonzero()[0]
    kept = np.setdiff1d(np.arange(N_REFERENCE), weekends[8:])
    evidence = watch(REFERENCE.take(kept), served(7, shift=5.0))
    is_weekend = served(7).kind == 1
    assert np.isnan(evidence.p[is_weekend]).all()
    assert not np.isnan(evidence.p[~is_weekend]).any()


def test_days_of_one_ride_are_no_alarm_and_do_not_blur_what_is_usual() -> None:
    """Their distances vary a thousandfold, and would be taken for variance between days."""
    n_rides = np.full(N_REFERENCE, 2_200)
    n_rides[::50] = 1
    days = steady_days(N_REFERENCE, n_rides=n_rides)
    reference = replace(days, var_error=np.where(days.n == 1, np.nan, days.var_error))
    assert watch(reference, steady_days(91, n_rides=1, first=SERVED_FROM, seed=4)).alarms == ()
    assert set(groups(watch(reference, served(shift=3.0, bias_minutes=3.0)))) == {"data", "performance"}


def test_after_an_alarm_no_day_joins_and_it_stays_one_alarm() -> None:
    evidence = watch(REFERENCE, served(28, shift=1.0))
    (alarm,) = evidence.alarms
    assert evidence.joined.tolist() == [day < alarm.day for day in evidence.days.tolist()]
    assert np.isfinite(evidence.path).all()


def test_an_acknowledged_alarm_begins_again_at_nothing_and_days_join_again() -> None:
    days = Days.concat(served(10, shift=1.0), steady_days(20, first=np.datetime64(day_after(10), "D"), seed=5))
    at = day_after(9)
    evidence = watch(REFERENCE, days, {"data": [at]})
    assert len(evidence.alarms) == 1
    assert evidence.data[9] >= RULES.threshold
    assert evidence.data[10] < 10
    assert evidence.joined[10:].all()
    assert not evidence.is_on["data"]


def test_a_change_that_stays_is_found_again_after_an_acknowledgement() -> None:
    evidence = watch(REFERENCE, served(28, shift=1.0), {"data": [day_after(13)]})
    first, second = evidence.alarms
    assert second.since > first.day
    assert evidence.is_on["data"]


def test_an_acknowledgement_on_the_last_day_ends_the_alarm() -> None:
    assert not watch(REFERENCE, served(shift=1.0), {"data": [day_after(13)]}).is_on["data"]


@pytest.mark.parametrize("acknowledged", [{"performance": [day_after(13)]}, {"data": [day_after(-1)]}])
def test_an_acknowledgement_of_another_group_or_before_the_alarm_changes_nothing(
    acknowledged: dict[str, list[date]],
) -> None:
    plain, other = (watch(REFERENCE, served(28, shift=1.0), known) for known in ({}, acknowledged))
    assert other.alarms == plain.alarms
    assert (other.path == plain.path).all()


def test_a_day_that_is_served_twice_or_has_other_bins_is_an_error() -> None:
    with pytest.raises(ValueError, match="twice"):
        watch(REFERENCE, Days.concat(STEADY, STEADY))
    with pytest.raises(ValueError, match="bins"):
        watch(REFERENCE, replace(STEADY, counts={**STEADY.counts, "minute_of_day": np.ones((28, 3))}))


def test_the_order_of_the_days_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    mixed = watch(REFERENCE.take(rng.permutation(N_REFERENCE)), STEADY.take(rng.permutation(28)))
    plain = watch(REFERENCE, STEADY)
    assert (mixed.path == plain.path).all()
    assert (mixed.p == plain.p).all()


# Days of other sizes than the reference's. Each essential detail has a test that fails without it.

SIZES = [(330, 2_200), (330, 1_000_000), (2_200, 330), (2_200, 1_000_000), (1_000_000, 330), (1_000_000, 2_200)]


@pytest.mark.parametrize(("n_reference", "n_served"), SIZES)
def test_days_of_other_sizes_are_no_alarm_and_a_shift_among_them_is_found(n_reference: int, n_served: int) -> None:
    reference = steady_days(N_REFERENCE, n_rides=n_reference)
    steady = steady_days(91, n_rides=n_served, first=SERVED_FROM, seed=1)
    assert watch(reference, steady).alarms == ()
    assert set(groups(watch(reference, served(n_rides=n_served, shift=3.0, bias_minutes=3.0)))) == {
        "data",
        "performance",
    }


def n_alarms(rules: Rules, n_reference: int, n_served: int) -> int:
    """Return the data alarms on a quarter of steady days that are very much alike, each acknowledged at once."""
    reference = steady_days(N_REFERENCE, n_rides=n_reference, alike=30_000)
    steady = steady_days(91, n_rides=n_served, first=SERVED_FROM, seed=1, alike=30_000)
    return groups(watch(reference, steady, {"data": steady.day.tolist()}, rules)).count("data")


@pytest.mark.parametrize(("n_reference", "n_served"), [(2_200, 330), (1_000_000, 330), (1_000_000, 2_200)])
def test_without_the_sampling_variance_small_days_are_false_alarms(n_reference: int, n_served: int) -> None:
    assert n_alarms(RULES, n_reference, n_served) == 0
    assert n_alarms(replace(RULES, has_size_term=False), n_reference, n_served) >= 5


@pytest.mark.parametrize(("n_reference", "n_served"), [(330, 1_000_000), (2_200, 1_000_000)])
def test_without_the_floor_large_days_are_false_alarms(n_reference: int, n_served: int) -> None:
    assert n_alarms(RULES, n_reference, n_served) == 0
    assert n_alarms(replace(RULES, floor=0.0), n_reference, n_served) >= 2


def test_without_capped_weights_large_days_hide_a_full_shift() -> None:
    reference, days = steady_days(N_REFERENCE, n_rides=330), served(28, n_rides=1_000_000, shift=3.0)
    assert groups(watch(reference, days)) == ["data"]
    assert watch(reference, days, rules=replace(RULES, caps_weights=False)).alarms == ()


# Promises

SCORES = st.lists(st.floats(-50, 50), min_size=12, max_size=40)


@given(scores=SCORES, tolerance=st.floats(1, 3))
def test_e_values_are_at_most_1_in_the_mean_whichever_day_is_the_last(scores: list[float], tolerance: float) -> None:
    days = np.array(scores)
    p = np.array([rank_shares(np.roll(days, turn)[:, None], tolerance)[0] for turn in range(len(days))])
    assert ((p > 0) & (p <= 1)).all()
    assert (0.5 / np.sqrt(p)).mean() <= 1


@given(
    n_rides=st.lists(st.sampled_from([0, 1, 2, 330, 10**6]), min_size=1, max_size=12),
    seed=st.integers(0, 5),
    shift=st.sampled_from([0.0, 3.0]),
)
def test_any_days_have_shares_and_evidence_that_are_numbers(n_rides: list[int], seed: int, shift: float) -> None:
    days = steady_days(len(n_rides), n_rides=np.array(n_rides), first=SERVED_FROM, seed=seed, shift=shift)
    evidence = watch(REFERENCE.take(slice(0, 60)), days)
    tested = ~np.isnan(evidence.p)
    assert ((evidence.p[tested] > 0) & (evidence.p[tested] <= 1)).all()
    assert ((evidence.path >= 0) & np.isfinite(evidence.path)).all()


def test_a_change_begins_where_the_product_of_e_values_is_greatest() -> None:
    assert growth_start(np.array([0.9, 0.9, 0.9])) in {0, 1, 2}
    assert growth_start(np.array([0.01, 0.9, 0.9, 0.9, 0.9, 0.9, np.nan, 0.02, 0.01])) == 7


# Words


def alarm_of(quantity: str, since: int = 0, day: int = 7) -> Alarm:
    group = "performance" if quantity in {"bias", "mse", "coverage"} else "data"
    return Alarm(day_after(day), group, quantity, 400.0, day_after(since))  # type: ignore[arg-type]  # one of both


WORDS: list[tuple[str, Callable[[Days], Days], str]] = [
    ("trip_distance_miles", lambda days: without_values(days, "trip_distance_miles"), "missing in 100.0% of the rides"),
    ("straight_line_miles", lambda days: days, "Straight line has changed: lowest tenth"),
    ("bias", lambda days: days, "minutes too long in the mean, usually -"),
    ("mse", lambda days: days, "RMSE is 4.9"),
    ("coverage", lambda days: replace(days, n_within=days.n * 0.5), "50% of the rides end within their interval"),
]


@pytest.mark.parametrize(("quantity", "change", "words"), WORDS)
def test_an_alarm_in_words_says_what_since_when_how_sure_and_what_to_do(
    quantity: str, change: Callable[[Days], Days], words: str
) -> None:
    sentence = explain(alarm_of(quantity), reference_of(REFERENCE), change(served(shift=3.0, bias_minutes=3.0)))
    assert words in sentence
    assert f"since {day_after(0)}" in sentence
    assert " on weekdays (since" in sentence or " on holidays (since" in sentence
    assert "less than once in 180 days" in sentence
    assert "ridecast monitor acknowledge" in sentence


def test_every_alarm_can_be_said_in_words() -> None:
    days = served(shift=3.0, bias_minutes=3.0)
    for alarm in watch(REFERENCE, days).alarms:
        sentence = explain(alarm, reference_of(REFERENCE), days)
        assert "has changed: " in sentence or alarm.group == "performance"
        assert "_" not in sentence


def test_days_of_a_kind_that_the_reference_lacks_can_be_said_in_words() -> None:
    days = served(shift=3.0)
    weekdays = REFERENCE.take(REFERENCE.kind == 0)
    saturday = next(day for day in range(7) if days.kind[day] == 1)
    sentence = explain(alarm_of("straight_line_miles", day=saturday), reference_of(weekdays), days)
    assert "usually" in sentence
    assert "nan" not in sentence


# The formulas of docs/decisions/0030 once more, a number at a time


def plain_data_score(shares: list[list[float]], n: list[float], day: int) -> float:
    """Return a day's score among all: `shares` by day and bin, the missing ones too; the last day is in question."""
    median = sorted(n)[len(n) // 2] if len(n) % 2 else sum(sorted(n)[len(n) // 2 - 1 : len(n) // 2 + 1]) / 2
    weights = [min(one, median) for one in n]

    def cumulative(bins: list[float]) -> list[float]:
        return [sum(bins[: number + 1]) for number in range(len(bins) - 1)]

    def apart(one: int) -> tuple[float, float]:
        others = [other for other in range(len(n)) if other != one]
        total = sum(weights[other] for other in others)
        parts = [cumulative(shares[other]) for other in others]
        centre = [
            sum(weights[other] * part[number] for other, part in zip(others, parts, strict=True)) / total
            for number in range(len(parts[0]))
        ]
        mine = cumulative(shares[one])
        distance = sum((a - b) ** 2 for a, b in zip(mine, centre, strict=True))
        return distance, sum(c * (1 - c) for c in centre)

    pairs = [apart(one) for one in range(len(n))]
    reference = range(len(n) - 1)
    excess = sum(weights[one] * (pairs[one][0] - pairs[one][1] / n[one]) for one in reference)
    tau2 = max(excess / sum(weights[one] for one in reference), 0.5 * sum(v for _, v in pairs) / len(pairs) / median)
    distance, variance = pairs[day]
    return distance / (tau2 + variance / n[day])


def test_data_scores_are_those_of_the_formula() -> None:
    days = steady_days(13, n_rides=np.array([300, 20, 5_000, 300, 310, 1, 90, 800, 300, 2_000, 40, 300, 70]), seed=7)
    table = days.counts["minute_of_day"]
    shares = table / table.sum(axis=1, keepdims=True)
    scores = data_scores(shares.cumsum(axis=1)[:, :-1], np.array([0]), days.n)
    plain = [plain_data_score(shares.tolist(), days.n.tolist(), day) for day in range(len(days))]
    assert scores[:, 0] == pytest.approx(plain, rel=1e-9)


def test_error_scores_are_those_of_the_formula() -> None:
    """All days have as many rides: the mean of the others, and their variance, are then plain ones."""
    days = steady_days(13, n_rides=400, seed=8)
    means = np.column_stack([days.sum_error, days.sum_squared_error, days.n_within]) / days.n[:, None]
    coverage = means[:, 2]
    variances = np.column_stack([days.var_error, days.var_squared_error, coverage * (1 - coverage)])
    scores = error_scores(means, variances, np.full((13, 3), 400.0))
    for column, sign in ((0, 1), (1, 1), (2, -1)):
        values = means[:, column].tolist()
        apart = [value - (sum(values) - value) / 12 for value in values]
        by_chance = variances[:, column].mean() / 400
        tau2 = max(sum(one**2 - by_chance for one in apart[:-1]) / 12, 0.5 * by_chance)
        plain = [sign * one / (tau2 + by_chance) ** 0.5 for one in apart]
        assert scores[:, column] == pytest.approx([abs(one) for one in plain] if column == 0 else plain, rel=1e-9)


def test_evidence_is_the_sum_over_all_beginnings_of_the_products_of_e_values() -> None:
    evidence = watch(REFERENCE, STEADY)
    for column in range(len(evidence.names)):
        e = (0.5 / np.sqrt(evidence.p[:, column])).tolist()
        for day in range(len(e)):
            assert evidence.path[day, column] == pytest.approx(
                sum(float(np.prod(e[begin : day + 1])) for begin in range(day + 1))
            )
