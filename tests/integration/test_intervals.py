"""Prediction intervals on real months: the share promised, on the next month, in every slice of it."""

import os

import numpy as np
import pytest
from numpy.typing import NDArray

from lambda_function.features import feature_matrix
from lambda_function.interval import IntervalTables
from tests.integration.test_real_training import Split, load
from training.calibrate import calibrate
from training.dataset import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides
from training.fit import PARAMETERS, fit_forest
from training.slices import ALL, slicings, zone_pairs
from training.split import split_calibration
from training.tally import Outcome, Tally, tally_rides

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("TLC_DATA_DIR"), reason="TLC_DATA_DIR names no folder of TLC months"),
]
RANGE_MINUTES = MIN_DURATION_MINUTES, MAX_DURATION_MINUTES
MIN_SLICE_RIDES = 1_000

# Two things no calibration sees coming. From 2021-01 to 2021-02 rides got 1.2 minutes longer, with the snow of the
# first week and after it, and on every weekday: 0.755 of them end within their interval. And rides between Manhattan
# and the Bronx are less predictable than others as long.
DRIFTED = Split("green", "2021-01", "2021-02", 0, 0)
STEADY = [
    Split("green", "2022-01", "2022-02", 0, 0),
    Split("green", "2022-02", "2022-03", 0, 0),
    Split("green", "2023-01", "2023-02", 0, 0),
    Split("green", "2023-01,2023-02", "2023-03", 0, 0),
    Split("yellow", "2019-01..2019-05", "2019-06", 0, 0),
]


def tallies_of(split: Split) -> list[Tally]:
    """How the next month's rides fare, as a whole and by slice."""
    train_rides, next_rides = load(split.service, split.train_months), load(split.service, split.validate_months)
    fit_rides, calibration_rides = split_calibration(train_rides)
    fitted = fit_forest(fit_rides, PARAMETERS)

    def predict(rides: Rides) -> NDArray[np.float64]:
        minutes: NDArray[np.float64] = fitted.predict(feature_matrix(rides.columns)).clip(*RANGE_MINUTES)
        return minutes

    interval = calibrate(predict(calibration_rides), calibration_rides, fit_rides)
    assert interval is not None
    tables = IntervalTables.of(interval, RANGE_MINUTES)

    def outcome(rides: Rides) -> Outcome:
        minutes, actual = predict(rides), rides.duration_minutes
        low, high = tables.bounds(minutes, feature_matrix(rides.columns))
        return Outcome(minutes - actual, ((low <= actual) & (actual <= high)).astype(np.float64), high - low)

    return tally_rides(outcome, next_rides, [ALL, *slicings(zone_pairs(train_rides))])


def coverage_by_slice(tallies: list[Tally]) -> dict[str, float]:
    return {
        f"{tally.slicing.by} {name}": tally.covered[i] / tally.n_rides[i]
        for tally in tallies
        for i, name in enumerate(tally.slicing.names)
        if tally.n_rides[i] >= MIN_SLICE_RIDES
    }


@pytest.mark.parametrize("split", STEADY, ids=str)
def test_next_months_rides_end_within_their_intervals_as_often_as_promised(split: Split) -> None:
    by_slice = coverage_by_slice(tallies_of(split))
    assert 0.78 <= by_slice.pop("all all") <= 0.82
    off = {name: round(float(share), 3) for name, share in by_slice.items() if not 0.74 <= share <= 0.86}
    assert len(off) <= 2
    assert all(0.70 <= share <= 0.88 for share in off.values()), off


def test_month_after_which_the_traffic_changed_has_less_but_evenly() -> None:
    by_slice = coverage_by_slice(tallies_of(DRIFTED))
    assert 0.74 <= by_slice.pop("all all") <= 0.82
    assert all(0.69 <= share <= 0.86 for share in by_slice.values())
