"""The rejects queue: rejects that the function could not store in the bucket wait there. Move them into the bucket.

The messages of an object are deleted only after the bucket has it. Whatever cannot be moved is made visible again at
once, so that the next command finds it.

Parts may be left of an object that the bucket has: the function sent some of them twice, or a command was interrupted
while it deleted them. They are deleted too.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.operate.redrive.records import FailedObject, decode_rejects
from infra.operate.redrive.selection import REJECTS
from lambda_function.core.reject_messages import MessageCollector, UnusableMessages, WholeObject
from training.errors import BucketError
from training.registry.bucket import Bucket

_MAX_MESSAGES = 10
_WAIT_S = 1  # a receive with a wait asks all of SQS's servers, one without only some
_HIDDEN_S = 120  # for longer than reading the queue takes


@dataclass(slots=True)
class QueueContent:
    """What was in the queue.

    Attributes:
        n_moved: Objects that are now in the bucket.
        waiting: Objects that are still in the queue, because the bucket did not take them or was not asked to.
        problems: Why something in the queue is not readable, or not moved, by its key or the queue's URL.
    """

    n_moved: int = 0
    waiting: list[FailedObject] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def empty_queue(sqs: Any, url: str, bucket: Bucket, *, moves: bool = True) -> QueueContent:
    """Move the objects of the queue into the bucket, if it takes them, and return what is left.

    A queue that does not answer is reported in `problems`: the bucket can be read all the same.

    Args:
        sqs: A boto3 client.
        url: The queue's URL.
        bucket: The bucket that the objects belong to.
        moves: Whether to move them; else they are only read.
    """
    content = QueueContent()
    run = _Run(sqs, url, bucket, moves, content)
    try:
        for messages in run.received():
            run.add(messages)
        run.report_what_is_left()
    except (BotoCoreError, ClientError) as error:
        content.problems[url] = str(error)
    return content


@dataclass(slots=True)
class _Run:
    """One pass over a queue."""

    sqs: Any
    url: str
    bucket: Bucket
    moves: bool
    content: QueueContent
    _left: dict[str, dict[str, Any]] = field(default_factory=dict)  # messages by id

    def received(self) -> Iterator[list[dict[str, Any]]]:
        """Receive messages until there is no new one."""
        seen: set[str] = set()
        while True:
            answer = self.sqs.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=_MAX_MESSAGES,
                MessageAttributeNames=["All"],
                VisibilityTimeout=_HIDDEN_S,
                WaitTimeSeconds=_WAIT_S,
            )
            messages = answer.get("Messages", [])
            if {message["MessageId"] for message in messages} <= seen:
                return
            seen.update(message["MessageId"] for message in messages)
            yield messages

    def add(self, messages: Iterable[dict[str, Any]]) -> None:
        """Add messages, and move the objects that are complete now."""
        self._left.update((message["MessageId"], message) for message in messages)
        for whole in self._collected().whole_objects() if self.moves else ():
            if self._store(whole):
                self._delete(whole.handles)
                self.content.n_moved += 1

    def report_what_is_left(self) -> None:
        """Report what stays in the queue, and make it visible again."""
        for rest in self._collected().unusable() if self.moves else ():
            if self._is_in_bucket(rest):
                self._delete(rest.handles)
        collected = self._collected()
        for whole in collected.whole_objects():
            if _is_key_of_rejects(whole.key):
                self.content.waiting.append(decode_rejects(whole.key, whole.body))
            else:
                self.content.problems[whole.key] = "in the queue: it names no object of rejects"
        self.content.problems |= {
            one.key or f"message {one.handles[0]}": f"in the queue: {one.problem}" for one in collected.unusable()
        }
        for message in self._left.values():
            self.sqs.change_message_visibility(
                QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )
        asked = self.sqs.get_queue_attributes(
            QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
        )
        n_hidden = int(asked["Attributes"]["ApproximateNumberOfMessagesNotVisible"])
        if n_hidden and not self._left:
            self.content.problems[self.url] = f"about {n_hidden} messages are being read by somebody else: try again"

    def _collected(self) -> MessageCollector:
        collector = MessageCollector()
        for message_id, message in self._left.items():
            attributes = {
                name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()
            }
            collector.add(message["Body"], attributes, handle=message_id)
        return collector

    def _delete(self, message_ids: Iterable[str]) -> None:
        for message_id in message_ids:
            handle = self._left.pop(message_id)["ReceiptHandle"]
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=handle)

    def _is_in_bucket(self, rest: UnusableMessages) -> bool:
        """Return whether the bucket has the object that these messages are parts of."""
        if not _is_key_of_rejects(rest.key):
            return False
        with suppress(BucketError):  # then they are reported, and stay
            stored = self.bucket.read(rest.key)
            return stored is not None and hashlib.sha256(stored.body).hexdigest() == rest.sha256
        return False

    def _store(self, whole: WholeObject) -> bool:
        """Store an object in the bucket; return whether it is there."""
        if not _is_key_of_rejects(whole.key):
            return False
        try:
            stored = self.bucket.write_once(whole.key, whole.body)
        except BucketError as error:
            self.content.problems[self.url] = str(error)
            self.moves = False  # it would refuse the others too
            return False
        if stored != whole.body:
            self.content.problems[whole.key] = "in the queue: the bucket holds another object under this key"
        return stored == whole.body


def _is_key_of_rejects(key: str) -> bool:
    """Return whether a key is one of rejects: whoever may send messages must not choose any other."""
    return key.startswith(REJECTS.prefix) and key.count("/") > REJECTS.shard_place
