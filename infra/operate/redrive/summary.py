"""Summarize failed records: counts by stream, shard and reason, and the newest items."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import FailedObject, FailedRecord
from infra.operate.redrive.selection import Kind, each_once


@dataclass(slots=True)
class Group:
    """Counts of records: all, those marked as redriven, and those that an interrupted redrive left in doubt."""

    oldest: datetime
    newest: datetime
    n_records: int = 0
    n_redriven: int = 0
    n_under_way: int = 0

    def add(self, record: FailedRecord, marks: Marks) -> None:
        """Count one record."""
        state = marks.state(record)
        self.oldest, self.newest = min(self.oldest, record.arrived), max(self.newest, record.arrived)
        self.n_records += 1
        self.n_redriven += state == "redriven"
        self.n_under_way += state == "under way"

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
    """The records that were found.

    Attributes:
        groups: By stream, shard and reason.
        newest: The newest items, newest first.
        unreadable: Problems by the key of the object.
    """

    n_objects: int = 0
    groups: dict[tuple[str, str, str], Group] = field(default_factory=dict)
    newest: list[Item] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


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
        for record in one.records:
            names = (record.stream, record.shard_id, record.reason)
            summary.groups.setdefault(names, Group(record.arrived, record.arrived)).add(record, marks)
        yield from _items(one, kind, marks)


def _items(one: FailedObject, kind: Kind, marks: Marks) -> Iterator[Item]:
    shares = [one.records] if kind.is_batch else [(record,) for record in one.records]
    for records in filter(None, shares):
        first = records[0]
        group = Group(first.arrived, first.arrived)
        for record in records:
            group.add(record, marks)
        yield Item(one.key if kind.is_batch else first.record_id, first.reason, first.detail, group)


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
            {"stream": stream, "shard_id": shard_id, "reason": reason, **group.as_json()}
            for (stream, shard_id, reason), group in sorted(summary.groups.items())
        ],
        "newest": [
            {"id": item.name, "reason": item.reason, "detail": item.detail, **item.group.as_json()}
            for item in summary.newest
        ],
    }
