"""Rejects in a queue: every object comes out of its messages again, in any order and with repeats, or is reported."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.reject_messages import MAX_PART_BYTES, Message, MessageCollector, WholeObject, encode_messages
from tests.builders import event_id

KEY = f"rejects/ride-events/{event_id(0).replace(':', '/')}-0123456789abcdef.ndjson"
MAX_MESSAGE_BYTES = 256 * 1024


def collected(*messages: Message) -> MessageCollector:
    collector = MessageCollector()
    for number, message in enumerate(messages):
        collector.add(message.body, message.attributes, handle=str(number))
    return collector


@given(st.integers(0, 3 * MAX_PART_BYTES), st.integers(0, 1000).map(random.Random))
def test_object_comes_out_of_its_messages_in_any_order_with_repeats(n_bytes: int, chance: random.Random) -> None:
    body = chance.randbytes(n_bytes)
    messages = encode_messages(KEY, body)
    shuffled = messages + chance.choices(messages, k=2)
    chance.shuffle(shuffled)
    collector = collected(*shuffled)
    handles = tuple(str(number) for number in range(len(shuffled)))
    assert collector.whole_objects() == [WholeObject(KEY, body, handles)]
    assert collector.unusable() == []


def test_message_fits_the_limit_of_the_queue_with_its_attributes() -> None:
    for body, attributes in encode_messages("k" * 1024, b"x" * (2 * MAX_PART_BYTES + 1)):
        n_attribute_bytes = sum(len(name) + len("String") + len(value) for name, value in attributes.items())
        assert len(body) + n_attribute_bytes < MAX_MESSAGE_BYTES


def test_objects_of_several_keys_are_kept_apart() -> None:
    mixed = [message for key in ("a", "b") for message in encode_messages(key, key.encode() * 200_000)]
    assert {one.key: one.body[:1] for one in collected(*reversed(mixed)).whole_objects()} == {"a": b"a", "b": b"b"}


def test_missing_part_is_reported_and_nothing_is_put_together() -> None:
    _, *rest = encode_messages(KEY, b"x" * (2 * MAX_PART_BYTES))
    collector = collected(*rest)
    assert collector.whole_objects() == []
    ((key, problem, handles),) = [(one.key, one.problem, one.handles) for one in collector.unusable()]
    assert (key, problem, handles) == (KEY, "of its 2 parts, [1] are here", ("0",))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"part": "1"}, "of its 1 parts, [1] are here"),
        ({"part": "first"}, "is no number"),
        ({"sha256": "0" * 64}, "digest"),
        ({"parts": "-1"}, "of its -1 parts"),
    ],
)
def test_message_with_wrong_attributes_is_reported(changes: dict[str, str], problem: str) -> None:
    (message,) = encode_messages(KEY, b"a line")
    collector = collected(Message(message.body, {**message.attributes, **changes}))
    assert collector.whole_objects() == []
    (unusable,) = collector.unusable()
    assert problem in unusable.problem
    assert unusable.handles == ("0",)


@pytest.mark.parametrize("body", ["not base64", "€", "e30"])
def test_message_with_a_damaged_body_is_reported(body: str) -> None:
    (message,) = encode_messages(KEY, b"a line")
    (unusable,) = collected(Message(body, message.attributes)).unusable()
    assert "not base64" in unusable.problem


def test_message_of_somebody_else_is_reported() -> None:
    (unusable,) = collected(Message("hello", {})).unusable()
    assert (unusable.key, unusable.handles) == ("", ("0",))
