"""The bench is fair: its clock counts what it should, and both handlers publish the same durations for an event."""

import base64
import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.pipeline import make_pipeline

from infra.operate.lambda_event import lambda_records
from lambda_function.core.channel import BEGINNING, Arm, Channel, Segment
from lambda_function.core.events import DURATION_DECIMALS, Reject, encode_reject
from lambda_function.core.kpl import pack
from tests.bench.comparators import plain_batched
from tests.bench.figures import MB, MS, TIMES, US, Figure
from tests.bench.stand_ins import kinesis_without_socket
from tests.bench.subjects import invocation, ours
from tests.bench.timing import cpu_us_per_ride, extra_cpu_us_per_ride
from tests.builders import FEBRUARY, SMALL_PARAMETERS, STREAM_ARN, small_rides, training_facts
from tests.fakes import FakeClock, FakeKinesis
from tests.soak.ledger import SoakLedger, parts_of
from tests.soak.run import SoakReport
from tests.soak.traffic import Traffic
from training.data.synthetic import synthetic_rides
from training.model.bundle import ExportedBundle
from training.model.course import course_features, fit_course_forest
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


EVENTS = [b"zero", b"one", b"two"]
PASSED = SoakReport(rss_mb=[100.0, 139.9])


@pytest.fixture
def ledger() -> SoakLedger:
    ledger = SoakLedger(5)
    ledger.add_sent(EVENTS)
    return ledger


def prediction(number: int, minutes: float = 1.0, version: str = "v1", prediction_id: str = "shard:1") -> bytes:
    inside = {"ride_duration": minutes, "ride_id": number}
    wire = {"model": "m", "version": version, "prediction": inside, "prediction_id": prediction_id}
    return json.dumps(wire, separators=(",", ":")).encode()


def rejected(number: int, data: str) -> bytes:
    return encode_reject(Reject("not_json", "", "shard", "1", "", str(number), data)) + b"\n"


def failed(*entries: tuple[str, bytes]) -> bytes:
    kinesis = FakeKinesis()
    for key, data in entries:
        kinesis.put(data, partition_key=key)
    (shard,) = kinesis.shards.values()
    payload = json.dumps({"Records": lambda_records(shard.records, shard.shard_id, STREAM_ARN)})
    return json.dumps({"payload": payload}).encode()


def test_event_without_a_result_is_lost(ledger: SoakLedger) -> None:
    assert ledger.n_lost == 3
    ledger.add_output(prediction(0))
    ledger.add_rejects(rejected(1, "b25l"))
    assert (ledger.n_predicted, ledger.n_rejected, ledger.n_lost) == (1, 1, 1)
    ledger.add_failed(failed(("2", b"two")))
    assert (ledger.n_failed, ledger.n_lost) == (1, 0)


def test_event_in_two_places_is_counted(ledger: SoakLedger) -> None:
    ledger.add_output(prediction(0))
    ledger.add_rejects(rejected(0, "emVybw==") + rejected(1, "b25l"))
    ledger.add_failed(failed(("1", b"one")))
    assert (ledger.n_predicted_and_rejected, ledger.n_failed_though_done) == (1, 1)


@pytest.mark.parametrize(
    ("again", "n_differing"),
    [
        (prediction(0), 0),
        (prediction(0, minutes=2.0), 1),
        (prediction(0, version="v2"), 1),
        (prediction(0, prediction_id="shard:2", version="v2"), 0),
    ],
)
def test_prediction_differs_if_its_id_had_one_with_other_bytes(
    ledger: SoakLedger, again: bytes, n_differing: int
) -> None:
    ledger.add_output(prediction(0))
    ledger.add_output(again)
    assert (ledger.n_repeated, ledger.n_differing) == (1, n_differing)


def test_ids_of_an_event_that_was_sent_twice_are_each_compared_with_their_own_predictions(ledger: SoakLedger) -> None:
    for prediction_id, version in (("a", "v1"), ("b", "v2"), ("a", "v1"), ("b", "v2"), ("b", "v1")):
        ledger.add_output(prediction(0, prediction_id=prediction_id, version=version))
    assert (ledger.n_repeated, ledger.n_differing) == (4, 1)


def test_prediction_by_a_withdrawn_version_and_by_the_one_in_its_place_do_not_count_as_differing(
    ledger: SoakLedger,
) -> None:
    ledger.rollbacks = [Channel(segments=(Segment(BEGINNING, (Arm("v1", ""),)),), withdrawn="v3", moved_at="")]
    for number, versions in enumerate((("v3", "v1"), ("v1", "v3"), ("v3", "v2"))):
        for version in versions:
            ledger.add_output(prediction(number, version=version))
    assert (ledger.n_withdrawn, ledger.n_differing) == (2, 1)


def test_events_stored_with_different_bytes_than_sent_are_damaged(ledger: SoakLedger) -> None:
    ledger.add_rejects(rejected(1, "b25m"))
    ledger.add_failed(failed(("2", b"tow")))
    assert ledger.n_damaged == 2


def test_aggregates_count_by_their_sub_records(ledger: SoakLedger) -> None:
    (out,) = pack([("k", prediction(0)), ("l", prediction(1))], n_groups=1)
    (back,) = pack([("1", b"one"), ("2", b"two")], n_groups=1)
    ledger.add_output(out.data)
    ledger.add_failed(failed((back.partition_key, back.data)))
    assert (ledger.n_predicted, ledger.n_failed, ledger.n_damaged, ledger.n_lost) == (2, 2, 0, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lost": 2}, "2 events are lost"),
        ({"predicted_and_rejected": 1}, "predicted and rejected"),
        ({"differing": 1}, "1 predictions of an id differ"),
        ({"damaged": 1}, "different bytes than sent"),
        ({"rss_mb": [100.0, 140.0]}, "memory grew by 40.0 MB"),
    ],
)
def test_report_names_each_broken_promise(change: dict[str, object], words: str) -> None:
    assert PASSED.problems == []
    (problem,) = replace(PASSED, **change).problems  # type: ignore[arg-type]
    assert words in problem


def test_traffic_has_every_number_once_plain_or_aggregated() -> None:
    traffic = Traffic(small_rides())
    events = traffic.events(4900, 250)
    assert events[100:] == traffic.events(5000, 150)
    entries = traffic.entries(4900, events)
    sent = [one for key, data in entries for one in parts_of(key, data)]
    assert sent == [(str(number), event) for number, event in enumerate(events, 4900)]
    assert len(entries) < len(events)
