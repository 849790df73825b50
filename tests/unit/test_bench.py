"""The bench is fair: its clock counts what it should, and both handlers publish the same durations for an event."""

import base64
import json
from functools import cache
from typing import Any

import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.pipeline import make_pipeline

from lambda_function.core.processor import DURATION_DECIMALS
from tests.bench.comparators import plain_batched
from tests.bench.course import fit_course_forest
from tests.bench.figures import MB, MS, TIMES, US, Figure
from tests.bench.stand_ins import kinesis_without_socket
from tests.bench.subjects import invocation, ours
from tests.bench.timing import cpu_us_per_ride, extra_cpu_us_per_ride
from tests.builders import FEBRUARY, SMALL_PARAMETERS, small_rides, training_facts
from tests.course import course_features
from tests.fakes import FakeClock
from training.data.synthetic import synthetic_rides
from training.model.bundle import ExportedBundle
from training.model.export import export_bundle
from training.model.fit import fit_forest

N_RIDES = 700  # two PutRecords


@cache
def fitted_and_exported() -> tuple[HistGradientBoostingRegressor, ExportedBundle]:
    fitted = fit_forest(small_rides(), SMALL_PARAMETERS)
    return fitted, export_bundle(fitted, small_rides(), training_facts())


@cache
def event() -> dict[str, Any]:
    return invocation(synthetic_rides(FEBRUARY, N_RIDES, seed=2))


class Recorder:
    """A Kinesis client of the bench, and the records in the bodies of its requests."""

    def __init__(self, *, parameter_validation: bool) -> None:
        self.client = kinesis_without_socket(parameter_validation=parameter_validation)
        self.n_requests = 0
        self.records: list[dict[str, Any]] = []
        self.client.meta.events.register_first("before-send.kinesis.PutRecords", self._record)

    def _record(self, request: Any, **_: object) -> None:
        self.n_requests += 1
        self.records += json.loads(request.body)["Records"]

    def predictions(self) -> list[dict[str, Any]]:
        """Decode what was sent."""
        return [json.loads(base64.b64decode(record["Data"])) for record in self.records]


def test_both_handlers_publish_the_same_durations_for_the_same_event() -> None:
    fitted, bundle = fitted_and_exported()
    our, their = Recorder(parameter_validation=False), Recorder(parameter_validation=True)

    ours(bundle, our.client)(event())
    plain_batched(fitted, their.client)(event())

    assert len(our.records) == len(their.records) == N_RIDES
    assert our.n_requests == their.n_requests == 2
    assert [one["PartitionKey"] for one in our.records] == [one["PartitionKey"] for one in their.records]
    for our_one, their_one in zip(our.predictions(), their.predictions(), strict=True):
        assert our_one["prediction"]["ride_id"] == their_one["prediction"]["ride_id"]
        assert our_one["prediction"]["ride_duration"] == pytest.approx(
            their_one["prediction"]["ride_duration"], abs=0.501 * 10**-DURATION_DECIMALS
        )


def test_our_client_leaves_nothing_to_retry(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder(parameter_validation=False)
    handler = ours(fitted_and_exported()[1], recorder.client)
    assert handler(event()) == handler(event()) == {"batchItemFailures": []}
    assert len(recorder.records) == 2 * N_RIDES
    assert capsys.readouterr().out == ""


def test_client_without_a_socket_takes_every_record() -> None:
    client = kinesis_without_socket(parameter_validation=True)
    answer = client.put_records(StreamName="any", Records=[{"Data": b"a", "PartitionKey": "b"}] * 3)
    assert answer["FailedRecordCount"] == 0
    assert len(answer["Records"]) == 3


def test_time_is_the_median_a_ride_without_the_first_call() -> None:
    clock = FakeClock()
    steady_s = iter([100.0, 2.0, 2.0, 2.0])
    jumpy_s = iter([100.0, 9.0, 1.0, 3.0])
    cases = {
        "steady": (lambda: clock.advance(next(steady_s)), 1000),
        "jumpy": (lambda: clock.advance(next(jumpy_s)), 1),
    }
    measured = cpu_us_per_ride(cases, repeats=3, clock=clock)
    assert measured == {"steady": pytest.approx(2e3), "jumpy": pytest.approx(3e6)}


def test_extra_time_is_the_median_of_neighbours_differences_a_ride() -> None:
    # GIVEN a machine that slows down for both ways alike, and once for one only
    clock = FakeClock()
    plain_s, extra_s = iter([9.0, 1.0, 2.0, 3.0]), iter([9.0, 1.1, 2.1, 50.0])
    # WHEN the second way takes a tenth of a second more for 100 rides
    extra_us = extra_cpu_us_per_ride(
        lambda: clock.advance(next(plain_s)), lambda: clock.advance(next(extra_s)), 100, repeats=3, clock=clock
    )
    # THEN that is the result
    assert extra_us == pytest.approx(1e3)


def test_cases_take_turns() -> None:
    calls: list[str] = []
    cases = {name: ((lambda name=name: calls.append(name)), 1) for name in ("a", "b")}
    cpu_us_per_ride(cases, repeats=2)
    assert "".join(calls) == "ababab"


@pytest.mark.parametrize(
    ("figure", "is_within_budget"),
    [
        (Figure("engine", 2.2, US, 2.2), True),
        (Figure("engine", 2.3, US, 2.2), False),
        (Figure("engine", 1e9, US), True),
        (Figure("faster", 4.0, TIMES, 4.0), True),
        (Figure("faster", 3.9, TIMES, 4.0), False),
        (Figure("engine", float("nan"), US, 2.2), False),
    ],
)
def test_budget_is_a_maximum_for_times_and_a_minimum_for_ratios(figure: Figure, is_within_budget: bool) -> None:
    assert figure.is_within_budget is is_within_budget


def test_budgets_of_ratios_and_sizes_bind_and_of_times_do_not() -> None:
    assert [unit for unit in (TIMES, MB, US, MS) if Figure("name", 1.0, unit, 2.0).is_binding] == [TIMES, MB]


def test_course_forest_fitted_in_steps_is_that_of_one_fit() -> None:
    rides = small_rides()
    features = course_features(rides.columns)
    recipe = RandomForestRegressor(n_estimators=50, max_depth=20, min_samples_leaf=10, random_state=0)
    whole = make_pipeline(DictVectorizer(), recipe).fit(features, rides.duration_minutes)
    assert fit_course_forest(rides).predict(features).tolist() == whole.predict(features).tolist()
