"""The detectors on real months: what they must find and when, and how seldom they raise an alarm without a change.

The models have an eighth of the usual trees, so that they train in seconds; the alarms come on the same days. The
commands `tests.bench.monitor_detection` and `tests.bench.monitor_false_alarms` measure models of full size, and 1,000
quarters.
"""

from datetime import date
from functools import cache

import numpy as np
import pytest

from tests.bench.monitor_detection import mix, shorten
from tests.bench.monitor_false_alarms import MAX_FALSE_ALARMS, count_alarms, resized_days, resized_quarters
from tests.bench.monitored_months import MonitoredModel, train_monitored
from tests.bench.steady_quarters import steady_quarters
from tests.builders_tlc import needs_real_months, real_rides
from training.data.months import Service
from training.model.parameters import PARAMETERS
from training.monitoring.monitor.days import Days
from training.monitoring.monitor.detectors import Alarm, watch
from training.monitoring.monitor.explain import explain

pytestmark = [needs_real_months, pytest.mark.slow]

FEW_TREES = {**PARAMETERS, "max_iter": 60}
N_QUARTERS = 40


@cache
def trained(service: Service, months: str) -> MonitoredModel:
    return train_monitored(service, real_rides(months, service), parameters=FEW_TREES)


def before_march_2020() -> MonitoredModel:
    return trained("yellow", "2018-01..2020-02")


@cache
def steady_pool() -> Days:
    """Return all days from 2018 to February 2020, out of fold."""
    return before_march_2020().all_days()


@cache
def spring_2020() -> Days:
    return before_march_2020().days(real_rides("2020-03..2020-04", "yellow"))


def first_alarms(model: MonitoredModel, served: Days) -> dict[str, Alarm]:
    """Return the first alarm of each group."""
    return {alarm.group: alarm for alarm in reversed(watch(model.reference.days, served).alarms)}


def test_the_lockdown_of_2020_is_found_in_time() -> None:
    alarms = first_alarms(before_march_2020(), spring_2020())
    assert date(2020, 3, 11) <= alarms["data"].day <= date(2020, 3, 20)
    assert date(2020, 3, 11) <= alarms["performance"].day <= date(2020, 3, 18)
    assert all(date(2020, 3, 1) <= alarm.since <= alarm.day for alarm in alarms.values())


def test_the_alarms_of_the_lockdown_say_what_moved() -> None:
    alarms = first_alarms(before_march_2020(), spring_2020())
    data, performance = (explain(alarms[group], before_march_2020().reference, spring_2020()) for group in alarms)
    assert "has changed: " in data + performance
    assert "less than once in 180 days" in performance


def test_a_quiet_month_has_no_alarm() -> None:
    model = trained("green", "2021-01")
    assert first_alarms(model, model.days(real_rides("2021-02", "green"))) == {}


def test_rides_of_the_other_service_are_found() -> None:
    model = before_march_2020()
    green = model.days(real_rides("2021-01", "green"))
    quiet = model.days(real_rides("2020-03", "yellow")).take(slice(0, 10))
    assert "data" in first_alarms(model, mix(quiet, green, share=1.0))


def test_false_alarms_on_steady_quarters_are_as_rare_as_promised() -> None:
    assert count_alarms(steady_quarters(steady_pool(), N_QUARTERS)).both <= MAX_FALSE_ALARMS


@pytest.mark.parametrize(("n_reference", "n_served"), [(330, 1_000_000), (2_200, 330), (1_000_000, 2_200)])
def test_days_of_other_sizes_raise_few_alarms_and_a_full_shift_is_found_in_14_days(
    n_reference: int, n_served: int
) -> None:
    april = spring_2020().take(spring_2020().day >= np.datetime64("2020-04-01", "D"))
    quarters = resized_quarters(steady_pool(), 12, (n_reference, n_served))
    found = count_alarms(quarters, (n_reference, n_served), resized_days(april, n_served))
    assert found.is_kept, found


def test_a_quarter_of_reference_days_finds_the_lockdown_later_or_not_at_all() -> None:
    model = before_march_2020()
    short = watch(shorten(model.reference, 90).days, spring_2020()).alarms
    long = first_alarms(model, spring_2020())["data"].day
    assert all(alarm.day >= long for alarm in short if alarm.group == "data")
