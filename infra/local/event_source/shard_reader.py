"""One shard's lease: it is read into lanes, which take turns, until its end is reached and all is settled."""

from zlib import crc32

from infra.local.event_source.batcher import Lane
from infra.local.event_source.lambda_event import MAX_PAYLOAD_BYTES, LambdaRecord, json_sizes, lambda_records
from infra.operate.shards import MAX_RECORDS_PER_READ, ShardReader


def lane_number(partition_key: str, n_lanes: int) -> int:
    """Tells the lane of a partition key, the same on every machine and in every process.

    >>> lane_number("256", 10)
    9
    """
    return crc32(partition_key.encode()) % n_lanes


class ShardLease:
    """Hands one shard's records over, each partition key in order.

    With one lane, a shard with a failed batch reads no further until that is settled. With more, the other lanes go
    on until the lane that is held up has filled the room that all share.

    Args:
        reader: Reads the shard.
        stream_arn: Told to the function.
        lanes: As many as batches of this shard may be on their way at a time.
    """

    def __init__(self, reader: ShardReader, stream_arn: str, lanes: list[Lane]) -> None:
        self._reader = reader
        self._stream_arn = stream_arn
        self._lanes = lanes

    @property
    def is_done(self) -> bool:
        """Whether the shard has ended and all of its records are settled, not merely read."""
        return self._reader.is_closed and not any(lane.n_records for lane in self._lanes)

    def step(self) -> int:
        """Reads once if there is room, and gives each lane one step.

        Returns:
            Records that went out, to the function or the failure destination.
        """
        if self._has_room():
            self._fill()
        return sum(lane.step() for lane in self._lanes)

    def _has_room(self) -> bool:
        lanes = self._lanes
        return (
            any(lane.wants_records for lane in lanes)
            and sum(lane.n_records for lane in lanes) < len(lanes) * MAX_RECORDS_PER_READ
            and sum(lane.n_bytes for lane in lanes) < len(lanes) * MAX_PAYLOAD_BYTES
        )

    def _fill(self) -> None:
        records = lambda_records(self._reader.read(), self._reader.shard_id, self._stream_arn)
        sizes = json_sizes(records)
        if len(self._lanes) == 1:
            self._lanes[0].add(records, sizes)
        else:
            self._spread(records, sizes)

    def _spread(self, records: list[LambdaRecord], sizes: list[int]) -> None:
        shares: list[tuple[list[LambdaRecord], list[int]]] = [([], []) for _ in self._lanes]
        for record, size in zip(records, sizes, strict=True):
            share = shares[lane_number(record["kinesis"]["partitionKey"], len(shares))]
            share[0].append(record)
            share[1].append(size)
        for lane, share in zip(self._lanes, shares, strict=True):
            lane.add(*share)
