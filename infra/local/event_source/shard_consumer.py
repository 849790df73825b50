"""A shard consumer: reads one shard into its batchers until the shard ends and all its records are settled."""

from zlib import crc32

from infra.local.event_source.batcher import Batcher
from infra.operate.lambda_event import MAX_PAYLOAD_BYTES, LambdaRecord, json_sizes, lambda_records
from infra.operate.shards import MAX_RECORDS_PER_READ, ShardReader


def batcher_number(partition_key: str, n_batchers: int) -> int:
    """Return the number of a partition key's batcher, the same on each machine and in each process.

    >>> batcher_number("256", 10)
    9
    """
    return crc32(partition_key.encode()) % n_batchers


class ShardConsumer:
    """Delivers the records of one shard, each partition key in order.

    With one batcher, a failed batch stops reading until it is settled. With more, the others continue until the
    batcher that is held up has filled the room that all share.

    Args:
        reader: Reads the shard.
        stream_arn: The stream's ARN, for the function's event.
        batchers: One for each concurrent batch of the shard.
    """

    def __init__(self, reader: ShardReader, stream_arn: str, batchers: list[Batcher]) -> None:
        self._reader = reader
        self._stream_arn = stream_arn
        self._batchers = batchers

    @property
    def is_done(self) -> bool:
        """Whether the shard has ended and all of its records are settled, not merely read."""
        return self._reader.is_closed and not any(batcher.n_records for batcher in self._batchers)

    @property
    def is_idle(self) -> bool:
        """Whether the last read found nothing newer, and all records before are settled."""
        return self._reader.is_at_end and not any(batcher.n_records for batcher in self._batchers)

    @property
    def position(self) -> str | None:
        """The sequence number up to which all records are settled; None before the first."""
        unsettled = [number for batcher in self._batchers if (number := batcher.first_sequence_number) is not None]
        return str(min(unsettled) - 1) if unsettled else self._reader.position

    def step(self) -> int:
        """Read once if there is room, and step each batcher.

        Returns:
            Records sent to the function or the failure destination.
        """
        if self._has_room():
            self._fill()
        return sum(batcher.step() for batcher in self._batchers)

    def _has_room(self) -> bool:
        batchers = self._batchers
        return (
            any(batcher.wants_records for batcher in batchers)
            and sum(batcher.n_records for batcher in batchers) < len(batchers) * MAX_RECORDS_PER_READ
            and sum(batcher.n_bytes for batcher in batchers) < len(batchers) * MAX_PAYLOAD_BYTES
        )

    def _fill(self) -> None:
        records = lambda_records(self._reader.read(), self._reader.shard_id, self._stream_arn)
        sizes = json_sizes(records)
        if len(self._batchers) == 1:
            self._batchers[0].add(records, sizes)
        else:
            self._spread(records, sizes)

    def _spread(self, records: list[LambdaRecord], sizes: list[int]) -> None:
        shares: list[tuple[list[LambdaRecord], list[int]]] = [([], []) for _ in self._batchers]
        for record, size in zip(records, sizes, strict=True):
            share = shares[batcher_number(record["kinesis"]["partitionKey"], len(shares))]
            share[0].append(record)
            share[1].append(size)
        for batcher, share in zip(self._batchers, shares, strict=True):
            batcher.add(*share)
