"""The bench of the verdict finds what is known of rides whose errors go together within a day."""

from functools import cache

import numpy as np
import pytest

from tests.bench.paired_days import SEED_2, SPANS, Pair, Spec, paired
from tests.bench.verdict_errors import RULES, find, gain_found, measure
from training.data.months import Month
from training.data.rides import concat_rides
from training.data.synthetic import synthetic_rides
from training.evaluation.slices import by_day

N_RUNS = 250


@cache
def pair(day_effect: float, gain: float = 0.0, noise: float = 0.3, *, is_seeds: bool = False) -> Pair:
    """Build two models' squared errors whose differences have a part that all rides of a day share."""
    rides = concat_rides(synthetic_rides(Month(2023, month), n_rides=6_000, seed=month) for month in (2, 3))
    rng = np.random.default_rng(1)
    day = by_day(rides).number(rides.columns)
    one = 16 * rng.standard_t(6, len(rides)) ** 2
    difference = noise * one * rng.normal(size=len(rides)) + 16 * day_effect * rng.normal(size=day.max() + 1)[day]
    models = Spec("2022-01"), Spec("2022-01", SEED_2) if is_seeds else Spec("2022-02")
    return paired(SPANS[1], models, rides, one, np.maximum(one - difference - gain * one, 0))


def test_verdicts_are_rarely_false_where_tests_by_ride_mostly_are() -> None:
    errors = measure(pair(day_effect=0.2), N_RUNS)

    assert 0 < errors.false[1] <= RULES.alpha
    assert errors.false[1] < errors.false[7]  # days of a week that are alike are not covered
    assert errors.by_unit["ride"] > 0.5
    assert errors.by_unit["hour"] > 0.5
    assert errors.by_unit["day"] > 3 * RULES.alpha  # a test for one look, looked at 22 times


def test_without_day_effects_the_unit_hardly_matters() -> None:
    errors = measure(pair(day_effect=0.0), N_RUNS)

    assert errors.by_unit["ride"] < errors.by_unit["day"]
    assert errors.by_unit["ride"] == pytest.approx(errors.by_unit["hour"], abs=0.08)


def test_small_differences_are_equivalent_and_large_ones_are_found() -> None:
    seeds, apart = pair(0.005, noise=0.05, is_seeds=True), pair(0.1, gain=0.3)

    assert seeds.is_seeds
    assert not apart.is_seeds
    assert measure(seeds, 50).equivalent >= 0.9
    power = find(apart)
    assert power.first[0] == "better"
    assert power.by_day_14 == 1
    assert power.wrong == 0


def test_a_known_gain_is_found_the_sooner_the_larger_it_is() -> None:
    found = [gain_found([pair(0.1)], gain) for gain in (1.0, 20.0)]

    assert found[0]["day 14"] < found[1]["day 14"] == found[1]["day 28"] == 1.0
