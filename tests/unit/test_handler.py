"""The function on fakes and its entry point: each record ends in one place, whatever stream and store do."""

import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function import handler
from lambda_function.aws.clients import CONNECT_TIMEOUT_S, KINESIS_READ_TIMEOUT_S
from lambda_function.aws.settings import Settings
from lambda_function.core.channel import ACTIVATION_DELAY_S
from lambda_function.core.events import decode_prediction
from lambda_function.errors import BundleError, ConfigurationError, PublishError, StoreError
from lambda_function.handler import build_handler, lambda_handler
from tests.builders import (
    ARRIVAL_TIME_S,
    event_id,
    invocation,
    lambda_records,
    ride_bytes,
    sequence_number,
    small_bundle,
)
from tests.fakes import (
    BUCKET,
    OUTPUT_STREAM,
    FakeClock,
    FakeContext,
    FakeFunction,
    FakeS3,
    damage_bundle,
    output_stream,
    point_channel,
    publish_bundle,
)
from tests.kits.batches import BAD, good, published_ids, queued, rejected
from tests.kits.denying_server import server_that_denies
from tests.outcomes import (
    CUT_OFF,
    DENIED,
    NO_ANSWER,
    SERVICE_DOWN,
    THROTTLED,
    AnswerLost,
    EntriesRefused,
    PutOutcome,
    S3Outcome,
    SendOutcome,
)
from training.registry.channels import Mover
from training.registry.folder_s3 import client_error


@pytest.fixture
def function() -> FakeFunction:
    return FakeFunction(small_bundle())


def test_batch_of_rides_is_published_whole(function: FakeFunction) -> None:
    assert function.invoke(invocation(*good(3))) == ""
    assert published_ids(function) == [event_id(n) for n in range(3)]
    assert function.s3.keys("rejects/") == []


def test_rejects_of_a_batch_are_stored_as_one_object(function: FakeFunction) -> None:
    assert function.invoke(invocation(ride_bytes(), BAD, ride_bytes(), BAD)) == ""
    (key,) = function.s3.keys("rejects/")
    assert key.startswith(f"rejects/ride-events/shardId-000000000000/{sequence_number(1)}-")
    assert rejected(function) == [sequence_number(1), sequence_number(3)]
    assert published_ids(function) == [event_id(0), event_id(2)]


def test_batch_of_rejects_alone_calls_no_stream(function: FakeFunction) -> None:
    assert function.invoke(invocation(BAD, BAD)) == ""
    assert function.kinesis.put_sizes == []
    assert len(rejected(function)) == 2


def test_throttled_record_is_retried_from_its_sequence_number(function: FakeFunction) -> None:
    # GIVEN a stream that never accepts the third record of five
    function.kinesis.script = [EntriesRefused([2]), *[EntriesRefused([0])] * 1000]
    # WHEN the function has refused it
    retry_from = function.invoke(invocation(*good(5)))
    # THEN Lambda sends that record and those after it again, and nothing was published twice
    assert retry_from == sequence_number(2)
    assert published_ids(function) == [event_id(n) for n in (0, 1, 3, 4)]


def test_lowest_unpublished_record_is_reported_not_the_last_failure(function: FakeFunction) -> None:
    function.kinesis.script = [EntriesRefused([4, 1]), EntriesRefused([0, 1]), DENIED]
    assert function.invoke(invocation(*good(5))) == sequence_number(1)


def test_function_answers_in_time_when_the_stream_is_down(function: FakeFunction) -> None:
    # GIVEN a stream that refuses every request, and a minute
    function.kinesis.script = [SERVICE_DOWN] * 1000
    function.kinesis.request_s = CONNECT_TIMEOUT_S + KINESIS_READ_TIMEOUT_S
    started_s = function.clock()
    # WHEN a batch comes
    retry_from = function.invoke(invocation(*good(2)))
    # THEN it was retried, and returned to Lambda before the minute was over
    assert retry_from == sequence_number(0)
    assert len(function.kinesis.put_sizes) > 2
    assert function.clock() - started_s < function.timeout_s


def test_no_request_is_started_when_time_is_up(function: FakeFunction) -> None:
    function.timeout_s = 0.0
    assert function.invoke(invocation(ride_bytes(), BAD)) == sequence_number(0)
    assert function.kinesis.put_sizes == []


def test_garbage_collector_is_on_again_after_a_batch_however_it_ends(function: FakeFunction) -> None:
    function.invoke(invocation(ride_bytes()))
    assert gc.isenabled()
    with pytest.raises(msgspec.ValidationError):
        function.invoke({"Records": [{}]})
    assert gc.isenabled()


def test_batch_report_counts_each_record_where_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    function = FakeFunction(small_bundle())
    function.kinesis.script = [EntriesRefused([1]), DENIED]
    # predicted, rejected, not published; it is retried with all that follow
    function.invoke(invocation(ride_bytes(), BAD, ride_bytes(), ride_bytes(), BAD))
    batch = json.loads(capsys.readouterr().out.splitlines()[0])["batch"]
    assert batch["n_records"] == 5
    assert batch["n_predictions"] == 1
    assert batch["rejects_by_reason"] == {"not_json": 1}  # the other one is stored too, and counts when it is done
    assert batch["n_retried"] == 3
    assert batch["retry_from"] == sequence_number(2)
    assert batch["n_resent"] == 1
    assert "AccessDenied" in batch["problem"]


def test_record_age_is_that_of_the_oldest_record(capsys: pytest.CaptureFixture[str]) -> None:
    function = FakeFunction(small_bundle())
    records = lambda_records(good(2))
    records[1]["kinesis"]["approximateArrivalTimestamp"] = function.clock() - 3.5
    records[0]["kinesis"]["approximateArrivalTimestamp"] = function.clock() - 1
    function.invoke({"Records": records})
    assert json.loads(capsys.readouterr().out.splitlines()[0])["batch"]["max_record_age_ms"] == pytest.approx(3500)


def test_record_from_the_future_has_no_negative_age(capsys: pytest.CaptureFixture[str]) -> None:
    function = FakeFunction(small_bundle(), clock=FakeClock(now_s=0.0))
    function.invoke(invocation(ride_bytes()))
    assert json.loads(capsys.readouterr().out.splitlines()[0])["batch"]["max_record_age_ms"] == 0


POSITIONS = st.lists(st.integers(0, 11), min_size=1, max_size=6)
PUT_OUTCOMES = st.one_of(
    st.none(),
    POSITIONS.map(EntriesRefused),
    st.sampled_from([THROTTLED, SERVICE_DOWN, DENIED, NO_ANSWER, client_error(400, "ValidationException")]),
    st.sampled_from([AnswerLost(), AnswerLost(SERVICE_DOWN)]),
)
S3_OUTCOMES = st.one_of(st.none(), st.sampled_from([SERVICE_DOWN, DENIED, NO_ANSWER, AnswerLost()]))
SENDS = st.lists(S3_OUTCOMES | st.just(CUT_OFF), max_size=6)
DATAS = st.lists(st.sampled_from([ride_bytes(1), ride_bytes(2, trip_distance=9), ride_bytes("3"), BAD]), max_size=12)


@dataclass
class Mapping:
    """Redelivers records as Lambda does: from the reported sequence number, or the whole batch after an error."""

    function: FakeFunction
    sizes: Iterator[int]  # records that each delivery holds at most: a batch that failed may come in other pieces
    killed: Iterator[bool]  # Deliveries whose answer is lost, as when the function's environment dies after its work

    def deliver(self, records: list[dict[str, Any]]) -> None:
        """Deliver records until all of them are done."""
        numbers = [record["kinesis"]["sequenceNumber"] for record in records]
        start = 0
        for _ in range(500):
            if start == len(records):
                return
            stop = min(start + next(self.sizes), len(records))
            try:
                retry_from = self.function.invoke({"Records": records[start:stop]})
            except (StoreError, BundleError, PublishError):
                retry_from = numbers[start]
            if next(self.killed):
                continue
            assert retry_from in ["", *numbers[start:stop]]
            start = numbers.index(retry_from) if retry_from else stop
        raise AssertionError("the shard is blocked")


def endless(values: list[Any], last: Any) -> Iterator[Any]:
    yield from values
    while True:
        yield last


@given(datas=DATAS, puts=st.lists(PUT_OUTCOMES, max_size=6), s3=st.lists(S3_OUTCOMES, max_size=6), sends=SENDS)
def test_every_record_ends_in_one_place_or_comes_again(
    datas: list[bytes], puts: list[PutOutcome], s3: list[S3Outcome], sends: list[SendOutcome]
) -> None:
    # GIVEN any batch, and a stream, a bucket and a queue that fail in any way
    function = FakeFunction(small_bundle())
    function.invoke(invocation(ride_bytes()))  # the model is loaded
    function.kinesis.take()
    function.kinesis.script, function.s3.script, function.queue.script = puts, s3, sends
    # WHEN the function has handled it
    try:
        retry_from = function.invoke({"Records": lambda_records(datas)})
    except PublishError:
        retry_from = sequence_number(0)
    # THEN each record before the one reported is published if it is a ride, and else rejected, in bucket or queue
    n_done = int(retry_from) - int(sequence_number(0)) if retry_from else len(datas)
    rides = {event_id(n) for n, data in enumerate(datas) if data != BAD}
    others = {sequence_number(n) for n, data in enumerate(datas) if data == BAD}
    stored = {*rejected(function), *queued(function)}
    assert rides & {event_id(n) for n in range(n_done)} <= set(published_ids(function)) <= rides
    assert others & {sequence_number(n) for n in range(n_done)} <= stored <= others


@given(
    datas=DATAS,
    puts=st.lists(PUT_OUTCOMES, max_size=12),
    s3=st.lists(S3_OUTCOMES, max_size=12),
    sends=SENDS,
    sizes=st.lists(st.integers(1, 12), max_size=12),
    killed=st.lists(st.booleans(), max_size=4),
)
def test_redelivery_loses_nothing_and_repeats_with_the_same_bytes(
    datas: list[bytes],
    puts: list[PutOutcome],
    s3: list[S3Outcome],
    sends: list[SendOutcome],
    sizes: list[int],
    killed: list[bool],
) -> None:
    # GIVEN any batch, any failures, batches divided differently at each delivery, and lost answers
    function = FakeFunction(small_bundle())
    function.kinesis.script, function.s3.script, function.queue.script = puts, s3, sends
    # WHEN Lambda delivers until all is done
    Mapping(function, endless(sizes, 12), endless(killed, False)).deliver(lambda_records(datas))
    # THEN each ride has a prediction, whose repeats are the same to the byte
    by_id: dict[str, set[bytes]] = {}
    for _, data in function.kinesis.taken:
        by_id.setdefault(decode_prediction(data).prediction_id, set()).add(data)
    assert set(by_id) == {event_id(n) for n, data in enumerate(datas) if data != BAD}
    assert all(len(datas) == 1 for datas in by_id.values())
    # AND each of the others is in the bucket or the queue
    others = {sequence_number(n) for n, data in enumerate(datas) if data == BAD}
    assert {*rejected(function), *queued(function)} == others


def test_prediction_names_its_model(function: FakeFunction) -> None:
    function.invoke(invocation(ride_bytes()))
    ((key, data),) = function.kinesis.taken
    assert key == "256"
    assert decode_prediction(data).version == small_bundle().model_version


def test_cold_start_without_a_model_fails_and_the_next_one_works(function: FakeFunction) -> None:
    function.s3.script = [SERVICE_DOWN]
    with pytest.raises(StoreError, match=r"channels/stable\.json.*ServiceUnavailable"):
        function.invoke(invocation(ride_bytes()))
    assert function.kinesis.taken == []
    assert function.invoke(invocation(ride_bytes())) == ""


def test_cold_start_on_a_damaged_bundle_fails(function: FakeFunction) -> None:
    damage_bundle(function.s3, small_bundle())
    with pytest.raises(BundleError):
        function.invoke(invocation(ride_bytes()))


def test_model_switches_between_two_batches(function: FakeFunction) -> None:
    new = small_bundle(seed=2)
    function.invoke(invocation(ride_bytes()))
    publish_bundle(function.s3, new)
    function.invoke(invocation(ride_bytes()))
    function.clock.sleep(60)
    function.invoke(invocation(ride_bytes()))
    versions = [decode_prediction(data).version for _, data in function.kinesis.taken]
    old_version = small_bundle().model_version
    assert versions == [old_version, old_version, new.model_version]


def test_batch_across_the_beginning_of_a_segment_has_each_rides_model_in_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # GIVEN a promotion whose segment begins between the second ride's arrival and the third's
    function, new = FakeFunction(small_bundle()), small_bundle(seed=2)
    promoted_at = datetime.fromtimestamp(ARRIVAL_TIME_S + 1.5 - ACTIVATION_DELAY_S, UTC)
    publish_bundle(function.s3, new, mover=Mover("ada", lambda: promoted_at))
    capsys.readouterr()
    # WHEN the batch is delivered twice, by a function that knows the segment
    versions = []
    for _ in range(2):
        again = {**invocation(*map(ride_bytes, range(4))), "ridecast": {"replay": True}}
        function.handler(again, FakeContext(function.clock))
        taken = function.kinesis.taken[-4:]
        versions.append([decode_prediction(data).version for _, data in taken])
    # THEN the rides have their models' predictions, the same each time, and the log names both models
    old_version = small_bundle().model_version
    assert versions == [[old_version] * 2 + [new.model_version] * 2] * 2
    log = json.loads(capsys.readouterr().out.splitlines()[0])["batch"]
    assert (log["model_version"], log["older_model_versions"]) == (new.model_version, [old_version])


def test_damaged_new_bundle_leaves_the_old_model_in_use_and_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    function, new = FakeFunction(small_bundle()), small_bundle(seed=2)
    function.invoke(invocation(ride_bytes()))
    publish_bundle(function.s3, new)
    damage_bundle(function.s3, new)
    function.clock.sleep(60)
    capsys.readouterr()
    assert function.invoke(invocation(ride_bytes())) == ""
    assert decode_prediction(function.kinesis.taken[-1][1]).version == small_bundle().model_version
    log, metrics = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert new.model_version in log["batch"]["problem"]
    assert metrics["ModelRefreshFailures"] == [1]


def test_unreadable_channel_leaves_the_old_model_in_use(function: FakeFunction) -> None:
    function.invoke(invocation(ride_bytes()))
    point_channel(function.s3, b"{}")
    function.clock.sleep(60)
    assert function.invoke(invocation(ride_bytes())) == ""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name, value in {"OUTPUT_STREAM": OUTPUT_STREAM, "BUCKET": BUCKET, "MODEL_CHANNEL": "stable"}.items():
        monkeypatch.setenv(name, value)
    handler._cold_start.cache_clear()
    yield monkeypatch
    handler._cold_start.cache_clear()


def test_missing_setting_fails_the_cold_start_by_name(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("BUCKET")
    with pytest.raises(ConfigurationError, match="BUCKET is missing"):
        lambda_handler(invocation(ride_bytes()), FakeContext(FakeClock()))


def test_invocation_that_fails_is_logged_counted_and_raised(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN the function with its own clients, in an account without any permission
    environment.setenv("POWERTOOLS_SERVICE_NAME", "denied")
    with server_that_denies() as address:
        environment.setenv("AWS_ENDPOINT_URL", address)
        # WHEN a batch comes
        with pytest.raises(StoreError, match="403"):
            lambda_handler(invocation(ride_bytes("secret")), FakeContext(FakeClock()))
    # THEN it logs that once, without the payload, and counts it
    log, metrics = capsys.readouterr().out.splitlines()
    assert json.loads(log)["error"] == "StoreError"
    assert json.loads(metrics)["FailedInvocations"] == [1]
    assert "secret" not in log


def test_entry_point_answers_an_empty_batch(environment: pytest.MonkeyPatch) -> None:
    assert lambda_handler({"Records": []}, FakeContext(FakeClock())) == {"batchItemFailures": []}


def test_parts_are_put_together_around_two_clients() -> None:
    s3, kinesis = FakeS3(), output_stream()
    publish_bundle(s3, small_bundle())
    settings = Settings(output_stream=OUTPUT_STREAM, bucket=BUCKET, model_channel="stable", service_name="parts")
    answer = build_handler(settings, s3, kinesis)(invocation(ride_bytes()), FakeContext(FakeClock()))
    assert answer == {"batchItemFailures": []}
    assert len(kinesis.taken) == 1
