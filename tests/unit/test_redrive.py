"""Redrive: wherever it is interrupted, no record is lost, each is marked once, and possible repeats are counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.operate.redrive.redrive import PATIENCE_S, Redrive
from infra.operate.redrive.selection import REJECTS
from lambda_function.aws.publisher import MAX_CHUNK_BYTES
from tests.builders import STREAM, event_id
from tests.builders_failed import Account, Countdown, ProcessEnd, reject_at, store_rejects
from tests.fakes import FakeKinesis
from tests.outcomes import DENIED, NO_ANSWER, AnswerLost, EntriesRefused, Meanwhile, S3Outcome
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


def test_every_record_is_sent_as_it_was_and_marked_and_the_originals_stay() -> None:
    account = account_with(3, 1)
    before = dict(account.s3.objects)
    report = account.redrive()
    assert account.s3.objects | before == account.s3.objects
    (shard,) = account.kinesis.shards.values()
    assert [record["PartitionKey"] for record in shard.records] == ["1"] * 4
    assert account.taken() == data_of(4)
    assert account.marked() == [event_id(n) for n in range(4)]
    assert account.under_way() == []
    assert (report.n_selected, report.n_redriven, report.n_redriven_before, report.n_perhaps_repeated) == (4, 4, 0, 0)
    assert report.by_stream == {STREAM: 4}


def test_record_in_two_objects_is_sent_once() -> None:
    account = account_with(2)
    store_rejects(account.s3, reject_at(1, b"1"))
    account.redrive()
    account.redrive()
    assert account.taken() == data_of(2)
    assert account.marked() == [event_id(0), event_id(1)]


def test_records_of_two_streams_are_not_mixed() -> None:
    account = account_with(2)
    account.kinesis.other_names = {"other-events"}
    store_rejects(account.s3, reject_at(0, b"other"), stream="other-events")
    assert account.redrive().by_stream == {STREAM: 2, "other-events": 1}
    sent = [(request["StreamName"], len(request["Records"])) for request in account.kinesis.calls("put_records")]
    assert sorted(sent) == [("other-events", 1), (STREAM, 2)]


def test_rate_is_kept() -> None:
    account = account_with(25)
    started_s = account.clock()
    account.redrive(rate_per_s=10.0)
    assert [len(request["Records"]) for request in account.kinesis.calls("put_records")] == [10, 10, 5]
    assert account.clock() - started_s == pytest.approx(2.0)


def test_chunk_of_large_records_is_one_request() -> None:
    account = Account()
    store_rejects(account.s3, *(reject_at(n, bytes([n]) * 900_000) for n in range(8)))
    account.redrive()
    requests = [request["Records"] for request in account.kinesis.calls("put_records")]
    assert [len(records) for records in requests] == [5, 3]
    assert all(sum(len(record["Data"]) for record in records) < MAX_CHUNK_BYTES for records in requests)


def test_throttled_records_are_sent_again_and_marked_once() -> None:
    account = account_with(4)
    account.kinesis = FakeKinesis([EntriesRefused({1, 3})], stream_name=STREAM)
    account.redrive()
    assert sorted(account.taken()) == data_of(4)
    assert len(account.marked()) == 4


def test_damaged_mark_stops_the_run_before_anything_is_sent() -> None:
    account = account_with(1)
    account.s3.objects["redriven/rejects/x"] = b"{"
    with pytest.raises(BucketError, match="holds no mark"):
        account.redrive()
    assert account.taken() == []


def test_stream_that_refuses_ends_the_run_and_accepted_records_are_marked() -> None:
    account = account_with(3)
    n_tries = int(PATIENCE_S) + 10
    refusing = [EntriesRefused({1}), *[EntriesRefused({0})] * n_tries]
    account.kinesis = FakeKinesis(refusing, stream_name=STREAM)
    with pytest.raises(UserError, match="accepted 2 records and then not 1 more"):
        account.redrive()
    assert account.marked() == [event_id(0), event_id(2)]
    assert account.under_way() == [event_id(1)]
    account.kinesis.script.clear()
    assert account.redrive().n_perhaps_repeated == 1
    assert sorted(account.taken()) == data_of(3)


@pytest.mark.parametrize("outcome", [DENIED, NO_ANSWER, AnswerLost()], ids=str)
@pytest.mark.parametrize("put", [0, 1, 2, 3])
def test_mark_that_cannot_be_written_ends_the_run_and_the_next_one_completes_it(put: int, outcome: S3Outcome) -> None:
    account = account_with(1, 1)
    n_listings, n_reads = 3, len(account.s3.objects)
    account.s3.script = [*[None] * (n_listings + n_reads + put), outcome]
    with pytest.raises(BucketError, match="cannot be written"):
        account.redrive(rate_per_s=1.0)
    account.redrive()
    assert set(account.taken()) == set(data_of(2))
    assert sorted(account.marked()) == [event_id(0), event_id(1)]


# -- two at the same time


def test_second_of_two_redrives_stops_before_it_sends() -> None:
    account = account_with(3)
    objects = list(REJECTS.read(account.bucket(), REJECTS.keys(account.bucket())))
    slow = account.prepare(writer="slow")
    account.redrive(writer="fast")
    with pytest.raises(UserError, match=r"another redrive has written s3://.*: this one stops; run it again"):
        slow.run(objects)
    assert account.taken() == data_of(3)
    assert len(account.marked()) == 3


def test_redrive_whose_chunk_is_taken_over_stops_with_the_number_of_possible_repeats() -> None:
    account = account_with(2, 1)
    first = account.prepare(rate_per_s=2.0)
    objects = list(REJECTS.read(account.bucket(), REJECTS.keys(account.bucket())))
    # Before the second mark of a chunk, another redrive runs and takes the chunk over.
    account.s3.script = [None, Meanwhile(account.redrive)]
    with pytest.raises(UserError, match="it may send 2 records again that this one has just sent"):
        first.run(objects)
    assert sorted(account.taken()) == sorted([*data_of(2), *data_of(3)])
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
def test_after_any_interruptions_each_record_is_accepted_at_least_once_and_marked_once(
    sizes: list[int], interruptions: list[tuple[int, bool]], chunk_size: int, n_repeats: int
) -> None:
    account = account_with(*sizes)
    n_ended = 0
    for n_calls, is_after in interruptions:
        n_ended += run_until(account, Countdown(n_calls, is_after), chunk_size) is None
    n_in_doubt = len(account.under_way())
    last_runs = [run_until(account, None, chunk_size) for _ in range(n_repeats)]
    n = sum(sizes)
    taken = account.taken()

    assert set(taken) == set(data_of(n))
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
    assert set(account.taken()) == set(data_of(n))
    assert sorted(account.marked()) == sorted(event_id(number) for number in range(n))
