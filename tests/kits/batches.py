"""A batch of good and bad records, and where each of them ended on the fakes."""

from lambda_function.core.events import decode_prediction, decode_reject
from tests.builders import ride_bytes
from tests.fakes import FakeFunction

BAD = b"not a ride"


def good(n: int) -> list[bytes]:
    """Rides that are predicted, numbered from 0."""
    return [ride_bytes(number) for number in range(n)]


def published_ids(function: FakeFunction) -> list[str]:
    """The ids of the predictions that the stream took, in order, repeats included."""
    return [decode_prediction(data).prediction_id for _, data in function.kinesis.taken]


def rejected(function: FakeFunction) -> list[str]:
    """The sequence numbers of the rejects that the bucket holds, repeats included."""
    return [decode_reject(line).sequence_number for line in function.s3.lines("rejects/")]
