"""PutRecords in chunks: failed entries are sent again, refused ones are reported, and the deadline holds."""

from collections.abc import Sequence
from typing import Any

import pytest
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import ProtocolError

from lambda_function.aws.publisher import MAX_BACKOFF_S, MAX_CHUNK_BYTES, MAX_CHUNK_RECORDS, Published, Publisher
from tests.fakes import OUTPUT_STREAM, FakeKinesis, output_stream
from tests.outcomes import (
    DENIED,
    NO_ANSWER,
    SERVICE_DOWN,
    THROTTLED,
    AnswerChanged,
    AnswerLost,
    EntriesRefused,
    PutOutcome,
)
from training.registry.folder_s3 import client_error

Entry = tuple[str, bytes]


def entries_of(n: int) -> list[Entry]:
    return [(str(number), b"%d" % number) for number in range(n)]


def publish(kinesis: FakeKinesis, entries: Sequence[Entry], time_s: float = 50.0) -> Published:
    """Publish with the longest pauses that the jitter may choose."""
    publisher = Publisher(kinesis, OUTPUT_STREAM, kinesis.clock.sleep, jitter=lambda _, high_s: high_s)
    end_s = kinesis.clock() + time_s
    return publisher.publish(entries, lambda: end_s - kinesis.clock())


def test_nothing_to_publish_calls_nothing() -> None:
    kinesis = output_stream()
    assert publish(kinesis, []) == Published([])
    assert kinesis.put_sizes == []


def test_entries_go_out_in_order() -> None:
    kinesis = output_stream()
    assert publish(kinesis, entries_of(1201)) == Published([])
    assert kinesis.put_sizes == [500, 500, 201]
    assert kinesis.taken == entries_of(1201)


@pytest.mark.parametrize(
    ("sizes", "requests"),
    [
        pytest.param([MAX_CHUNK_BYTES // 5] * 5, [5], id="exactly the limit"),
        pytest.param([MAX_CHUNK_BYTES // 5] * 4 + [MAX_CHUNK_BYTES // 5 - 1, 2], [5, 1], id="one byte more"),
        pytest.param([1024 * 1024] * 11, [5, 5, 1], id="largest records"),
    ],
)
def test_request_holds_at_most_5_mib_keys_included(sizes: list[int], requests: list[int]) -> None:
    kinesis = output_stream()
    key = "ключ"  # 8 bytes
    assert publish(kinesis, [(key, bytes(size - 8 if size > 8 else 0)) for size in sizes]) == Published([])
    assert kinesis.put_sizes == requests


@given(
    sizes=st.lists(st.integers(0, 1024 * 1024 - 40), max_size=12), n_small=st.integers(0, 1100), at=st.integers(0, 1100)
)
def test_requests_never_exceed_the_limits(sizes: list[int], n_small: int, at: int) -> None:
    large = [("k" * 40, bytes(size)) for size in sizes]
    entries = [*entries_of(n_small)[:at], *large, *entries_of(n_small)[at:]]
    kinesis = output_stream()  # it refuses what exceeds them
    assert publish(kinesis, entries) == Published([])
    assert kinesis.taken == entries
    assert all(n <= MAX_CHUNK_RECORDS for n in kinesis.put_sizes)


def test_only_failed_entries_are_sent_again() -> None:
    kinesis = output_stream([EntriesRefused([1, 3]), EntriesRefused([1])])
    assert publish(kinesis, entries_of(5)) == Published([], n_resent=3)
    assert kinesis.put_sizes == [5, 2, 1]
    assert kinesis.taken == [entries_of(5)[n] for n in (0, 2, 4, 1, 3)]


def test_failed_entries_of_several_requests_are_sent_again_together() -> None:
    kinesis = output_stream([EntriesRefused([7]), SERVICE_DOWN, EntriesRefused([0])])
    assert publish(kinesis, entries_of(1100)).unpublished == []
    assert kinesis.put_sizes == [500, 500, 100, 500, 2]  # 1 + 500 + 1 again
    assert sorted(kinesis.taken) == sorted(entries_of(1100))


@pytest.mark.parametrize(
    "passing",
    [
        THROTTLED,
        client_error(400, "LimitExceededException"),
        client_error(400, "KMSThrottlingException"),
        client_error(429, "TooManyRequestsException"),
        client_error(500, "InternalFailure"),
        SERVICE_DOWN,
        NO_ANSWER,
        ProtocolError("the connection was reset"),
        ResponseParserError("a proxy's page"),
    ],
    ids=str,
)
def test_request_is_sent_again_after_an_error_that_may_pass(passing: Exception) -> None:
    kinesis = output_stream([passing, passing])
    assert publish(kinesis, entries_of(2)) == Published([], n_resent=4)
    assert kinesis.put_sizes == [2, 2, 2]


@pytest.mark.parametrize(
    "lasting",
    [
        DENIED,
        client_error(400, "ResourceNotFoundException"),
        client_error(400, "ExpiredTokenException"),
        client_error(400, "ValidationException"),
    ],
    ids=str,
)
def test_stream_that_refuses_outright_is_not_asked_again(lasting: Exception) -> None:
    kinesis = output_stream([EntriesRefused([3]), lasting])
    published = publish(kinesis, entries_of(1100))
    assert published.unpublished == [3, *range(500, 1100)]
    assert published.last_error == str(lasting)
    assert kinesis.put_sizes == [500, 500]
    assert kinesis.clock.slept_s == []


def test_answer_that_is_lost_makes_repeats_but_no_loss() -> None:
    kinesis = output_stream([AnswerLost()])
    assert publish(kinesis, entries_of(3)) == Published([], n_resent=3)
    assert kinesis.taken == [*entries_of(3), *entries_of(3)]


REFUSAL = {"ErrorCode": "InternalFailure", "ErrorMessage": "Oops."}
UNTRUSTWORTHY: dict[str, dict[str, Any]] = {
    "empty": {},
    "no results": {"FailedRecordCount": 0},
    "no count": {"Records": [{}, {}, {}]},
    "fewer results than entries": {"FailedRecordCount": 0, "Records": [{}, {}]},
    "more results than entries": {"FailedRecordCount": 0, "Records": [{}, {}, {}, {}]},
    "an error that is not counted": {"FailedRecordCount": 0, "Records": [{}, REFUSAL, {}]},
    "a counted failure without its error": {"FailedRecordCount": 2, "Records": [{}, REFUSAL, {}]},
}


@pytest.mark.parametrize("answer", UNTRUSTWORTHY.values(), ids=UNTRUSTWORTHY)
def test_answer_that_is_cut_off_or_contradicts_itself_confirms_nothing(answer: dict[str, Any]) -> None:
    kinesis = output_stream([AnswerChanged(lambda _: answer)])
    assert publish(kinesis, entries_of(3)) == Published([], n_resent=3)
    assert kinesis.put_sizes == [3, 3]


def test_answers_that_never_can_be_trusted_leave_everything_unpublished() -> None:
    kinesis = output_stream([AnswerChanged(lambda _: {})] * 99)
    published = publish(kinesis, entries_of(3), time_s=1.0)
    assert published.unpublished == [0, 1, 2]
    assert "cut off" in published.last_error


def test_pauses_double_up_to_a_limit() -> None:
    kinesis = output_stream([SERVICE_DOWN] * 8)
    publish(kinesis, entries_of(1))
    assert kinesis.clock.slept_s == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, MAX_BACKOFF_S, MAX_BACKOFF_S]


def test_pauses_are_drawn_between_nothing_and_the_backoff() -> None:
    drawn: list[tuple[float, float]] = []

    def jitter(low_s: float, high_s: float) -> float:
        drawn.append((low_s, high_s))
        return high_s / 4

    kinesis = output_stream([SERVICE_DOWN] * 2)
    Publisher(kinesis, OUTPUT_STREAM, kinesis.clock.sleep, jitter).publish(entries_of(1), lambda: 50.0)
    assert drawn == [(0, 0.05), (0, 0.1)]
    assert kinesis.clock.slept_s == [0.0125, 0.025]


def test_no_request_is_started_without_time() -> None:
    kinesis = output_stream()
    assert publish(kinesis, entries_of(3), time_s=0).unpublished == [0, 1, 2]
    assert kinesis.put_sizes == []


def test_time_that_runs_out_between_two_requests_leaves_the_rest() -> None:
    kinesis = output_stream([EntriesRefused([9])], request_s=2.0)
    assert publish(kinesis, entries_of(1600), time_s=3.0).unpublished == [9, *range(1000, 1600)]
    assert kinesis.put_sizes == [500, 500]


def test_pause_that_would_outlast_the_time_is_not_slept() -> None:
    kinesis = output_stream([EntriesRefused([1]), *[EntriesRefused([0])] * 1000])
    published = publish(kinesis, entries_of(2), time_s=1.0)
    assert published.unpublished == [1]
    assert "ProvisionedThroughputExceededException: Rate exceeded" in published.last_error
    assert sum(kinesis.clock.slept_s) < 1.0
    assert len(kinesis.put_sizes) == 5  # after 0.05, 0.15, 0.35 and 0.75 s: the next pause is 0.8 s


def test_error_of_one_batch_is_not_logged_for_the_next() -> None:
    kinesis = output_stream([DENIED])
    publisher = Publisher(kinesis, OUTPUT_STREAM)
    assert publisher.publish(entries_of(1), lambda: 1.0).last_error
    assert publisher.publish(entries_of(1), lambda: 0.0) == Published([0])


OUTCOMES: st.SearchStrategy[list[PutOutcome]] = st.lists(
    st.one_of(
        st.none(),
        st.lists(st.integers(0, 499), min_size=1).map(EntriesRefused),
        st.sampled_from([THROTTLED, SERVICE_DOWN, DENIED, AnswerLost()]),
    ),
    max_size=8,
)


@given(n=st.integers(0, 1300), script=OUTCOMES, time_s=st.floats(0, 3), request_s=st.sampled_from([0.0, 0.1, 1.0]))
def test_entries_not_reported_as_unpublished_were_accepted(
    n: int, script: list[PutOutcome], time_s: float, request_s: float
) -> None:
    kinesis = output_stream(script, request_s=request_s)
    entries = entries_of(n)
    unpublished = publish(kinesis, entries, time_s).unpublished
    assert unpublished == sorted(set(unpublished))
    assert set(entries) == set(kinesis.taken) | {entries[index] for index in unpublished}
