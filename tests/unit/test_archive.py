"""The archive: every record of a batch is in an object before the function answers, whatever it holds."""

import gc
import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.demo.replay import Replay
from lambda_function import archive as archive_function
from lambda_function.archive import STORE_MARGIN_MS, ArchiveHandler, build_archiver, lambda_handler
from lambda_function.aws.clients import CONNECT_TIMEOUT_S, S3_ATTEMPTS, S3_READ_TIMEOUT_S
from lambda_function.aws.settings import ArchiveSettings
from lambda_function.core.archive_lines import ArchivedRecord, decode_lines
from lambda_function.core.kpl import pack
from lambda_function.core.replay import replay_event
from lambda_function.errors import ConfigurationError, StoreError
from tests.bench.archive import archive_event
from tests.builders import ARRIVAL_TIME_S, event_id, invocation, lambda_record, lambda_records, ride_bytes
from tests.builders_tlc import needs_real_months, real_rides
from tests.fakes import BUCKET, FakeClock, FakeContext, FakeS3
from tests.kits.denying_server import server_that_denies
from tests.outcomes import DENIED, NO_ANSWER, SERVICE_DOWN, AnswerLost, Problem, S3Outcome

RIDES, PREDICTIONS, OUTCOMES = "archive/rides/", "archive/predictions/", "archive/outcomes/"
HOUR_S = 3600.0
ENVIRONMENT = {
    "BUCKET": BUCKET,
    "RIDE_EVENTS_STREAM": "ride-events",
    "RIDE_PREDICTIONS_STREAM": "arn:aws:kinesis:us-east-1:123456789012:stream/ride-predictions",
    "RIDE_OUTCOMES_STREAM": "ride-outcomes",
}
_numbers = count()


def archiver(s3: FakeS3) -> ArchiveHandler:
    """The function; its logger is new, and so writes to what is the standard output now."""
    service = {"POWERTOOLS_SERVICE_NAME": f"archive-{next(_numbers)}"}
    return build_archiver(ArchiveSettings.from_env(ENVIRONMENT | service), s3)


def archive(s3: FakeS3, event: dict[str, Any], timeout_s: float = 60.0) -> dict[str, Any]:
    return archiver(s3)(event, FakeContext(s3.clock, timeout_s))


def archived(s3: FakeS3, prefix: str = "archive/") -> list[ArchivedRecord]:
    """The records of all objects, in the order of the keys."""
    return [record for body in s3.bodies(prefix) for record in decode_lines(gzip.decompress(body))]


def arriving(*times_s: float) -> dict[str, Any]:
    """An invocation with a ride event for each arrival time."""
    records = lambda_records(ride_bytes(position) for position in range(len(times_s)))
    for record, time_s in zip(records, times_s, strict=True):
        record["kinesis"]["approximateArrivalTimestamp"] = time_s
    return {"Records": records}


def of_stream(event: dict[str, Any], arn: str) -> dict[str, Any]:
    return {**event, "Records": [{**record, "eventSourceARN": arn} for record in event["Records"]]}


# What is stored ------------------------------------------------------------------------------------------------------


def test_batch_is_one_object_of_its_hour() -> None:
    s3 = FakeS3()
    answer = archive(s3, invocation(ride_bytes(1), b"garbage", ride_bytes(3)))
    assert answer == {"batchItemFailures": []}
    (key,) = s3.keys("")
    assert key.startswith(f"archive/rides/dt=2021-01-05/hh=08/{event_id(0).replace(':', '-')}-")
    assert [(record.id, record.data) for record in archived(s3)] == [
        (event_id(0), ride_bytes(1)),
        (event_id(1), b"garbage"),
        (event_id(2), ride_bytes(3)),
    ]


@pytest.mark.parametrize(
    ("arn", "prefix"),
    [
        ("arn:aws:kinesis:us-east-1:123456789012:stream/ride-events", RIDES),
        ("arn:aws:kinesis:us-east-1:123456789012:stream/ride-events/consumer/archive:1700000000", RIDES),
        ("arn:aws:kinesis:us-east-1:123456789012:stream/ride-predictions", PREDICTIONS),
        ("arn:aws:kinesis:us-east-1:123456789012:stream/ride-outcomes", OUTCOMES),
    ],
)
def test_stream_decides_the_kind(arn: str, prefix: str) -> None:
    s3 = FakeS3()
    archive(s3, of_stream(invocation(b"{}"), arn))
    assert len(s3.keys(prefix)) == len(s3.objects) == 1


def test_other_stream_is_a_mistake_in_the_settings_that_names_them() -> None:
    s3 = FakeS3()
    with pytest.raises(ConfigurationError, match=r"RIDE_OUTCOMES_STREAM has to name the stream other"):
        archive(s3, of_stream(invocation(b"{}"), "arn:aws:kinesis:us-east-1:123456789012:stream/other"))
    assert s3.calls == []


def test_garbage_collector_rests_while_a_batch_is_archived() -> None:
    states = []

    class Watching(FakeS3):
        def put_object(self, **request: Any) -> dict[str, Any]:
            states.append(gc.isenabled())
            return super().put_object(**request)

    archive(Watching(), invocation(ride_bytes(1)))
    assert (states, gc.isenabled()) == ([False], True)


def test_event_of_another_source_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="HTTP request"):
        archive(FakeS3(), {"requestContext": {}})


def test_empty_batch_is_answered_without_a_request() -> None:
    s3 = FakeS3()
    assert archive(s3, {"Records": []}) == {"batchItemFailures": []}
    assert s3.calls == []


def test_batch_that_spans_hours_makes_an_object_an_hour() -> None:
    s3 = FakeS3()
    hour_s = ARRIVAL_TIME_S // HOUR_S * HOUR_S
    archive(s3, arriving(hour_s - 0.001, hour_s, hour_s + HOUR_S - 0.001, hour_s - 1, hour_s + HOUR_S))
    hours = {key.split("/")[3]: key for key in s3.keys(RIDES)}
    assert sorted(hours) == ["hh=07", "hh=08", "hh=09"]
    assert [record.id for record in archived(s3)] == [event_id(n) for n in (0, 3, 1, 2, 4)]
    assert event_id(1).partition(":")[2] in hours["hh=08"]  # the object's own first record


def test_records_with_unusual_arrivals_are_archived_under_an_hour_of_theirs() -> None:
    s3 = FakeS3()
    archive(s3, arriving(ARRIVAL_TIME_S, ARRIVAL_TIME_S * 1000, 1e300, 0.0))
    days = [key.split("/")[2] for key in s3.keys(RIDES)]
    assert days == ["dt=1970-01-01", "dt=2021-01-05", "dt=9999-12-31"]


def test_aggregate_and_record_that_is_not_base64_are_archived() -> None:
    s3 = FakeS3()
    (aggregate,) = pack([("7", ride_bytes(7)), ("8", ride_bytes(8))], n_groups=1)
    archive(s3, invocation(aggregate.data, "not base64!"))
    assert [(record.id, record.data) for record in archived(s3)] == [
        (f"{event_id(0)}:0", ride_bytes(7)),
        (f"{event_id(0)}:1", ride_bytes(8)),
        (event_id(1), b"not base64!"),
    ]


# Nothing is lost -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [DENIED, SERVICE_DOWN, NO_ANSWER, AnswerLost(Problem.NO_ANSWER)], ids=["denied", "down", "hung", "lost"]
)
@pytest.mark.parametrize("n_stored_before", [0, 1])
def test_batch_comes_again_unless_s3_confirms_every_object(fault: S3Outcome, n_stored_before: int) -> None:
    s3 = FakeS3(script=[*[None] * n_stored_before, fault])
    event = arriving(ARRIVAL_TIME_S, ARRIVAL_TIME_S + HOUR_S)
    with pytest.raises(StoreError, match="cannot store s3://ridecast-test/archive/rides/"):
        archive(s3, event)
    archive(s3, event)  # it comes again
    assert len(s3.objects) == 2
    assert [record.id for record in archived(s3)] == [event_id(0), event_id(1)]


def test_answer_that_is_not_s3s_confirms_nothing() -> None:
    class Proxy(FakeS3):
        def put_object(self, **request: Any) -> dict[str, Any]:
            return {"ResponseMetadata": {"HTTPStatusCode": 200}}

    with pytest.raises(StoreError, match="does not confirm"):
        archive(Proxy(), invocation(ride_bytes(1)))


def test_no_request_starts_that_could_not_end_before_lambdas_timeout() -> None:
    s3 = FakeS3(request_s=8.0, clock=FakeClock())
    hours = [ARRIVAL_TIME_S + hour * HOUR_S for hour in range(9)]
    with pytest.raises(StoreError, match="time is up"):
        archive(s3, arriving(*hours), timeout_s=60.0)
    assert len(s3.calls) == 7  # at 0, 8, … 48 s of 60, and STORE_MARGIN_MS are left
    hung_s = S3_ATTEMPTS * (CONNECT_TIMEOUT_S + S3_READ_TIMEOUT_S) + 1  # a pause between the attempts
    assert hung_s * 1000 <= STORE_MARGIN_MS


def test_batch_that_comes_again_overwrites_itself_with_the_same_bytes() -> None:
    s3 = FakeS3()
    event = invocation(ride_bytes(1), b"garbage")
    archive(s3, event)
    before = dict(s3.objects)
    archive(s3, event)
    assert s3.objects == before
    assert len(s3.calls) == 2


def test_shorter_batch_with_the_same_first_record_replaces_nothing() -> None:
    s3 = FakeS3()
    event = invocation(ride_bytes(1), ride_bytes(2))
    archive(s3, event)
    archive(s3, {"Records": event["Records"][:1]})
    assert len(s3.objects) == 2
    assert {record.id for record in archived(s3)} == {event_id(0), event_id(1)}


@given(st.data())
def test_every_record_is_archived_whatever_the_cuts_and_faults(data: st.DataObject) -> None:
    # GIVEN records of some hours, and batches that cut them anywhere, some twice
    n = data.draw(st.integers(1, 12))
    times_s = data.draw(st.lists(st.floats(0, 4 * HOUR_S), min_size=n, max_size=n))
    records = arriving(*times_s)["Records"]
    starts = data.draw(st.lists(st.integers(0, n - 1), max_size=6))
    # WHEN each batch comes until it is answered
    s3 = FakeS3(script=data.draw(st.lists(st.sampled_from([None, DENIED, AnswerLost(Problem.DOWN)]), max_size=12)))
    for start in [0, *starts]:
        stop = n if start == 0 else data.draw(st.integers(start + 1, n))
        while True:
            try:
                archive(s3, {"Records": records[start:stop]})
            except StoreError:
                continue
            break
    # THEN every record is in an object of its hour, and all copies are equal
    found = archived(s3)
    assert {record.id for record in found} == {record["eventID"] for record in records}
    assert len({(record.id, record.at_s, record.key, record.data) for record in found}) == n


# Budgets; the bench has those of CPU and memory ------------------------------------------------------


@pytest.mark.slow
@needs_real_months
def test_real_ride_event_takes_at_most_32_bytes() -> None:
    s3 = FakeS3()
    entries = list(Replay(real_rides("2023-02").head(9_400), n_malformed=0).entries())
    archive(s3, of_stream(archive_event("rides", entries), "arn:aws:kinesis:us-east-1:123456789012:stream/ride-events"))
    (body,) = s3.objects.values()
    assert len(entries) == 9_400
    assert len(body) <= 32 * 9_400


# Replays -------------------------------------------------------------------------------------------------------------


def test_replay_stores_its_records_and_rejects_none() -> None:
    s3 = FakeS3()
    answer = archive(s3, replay_event([lambda_record(b"garbage", 5)]))
    assert answer == {"batchItemFailures": [], "ridecast": {"rejected": []}}
    assert [record.id for record in archived(s3)] == [event_id(5)]


def test_sub_record_that_is_replayed_alone_keeps_its_id() -> None:
    s3 = FakeS3()
    record = {**lambda_record(ride_bytes(7)), "eventID": f"{event_id(0)}:3"}
    archive(s3, replay_event([record]))
    assert [record.id for record in archived(s3)] == [f"{event_id(0)}:3"]


# Objects, logs and metrics -------------------------------------------------------------------------------------------


def test_object_is_one_gzip_member_without_a_time() -> None:
    s3 = FakeS3()
    archive(s3, invocation(ride_bytes(1)))
    (body,) = s3.objects.values()
    assert body[:8] == b"\x1f\x8b\x08\0\0\0\0\0"
    member = zlib.decompressobj(wbits=31)
    assert decode_lines(member.decompress(body))
    assert (member.eof, member.unused_data) == (True, b"")


def test_one_log_line_and_the_metrics_of_a_batch_hold_no_payload(capsys: pytest.CaptureFixture[str]) -> None:
    s3 = FakeS3()
    archive(s3, invocation(ride_bytes(777_777), ride_bytes(2)))
    log, metrics = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert log["batch"] == {
        "stream": "ride-events",
        "kind": "rides",
        "shard_id": event_id(0).partition(":")[0],
        "first_sequence_number": event_id(0).partition(":")[2],
        "n_records": 2,
        "n_objects": 1,
        "n_bytes": len(next(iter(s3.objects.values()))),
    }
    assert (metrics["ArchivedRecords"], metrics["ArchivedBytes"]) == ([2.0], [float(log["batch"]["n_bytes"])])
    assert "777777" not in json.dumps([log, metrics])


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    archive_function._cold_start.cache_clear()
    yield monkeypatch
    archive_function._cold_start.cache_clear()


def test_invocation_that_fails_is_logged_counted_and_raised(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN the function with its own client, in an account without any permission
    environment.setenv("POWERTOOLS_SERVICE_NAME", "denied-archive")
    with server_that_denies() as address:
        environment.setenv("AWS_ENDPOINT_URL", address)
        # WHEN a batch comes
        with pytest.raises(StoreError, match="403"):
            lambda_handler(invocation(ride_bytes("secret")), FakeContext(FakeClock()))
    # THEN it logs that once, without the payload, and counts it
    log, metrics = capsys.readouterr().out.splitlines()
    assert (json.loads(log)["level"], json.loads(log)["error"]) == ("ERROR", "StoreError")
    assert json.loads(metrics)["FailedArchiveInvocations"] == [1]
    assert "secret" not in log


def test_missing_setting_fails_the_cold_start_by_name(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("RIDE_OUTCOMES_STREAM")
    with pytest.raises(ConfigurationError, match="RIDE_OUTCOMES_STREAM is missing"):
        lambda_handler(invocation(ride_bytes()), FakeContext(FakeClock()))


# Settings ------------------------------------------------------------------------------------------------------------


def test_missing_settings_are_all_named() -> None:
    with pytest.raises(ConfigurationError, match="RIDE_PREDICTIONS_STREAM, RIDE_OUTCOMES_STREAM is missing"):
        ArchiveSettings.from_env({"BUCKET": BUCKET, "RIDE_EVENTS_STREAM": "ride-events"})


def test_stream_with_two_kinds_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="RIDE_OUTCOMES_STREAM is 'ride-events'"):
        ArchiveSettings.from_env(ENVIRONMENT | {"RIDE_OUTCOMES_STREAM": "ride-events"})
