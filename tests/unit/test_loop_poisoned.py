"""A month with wrong outcomes or zones never gets promoted; the tests say which defence stops it.

Each run is the loop's own, with a real training and gate. The days of its experiment are predicted by both models.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lambda_function.core.bundle import ModelBundle, sha256
from lambda_function.core.features import feature_matrix
from tests.builders import SMALL_PARAMETERS
from tests.builders_channels import new_bucket
from tests.builders_loop import Clock, World, add_monitoring
from training.data.labelled_rides import LabelledRows
from training.data.load import load_rides
from training.data.months import Month, parse_days
from training.data.pace import PACE
from training.data.ride_arrays import RideArrays, encode_ride_arrays
from training.data.rides import Rides, concat_rides
from training.data.synthetic import synthetic_rides
from training.experiments.experiment import Experiment, Loss
from training.model.bundle import ExportedBundle
from training.registry.channels import Mover, move_channel, store_bundle
from training.registry.versions import read_stored
from training.workflows.loop.options import LoopOptions
from training.workflows.loop.requests import Collected, CollectRequest, TrainRequest
from training.workflows.pipeline import train
from training.workflows.retrain import retrain

PARAMETERS = {**SMALL_PARAMETERS, "learning_rate": 0.15, "min_samples_leaf": 20, "max_iter": 20}

Change = Callable[[LabelledRows], LabelledRows]


@dataclass(frozen=True, eq=False)
class Scene:
    """Rides of the champion and of its validation, those that the loop learns from, and those of the days after."""

    service: Any
    before: Rides
    validate: Rides
    learned: Rides
    after: Rides
    first: date
    last: date

    @cache  # noqa: B019 - two scenes, as long as the tests run
    def champion(self) -> ExportedBundle:
        """The model of the first part."""
        return train(self.service, self.before, self.validate, PARAMETERS, has_reference=False).bundle

    def day(self, number: int) -> np.datetime64:
        """A day of the second part."""
        return np.datetime64(self.first) + np.timedelta64(number, "D")


@cache
def synthetic(factor: float = 1.0) -> Scene:
    """A month, then three, then two, made up; from the second part on, rides take `factor` times as long."""
    numbers = {1: 20_000, 3: 9_000, 4: 9_000, 5: 9_000, 6: 9_000, 7: 9_000}
    before, *later = [synthetic_rides(Month(2021, month), n_rides, seed=7) for month, n_rides in numbers.items()]
    slower = [replace(rides, duration_minutes=np.minimum(rides.duration_minutes * factor, 60.0)) for rides in later]
    learned, after = concat_rides(slower[:3]), concat_rides(slower[3:])
    validate = synthetic_rides(Month(2021, 2), 1_000, seed=7)
    return Scene("green", before, validate, learned, after, date(2021, 3, 1), date(2021, 5, 31))


@cache
def real() -> Scene:
    """Yellow taxis: nine months, then six, then two."""
    if not os.environ.get("TLC_DATA_DIR"):
        pytest.skip("TLC_DATA_DIR is not set")
    folder = Path(os.environ["TLC_DATA_DIR"])
    spans = ("2018-01..2018-09", "2018-10", "2018-11..2019-04", "2019-05..2019-06")
    before, validate, learned, after = (load_rides("yellow", parse_days(span), data_dir=folder) for span in spans)
    return Scene("yellow", before, validate, learned, after, date(2018, 11, 1), date(2019, 4, 30))


def rows_of(rides: Rides) -> LabelledRows:
    columns, is_true = rides.columns, np.ones(len(rides), np.bool_)
    miles = np.where(columns.trip_distance_miles > 0, columns.trip_distance_miles, 0.0).astype(np.float64)
    zones = columns.pickup_zone.astype(np.int16), columns.dropoff_zone.astype(np.int16)
    return LabelledRows(rides.pickup_time.astype("M8[s]"), *zones, miles, rides.duration_minutes, is_true, is_true)


def clean(rows: LabelledRows) -> LabelledRows:
    return rows


def halved(begins: np.datetime64, n_days: int = 7) -> Change:
    """Durations are halved for some days."""

    def change(rows: LabelledRows) -> LabelledRows:
        is_in = (rows.pickup_time >= begins) & (rows.pickup_time < begins + np.timedelta64(n_days, "D"))
        return replace(rows, duration_minutes=np.where(is_in, rows.duration_minutes / 2, rows.duration_minutes))

    return change


def swapped(begins: np.datetime64, n_days: int = 30) -> Change:
    """Pickup and drop-off zones change places for a month."""

    def change(rows: LabelledRows) -> LabelledRows:
        is_in = (rows.pickup_time >= begins) & (rows.pickup_time < begins + np.timedelta64(n_days, "D"))
        pickup = np.where(is_in, rows.dropoff_zone, rows.pickup_zone)
        dropoff = np.where(is_in, rows.pickup_zone, rows.dropoff_zone)
        return replace(rows, pickup_zone=pickup, dropoff_zone=dropoff)

    return change


def mixed_up(begins: np.datetime64, n_days: int = 30) -> Change:
    """Each zone has another one's number for a month."""
    numbers = np.random.default_rng(1).permutation(266).astype(np.int16)

    def change(rows: LabelledRows) -> LabelledRows:
        is_in = (rows.pickup_time >= begins) & (rows.pickup_time < begins + np.timedelta64(n_days, "D"))
        zones = (np.where(is_in, numbers[zone], zone) for zone in (rows.pickup_zone, rows.dropoff_zone))
        return replace(rows, **dict(zip(("pickup_zone", "dropoff_zone"), zones, strict=True)))

    return change


@dataclass
class LiveWorld(World):
    """A run of the loop in a scene whose labelled rides are changed."""

    scene: Scene = field(default_factory=synthetic)
    change: Change = clean
    allow: tuple[str, ...] = ()
    models: dict[str, ModelBundle] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        now = datetime.combine(self.scene.last + timedelta(days=1), time(20), UTC)
        self.clock = Clock(now)
        self.execution._clock = self.clock
        champion = self.scene.champion()
        self.bucket = new_bucket()
        store_bundle(self.bucket, champion)
        early = Mover("ada", lambda: now - timedelta(days=60))
        move_channel(self.bucket, "stable", champion.model_version, champion.manifest_sha256, mover=early)
        add_monitoring(self.bucket, champion.model_version, now)
        n_days = (self.scene.last - self.scene.first).days + 1
        self.options = LoopOptions(training_days=n_days, min_rides=1)
        self.workers.on_collect = self._collect
        self.workers.on_train = self._train

    def losses(self, one: Experiment, day: date) -> tuple[Loss, ...]:
        """The losses of both versions on the rides of a day."""
        rides = self.scene.after
        rows = np.flatnonzero(rides.pickup_time.astype("M8[D]") == np.datetime64(day))
        found = rides.take(rows)
        matrix = feature_matrix(found.columns)
        errors = (self._model(version).predict(matrix) - found.duration_minutes for version in one.versions)
        return tuple(Loss(len(rows), float(error @ error)) for error in errors)

    def _model(self, version: str) -> ModelBundle:
        if version not in self.models:
            self.models[version] = read_stored(self.bucket, version).model
        return self.models[version]

    def _collect(self, request: CollectRequest) -> None:
        rows = self.change(rows_of(self.scene.learned))
        body = encode_ride_arrays(RideArrays(self.scene.first, self.scene.last, rows))
        self.bucket.write(request.key, body)
        answer = Collected(
            key=request.key, sha256=sha256(body), n_rides=len(rows), first=request.first, last=request.last
        )
        self.answer(request.callback_id, answer)

    def _train(self, request: TrainRequest) -> None:
        asked = msgspec.structs.replace(request, allow=self.allow)
        try:
            self.answer(request.callback_id, retrain(self.bucket, asked, parameters=PARAMETERS))
        except Exception as error:  # noqa: BLE001 - as the function answers
            self.execution.fail(request.callback_id, type(error).__name__, str(error))

    def stopped_by(self) -> str:
        """Run, and return the defence that stopped the candidate."""
        outcome = str(self.run()["outcome"])
        text = self.reason
        if outcome == "rejected":
            return "contract" if "break" in text else "gate"
        return {"kept": "verdict", "rolled back": "watch"}.get(outcome, outcome)


def test_clean_rides_after_a_change_of_traffic_get_promoted() -> None:
    # So the tests below could fail.
    assert LiveWorld(scene=synthetic(factor=1.3)).stopped_by() == "promoted"


@pytest.mark.parametrize("begins", [30, 80])
def test_contract_stops_a_week_of_halved_durations(begins: int) -> None:
    scene = synthetic(factor=1.3)
    world = LiveWorld(scene=scene, change=halved(scene.day(begins)))
    assert world.stopped_by() == "contract"
    assert f"break {PACE}" in world.reason


def test_gate_stops_halved_durations_that_the_contract_was_told_to_allow() -> None:
    scene = synthetic()
    assert LiveWorld(scene=scene, change=halved(scene.day(30)), allow=(PACE,)).stopped_by() == "gate"


def test_verdict_stops_halved_durations_that_the_gate_has_seen_too() -> None:
    scene = synthetic()
    world = LiveWorld(scene=scene, change=halved(scene.day(40), n_days=60), allow=(PACE,))
    assert world.stopped_by() == "verdict"
    assert "the champion is better" in world.reason


@pytest.mark.parametrize("change", [swapped, mixed_up])
def test_gate_stops_a_month_of_wrong_zones(change: Callable[[np.datetime64], Change]) -> None:
    scene = synthetic()
    assert LiveWorld(scene=scene, change=change(scene.day(20))).stopped_by() == "gate"


def test_week_of_halved_durations_of_real_rides_is_stopped_by_the_contract_and_else_by_the_gate() -> None:
    scene = real()
    change = halved(scene.day(100))
    assert LiveWorld(scene=scene, change=change).stopped_by() == "contract"
    assert LiveWorld(scene=scene, change=change, allow=(PACE,)).stopped_by() == "gate"


@pytest.mark.parametrize(("begins", "change"), [(60, swapped), (60, mixed_up)])
def test_month_of_wrong_zones_of_real_rides_is_stopped_by_the_gate(
    begins: int, change: Callable[[np.datetime64], Change]
) -> None:
    scene = real()
    assert LiveWorld(scene=scene, change=change(scene.day(begins))).stopped_by() == "gate"


def test_last_month_of_wrong_zones_of_real_rides_is_stopped_by_the_verdict() -> None:
    # The gate's own rides are wrong, too.
    scene = real()
    assert LiveWorld(scene=scene, change=mixed_up(scene.day(150))).stopped_by() == "verdict"
