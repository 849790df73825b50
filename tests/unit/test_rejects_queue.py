"""The rejects queue: its objects are moved into the bucket, and nothing is deleted that the bucket does not have."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.sqs import MemoryQueue
from infra.operate.redrive.queue import QueueContent, empty_queue
from infra.operate.redrive.selection import REJECTS, find
from lambda_function.core.events import encode_reject
from lambda_function.core.reject_messages import MAX_PART_BYTES, encode_messages
from tests.builders import STREAM, event_id
from tests.builders_failed import queue_rejects, reject_at
from tests.fakes import BUCKET, FakeS3
from tests.kits.batches import queued_objects
from tests.outcomes import DENIED, NO_ANSWER, AnswerLost
from training.registry.bucket import Bucket


class Places:
    """A bucket and a queue."""

    def __init__(self) -> None:
        self.s3, self.queue = FakeS3(), MemoryQueue()
        self.bucket = Bucket(self.s3, BUCKET, n_threads=1)

    def fill(self, *positions: int) -> str:
        """Send rejects to the queue as one object; return its key."""
        return queue_rejects(self.queue, self.queue.url, *map(reject_at, positions))

    def send(self, key: str, body: bytes, only: range = range(100)) -> None:
        """Send some parts of an object."""
        for index, message in enumerate(encode_messages(key, body)):
            if index in only:
                attributes = {
                    name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items()
                }
                self.queue.send_message(QueueUrl=self.queue.url, MessageBody=message.body, MessageAttributes=attributes)

    def empty(self, **options: Any) -> QueueContent:
        """Empty the queue."""
        return empty_queue(self.queue, self.queue.url, self.bucket, **options)

    @property
    def in_bucket(self) -> dict[str, bytes]:
        """The objects of rejects in the bucket."""
        return {key: self.s3.objects[key] for key in self.s3.keys("rejects/")}


@pytest.fixture
def places() -> Places:
    return Places()


def test_objects_are_moved_under_the_key_that_they_would_have(places: Places) -> None:
    keys = [places.fill(1, 2), places.fill(3)]
    content = places.empty()
    assert (content.n_moved, content.waiting, content.problems) == (2, [], {})
    assert sorted(places.in_bucket) == sorted(keys)
    assert places.in_bucket[keys[1]] == encode_reject(reject_at(3)) + b"\n"
    assert places.queue.messages == {}
    assert places.empty() == QueueContent()


def test_object_in_several_parts_that_came_twice_is_moved_whole(places: Places) -> None:
    key, body = f"rejects/{STREAM}/shard/1-ab.ndjson", bytes(3 * MAX_PART_BYTES)
    places.send(key, body)
    places.send(key, body)
    assert places.empty().n_moved == 1
    assert places.in_bucket == {key: body}
    assert places.queue.messages == {}


def test_what_the_bucket_does_not_take_is_shown_from_the_queue_and_visible_again(places: Places) -> None:
    key = places.fill(1, 2)
    places.s3.script = [DENIED]
    content = places.empty()
    assert [record.record_id for one in content.waiting for record in one.records] == [event_id(1), event_id(2)]
    assert "AccessDenied" in content.problems[places.queue.url]
    assert find(places.bucket, REJECTS, event_id(2), content.waiting).records[0].key == key
    assert find(places.bucket, REJECTS, key, content.waiting).key == key
    assert places.empty().n_moved == 1


def test_queue_that_is_only_read_stays_as_it_is(places: Places) -> None:
    places.fill(1)
    content = places.empty(moves=False)
    assert (content.n_moved, len(content.waiting), places.in_bucket) == (0, 1, {})
    assert places.empty().n_moved == 1


def test_incomplete_object_is_reported_and_stays(places: Places) -> None:
    key = f"rejects/{STREAM}/shard/1-ab.ndjson"
    places.send(key, bytes(3 * MAX_PART_BYTES), only=range(2))
    places.fill(1)
    content = places.empty()
    assert content.n_moved == 1
    assert "of its 3 parts, [0, 1] are here" in content.problems[key]
    places.send(key, bytes(3 * MAX_PART_BYTES), only=range(2, 3))
    assert places.empty().n_moved == 1
    assert places.queue.messages == {}


def test_parts_of_an_object_that_the_bucket_has_do_not_stay(places: Places) -> None:
    """The function sends parts again if its time was up before the last; a command may be interrupted."""
    key, body = f"rejects/{STREAM}/shard/1-ab.ndjson", bytes(12 * MAX_PART_BYTES)
    places.send(key, body)
    places.send(key, body, only=range(5))
    assert (places.empty().n_moved, places.queue.messages) == (1, {})
    places.send(key, body, only=range(3, 12))
    assert (places.empty(), places.queue.messages) == (QueueContent(), {})


def test_parts_of_other_bytes_than_the_bucket_has_stay(places: Places) -> None:
    key, body = f"rejects/{STREAM}/shard/1-ab.ndjson", bytes(2 * MAX_PART_BYTES)
    places.s3.objects[key] = b"others"
    places.send(key, body, only=range(1))
    assert key in places.empty().problems
    places.s3.objects[key] = body
    assert key in places.empty(moves=False).problems
    assert len(places.queue.messages) == 1


@pytest.mark.parametrize("key", ["models/a/manifest.json", "rejects/a", "", "../a"])
def test_message_cannot_choose_a_key_outside_of_the_rejects(places: Places, key: str) -> None:
    places.send(key, b"a")
    content = places.empty()
    assert content.problems[key] == "in the queue: it names no object of rejects"
    assert len(places.queue.messages) == 1
    assert places.s3.objects == {}


def test_queue_that_does_not_answer_is_reported(places: Places) -> None:
    class Refusing(MemoryQueue):
        def receive_message(self, **_: Any) -> dict[str, Any]:
            raise NO_ANSWER

    places.queue = Refusing()
    assert "Read timeout" in places.empty().problems[places.queue.url]


def test_messages_that_somebody_else_reads_are_reported(places: Places) -> None:
    places.fill(1)
    places.queue.receive_message(QueueUrl=places.queue.url)
    assert "being read by somebody else" in places.empty().problems[places.queue.url]


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True), max_size=12),
    st.lists(st.sampled_from([None, DENIED, NO_ANSWER, AnswerLost()]), max_size=12),
)
def test_every_reject_is_in_the_bucket_or_in_the_queue_whatever_the_bucket_answers(
    batches: list[list[int]], script: list[Any]
) -> None:
    places = Places()
    keys = {places.fill(*sorted(batch)) for batch in batches}
    places.s3.script = list(script)
    for _ in range(3):
        places.empty()
        assert places.in_bucket.keys() | {one.key for one in queued_objects(places.queue)} == keys
    places.s3.script.clear()
    places.empty()
    assert (set(places.in_bucket), places.queue.messages) == (keys, {})
