"""Rides whose outcomes were wrong for some days are not trained on; real changes of traffic are."""

from dataclasses import replace

import numpy as np
import pytest

from training.data.contract import ContractError
from training.data.labelled_rides import LabelledRows
from training.data.pace import MIN_RIDES, check_pace

FIRST = np.datetime64("2021-03-01", "s")


def rows(day_factors: list[float], n_rides: int = 60) -> LabelledRows:
    """Rides of two to four miles, ten of them by day's factor times five minutes a mile."""
    n = len(day_factors) * n_rides
    day = np.repeat(np.arange(len(day_factors)), n_rides)
    miles = np.tile(np.linspace(2, 4, n_rides), len(day_factors))
    second = np.tile(np.arange(n_rides), len(day_factors))
    zones = np.full(n, 74, np.int16)
    return LabelledRows(
        pickup_time=FIRST + (day * 86_400 + second).astype("timedelta64[s]"),
        pickup_zone=zones,
        dropoff_zone=zones,
        trip_distance_miles=miles,
        duration_minutes=5 * miles * np.array(day_factors)[day],
        has_pickup_time=np.ones(n, np.bool_),
        is_labelled=np.ones(n, np.bool_),
    )


@pytest.mark.parametrize("begins", [0, 20, 50, 53])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_week_of_wrong_outcomes_is_found_wherever_it_is(begins: int, factor: float) -> None:
    factors = [1.0] * 60
    factors[begins : begins + 7] = [factor] * 7
    with pytest.raises(ContractError, match=r"break pace: on .* of these days the median minutes a mile are far"):
        check_pace(rows(factors))


def test_weekends_a_storm_and_a_lasting_change_are_no_wrong_outcomes() -> None:
    weekends = [0.8 if day % 7 > 4 else 1.05 for day in range(60)]
    check_pace(rows(weekends))
    storm = [1.0] * 60
    storm[30] = 2.5
    check_pace(rows(storm))
    lockdown = [1.0] * 30 + [0.9, 0.8, 0.75, 0.7, 0.65] + [0.6] * 25
    check_pace(rows(lockdown))


def test_days_with_few_rides_and_rides_without_a_distance_say_nothing() -> None:
    few = rows([1.0, 0.3, 0.3, 0.3], MIN_RIDES - 1)
    check_pace(few)
    plain = rows([1.0] * 30)
    check_pace(replace(plain, trip_distance_miles=np.zeros(len(plain))))
    check_pace(plain.between(FIRST, FIRST))
