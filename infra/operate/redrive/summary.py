"""Summarize failed records: counts by stream, shard, reason and function, and the newest items."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import batched
from typing import Any

from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import FailedObject, FailedRecord
from infra.operate.redrive.selection import Kind, each_once


@dataclass(frozen=True, slots=True)
class Group:
    """Counts of records: all, those marked as redriven, and those that an interrupted redrive left in doubt."""

    oldest: datetime
    newest: datetime
    n_records: int
    n_redriven: int
    n_under_way: int

    def __add__(self, other: "Group") -> "Group":
        """Return the counts of both."""
        return Group(
            min(self.oldest, other.oldest),
            max(self.newest, other.newest),
            self.n_records + other.n_records,
            self.n_redriven + other.n_redriven,
            self.n_under_way + other.n_under_way,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON can hold them, without the prefix ``n_``."""
        return {
            name.removeprefix("n_"): value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class Item:
    """A reject, or a failed batch with all its records; `show` and `redrive` take its `name`."""

    name: str
    reason: str
    detail: str
    group: Group


@dataclass(slots=True)
class Summary:
    """The records that were found."""

    n_objects: int = 0
    groups: dict[tuple[str, str, str, str], Group] = field(default_factory=dict)
    """By stream, shard, reason and, of failed batches, the function."""
    newest: list[Item] = field(default_factory=list)  # newest first
    unreadable: dict[str, str] = field(default_factory=dict)  # problems by the key of the object


def summarize(objects: Iterable[FailedObject], kind: Kind, marks: Marks, n_newest: int | None) -> Summary:
    """Count the records of objects and keep the newest items; None keeps all."""
    summary = Summary()
    items = _count(objects, kind, marks, summary)
    if n_newest is None:
        summary.newest = sorted(items, key=_age, reverse=True)
    else:
        summary.newest = heapq.nlargest(n_newest, items, key=_age)
    return summary


def _age(item: Item) -> tuple[datetime, str]:
    return item.group.newest, item.name


def _count(objects: Iterable[FailedObject], kind: Kind, marks: Marks, summary: Summary) -> Iterator[Item]:
    for one in each_once(objects):
        summary.n_objects += 1
        if one.problem:
            summary.unreadable[one.key] = one.problem
        # The records of a batch have the same stream, shard, reason and function.
        for records in filter(None, [one.records] if kind.is_batch else batched(one.records, 1, strict=True)):
            first, group = records[0], _group(records, marks)
            names = (first.stream, first.shard_id, first.reason, first.function)
            summary.groups[names] = summary.groups[names] + group if names in summary.groups else group
            yield Item(one.key if kind.is_batch else first.record_id, first.reason, first.detail, group)


def _group(records: Sequence[FailedRecord], marks: Marks) -> Group:
    states = Counter(map(marks.state, records))
    arrived = [record.arrived for record in records]
    return Group(min(arrived), max(arrived), len(records), states["redriven"], states["under way"])


def as_json(summary: Summary) -> dict[str, Any]:
    """Return a summary as JSON can hold it."""
    groups = summary.groups.values()
    return {
        "records": sum(group.n_records for group in groups),
        "redriven": sum(group.n_redriven for group in groups),
        "under_way": sum(group.n_under_way for group in groups),
        "objects": summary.n_objects,
        "unreadable": summary.unreadable,
        "groups": [
            {"stream": stream, "shard_id": shard_id, "reason": reason, "function": function, **group.as_json()}
            for (stream, shard_id, reason, function), group in sorted(summary.groups.items())
        ],
        "newest": [
            {"id": item.name, "reason": item.reason, "detail": item.detail, **item.group.as_json()}
            for item in summary.newest
        ],
    }
