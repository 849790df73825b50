"""What a bucket keeps, summed up: counts by stream, shard and reason, and a line for each of the newest."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import KeptObject, KeptRecord, Kind, each_once


@dataclass(slots=True)
class Group:
    """Records of one stream, shard and reason.

    Attributes:
        n_redriven: Those marked as redriven.
        n_under_way: Those left in doubt by a redrive that was interrupted.
    """

    oldest: datetime
    newest: datetime
    n_records: int = 0
    n_redriven: int = 0
    n_under_way: int = 0

    def add(self, record: KeptRecord, marks: Marks) -> None:
        """Counts one."""
        state = marks.state(record)
        self.oldest, self.newest = min(self.oldest, record.arrived), max(self.newest, record.arrived)
        self.n_records += 1
        self.n_redriven += state == "redriven"
        self.n_under_way += state == "under way"


@dataclass(frozen=True, slots=True)
class Line:
    """A reject, or a failure with all of its records; `name` is what `show` and `redrive` take."""

    name: str
    reason: str
    detail: str
    group: Group


@dataclass(slots=True)
class Summary:
    """What was found.

    Attributes:
        groups: By stream, shard and reason.
        lines: The newest, newest first.
        unreadable: Keys of objects that could not be read, and what of them.
    """

    n_objects: int = 0
    groups: dict[tuple[str, str, str], Group] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def count(self, name: str) -> int:
        """Adds up one of the counts over all groups."""
        return sum(getattr(group, name) for group in self.groups.values())


def summarize(objects: Iterable[KeptObject], kind: Kind, marks: Marks, n_lines: int | None) -> Summary:
    """Counts what objects hold, and keeps so many of the newest lines; None keeps all."""
    summary = Summary()
    lines = _count(objects, kind, marks, summary)
    if n_lines is None:
        summary.lines = sorted(lines, key=_age, reverse=True)
    else:
        summary.lines = heapq.nlargest(n_lines, lines, key=_age)
    return summary


def _age(line: Line) -> tuple[datetime, str]:
    return line.group.newest, line.name


def _count(objects: Iterable[KeptObject], kind: Kind, marks: Marks, summary: Summary) -> Iterator[Line]:
    for kept in each_once(objects):
        summary.n_objects += 1
        if kept.problem:
            summary.unreadable[kept.key] = kept.problem
        for record in kept.records:
            of_all = (record.stream, record.shard_id, record.reason)
            summary.groups.setdefault(of_all, Group(record.arrived, record.arrived)).add(record, marks)
        yield from _lines(kept, kind, marks)


def _lines(kept: KeptObject, kind: Kind, marks: Marks) -> Iterator[Line]:
    shares = [kept.records] if kind.is_batch else [(record,) for record in kept.records]
    for records in filter(None, shares):
        first = records[0]
        group = Group(first.arrived, first.arrived)
        for record in records:
            group.add(record, marks)
        yield Line(kept.key if kind.is_batch else first.record_id, first.reason, first.detail, group)


def as_json(summary: Summary) -> dict[str, Any]:
    """Returns a summary as what JSON can hold."""
    groups = [
        {"stream": stream, "shard_id": shard_id, "reason": reason, **_figures(group)}
        for (stream, shard_id, reason), group in sorted(summary.groups.items())
    ]
    return {
        "records": summary.count("n_records"),
        "redriven": summary.count("n_redriven"),
        "under_way": summary.count("n_under_way"),
        "objects": summary.n_objects,
        "unreadable": summary.unreadable,
        "groups": groups,
        "newest": [
            {"id": line.name, "reason": line.reason, "detail": line.detail, **_figures(line.group)}
            for line in summary.lines
        ],
    }


def _figures(group: Group) -> dict[str, Any]:
    return {
        name.removeprefix("n_"): value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(group).items()
    }
