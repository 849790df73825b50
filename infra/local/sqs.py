"""A stand-in for an SQS queue, in memory, with the methods of a boto3 client that the rejects queue needs."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from training.registry.folder_s3 import client_error

MAX_MESSAGE_BYTES = 256 * 1024
"""Of body and attributes together. Newer queues take more; 256 KiB is what every queue takes."""

_MAX_RECEIVED = 10


@dataclass
class MemoryQueue:
    """A queue. A message that was received and not deleted comes again when it is made visible.

    Attributes:
        messages: The messages by receipt handle, oldest first, in ReceiveMessage's format.
        hidden: The receipt handles of messages that were received and not made visible again.
    """

    url: str = "https://sqs.us-east-1.amazonaws.com/123456789012/rejects"
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    _n_sent: int = field(default=0, init=False)

    def send_message(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        MessageBody: str,  # noqa: N803
        MessageAttributes: Mapping[str, Mapping[str, str]],  # noqa: N803
    ) -> dict[str, Any]:
        """Send a message, within SQS's limit."""
        self._check(QueueUrl)
        n_bytes = len(MessageBody.encode()) + sum(
            len(name) + len(one["DataType"]) + len(one["StringValue"].encode())
            for name, one in MessageAttributes.items()
        )
        if n_bytes > MAX_MESSAGE_BYTES:
            raise client_error(HTTPStatus.BAD_REQUEST, "InvalidParameterValue", "SendMessage")
        handle = f"message-{self._n_sent}"
        self._n_sent += 1
        digest = hashlib.md5(MessageBody.encode(), usedforsecurity=False).hexdigest()
        message = {"MessageId": handle, "MD5OfBody": digest, "Body": MessageBody}
        self.messages[handle] = {**message, "ReceiptHandle": handle, "MessageAttributes": dict(MessageAttributes)}
        return {"MessageId": handle, "MD5OfMessageBody": digest}

    def receive_message(self, *, QueueUrl: str, MaxNumberOfMessages: int = 1, **_: Any) -> dict[str, Any]:  # noqa: N803
        """Return the oldest visible messages, and hide them."""
        self._check(QueueUrl)
        visible = [handle for handle in self.messages if handle not in self.hidden]
        handles = visible[: min(MaxNumberOfMessages, _MAX_RECEIVED)]
        self.hidden.update(handles)
        return {"Messages": [self.messages[handle] for handle in handles]} if handles else {}

    def change_message_visibility(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        ReceiptHandle: str,  # noqa: N803
        VisibilityTimeout: int,  # noqa: N803
    ) -> dict[str, Any]:
        """Make a received message visible again, or hide it for longer."""
        self._check(QueueUrl)
        if not VisibilityTimeout:
            self.hidden.discard(ReceiptHandle)
        return {}

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: Sequence[str]) -> dict[str, Any]:  # noqa: N803
        """Return how many messages are hidden."""
        self._check(QueueUrl)
        return {"Attributes": {name: str(len(self.hidden & self.messages.keys())) for name in AttributeNames}}

    def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> dict[str, Any]:  # noqa: N803
        """Delete a message; do nothing if it is deleted already."""
        self._check(QueueUrl)
        self.messages.pop(ReceiptHandle, None)
        return {}

    def take(self) -> Sequence[dict[str, Any]]:
        """Remove and return all messages."""
        messages = list(self.messages.values())
        self.messages.clear()
        return messages

    def _check(self, url: str) -> None:
        if url != self.url:
            raise client_error(HTTPStatus.BAD_REQUEST, "AWS.SimpleQueueService.NonExistentQueue")
