"""End to end on real days: ride events, archive, join, monitor and calibration; the figures are those of the rides."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from infra.local.s3 import MemoryS3
from lambda_function.core.events import decode_prediction
from lambda_function.core.features import feature_matrix
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.processor import ModelFrom, process_by_arrival
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES, KinesisRecord
from tests.builders import SMALL_PARAMETERS, ride_bytes, small_interval, training_facts
from tests.builders_archive import archive, archived_record
from tests.builders_monitored import FakeBus
from tests.builders_tlc import needs_real_months
from tests.kits.live_rides import arrival_s
from training.data.load import load_rides
from training.data.months import Month, default_data_dir
from training.data.rides import Rides
from training.model.bundle import REFERENCE, ExportedBundle
from training.model.calibrate import Predict
from training.model.export import export_bundle
from training.model.fit import fit_forest
from training.monitoring.join.join import join_hour
from training.monitoring.join.options import JoinOptions
from training.monitoring.join.skew import stored_models
from training.monitoring.monitor.day_figures import load_days
from training.monitoring.monitor.monitor import MonitorOptions, run_monitor
from training.monitoring.monitor.quantities import bin_counts, quantity_values
from training.monitoring.monitor.reference import build_reference, load_reference
from training.monitoring.monitor.status import MonitorStatus, load_status
from training.monitoring.new_york_days import day_end, hours_of_day
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import Mover, move_channel, store_bundle

pytestmark = [needs_real_months, pytest.mark.slow]

DAYS = [date(2021, 2, 1) + timedelta(days=number) for number in range(3)]
PARAMETERS = {**SMALL_PARAMETERS, "max_iter": 30, "min_samples_leaf": 20}
AFTER_THE_DAY = timedelta(hours=4, minutes=15)
"""When the monitor runs: the last hour of the day is joined then."""


def real_rides(month: int) -> Rides:
    return load_rides("green", [Month(2021, month)], data_dir=default_data_dir())


def fit(rides: Rides) -> Predict:
    fitted = fit_forest(rides, PARAMETERS)
    return lambda some: np.asarray(fitted.predict(feature_matrix(some.columns))).clip(1.0, 60.0)


def january_bundle() -> ExportedBundle:
    """A model of the real January, with the reference of its days."""
    rides, interval = real_rides(1), small_interval()
    reference = build_reference(rides, fit, interval)
    assert reference is not None
    facts = training_facts(PARAMETERS)
    return export_bundle(fit_forest(rides, PARAMETERS), rides, facts, interval, {REFERENCE: reference})


@dataclass
class ServedDays:
    """Real rides that arrive when they begin, day by day, and the stack that serves and watches them."""

    bundle: ExportedBundle = field(default_factory=january_bundle)
    s3: MemoryS3 = field(default_factory=MemoryS3)
    bus: FakeBus = field(default_factory=FakeBus)
    predicted: dict[str, tuple[str, float]] = field(default_factory=dict)  # version and minutes by prediction's id

    def __post_init__(self) -> None:
        self.bucket = Bucket(self.s3, "b", n_threads=1)
        store_bundle(self.bucket, self.bundle)
        at = datetime(2021, 1, 31, tzinfo=UTC)
        move_channel(
            self.bucket,
            "stable",
            self.bundle.model_version,
            self.bundle.manifest_sha256,
            mover=Mover("ada", lambda: at),
        )

    def serve_day(self, day: date, rides: Rides) -> None:
        """Predict a day's rides by their arrival, archive all streams, join the day's hours and run the monitor."""
        records = list(_records(rides))
        batch = process_by_arrival(records, self._models())
        arrivals = [record.envelope.arrival_time_s for record in records]
        predictions: list[KinesisRecord] = []
        for position, (key, data), event_id in zip(batch.positions, batch.entries, batch.ids, strict=True):
            predictions.append(archived_record(data, arrivals[position] + 0.5, len(predictions), key=key))
            one = decode_prediction(data)
            self.predicted[event_id] = one.version, one.prediction.ride_duration
        for kind, some in ((RIDES, records), (PREDICTIONS, predictions), (OUTCOMES, list(_outcomes(records, rides)))):
            archive(self.s3, kind, some)
        for hour in hours_of_day(day):
            join_hour(self.bucket, hour, JoinOptions(threads=1))
        run = run_monitor(self.bucket, MonitorOptions(), self.bus, lambda: day_end(day) + AFTER_THE_DAY)
        assert run.failures == ()

    def _models(self) -> list[ModelFrom]:
        """The models of the channel's segments, newest first."""
        state = read_channel(self.bucket, "stable").state
        assert state
        load = stored_models(self.bucket)
        return [ModelFrom(one.effective_from_s, load(one.served_version)) for one in state.segments]

    def status(self) -> MonitorStatus:
        """Return the stored status."""
        status = load_status(self.bucket)
        assert status
        return status


def _records(rides: Rides) -> Iterator[KinesisRecord]:
    columns = rides.columns
    values = (columns.pickup_zone, columns.dropoff_zone, columns.trip_distance_miles)
    starts = arrival_s(rides.pickup_time).tolist()
    for place, (start_s, pickup, dropoff, miles) in enumerate(
        zip(starts, *(one.tolist() for one in values), strict=True)
    ):
        number = int(start_s) * 10_000 + place
        data = ride_bytes(
            number,
            PULocationID=pickup,
            DOLocationID=dropoff,
            trip_distance=max(0.0, miles),
            pickup_datetime=str(rides.pickup_time[place]),
        )
        yield archived_record(data, float(start_s), number, key=str(number))


def _outcomes(records: list[KinesisRecord], rides: Rides) -> Iterator[KinesisRecord]:
    for place, (record, minutes) in enumerate(zip(records, rides.duration_minutes.tolist(), strict=True)):
        envelope = record.envelope
        data = encode_outcome(Outcome(int(envelope.partition_key), minutes))
        yield archived_record(data, envelope.arrival_time_s + 60 * minutes, place, key=envelope.partition_key)


def rmse(error: np.ndarray) -> float:
    return float(np.sqrt((error**2).mean()))


def test_status_has_the_figures_of_the_rides() -> None:
    stack = ServedDays()
    rides = real_rides(2)
    of_day = rides.pickup_time.astype("datetime64[D]")
    days = [rides.take(of_day == np.datetime64(day)) for day in DAYS]
    for day, some in zip(DAYS, days, strict=True):
        stack.serve_day(day, some)
    status = stack.status()
    served = rides.take(of_day <= np.datetime64(DAYS[-1]))
    matrix = feature_matrix(served.columns)
    raw = np.round(stack.bundle.model.predict(matrix), 2)
    published = np.array([minutes for _, minutes in stack.predicted.values()])

    assert (status.model_version, status.last_day, status.n_days) == (stack.bundle.model_version, DAYS[-1], 3)
    recent = {one.quantity: one for one in status.recent}
    assert recent["rmse_raw"].value == pytest.approx(rmse(raw - served.duration_minutes), abs=1e-9)
    assert recent["rmse_served"].value == pytest.approx(rmse(published - served.duration_minutes), abs=1e-9)
    assert recent["bias_served"].value == pytest.approx((published - served.duration_minutes).mean(), abs=1e-9)
    assert recent["rmse_raw"].reference is not None

    reference = load_reference(stack.bucket, stack.bundle.model_version)
    assert reference
    last = feature_matrix(days[-1].columns)
    *_, stored = load_days(stack.bucket, stack.bundle.model_version, DAYS)
    for name, values in quantity_values(last, stack.bundle.model.predict(last)).items():
        assert stored.figures.counts[name] == tuple(bin_counts(values, reference.edges[name])[0].tolist())
    assert (stored.figures.n_judged, stored.missing_hours) == (len(days[-1]), ())

    versions = {version for version, _ in stack.predicted.values()}
    assert stored.figures.n_by_version.keys() < versions
    assert len(versions) == 3  # raw, and calibrated with the first day, and with the second
    assert status.calibration.state == "active"
    assert {one.state for one in status.groups} <= {"ok", "alarm"}
    moves = [one["why"] for one in stack.bus.taken if one["DetailType"] == "ridecast channel move"]
    assert moves == ["calibration", "calibration", "calibration"]  # the first run announces the present state only
