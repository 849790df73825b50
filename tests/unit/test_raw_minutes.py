"""The monitor predicts as the function did: whatever form a ride event has, its raw minutes are what was published."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.builders import interval_bundle, ride_bytes, small_bundle, small_rides
from tests.kits.audited_hour import AuditedHour
from training.model.bundle import ExportedBundle
from training.monitoring.labelled_hour import LabelledHour, read_labelled_hour
from training.monitoring.monitor.figures import hour_figures, raw_predictions

UNUSUAL = (
    {"pickup_datetime": None},
    {"pickup_datetime": "2021-01-05T08:15:59.999999"},
    {"pickup_datetime": "2021-01-05T13:15:42Z"},
    {"pickup_datetime": "2021-03-14T02:30:00"},
    {"pickup_datetime": "2021-11-07T01:30:00-04:00"},
    {"pickup_datetime": "1969-12-31T23:59:30"},
    {"pickup_datetime": "0001-01-01T00:00:00"},
    {"pickup_datetime": "9999-12-31T23:59:59"},
    {"trip_distance": 0},
    {"trip_distance": 60.0},
    {"trip_distance": 1e300},
    {"trip_distance": 0.1 + 0.2},
    {"PULocationID": "265", "DOLocationID": 264},
    {"PULocationID": 1, "DOLocationID": 1},
)


def served_hour(bundle: ExportedBundle) -> tuple[AuditedHour, LabelledHour]:
    """Rides of all forms, served, archived and joined with their outcomes."""
    hour = AuditedHour(bundle, batch_size=50)
    rides = small_rides().head(150)
    usual = [
        {"PULocationID": pickup, "DOLocationID": dropoff, "trip_distance": miles, "pickup_datetime": str(time)}
        for pickup, dropoff, miles, time in zip(
            rides.columns.pickup_zone.tolist(), rides.columns.dropoff_zone.tolist(),
            rides.columns.trip_distance_miles.tolist(), rides.pickup_time, strict=True,
        )
    ]  # fmt: skip
    datas = [ride_bytes(ride_id, **ride) for ride_id, ride in enumerate((*usual, *UNUSUAL))]
    hour.send(*datas)
    hour.send_outcomes(dict.fromkeys(range(len(datas)), 12.5))
    hour.archive()
    hour.join()
    found = read_labelled_hour(hour.simulation.models, hour.hour)
    assert found
    assert len(found) == len(datas)
    return hour, found


@pytest.mark.parametrize("bundle", [small_bundle, interval_bundle], ids=["minutes", "minutes and intervals"])
def test_raw_minutes_of_an_uncalibrated_hour_have_the_bits_that_were_published(
    bundle: Callable[[], ExportedBundle],
) -> None:
    exported = bundle()
    _, found = served_hour(exported)
    raw = raw_predictions(exported.model, found.rides, {})
    assert np.array_equal(raw.minutes, found.predicted_minutes)
    assert np.array_equal(raw.low_minutes, found.low_minutes, equal_nan=True)
    assert np.array_equal(raw.high_minutes, found.high_minutes, equal_nan=True)


def test_figures_of_an_hour_count_what_the_join_has_found() -> None:
    hour, found = served_hour(interval_bundle())
    hour.send(b"bad", b'{"ride":{}}', ride_bytes("no outcome"))
    hour.archive()
    summary = hour.join()
    again = read_labelled_hour(hour.simulation.models, hour.hour)
    assert again
    figures = hour_figures(again, summary, interval_bundle().model, {})
    assert figures.n_by_status["labelled"] == len(found)
    assert (figures.n_by_status["no_outcome"], figures.n_by_status["rejected"]) == (1, 2)
    assert figures.n_rejected_by_reason == {"invalid_field": 1, "not_json": 1}
    assert (figures.n_predicted, figures.n_without_pickup_time) == (len(found) + 1, 1)
    assert figures.errors.raw == figures.errors.served
