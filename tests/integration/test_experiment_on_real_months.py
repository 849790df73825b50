"""A shadow over four weeks of real rides, calibrated daily: its sums are those of a direct computation.

Two models are trained on green 2023-01, and the rides of every third hour of 2023-02 arrive as they did. The direct
computation is the kit of live calibration: it predicts each ride when it arrives, with the newest state that serves
then.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.local.s3 import MemoryS3
from tests.bench.live_calibration import load
from tests.builders_labelled import store_hour
from tests.builders_tlc import needs_real_months
from tests.kits.live_rides import HOUR_S, LiveRides, arrival_s, each_day, serve
from training.experiments.advance import advance_experiments
from training.experiments.experiment import Experiment, read_experiment
from training.experiments.scoring import SERVES_AFTER_HOURS
from training.experiments.start import ExperimentOptions, start_experiment
from training.model.bundle import ExportedBundle
from training.model.parameters import PARAMETERS
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.hours import Hour
from training.monitoring.new_york_days import day_of
from training.registry.bucket import Bucket
from training.registry.channels import Mover, move_channel, store_bundle
from training.workflows.pipeline import train

pytestmark = needs_real_months

FIRST_DAY = date(2023, 2, 1)
START = datetime(2023, 2, 1, 5, tzinfo=UTC)
N_DAYS = 28


@cache
def bundle_of(n_trees: int) -> ExportedBundle:
    """Return a model of green 2023-01."""
    rides = load("green", "2023-01")
    parameters = {**PARAMETERS, "max_iter": n_trees}
    return train("green", rides, rides.head(1000), parameters, has_reference=False).bundle


@cache
def live_rides() -> LiveRides:
    """Return the rides of every third hour of green 2023-02; the other hours are never joined."""
    rides = load("green", "2023-02")
    return LiveRides.of(rides.take(arrival_s(rides.pickup_time) // HOUR_S % 3 == 2))


def stored_month() -> Bucket:
    """Return a bucket whose channel serves the first model, with the joined hours of the month."""
    bucket = Bucket(MemoryS3({}), "month", n_threads=1)
    champion = bundle_of(60)
    for bundle in (champion, bundle_of(30)):
        store_bundle(bucket, bundle)
    move_channel(bucket, "stable", champion.model_version, champion.manifest_sha256, mover=mover_at(START))
    live = live_rides()
    minutes = serve(champion.model, live, live.duration_minutes, each_day, HOUR_S).minutes
    starts = np.searchsorted(live.arrival_s, [hour.start_s for hour in live.hours(live.duration_minutes)])
    for start, hour in zip(starts, live.hours(live.duration_minutes).values(), strict=True):
        served = minutes[start : start + len(hour)]
        store_hour(bucket, replace(hour, predicted_minutes=served, versions=(champion.model_version,)))
    return bucket


def mover_at(now: datetime) -> Mover:
    """Return a mover whose clock stands still."""
    return Mover("ada", lambda: now)


def experiment_over_the_month() -> Experiment:
    """Return an experiment after its budget of four weeks, which looks on the last day only."""
    bucket = stored_month()
    candidates = (bundle_of(30).model_version,)
    options = ExperimentOptions(
        name="month", candidates=candidates, first_look_days=N_DAYS, calibration_mode=CalibrationMode.DAILY
    )
    assert start_experiment(bucket, options, mover_at(START)).first_day == FIRST_DAY
    now = START + timedelta(days=N_DAYS + 3)
    joined = list(live_rides().hours(live_rides().duration_minutes))
    (done,) = advance_experiments(bucket, joined, now)
    assert (done.problem, len(done.days)) == (None, N_DAYS)
    found = read_experiment(bucket, "month")
    assert found
    return found


def sums_by_day(minutes: NDArray[np.float64]) -> list[float]:
    """Return the sums of squared errors by day of arrival in New York."""
    live = live_rides()
    days = np.array([day_of(Hour.of(float(at))).toordinal() for at in live.arrival_s]) - FIRST_DAY.toordinal()
    total = np.bincount(days, (minutes - live.duration_minutes) ** 2)
    return [float(one) for one in total[:N_DAYS]]


def test_the_sums_of_every_day_are_those_of_a_direct_computation() -> None:
    experiment = experiment_over_the_month()
    live = live_rides()
    assert sum(one.losses[0].n_rides for one in experiment.days) == len(live)
    for place, bundle in enumerate((bundle_of(60), bundle_of(30))):
        served = serve(bundle.model, live, live.duration_minutes, each_day, SERVES_AFTER_HOURS * HOUR_S)
        found = [one.losses[place].sum_squared_error for one in experiment.days]
        np.testing.assert_allclose(found, sums_by_day(served.minutes), rtol=1e-9)
        assert sum(found) != pytest.approx(sum(sums_by_day(served.raw_minutes)), rel=1e-5)
