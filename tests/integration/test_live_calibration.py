"""Live calibration on real months: the bars of accuracy and coverage, whatever a producer does to outcomes.

Yellow is a sample of 10,000 rides a month. A yellow and two green models are trained once for the file. Other months,
hourly ticks and other producers: `python -m tests.bench.live_calibration`.
"""

from functools import cache

import numpy as np
import pytest

from lambda_function.core.bundle import ModelBundle
from tests.bench.live_calibration import MonthFigures, Producer, load, measure, train_model
from tests.builders_tlc import needs_real_months
from tests.kits.live_rides import HORIZON_S, RUN_AND_ACTIVATION_S, LiveRides, Served, each_day, serve
from training.data.months import Service

pytestmark = needs_real_months

Months = tuple[Service, str, str]

LOCKDOWN: Months = "yellow", "2018-01..2020-02", "2020-03..2020-05"
GREEN_2021: Months = "green", "2021-01", "2021-02"
STEADY_GREEN: Months = "green", "2023-01", "2023-02..2023-03"

GOOD = Producer()


@cache
def model_of(service: Service, months: str) -> ModelBundle:
    """Return a model of these months."""
    return train_model(service, months)


@cache
def rides_of(service: Service, months: str) -> LiveRides:
    """Return rides in the order of their arrival."""
    return LiveRides.of(load(service, months))


@cache
def served(months: Months, producer: Producer = GOOD, late_hours: int = 0) -> Served:
    """Return what the rides of the last months get from a model of the months before."""
    service, train, live = months
    rides = rides_of(service, live)
    outcomes = producer.outcomes(rides.duration_minutes)
    delay_s = HORIZON_S + RUN_AND_ACTIVATION_S + late_hours * 3600
    return serve(model_of(service, train), rides, outcomes, each_day, delay_s)


def figures(months: Months, producer: Producer = GOOD, late_hours: int = 0) -> dict[str, MonthFigures]:
    """Return the figures by month."""
    found = measure(rides_of(months[0], months[2]), served(months, producer, late_hours))
    return {one.month: one for one in found}


def test_lockdown_is_followed_without_a_new_model() -> None:
    found = figures(LOCKDOWN)
    assert found["2020-04"].raw_rmse > 7
    assert found["2020-04"].rmse <= 3.90
    assert found["2020-05"].rmse <= 4.00
    for month in ("2020-04", "2020-05"):
        assert 0.78 <= found[month].coverage <= 0.82


def test_green_february_of_2021_gets_better() -> None:
    assert figures(GREEN_2021)["2021-02"].rmse <= 4.98


def test_no_steady_month_gets_much_worse() -> None:
    found = figures(STEADY_GREEN)
    assert {month: one.rmse - one.raw_rmse for month, one in found.items() if one.rmse - one.raw_rmse > 0.01} == {}


@pytest.mark.parametrize("months", [LOCKDOWN, STEADY_GREEN], ids=["lockdown", "steady"])
def test_twentieth_of_garbage_costs_little(months: Months) -> None:
    good, spoilt = figures(months), figures(months, Producer(garbage=0.05))
    assert {
        month: one.rmse - good[month].rmse for month, one in spoilt.items() if one.rmse > good[month].rmse + 0.05
    } == {}


def test_half_of_the_outcomes_is_enough() -> None:
    assert figures(LOCKDOWN, Producer(missing=0.5))["2020-04"].rmse <= 4.00


def test_outcomes_a_day_late_are_early_enough() -> None:
    assert figures(LOCKDOWN, late_hours=24)["2020-04"].rmse <= 3.95


def test_outcomes_that_are_missing_by_duration_freeze_it() -> None:
    without_long = Producer(unreported_over=30)
    assert all(tick.frozen for tick in served(GREEN_2021, without_long).ticks)
    for one in figures(GREEN_2021, without_long).values():
        assert one.rmse <= one.raw_rmse


def test_lockdown_with_outcomes_missing_by_duration_is_not_worse_than_without_calibration() -> None:
    """Few rides take 30 minutes then: on most days the missing outcomes are too few to freeze it, or to harm."""
    producer = Producer(unreported_over=30)
    assert any(tick.frozen for tick in served(LOCKDOWN, producer).ticks)
    for one in figures(LOCKDOWN, producer).values():
        assert one.rmse <= one.raw_rmse


def test_outcomes_in_seconds_freeze_it_and_are_recognised() -> None:
    found = served(LOCKDOWN, Producer(unit="seconds"))
    frozen = [tick.frozen for tick in found.ticks]
    assert all(one is not None and "outcomes look like seconds" in one.text for one in frozen)
    np.testing.assert_array_equal(found.minutes, found.raw_minutes)


def test_usual_months_freeze_nothing() -> None:
    for months in (LOCKDOWN, STEADY_GREEN, GREEN_2021):
        assert [tick.frozen for tick in served(months).ticks if tick.frozen] == []
