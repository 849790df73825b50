"""Every local real month loads, is cleaned and sorted, and meets the data contract."""

import numpy as np
import pytest

from tests.builders_tlc import needs_real_months
from tests.course import course_pipeline
from training.data.contract import check_contract
from training.data.load import load_rides
from training.data.months import Month, Service, default_data_dir, local_months, sample_span
from training.data.rides import Rides
from training.evaluation.metrics import measure_errors
from training.model.baseline import fit_baseline
from training.model.course import course_features

pytestmark = needs_real_months


def real_months() -> list[tuple[Service, Month]]:
    """Return service and month of every whole file, and of every month of a sample."""
    found: list[tuple[Service, Month]] = []
    data_dir = default_data_dir()
    for path in sorted(data_dir.glob("*_tripdata_*.parquet")) if data_dir else []:
        service: Service = "green" if path.name.startswith("green") else "yellow"
        only = path.stem.rpartition("_")[2]
        month, last = sample_span(path.name) or (Month.parse(only), Month.parse(only))
        while month <= last:
            found.append((service, month))
            month = month.next()
    return found


def load(service: Service, month: Month) -> Rides:
    return load_rides(service, [month], data_dir=default_data_dir())


@pytest.mark.parametrize(("service", "month"), real_months(), ids=str)
def test_real_month_loads_clean_and_sorted(service: Service, month: Month) -> None:
    rides = load(service, month)
    (source,) = rides.sources
    assert 0.9 <= source.n_kept / source.n_rows <= 0.99
    assert source.n_rows - sum(source.dropped.values()) == source.n_kept == len(rides)
    assert rides.duration_minutes.min() >= 1
    assert rides.duration_minutes.max() <= 60
    assert month.start <= rides.pickup_time.min()
    assert rides.pickup_time.max() < month.end
    assert (np.diff(rides.pickup_time) >= np.timedelta64(0, "s")).all()
    assert rides.columns.pickup_zone.min() >= 1
    assert rides.columns.dropoff_zone.max() <= 265
    assert not np.isnan(rides.columns.trip_distance_miles).any()


@pytest.mark.parametrize("service", ["green", "yellow"])
def test_all_real_months_together_keep_the_data_contract(service: Service) -> None:
    months = local_months(service, default_data_dir())
    assert {month for other, month in real_months() if other == service} <= set(months)
    rides = load_rides(service, months, data_dir=default_data_dir())
    assert check_contract(rides.sources) == ()


@pytest.mark.parametrize(("service", "month"), real_months()[::5], ids=str)
def test_baseline_is_as_good_as_the_courses_own_pipeline(service: Service, month: Month) -> None:
    """Within 0.01 minutes: shuffling the rides changes the pipeline's own errors by 0.004."""
    rides = load(service, month)
    is_later = rides.pickup_time >= month.start + np.timedelta64(22, "D")
    train_rides, later = rides.take(~is_later), rides.take(is_later)
    theirs = course_pipeline(train_rides).predict(course_features(later.columns))
    ours = fit_baseline(train_rides).regression_minutes(later.columns)
    errors, their_errors = (measure_errors(minutes, later.duration_minutes) for minutes in (ours, theirs))
    assert errors.rmse_minutes == pytest.approx(their_errors.rmse_minutes, abs=0.01)
    assert errors.mae_minutes == pytest.approx(their_errors.mae_minutes, abs=0.01)
