"""Which shards of a stream may be read now: parents before their children, so that a key's records stay in order."""

from collections.abc import Iterable

from infra.shards import Shard


class Lineage:
    """The shards of one stream, as they become known and done."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, ...]] = {}
        self._done: set[str] = set()

    def add(self, shards: Iterable[Shard]) -> list[Shard]:
        """Takes a listing of the stream; returns the shards that are new in it."""
        new = [shard for shard in shards if shard.shard_id not in self._parents]
        self._parents |= {shard.shard_id: shard.parent_ids for shard in new}
        return new

    def finish(self, shard_id: str) -> None:
        """Notes that a shard has ended and all of its records are settled."""
        self._done.add(shard_id)

    def may_be_read(self, shard_id: str) -> bool:
        """Says whether all parents are done; one that was never listed has been dropped with its records."""
        return all(parent in self._done or parent not in self._parents for parent in self._parents[shard_id])
