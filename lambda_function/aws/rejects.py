"""Store the rejects of a batch as one S3 object, or in the rejects queue if the bucket does not take it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lambda_function.aws.clients import AWS_ERRORS, make_sqs_client
from lambda_function.core.events import Reject, encode_reject
from lambda_function.core.reject_messages import Message, encode_messages
from lambda_function.errors import StoreError

PREFIX = "rejects"

_DIGEST_DIGITS = 16


class PutObject(Protocol):
    """The part of an S3 client that storing uses."""

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> Any:  # noqa: N803
        """Store one object."""


class SendMessage(Protocol):
    """The part of an SQS client that storing uses."""

    def send_message(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        MessageBody: str,  # noqa: N803
        MessageAttributes: Mapping[str, Mapping[str, str]],  # noqa: N803
    ) -> Any:
        """Send one message."""


def reject_key(stream: str, first: Reject, body: bytes) -> str:
    """Return the key of a batch's rejects: it names the first reject and the bytes of all.

    So the same rejects overwrite themselves, and other rejects of the same records are one more object: a batch that
    comes again may be a part of the first, and must not replace it.
    """
    digest = hashlib.sha256(body).hexdigest()[:_DIGEST_DIGITS]
    return f"{PREFIX}/{stream}/{first.shard_id}/{first.sequence_number}-{digest}.ndjson"


@dataclass(slots=True)
class RejectStore:
    """The bucket for rejects, and the queue that takes them while the bucket does not.

    Attributes:
        queue_url: URL of the queue; "" if there is none.
        make_queue: Makes the SQS client when it is first needed.
    """

    s3: PutObject
    bucket: str
    queue_url: str = ""
    make_queue: Callable[[], SendMessage] = make_sqs_client
    _queue: SendMessage | None = field(default=None, init=False)

    def store(self, stream: str, rejects: Sequence[Reject], time_left_s: Callable[[], float]) -> StoreError | None:
        """Store a batch's rejects as one object, one line per reject.

        Args:
            stream: The stream that their records come from.
            rejects: At least one.
            time_left_s: Returns the seconds in which a request may still start; called before each one.

        Returns:
            The bucket's error if the rejects are in the queue; None if they are in the bucket.

        Raises:
            StoreError: Neither has confirmed them; their records must come again.
        """
        body = b"".join(encode_reject(reject) + b"\n" for reject in rejects)
        key = reject_key(stream, rejects[0], body)
        if time_left_s() <= 0:
            raise StoreError("store", self.bucket, key, "time is up")
        try:
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType="application/x-ndjson")
        except AWS_ERRORS as error:
            self._send(key, body, time_left_s, why=str(error))
            return StoreError("store", self.bucket, key, f"{error}; {len(rejects)} rejects are in the queue")
        return None

    def _send(self, key: str, body: bytes, time_left_s: Callable[[], float], why: str) -> None:
        """Send an object to the queue, in parts."""
        if not self.queue_url:
            raise StoreError("store", self.bucket, key, f"{why}; there is no queue")
        for message in encode_messages(key, body):
            if time_left_s() <= 0:
                raise StoreError("store", self.bucket, key, f"{why}; not in the queue: time is up")
            try:
                is_confirmed = self._send_one(message)
            except AWS_ERRORS as error:
                raise StoreError("store", self.bucket, key, f"{why}; not in the queue: {error}") from error
            if not is_confirmed:
                raise StoreError("store", self.bucket, key, f"{why}; not in the queue: it confirmed other bytes")

    def _send_one(self, message: Message) -> bool:
        """Send a message; return whether the queue confirms these bytes."""
        if self._queue is None:
            self._queue = self.make_queue()
        attributes = {name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items()}
        answer = self._queue.send_message(
            QueueUrl=self.queue_url, MessageBody=message.body, MessageAttributes=attributes
        )
        digest = hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest()
        return bool(answer.get("MD5OfMessageBody") == digest)
