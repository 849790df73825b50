"""Good and bad records, and their results on the fakes."""

from infra.local.sqs import MemoryQueue
from lambda_function.core.events import decode_prediction, decode_reject
from lambda_function.core.reject_messages import MessageCollector, WholeObject
from tests.builders import ride_bytes
from tests.fakes import FakeFunction

BAD = b"not a ride"


def good(n: int) -> list[bytes]:
    """Return `n` rides that are predicted, numbered from 0."""
    return [ride_bytes(number) for number in range(n)]


def published_ids(function: FakeFunction) -> list[str]:
    """Return the ids of the predictions on the stream, in order and with repeats."""
    return [decode_prediction(data).prediction_id for _, data in function.kinesis.taken]


def rejected(function: FakeFunction) -> list[str]:
    """Return the sequence numbers of the rejects in the bucket, with repeats."""
    return [decode_reject(line).sequence_number for line in function.s3.lines("rejects/")]


def queued_objects(queue: MemoryQueue) -> list[WholeObject]:
    """Return the objects of rejects in the queue whose parts are all there."""
    collector = MessageCollector()
    for handle, message in queue.messages.items():
        attributes = {name: one["StringValue"] for name, one in message["MessageAttributes"].items()}
        collector.add(message["Body"], attributes, handle)
    return collector.whole_objects()


def queued(function: FakeFunction) -> list[str]:
    """Return the sequence numbers of the rejects in the queue, with repeats."""
    lines = [line for one in queued_objects(function.queue) for line in one.body.splitlines()]
    return [decode_reject(line).sequence_number for line in lines]
