"""Rejects are stored as one object in the bucket, or in the queue while the bucket does not take it."""

from collections.abc import Iterator

import pytest
from botocore.exceptions import HTTPClientError, NoCredentialsError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import ProtocolError

from lambda_function.aws.clients import (
    CONNECT_TIMEOUT_S,
    KINESIS_READ_TIMEOUT_S,
    S3_ATTEMPTS,
    S3_READ_TIMEOUT_S,
    SQS_READ_TIMEOUT_S,
)
from lambda_function.aws.model_store import REFRESH_BUDGET_S
from lambda_function.aws.output import STORE_MARGINS
from lambda_function.aws.rejects import RejectStore
from lambda_function.aws.settings import Settings
from lambda_function.core.events import NOT_JSON, Reject, decode_reject, encode_reject
from lambda_function.core.records import build_reject
from lambda_function.errors import RejectError, StoreError
from tests.builders import SHARD_ID, STREAM, kinesis_records, sequence_number
from tests.fakes import BUCKET, FakeQueue, FakeS3
from tests.kits.batches import queued_objects
from tests.outcomes import CUT_OFF, DENIED, NO_ANSWER, SERVICE_DOWN, AnswerLost, SendOutcome

SHORTEST_TIMEOUT_S = 30  # the template's minimum of TimeoutSeconds


def rejects_of(*datas: bytes) -> list[Reject]:
    return [build_reject(record, RejectError(NOT_JSON, "no ride")) for record in kinesis_records(*datas)]


class Stored:
    """A bucket with a script, a queue with a script, and the store in front of them."""

    def __init__(self, s3: Exception | AnswerLost | None = None, *sends: SendOutcome) -> None:
        self.s3, self.queue = FakeS3(script=[s3]), FakeQueue(script=list(sends))
        self.store = RejectStore(self.s3, BUCKET, self.queue.url, lambda: self.queue)

    def put(self, *rejects: Reject) -> StoreError | None:
        """Store rejects, with enough time."""
        return self.store.store(STREAM, rejects, lambda: 1.0)


def test_rejects_are_stored_a_line_each_in_order() -> None:
    place, rejects = Stored(), rejects_of(b"a\n", b"b")
    assert place.put(*rejects) is None
    (body,) = place.s3.objects.values()
    assert body.endswith(b"}\n")
    assert [decode_reject(line) for line in body.splitlines()] == rejects
    assert place.queue.messages == {}


def test_key_names_stream_shard_first_reject_and_the_bytes() -> None:
    place, (first, second) = Stored(), rejects_of(b"a", b"b")
    for rejects in ([first, second], [first], [first]):
        place.put(*rejects)
    keys = place.s3.keys("rejects/")
    assert len(keys) == 2  # fewer rejects do not replace more, and the same ones replace themselves
    for key in keys:
        name, _, digest = key.removesuffix(".ndjson").rpartition("-")
        assert name == f"rejects/{STREAM}/{SHARD_ID}/{sequence_number(0)}"
        assert len(bytes.fromhex(digest)) == 8


REFUSALS = [
    SERVICE_DOWN,
    DENIED,
    NO_ANSWER,
    NoCredentialsError(),
    HTTPClientError(error="TLS"),
    ProtocolError("reset"),
    ResponseParserError("cut"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=repr)
def test_queue_takes_what_the_bucket_does_not(error: Exception) -> None:
    place, rejects = Stored(error), rejects_of(b"a", b"b")
    problem = place.put(*rejects)
    assert problem is not None
    assert str(error) in str(problem)
    (whole,) = queued_objects(place.queue)
    assert whole.body == b"".join(encode_reject(reject) + b"\n" for reject in rejects)
    place.put(*rejects)  # now the bucket takes them
    assert place.s3.keys("rejects/") == [whole.key]


def test_large_rejects_go_to_the_queue_in_parts() -> None:
    place, rejects = Stored(DENIED), rejects_of(b"x" * 1_000_000)
    place.put(*rejects)
    assert len(place.queue.messages) == 8
    assert [decode_reject(one.body) for one in queued_objects(place.queue)] == rejects


@pytest.mark.parametrize(
    "send", [DENIED, NO_ANSWER, ProtocolError("reset"), AnswerLost(), CUT_OFF], ids=lambda one: type(one).__name__
)
def test_rejects_that_the_queue_does_not_confirm_are_not_stored(send: SendOutcome) -> None:
    place = Stored(SERVICE_DOWN, None, send)
    with pytest.raises(StoreError, match=r"ServiceUnavailable.*not in the queue"):
        place.put(*rejects_of(b"x" * 200_000))


def test_store_without_a_queue_says_so() -> None:
    with pytest.raises(StoreError, match=f"cannot store s3://{BUCKET}/rejects/.*AccessDenied.*there is no queue"):
        RejectStore(FakeS3(script=[DENIED]), BUCKET).store(STREAM, rejects_of(b"a"), lambda: 1.0)


@pytest.mark.parametrize("n_requests", [0, 1, 2])
def test_no_request_is_started_when_time_is_up(n_requests: int) -> None:
    place = Stored(NO_ANSWER)
    left: Iterator[float] = iter([*[1.0] * n_requests, 0.0])
    with pytest.raises(StoreError, match="time is up"):
        place.store.store(STREAM, rejects_of(b"x" * 200_000), lambda: next(left))
    assert len(place.s3.calls) + place.queue.n_sends == n_requests


def test_client_of_the_queue_is_made_once_and_only_when_it_is_needed() -> None:
    made: list[FakeQueue] = []

    def make() -> FakeQueue:
        made.append(FakeQueue())
        return made[-1]

    store = RejectStore(FakeS3(script=[None, DENIED, DENIED]), BUCKET, FakeQueue().url, make)
    for n_made in (0, 1, 1):
        store.store(STREAM, rejects_of(b"a"), lambda: 1.0)
        assert len(made) == n_made


def test_timeouts_of_requests_fit_into_the_margin_and_leave_time_to_publish() -> None:
    publish_s = CONNECT_TIMEOUT_S + KINESIS_READ_TIMEOUT_S
    s3_s = (CONNECT_TIMEOUT_S + S3_READ_TIMEOUT_S) * S3_ATTEMPTS + 1  # botocore's pause before a second attempt
    sqs_s = CONNECT_TIMEOUT_S + SQS_READ_TIMEOUT_S
    margin_s = Settings.deadline_margin_ms / 1000
    assert margin_s > publish_s
    assert STORE_MARGINS * margin_s > max(s3_s, sqs_s)
    # S3 hangs at the look for a model and for rejects, and the queue hangs too: the queue was asked, and there is time
    left_s = SHORTEST_TIMEOUT_S - REFRESH_BUDGET_S - s3_s
    assert left_s > STORE_MARGINS * margin_s
    assert left_s - sqs_s > margin_s
