"""What of a batch comes out and what comes again: rejects first, confirmed predictions once, and clear refusals."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from infra.local.simulation.simulation import SimulationOptions
from lambda_function.core.confirmed import MAX_IDS, ConfirmedIds, Shard
from lambda_function.core.processor import ProcessedBatch
from lambda_function.core.replay import replay_event
from lambda_function.errors import PublishError
from tests.builders import (
    SHARD_ID,
    STREAM,
    event_id,
    invocation,
    lambda_records,
    ride_bytes,
    sequence_number,
    small_bundle,
)
from tests.fakes import OUTPUT_STREAM, FakeFunction, FakeKinesis
from tests.kits.batches import BAD, good, published_ids, queued, rejected
from tests.kits.faults import At, Place, Refused
from tests.kits.simulation import predictions_in, run
from tests.kits.simulation_strategies import RIDES, aggregate, mapping_config
from tests.outcomes import DENIED, NO_ANSWER, SERVICE_DOWN, THROTTLED, AnswerLost, EntriesRefused, Problem, PutOutcome

N_INVOCATIONS = 50
SHARD = Shard(STREAM, SHARD_ID)
ENTRIES_DENIED: list[PutOutcome] = [EntriesRefused([0]), DENIED]  # one entry fails, and no other request works


@pytest.fixture
def function() -> FakeFunction:
    made = FakeFunction(small_bundle())
    made.invoke(invocation(ride_bytes()))  # the model is loaded
    made.kinesis.take()
    return made


@dataclass
class Delivery:
    """Delivers records as Lambda does: after each answer again from the record that it names."""

    function: FakeFunction
    waiting: list[dict[str, Any]]

    def invoke(self, n_times: int = 1) -> list[dict[str, Any]]:
        """Invoke the function so many times, or until nothing is left; return what is left."""
        for _ in range(n_times):
            if self.waiting:
                retry_from = self.function.invoke({"Records": self.waiting})
                numbers = [record["kinesis"]["sequenceNumber"] for record in self.waiting]
                self.waiting = self.waiting[numbers.index(retry_from) :] if retry_from else []
        return self.waiting


def batch_reports(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    return [line["batch"] for line in lines if line.get("message") == "batch"]


# -- order: rejects before predictions


def test_all_rejects_of_a_batch_are_stored_before_its_predictions_are_published(function: FakeFunction) -> None:
    function.kinesis.script = [EntriesRefused([1]), DENIED]
    assert function.invoke(invocation(BAD, ride_bytes(), BAD, ride_bytes(), BAD)) == sequence_number(3)
    assert rejected(function) == [sequence_number(n) for n in (0, 2, 4)]
    assert published_ids(function) == [event_id(1)]


def test_reject_in_a_bucket_that_denies_does_not_block_the_records_behind_it(function: FakeFunction) -> None:
    # GIVEN one bad record among a thousand, and a bucket that refuses rejects for ever
    function.s3.script = [DENIED] * N_INVOCATIONS
    batch = Delivery(function, lambda_records([*good(10), BAD, *good(989)]))
    # WHEN the batch comes, THEN it is done: each ride is predicted once, and the queue has the reject
    assert batch.invoke(N_INVOCATIONS) == []
    assert Counter(published_ids(function)) == Counter(event_id(n) for n in range(1000) if n != 10)
    assert queued(function) == [sequence_number(10)]


def test_only_what_lies_before_a_reject_that_nobody_takes_is_published_and_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # GIVEN the same batch, and a queue that refuses too
    function = FakeFunction(small_bundle())
    function.invoke(invocation(ride_bytes()))
    function.kinesis.take()
    function.s3.script, function.queue.script = [DENIED] * N_INVOCATIONS, [DENIED] * N_INVOCATIONS
    batch = Delivery(function, lambda_records([*good(10), BAD, *good(989)]))
    capsys.readouterr()
    # WHEN it comes again and again, THEN the rides before the bad record are published, once
    assert len(batch.invoke(N_INVOCATIONS)) == 990
    assert published_ids(function) == [event_id(n) for n in range(10)]
    reports = batch_reports(capsys)
    assert [report["n_rejects_not_stored"] for report in reports] == [1] * N_INVOCATIONS
    assert "rejects/ride-events" in reports[0]["problem"]
    # AND when the bucket takes it, everything else follows, once
    function.s3.script.clear()
    assert batch.invoke() == []
    assert Counter(published_ids(function)) == Counter(event_id(n) for n in range(1000) if n != 10)
    assert rejected(function) == [sequence_number(10)]


def test_prediction_of_an_aggregate_waits_for_its_rejects(function: FakeFunction) -> None:
    function.s3.script, function.queue.script = [DENIED], [DENIED]
    batch = Delivery(function, lambda_records([ride_bytes(), aggregate([ride_bytes(), BAD])]))
    assert len(batch.invoke()) == 1
    assert batch.invoke() == []
    assert published_ids(function) == [event_id(0), f"{event_id(1)}:0"]


def test_rejects_in_the_queue_are_counted_and_the_log_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    function = FakeFunction(small_bundle())
    function.invoke(invocation(ride_bytes()))
    function.s3.script = [DENIED]
    capsys.readouterr()
    function.invoke(invocation(BAD, ride_bytes(), BAD))
    log, metrics, *_ = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (metrics["RejectsInQueue"], metrics["RejectsNotStored"]) == ([2], [0])
    assert "AccessDenied" in log["batch"]["problem"]
    function.invoke(invocation(BAD))
    _, metrics, *_ = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (metrics["RejectsInQueue"], metrics["RejectsNotStored"]) == ([0], [0])


@pytest.mark.parametrize("timeout_s", [30.0, 60.0])
def test_time_is_left_to_publish_when_bucket_and_queue_hang(function: FakeFunction, timeout_s: float) -> None:
    function.timeout_s = timeout_s
    function.s3.request_s, function.s3.script = 9.0, [NO_ANSWER]
    function.queue.request_s, function.queue.script = 3.0, [NO_ANSWER]
    started_s = function.clock()
    assert function.invoke(invocation(ride_bytes(), BAD, ride_bytes())) == sequence_number(1)
    assert published_ids(function) == [event_id(0)]
    assert function.clock() - started_s < timeout_s


def test_queue_is_not_asked_when_only_the_time_to_publish_is_left(function: FakeFunction) -> None:
    function.s3.request_s, function.s3.script = function.timeout_s - 9.0, [NO_ANSWER]
    assert function.invoke(invocation(ride_bytes(), BAD)) == sequence_number(1)
    assert function.queue.n_sends == 0
    assert published_ids(function) == [event_id(0)]


def test_reject_stays_in_an_object_when_its_batch_comes_again_in_halves() -> None:
    # GIVEN a batch whose rejects are stored and whose answer is lost
    died = [At(Place.INVOKE, 0, AnswerLost(Problem.DIED))]
    # WHEN it comes again in two halves, and the second one never arrives at the function
    never = [At(Place.INVOKE, n, Refused(Problem.DIED)) for n in (2, 3)]
    options = SimulationOptions(mapping=mapping_config(maximum_retry_attempts=0))
    account = run([[("a", BAD), ("a", RIDES[0]), ("a", RIDES[1]), ("a", BAD)]], options, [*died, *never])
    # THEN the rejects of both are still in the bucket
    assert account.failed()
    assert len(account.rejected()) == 2


# -- memory of what is out


class OneShardThrottled(FakeKinesis):
    """A stream whose first shard throttles until it is set to None."""

    throttled: int | None = 0

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Put the records of the other shards."""
        throttled = None if self.throttled is None else self.open_shards[self.throttled]
        refused = [n for n, record in enumerate(Records) if self.shard_of(record["PartitionKey"]) is throttled]
        self.script = [EntriesRefused(refused)] if refused else []
        return super().put_records(StreamName=StreamName, Records=Records)


@pytest.mark.parametrize("output_format", ["json", "kpl"])
def test_one_throttled_shard_does_not_repeat_the_predictions_of_the_others(output_format: str) -> None:
    # GIVEN an output stream of four shards, one of which throttles for ever
    function = FakeFunction(small_bundle(), output_format=output_format, output_groups=4, timeout_s=10)
    stream = OneShardThrottled(stream_name=OUTPUT_STREAM, n_shards=4, clock=function.clock)
    function.kinesis = function.handler.output.publisher.kinesis = stream
    # WHEN two thousand rides come twenty times
    batch = Delivery(function, lambda_records(good(2000)))
    assert batch.invoke(20)
    # THEN about three quarters are published, each once
    counts = Counter(predictions_in(data for _, data in stream.taken))
    assert 1300 < len(counts) < 1700
    assert set(counts.values()) == {1}
    # AND the others follow when the shard takes them
    stream.throttled = None
    assert batch.invoke() == []
    counts = Counter(predictions_in(data for _, data in stream.taken))
    assert (len(counts), set(counts.values())) == (2000, {1})


def test_rejects_that_are_stored_are_not_stored_again_when_predictions_come_again(function: FakeFunction) -> None:
    function.kinesis.script = [*ENTRIES_DENIED]
    batch = Delivery(function, lambda_records([ride_bytes(), BAD, ride_bytes(), BAD]))
    assert len(batch.invoke()) == 4
    assert batch.invoke() == []
    assert rejected(function) == [sequence_number(1), sequence_number(3)]
    assert published_ids(function) == [event_id(2), event_id(0)]


def test_only_ids_of_records_that_come_again_are_remembered(function: FakeFunction) -> None:
    function.kinesis.script = [EntriesRefused([1]), DENIED]
    batch = Delivery(function, lambda_records([BAD, ride_bytes(), ride_bytes(), BAD, ride_bytes()]))
    assert len(batch.invoke()) == 3
    remembered = ConfirmedIds()
    remembered.remember(SHARD, sequence_number(4), [event_id(4), event_id(3)])
    assert function.handler.output.confirmed == remembered
    assert batch.invoke() == []
    assert function.handler.output.confirmed == ConfirmedIds()


def test_batch_that_was_answered_is_published_again_if_it_comes_again(function: FakeFunction) -> None:
    function.kinesis.script = [*ENTRIES_DENIED]
    records = lambda_records(good(3))
    Delivery(function, records).invoke(2)
    function.kinesis.take()
    assert Delivery(function, records).invoke() == []
    assert published_ids(function) == [event_id(n) for n in range(3)]


def test_batches_of_one_shard_that_come_in_turn_keep_their_own_memory(function: FakeFunction) -> None:
    # GIVEN two batches of a shard, as with a ParallelizationFactor of 2, each with one entry that is refused
    records = lambda_records(good(6))
    even, odd = Delivery(function, records[::2]), Delivery(function, records[1::2])
    function.kinesis.script = [*ENTRIES_DENIED, *ENTRIES_DENIED]
    assert (len(even.invoke()), len(odd.invoke())) == (3, 3)
    # WHEN both come again, THEN an answer to one does not make the other repeat anything
    assert even.invoke() == odd.invoke() == []
    assert Counter(published_ids(function)) == Counter(event_id(n) for n in range(6))


def test_same_sequence_numbers_of_another_stream_are_other_records(function: FakeFunction) -> None:
    records = lambda_records(good(2))
    function.kinesis.script = [*ENTRIES_DENIED]
    Delivery(function, records).invoke()
    others = [{**record, "eventSourceARN": f"{record['eventSourceARN']}-2"} for record in records]
    assert Delivery(function, others).invoke() == []
    assert published_ids(function) == [event_id(1), event_id(0), event_id(1)]


def test_replay_brings_everything_out_again_and_leaves_the_memory_alone(function: FakeFunction) -> None:
    records = lambda_records([ride_bytes(), BAD, ride_bytes()])
    function.kinesis.script = [*ENTRIES_DENIED]
    batch = Delivery(function, records)
    batch.invoke()
    # WHEN the records are replayed, THEN all are published, also what is remembered
    function.handler(replay_event(records), _Hour())
    assert published_ids(function) == [event_id(2), event_id(0), event_id(2)]
    # AND what comes again by the stream is as before
    assert batch.invoke() == []
    assert published_ids(function)[3:] == [event_id(0)]


class _Hour:
    def get_remaining_time_in_millis(self) -> int:
        return 3_600_000


def batch_of(*ids: str) -> ProcessedBatch:
    return ProcessedBatch([("key", one.encode()) for one in ids], list(ids), list(range(len(ids))), [])


def ids_of(*positions: int) -> ProcessedBatch:
    return batch_of(*(event_id(n) for n in positions))


def test_oldest_ids_are_forgotten_first_and_no_more_than_the_limit_is_kept() -> None:
    memory = ConfirmedIds(max_ids=3)
    other = Shard(STREAM, "shardId-000000000001")
    memory.remember(SHARD, sequence_number(2), [event_id(n) for n in range(3)])
    memory.remember(other, sequence_number(0), ["other"])
    memory.remember(SHARD, sequence_number(2), [event_id(2)])
    assert memory.missing(SHARD, sequence_number(0), ids_of(0, 1, 2)).ids == [event_id(0)]
    memory.remember(Shard("another", "shard"), sequence_number(9), ["another"])
    assert memory.missing(other, sequence_number(0), batch_of("other")).ids == ["other"]
    assert memory.missing(SHARD, sequence_number(0), ids_of(0, 1, 2)).ids == [event_id(0)]
    memory.remember(other, sequence_number(9), [str(n) for n in range(5)])
    assert memory.missing(SHARD, sequence_number(0), ids_of(0, 1, 2)).ids == [event_id(n) for n in range(3)]


def test_full_memory_forgets_in_time() -> None:
    """The limit is 20 times the CPU that it takes."""
    memory = ConfirmedIds()
    started_s = time.thread_time()
    for first in range(0, 4 * MAX_IDS, MAX_IDS):
        memory.remember(SHARD, sequence_number(1), map(str, range(first, first + MAX_IDS)))
    assert time.thread_time() - started_s < 2


def test_batch_of_which_nothing_is_remembered_stays_itself() -> None:
    memory, batch = ConfirmedIds(), ids_of(3, 4)
    assert memory.missing(SHARD, sequence_number(3), batch) is batch
    memory.remember(SHARD, sequence_number(2), [event_id(2)])
    assert memory.missing(SHARD, sequence_number(3), batch) is batch
    assert memory.missing(SHARD, sequence_number(2), batch) is batch
    memory.forget(SHARD, [event_id(n) for n in range(3)])
    assert memory == ConfirmedIds()


def test_last_record_of_a_batch_is_remembered_also_after_an_older_batch() -> None:
    memory = ConfirmedIds()
    for last in (9, 2):
        memory.remember(SHARD, sequence_number(last), [event_id(last)])
    assert memory.missing(SHARD, sequence_number(9), ids_of(9)).ids == []


# -- an output stream that refuses


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "KMSDisabledException"])
def test_stream_that_refuses_for_good_ends_the_invocation(
    code: str, function: FakeFunction, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN an output stream that is gone, or whose use is not permitted
    function.kinesis.script = [Problem(code).error()] * 2
    records = lambda_records([BAD, ride_bytes(), BAD])
    # WHEN a batch comes, THEN the invocation raises what is wrong, after the rejects are stored
    for _ in range(2):
        with pytest.raises(PublishError, match=f"{OUTPUT_STREAM} refuses predictions with {code}: check that"):
            function.invoke({"Records": records})
    assert rejected(function) == [sequence_number(0), sequence_number(2)]
    # AND what was stored is remembered, until the stream takes predictions again
    assert Delivery(function, records).invoke() == []
    assert published_ids(function) == [event_id(1)]
    assert len(function.s3.keys("rejects/")) == 1


def test_refusal_does_not_lose_what_was_confirmed_before(function: FakeFunction) -> None:
    function.kinesis.script = [*ENTRIES_DENIED, DENIED]
    batch = Delivery(function, lambda_records(good(3)))
    assert len(batch.invoke()) == 3
    with pytest.raises(PublishError):
        batch.invoke()
    assert batch.invoke() == []
    assert published_ids(function) == [event_id(n) for n in (1, 2, 0)]


@pytest.mark.parametrize("error", [THROTTLED, SERVICE_DOWN, NO_ANSWER], ids=repr)
def test_stream_that_may_work_later_gets_a_partial_answer(error: Exception, function: FakeFunction) -> None:
    function.kinesis.script = [error] * 1000
    assert function.invoke(invocation(ride_bytes(), BAD)) == sequence_number(0)


def test_refusal_after_a_part_was_published_gets_a_partial_answer(function: FakeFunction) -> None:
    function.kinesis.script = [None, DENIED]
    assert function.invoke(invocation(*good(501))) == sequence_number(500)


def test_refused_batch_is_reported_as_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    function = FakeFunction(small_bundle())
    function.kinesis.script = [DENIED]
    with pytest.raises(PublishError):
        function.invoke(invocation(BAD, ride_bytes()))
    (report,) = batch_reports(capsys)
    assert (report["n_retried"], report["retry_from"]) == (2, sequence_number(0))
    assert (report["n_predictions"], report["rejects_by_reason"]) == (0, {})
    assert "AccessDenied" in report["problem"]
