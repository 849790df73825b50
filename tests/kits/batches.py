"""Good and bad records, and their results on the fakes."""

from lambda_function.core.events import decode_prediction, decode_reject
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
