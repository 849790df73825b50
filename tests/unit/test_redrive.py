"""Redrive: wherever it is interrupted, each record keeps its id, is marked once, and possible repeats are counted."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.operate.lambda_event import MAX_PAYLOAD_BYTES
from infra.operate.redrive.redrive import Redrive
from infra.operate.redrive.selection import REJECTS
from infra.operate.replayer import PATIENCE_S
from tests.builders import SHARD_ID, STREAM, STREAM_ARN, event_id, lambda_record
from tests.builders_failed import (
    FAILURE_KEY,
    FUNCTION_ARN,
    Account,
    Countdown,
    ProcessEnd,
    failure,
    reject_at,
    store_rejects,
)
from tests.fakes_lambda import InvokeOutcome, OpenFrom, Payload
from tests.outcomes import DENIED, NO_ANSWER, SERVICE_DOWN, THROTTLED, AnswerLost, Meanwhile, S3Outcome
from training.errors import BucketError, UserError


def account_with(*sizes: int, first: int = 0) -> Account:
    """An account with one object of rejects for each size; the n-th reject's data is its number."""
    account = Account()
    for size in sizes:
        store_rejects(account.s3, *(reject_at(n, str(n).encode()) for n in range(first, first + size)))
        first += size
    return account


def data_of(n: int, first: int = 0) -> list[bytes]:
    return [str(number).encode() for number in range(first, first + n)]


def test_every_record_comes_as_it_was_and_is_marked_and_the_originals_stay() -> None:
    account = account_with(3, 1)
    before = dict(account.s3.objects)
    report = account.redrive()
    assert account.s3.objects | before == account.s3.objects
    (event,) = account.client.events
    assert event == {
        "Records": [lambda_record(str(n).encode(), n) for n in range(4)],
        "ridecast": {"replay": True},
    }
    assert account.client.names == [FUNCTION_ARN]
    assert account.marked() == [event_id(n) for n in range(4)]
    assert account.under_way() == []
    assert (report.n_selected, report.n_redriven, report.n_redriven_before, report.n_perhaps_repeated) == (4, 4, 0, 0)
    assert report.by_stream == {STREAM: 4}


def test_record_in_two_objects_is_brought_once() -> None:
    account = account_with(2)
    store_rejects(account.s3, reject_at(1, b"1"))
    account.redrive()
    account.redrive()
    assert account.published() == data_of(2)
    assert account.marked() == [event_id(0), event_id(1)]


def test_invocation_has_records_of_one_shard_of_one_stream() -> None:
    account = account_with(2)
    store_rejects(account.s3, reject_at(0, b"other"), stream="other-events")
    elsewhere = msgspec.structs.replace(reject_at(0, b"elsewhere"), shard_id="shardId-000000000001")
    store_rejects(account.s3, elsewhere)
    assert account.redrive().by_stream == {STREAM: 3, "other-events": 1}
    brought = [
        {(record["eventSourceARN"], record["eventID"].partition(":")[0]) for record in event["Records"]}
        for event in account.client.events
    ]
    assert len(brought) == 3
    assert all(len(shards) == 1 for shards in brought)
    assert (STREAM_ARN.replace(STREAM, "other-events"), SHARD_ID) in set.union(*brought)


def test_rate_is_kept() -> None:
    account = account_with(25)
    started_s = account.clock()
    account.redrive(rate_per_s=10.0)
    assert [len(event["Records"]) for event in account.client.events] == [10, 10, 5]
    assert account.clock() - started_s == pytest.approx(2.0)


def test_large_records_are_split_into_events_within_lambdas_limit() -> None:
    account = Account()
    store_rejects(account.s3, *(reject_at(n, bytes([n]) * 900_000) for n in range(8)))
    account.redrive()
    assert [len(event["Records"]) for event in account.client.events] == [5, 3]
    assert all(len(json.dumps(event)) <= MAX_PAYLOAD_BYTES for event in account.client.events)


def test_records_that_stay_open_come_again_and_are_marked_once() -> None:
    account = account_with(4)
    account.client.script = [OpenFrom(1), OpenFrom(0), None]
    account.redrive()
    assert account.published() == data_of(4)
    assert account.marked() == [event_id(n) for n in range(4)]


@pytest.mark.parametrize(
    "outcome",
    [
        THROTTLED,
        SERVICE_DOWN,
        NO_ANSWER,
        AnswerLost(),
        Payload(b""),
        Payload(b"null"),
        Payload(b"{}"),
        Payload(b'{"batchItemFail'),
    ],
    ids=str,
)
def test_lost_or_cut_off_answer_means_that_the_records_come_again(outcome: InvokeOutcome) -> None:
    account = account_with(2)
    account.client.script = [outcome]
    assert account.redrive().n_redriven == 2
    assert set(account.published()) == set(data_of(2))
    assert [len(event["Records"]) for event in account.client.events] == [2, 2]


def test_function_that_fails_ends_the_run_with_its_error_and_nothing_is_marked_as_redriven() -> None:
    account = account_with(2)
    account.client.script = [Payload(b'{"errorType": "KeyError", "errorMessage": "\'a\'"}', "Unhandled")]
    with pytest.raises(UserError, match=r"function .*:predictor:live failed: KeyError: 'a'"):
        account.redrive()
    assert account.marked() == []
    assert account.redrive().n_perhaps_repeated == 2


def test_reject_that_is_rejected_again_stays_pending_and_the_next_run_brings_it_again() -> None:
    account = account_with(3)
    account.function.rejects = {event_id(1)}
    report = account.redrive()
    assert (report.n_redriven, report.n_rejected) == (3, 1)
    assert account.marked() == [event_id(0), event_id(2)]
    assert account.under_way() == []
    account.function.rejects.clear()
    report = account.redrive()
    assert (report.n_redriven, report.n_rejected, report.n_redriven_before) == (1, 0, 2)
    assert sorted(account.published()) == data_of(3)


def test_record_of_a_failed_batch_that_is_rejected_is_done() -> None:
    account = Account()
    account.s3.objects[FAILURE_KEY] = failure(b"0", b"1")
    account.function.rejects = {event_id(1)}
    report = account.redrive()
    assert (report.n_redriven, report.n_rejected) == (2, 1)
    assert account.marked() == [event_id(0), event_id(1)]


def test_record_that_a_redriven_batch_made_a_reject_is_redriven_as_one() -> None:
    account = Account()
    account.s3.objects[FAILURE_KEY] = failure(b"0", b"1")
    account.function.rejects = {event_id(1)}
    account.redrive()
    store_rejects(account.s3, reject_at(1, b"1"))
    (record,) = next(REJECTS.read(account.bucket(), REJECTS.keys(account.bucket()))).records
    assert account.marks().state(record) == "pending"
    account.function.rejects.clear()
    assert account.redrive().n_redriven == 1
    assert account.published() == data_of(2)
    assert account.marks().state(record) == "redriven"
    assert account.redrive().n_redriven == 0


def test_dry_run_brings_and_marks_nothing() -> None:
    account = account_with(3)
    report = Redrive(account.marks(), None).run(REJECTS.read(account.bucket(), REJECTS.keys(account.bucket())))
    assert (report.n_redriven, account.client.events, account.marked()) == (3, [], [])


def test_damaged_mark_stops_the_run_before_anything_is_sent() -> None:
    account = account_with(1)
    account.s3.objects["redriven/rejects/x"] = b"{"
    with pytest.raises(BucketError, match=r"holds no mark: .* delete it: its records count as pending"):
        account.redrive()
    assert account.published() == []


def test_records_that_stay_open_end_the_run_and_finished_records_are_marked() -> None:
    account = account_with(3)
    account.client.script = [OpenFrom(2), *[OpenFrom(0)] * int(PATIENCE_S)]
    with pytest.raises(UserError, match=r"2 records are redriven, and then 1 stayed open: .* run it again to continue"):
        account.redrive()
    assert account.marked() == [event_id(0), event_id(1)]
    assert account.under_way() == [event_id(2)]
    account.client.script.clear()
    assert account.redrive().n_perhaps_repeated == 1
    assert account.published() == data_of(3)


@pytest.mark.parametrize("outcome", [DENIED, NO_ANSWER, AnswerLost()], ids=str)
@pytest.mark.parametrize("put", [0, 1, 2, 3])
def test_mark_that_cannot_be_written_ends_the_run_and_the_next_one_completes_it(put: int, outcome: S3Outcome) -> None:
    account = account_with(1, 1)
    n_listings, n_reads = 3, len(account.s3.objects)
    account.s3.script = [*[None] * (n_listings + n_reads + put), outcome]
    with pytest.raises(BucketError, match="cannot be written"):
        account.redrive(rate_per_s=1.0)
    account.redrive()
    assert set(account.published()) == set(data_of(2))
    assert sorted(account.marked()) == [event_id(0), event_id(1)]


# -- two at the same time


def test_second_of_two_redrives_stops_before_it_sends() -> None:
    account = account_with(3)
    objects = list(REJECTS.read(account.bucket(), REJECTS.keys(account.bucket())))
    slow = account.prepare(writer="slow")
    account.redrive(writer="fast")
    with pytest.raises(UserError, match=r"another redrive has written s3://.*: this one stops; run it again"):
        slow.run(objects)
    assert account.published() == data_of(3)
    assert len(account.marked()) == 3


def test_redrive_whose_chunk_is_taken_over_stops() -> None:
    account = account_with(2, 1)
    first = account.prepare(rate_per_s=2.0)
    objects = list(REJECTS.read(account.bucket(), REJECTS.keys(account.bucket())))
    # Before the second mark of a chunk, another redrive runs and takes the chunk over.
    account.s3.script = [None, Meanwhile(account.redrive)]
    with pytest.raises(UserError, match="another redrive has written"):
        first.run(objects)
    assert sorted(account.published()) == sorted([*data_of(2), *data_of(3)])
    assert account.marked() == [event_id(n) for n in range(3)]
    assert first.report.n_redriven == 0


# -- interrupted

INTERRUPTIONS = st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=5)
SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def run_until(account: Account, countdown: Countdown | None, chunk_size: int) -> Redrive | None:
    """Run a redrive that may end anywhere; return it if it was completed."""
    try:
        run = account.prepare(countdown, rate_per_s=float(chunk_size))
        where = account.bucket(countdown)
        run.run(list(REJECTS.read(where, REJECTS.keys(where))))
    except ProcessEnd:
        return None
    return run


@given(SIZES, INTERRUPTIONS, st.integers(1, 5), st.integers(1, 3))
def test_after_any_interruptions_each_record_is_published_under_one_id_and_marked_once(
    sizes: list[int], interruptions: list[tuple[int, bool]], chunk_size: int, n_repeats: int
) -> None:
    account = account_with(*sizes)
    n_ended = 0
    for n_calls, is_after in interruptions:
        n_ended += run_until(account, Countdown(n_calls, is_after), chunk_size) is None
    n_in_doubt = len(account.under_way())
    last_runs = [run_until(account, None, chunk_size) for _ in range(n_repeats)]
    n = sum(sizes)
    taken = account.published()

    assert dict(account.function.published) == {event_id(number): str(number).encode() for number in range(n)}
    assert sorted(account.marked()) == sorted(event_id(number) for number in range(n))
    assert account.under_way() == []
    assert len(taken) - n <= n_ended * chunk_size
    assert n_in_doubt <= chunk_size
    assert last_runs[0]
    assert last_runs[0].report.n_perhaps_repeated == n_in_doubt
    assert n_ended or taken == data_of(n)


@given(SIZES, INTERRUPTIONS, SIZES)
def test_records_added_between_interrupted_runs_are_redriven(
    sizes: list[int], interruptions: list[tuple[int, bool]], more: list[int]
) -> None:
    account = account_with(*sizes)
    n = sum(sizes)
    for (n_calls, is_after), size in zip(interruptions, more, strict=False):
        run_until(account, Countdown(n_calls, is_after), chunk_size=2)
        old = [reject_at(number, str(number).encode()) for number in range(n - sizes[-1], n)]
        new = [reject_at(number, str(number).encode()) for number in range(n, n + size)]
        store_rejects(account.s3, *old, *new)  # over the last object: its batch was delivered again, with more records
        n, sizes = n + size, [*sizes[:-1], sizes[-1] + size]
    run_until(account, None, chunk_size=2)
    assert set(account.published()) == set(data_of(n))
    assert sorted(account.marked()) == sorted(event_id(number) for number in range(n))
