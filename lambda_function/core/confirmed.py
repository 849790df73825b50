"""What a warm container remembers of records that come again: the predictions and rejects that are out already.

Lambda brings a batch again from the first record that is not finished. Of the records behind it, many predictions are
on the output stream and many rejects are stored. With their ids remembered, only what is missing goes out again. What
is forgotten goes out once more, with the same bytes: after a cold start, in another container, or when the memory is
full.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from lambda_function.core.processor import ProcessedBatch

MAX_IDS = 100_000
"""Ten full batches, in about 30 MB."""


class Shard(NamedTuple):
    """A shard of a stream."""

    stream: str
    shard_id: str


@dataclass(slots=True)
class _Remembered:
    ids: dict[str, None] = field(default_factory=dict)  # in the order in which they were remembered
    newest: int = 0  # no remembered record has a higher sequence number


@dataclass(slots=True)
class ConfirmedIds:
    """Ids, by shard, of predictions that are confirmed and rejects that are stored, though their records come again.

    With a ParallelizationFactor above 1 several batches of a shard come in turn, so an answer to one of them drops the
    ids of that batch alone.
    """

    max_ids: int = MAX_IDS  # for all shards together; the oldest are forgotten first
    _shards: dict[Shard, _Remembered] = field(default_factory=dict)
    _n_ids: int = 0

    def missing(self, shard: Shard, first_sequence_number: str, batch: ProcessedBatch) -> ProcessedBatch:
        """Return the part of a batch that is not out yet: the batch itself if nothing of it is remembered."""
        remembered = self._shards.get(shard)
        if remembered is None or int(first_sequence_number) > remembered.newest:
            return batch
        return batch.without(remembered.ids)

    def remember(self, shard: Shard, last_sequence_number: str, ids: Iterable[str]) -> None:
        """Remember ids of a batch that ends with this sequence number."""
        remembered = self._shards.pop(shard, None) or _Remembered()
        n_before = len(remembered.ids)
        remembered.ids.update(dict.fromkeys(ids))
        if not remembered.ids:
            return
        remembered.newest = max(remembered.newest, int(last_sequence_number))
        self._shards[shard] = remembered  # as the shard that was used last
        self._n_ids += len(remembered.ids) - n_before
        while (n_too_many := self._n_ids - self.max_ids) > 0:
            oldest = next(iter(self._shards))
            # All at once: each look for a dict's first key passes those that were deleted before it.
            self.forget(oldest, list(islice(self._shards[oldest].ids, n_too_many)))

    def forget(self, shard: Shard, ids: Iterable[str]) -> None:
        """Forget ids whose records do not come again."""
        remembered = self._shards.get(shard)
        if remembered is None:
            return
        for one in ids:
            if one in remembered.ids:
                del remembered.ids[one]
                self._n_ids -= 1
        if not remembered.ids:
            del self._shards[shard]
