"""The parts of a record that holds several messages, decoded one by one; the bad ones become rejects."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from lambda_function.core.documents import RIDE_FIELD, split_documents
from lambda_function.core.events import Reject
from lambda_function.core.kpl import is_aggregated, unpack
from lambda_function.core.records import Entry, KinesisRecord, build_reject, sub_record
from lambda_function.errors import RejectError

MAX_BAD_PARTS = 64
"""If more parts of a record are bad, one reject holds the whole record; as well if their rejects would be MAX_GROWTH
times as large as it. Otherwise 4.5 MB of small parts could take 3 GB of memory."""

MAX_GROWTH = 16

MAX_BAD_TRIES = 1_024
"""After so many bad parts, a record's other parts are not tried: each takes about 5 µs. After MAX_BAD_PARTS, those that
cannot be a message are not."""

_REJECT_BYTES = 300  # of a reject besides its data and partition key

Message = TypeVar("Message")


def parts_of(record: KinesisRecord, field: bytes = RIDE_FIELD) -> list[Entry]:
    """Return the sub-records of an aggregate, or the documents of a record with several; [] for any other record.

    `field` is one that the messages have, in its quotes.

    Raises:
        RejectError: The data are not base64, or a damaged aggregate.
    """
    data = record.data()
    if not record.may_have_parts:
        return []
    if is_aggregated(data):
        return unpack(data)
    return [(record.envelope.partition_key, document) for document in split_documents(data, field)]


def decode_parts(
    record: KinesisRecord, parts: Sequence[Entry], decode: Callable[[bytes], Message], field: bytes = RIDE_FIELD
) -> tuple[list[tuple[KinesisRecord, Message]], list[Reject]]:
    """Decode the parts of a record.

    Returns:
        The good parts as records of their own with their messages, and the rejects of the bad parts; one reject of the
        record itself if too many are bad.
    """
    good: list[tuple[KinesisRecord, Message]] = []
    bad: list[Reject] = []  # not the errors: their tracebacks lead back to this list, and no cycle is collected
    for index, (partition_key, data) in enumerate(parts):
        if len(bad) > MAX_BAD_PARTS and (len(bad) > MAX_BAD_TRIES or data.find(field) < 0):
            continue
        part = sub_record(record, index, partition_key, data)
        try:
            good.append((part, decode(data)))
        except RejectError as error:
            bad.append(build_reject(part, error))
    n_bytes = sum(_REJECT_BYTES + len(reject.data) + len(reject.partition_key) for reject in bad)
    n_bytes_of_record = len(record.envelope.data) + len(record.envelope.partition_key)
    if len(bad) <= MAX_BAD_PARTS and n_bytes <= MAX_GROWTH * n_bytes_of_record:
        return good, bad
    first = RejectError(bad[0].reason, bad[0].detail)
    return good, [build_reject(record, too_many_bad(len(parts), bad[0].sub_record, first))]


def too_many_bad(n_parts: int, index: int | None, error: RejectError) -> RejectError:
    """Return the error of a record with too many bad parts: the first of them has this index and error."""
    problem = f"{n_parts:,} parts, too many of them bad for rejects of their own; part {index}"
    return RejectError(error.reason, f"{problem}: {error.detail}")
