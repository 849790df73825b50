"""The soak: its ledger finds lost, repeated and changed events; its traffic is complete."""

import json
from dataclasses import replace

import pytest

from infra.local.event_source.lambda_event import lambda_records
from lambda_function.core.events import Reject, encode_reject
from lambda_function.core.kpl import pack
from tests.builders import STREAM_ARN, small_rides
from tests.fakes import FakeKinesis
from tests.soak.ledger import SoakLedger, parts_of
from tests.soak.run import SoakReport
from tests.soak.traffic import Traffic

EVENTS = [b"zero", b"one", b"two"]
PASSED = SoakReport(rss_mb=[100.0, 119.9])


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
        (prediction(0, minutes=2.0, version="v2"), 0),
        (prediction(0, prediction_id="shard:2"), 0),
    ],
)
def test_repeated_prediction_differs_if_its_model_is_the_same_and_its_bytes_are_not(
    ledger: SoakLedger, again: bytes, n_differing: int
) -> None:
    ledger.add_output(prediction(0))
    ledger.add_output(again)
    assert (ledger.n_repeated, ledger.n_differing) == (1, n_differing)


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
        ({"differing": 1}, "different bytes"),
        ({"damaged": 1}, "different bytes than sent"),
        ({"rss_mb": [100.0, 120.0]}, "memory grew by 20.0 MB"),
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
