"""`ridecast records list`, `show` and `redrive`: rejects and failed batches."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from infra.cli.options import BucketAws, Function, Json, expand_options, time_options
from infra.cli.output import counted, interrupted, show_result, write_json, write_lines, write_table

if TYPE_CHECKING:
    from infra.operate.redrive.marks import Marks
    from infra.operate.redrive.queue import QueueContent
    from infra.operate.redrive.records import FailedObject, FailedRecord
    from infra.operate.redrive.redrive import RedriveReport
    from infra.operate.redrive.selection import Kind, Selection
    from infra.operate.redrive.summary import Group, Item, Summary
    from infra.operate.replayer import Replayer
    from training.registry.bucket import Bucket

_OTHER_KIND = {
    "reject": "--kind failure lists batches that a function failed on",
    "failure": "--kind reject lists records that a function rejected",
}
_N_NEWEST = 5
_N_FIRST = 5


@dataclass(frozen=True)
class RecordsAws(BucketAws):
    """The AWS account, and the bucket and kind of the failed records."""

    kind: Annotated[
        Literal["reject", "failure"],
        typer.Option(help="reject: a record that was rejected. failure: a batch that a function failed on."),
    ] = "reject"
    queue: Annotated[str | None, typer.Option(help="URL of the rejects queue. (default: the stack's)")] = None

    def open_records(self, *, moves: bool = True) -> "_Records":
        """Open the records.

        Args:
            moves: Whether to move the rejects in the queue into the bucket.
        """
        from infra.operate.redrive.queue import empty_queue
        from infra.operate.redrive.selection import FAILURES, REJECTS

        bucket = self.open_named_bucket()
        if self.kind == "failure":
            return _Records(FAILURES, bucket)
        url = self.queue or self.optional_output("RejectsQueueUrl")
        return _Records(REJECTS, bucket, empty_queue(self.client("sqs"), url, bucket, moves=moves) if url else None)


@dataclass(frozen=True)
class Filters:
    """Which records to select. Each field is an option: see `expand_options`."""

    reason: Annotated[
        str | None,
        typer.Option("--reason", "--condition", help="Only this reason of a reject, or condition of a failure."),
    ] = None
    since: Annotated[
        str | None, typer.Option(help="Arrived at or after this time: ISO 8601 in UTC, or 2h for two hours ago.")
    ] = None
    until: Annotated[str | None, typer.Option(help="Arrived before this time.")] = None
    shard: Annotated[str | None, typer.Option(help="Only from this shard: its id or its number.")] = None
    stream: Annotated[str | None, typer.Option(help="Only from this stream.")] = None

    def selection(self) -> "Selection":
        """Return the selection, with times and shard parsed."""
        from infra.operate.redrive.selection import Selection, full_shard_id

        since, until = time_options(self.since, self.until, ("--since", "--until"))
        return Selection(
            reason=self.reason,
            since=since,
            until=until,
            shard_id=None if self.shard is None else full_shard_id(self.shard),
            stream=self.stream,
        )


@expand_options
def list_command(
    aws: RecordsAws,
    filters: Filters,
    pending: Annotated[bool, typer.Option("--pending", help="Leave out redriven records.")] = False,
    every: Annotated[bool, typer.Option("--all", help="One line for each, not only for the newest.")] = False,
    as_json: Json = False,
) -> None:
    """Count failed records and list the newest.

    Prints a table of counts by stream, shard, reason and (of a failed batch) function, with how many are redriven, and
    one line for each of the newest five.

    Example: ridecast records list --kind reject --since 1h --stack ridecast
    """
    selection = filters.selection()

    from infra.operate.redrive.summary import as_json as summary_json
    from infra.operate.redrive.summary import summarize

    records = aws.open_records()
    marks = records.marks()
    with records.reading(selection) as read:
        left = (one.only(lambda record: marks.state(record) != "redriven") for one in read)
        summary = summarize(left if pending else read, records.kind, marks, None if every else _N_NEWEST)
    if as_json:
        write_json({**summary_json(summary), "queue": records.queue_facts})
    else:
        _write_summary(summary, records.title, aws.kind)
        write_lines(records.queue_lines)


@expand_options
def show_command(
    aws: RecordsAws,
    name: Annotated[
        str, typer.Argument(help="Record id (<shard>:<sequence number>), or a key or a unique end of one.")
    ],
    as_json: Json = False,
) -> None:
    """Show one failed record or batch.

    Prints the reason, and the original bytes of a record as text, or as hex if they are binary.

    Example: ridecast records show shardId-000000000000:4954 --stack ridecast
    """
    records = aws.open_records()
    show_object(records.find(name), records.marks(), as_json=as_json)


@expand_options
def redrive_command(
    aws: RecordsAws,
    filters: Filters,
    name: Annotated[str | None, typer.Argument(help="Only this one, named as for `show`.")] = None,
    function: Function = None,
    archiver: Annotated[
        str | None, typer.Option(help="Archive function to invoke, by ARN or name. (default: the stack's)")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Records per second at most.")] = 1000.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Bring and mark nothing; print how many records would be redriven.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring failed records to their function again.

    Invokes the function with the records as they were and marks them: safe to interrupt and to repeat. Each prediction
    has the id of its record, so a consumer that upserts by prediction_id holds one. Batches that the archive function
    failed on, and rejected outcomes, go to the archive function: join their hours again then. Prints how many records
    were redriven, how many the function rejected again, and the hours to join.

    Example: ridecast records redrive --reason invalid_field --since 1h --stack ridecast
    """
    selection = filters.selection()

    from infra.operate.redrive.redrive import Redrive

    records = aws.open_records(moves=not dry_run)
    functions = _Functions(aws, function, archiver)
    run = Redrive(records.marks(), None if dry_run else functions.replayer_of, rate_per_s=rate)
    try:
        with records.reading(selection, name) as objects:
            report = run.run(objects)
    except KeyboardInterrupt:
        raise interrupted(f"{run.report.n_redriven:,} records are redriven", "the same command goes on") from None
    hours = [] if dry_run else functions.hours_to_join(report)
    streams = ", ".join(f"{n:,} of {stream}" for stream, n in sorted(report.by_stream.items()))
    shown = {
        "selected": report.n_selected,
        "would be redriven" if dry_run else "redriven and marked": streams or "none",
        "among them, rejected again": report.n_rejected,
        "redriven before": report.n_redriven_before,
        "perhaps published twice": report.n_perhaps_repeated,
        "objects not readable": len(report.unreadable),
        **({"to do": f"ridecast outcomes join --from {hours[0]} --to {hours[1]}"} if hours else {}),
    }
    result = {
        "selected": report.n_selected,
        "redriven": 0 if dry_run else report.n_redriven,
        "to_redrive": report.n_redriven if dry_run else 0,
        "rejected_again": report.n_rejected,
        "redriven_before": report.n_redriven_before,
        "perhaps_repeated": report.n_perhaps_repeated,
        "by_stream": dict(report.by_stream),
        "unreadable": report.unreadable,
        "dry_run": dry_run,
        "to_join": hours,
        "queue": records.queue_facts,
    }
    if not as_json:
        _write_unreadable(report.unreadable)
        write_lines(records.queue_lines)
    show_result(records.title, result, as_json=as_json, shown=shown)


@dataclass(frozen=True)
class _Functions:
    """The functions that failed records are brought to, found when they are first needed."""

    aws: RecordsAws
    function: str | None
    archiver: str | None

    def replayer_of(self, record: "FailedRecord") -> "Replayer":
        """Return the replayer to the function that failed on a record, or that the record has to reach."""
        is_for_archive = self._is_for_archive(record.stream, record.is_archivers)
        return self._archive_function if is_for_archive else self._function

    def hours_to_join(self, report: "RedriveReport") -> list[str]:
        """Return from and to of the hours whose archive is more complete now; nothing if there are none."""
        from infra.operate.outcomes import hours_to_join

        times = [time for source, both in report.arrived.items() if self._is_for_archive(*source) for time in both]
        delay_minutes = int(self.aws.parameter("OutcomeDelayMinutes") or 120)
        hours = hours_to_join(min(times), max(times), delay_minutes) if times else ()
        return [f"{time:%Y-%m-%dT%H}" for time in hours]

    def _is_for_archive(self, stream: str, is_archivers: bool) -> bool:
        return is_archivers or stream == self._outcomes_stream

    @cached_property
    def _function(self) -> "Replayer":
        return self.aws.replayer(self.function)

    @cached_property
    def _archive_function(self) -> "Replayer":
        return self.aws.archiver(self.archiver)

    @cached_property
    def _outcomes_stream(self) -> str:
        return self.aws.optional_output("RideOutcomesStream") or "ride-outcomes"


@dataclass(frozen=True, slots=True)
class _Records:
    """The failed records of one kind. Reading shows a bar on standard error."""

    kind: "Kind"
    bucket: "Bucket"
    queue: "QueueContent | None" = None  # what was in the rejects queue; None if it was not read

    @property
    def title(self) -> str:
        from training.errors import bucket_address

        return f"{self.kind.name} in {bucket_address(self.bucket.name)}"

    @property
    def queue_facts(self) -> dict[str, Any] | None:
        """What was in the rejects queue; None if it was not read."""
        if self.queue is None:
            return None
        return {
            "moved": self.queue.n_moved,
            "waiting": len(self.queue.waiting),
            "problems": self.queue.problems,
        }

    @property
    def queue_lines(self) -> list[str]:
        """What to say about the rejects queue, a line each."""
        if self.kind.is_batch:
            return []
        if self.queue is None:
            return ["the rejects queue was not read: give --stack, --local or --queue"]
        moved = [f"moved from the rejects queue into the bucket: {self.queue.n_moved} objects"]
        waiting = [f"still in the rejects queue: {len(self.queue.waiting)} objects"]
        return [
            *(moved if self.queue.n_moved else ()),
            *(waiting if self.queue.waiting else ()),
            *(f"{key}: {problem}" for key, problem in self.queue.problems.items()),
        ]

    def find(self, name: str) -> "FailedObject":
        """Return one record or object by its name."""
        from infra.operate.redrive.selection import find

        return find(self.bucket, self.kind, name, self.queue.waiting if self.queue else ())

    def marks(self) -> "Marks":
        from infra.operate.redrive.marks import Marks

        marks = Marks(self.bucket)
        keys = marks.keys()
        with counted("reading marks", keys, len(keys)) as each:
            marks.load(each)
        return marks

    @contextmanager
    def reading(self, selection: "Selection", name: str | None = None) -> "Iterator[Iterable[FailedObject]]":
        """Yield the selected objects, which are read as they are iterated."""
        if name is not None:
            yield [self.find(name).only(selection.admits)]
            return
        waiting = self.queue.waiting if self.queue else ()
        keys = self.kind.keys(self.bucket, selection.stream, selection.shard_id)
        with counted(f"reading {self.kind.name}", self.kind.read(self.bucket, keys), len(keys)) as each:
            yield (one.only(selection.admits) for one in chain(each, waiting))


def _write_summary(summary: "Summary", title: str, kind: str) -> None:
    columns = ("stream", "shard", "reason", "function", "records", "redriven", "oldest arrival", "newest arrival")
    rows = (
        (
            *names[:3],
            names[3] or "-",
            f"{group.n_records:,}",
            f"{group.n_redriven:,}",
            _at(group.oldest),
            _at(group.newest),
        )
        for names, group in sorted(summary.groups.items())
    )
    write_table(title, columns, rows, numeric={"records", "redriven"}, empty=f"none; {_OTHER_KIND[kind]}")
    write_lines(_line(item) for item in summary.newest)
    _write_unreadable(summary.unreadable)


def _line(item: "Item") -> str:
    group = item.group
    n_records = f"  {group.n_records:,} records" if group.n_records > 1 else ""
    return f"{_at(group.newest)}  {item.reason}  {_state(group)}  {item.name}{n_records}  {item.detail}"


def _state(group: "Group") -> str:
    if group.n_redriven == group.n_records:
        return "redriven"
    if group.n_redriven:
        return f"{group.n_redriven:,} of {group.n_records:,} redriven"
    return "under way" if group.n_under_way else "pending"


def show_object(found: "FailedObject", marks: "Marks", *, as_json: bool) -> None:
    """Show one record in full, or a batch with the ids of its records."""
    if len(found.records) == 1:
        _show_record(found.records[0], marks, as_json=as_json)
        return
    ids = [record.record_id for record in found.records]
    reasons = sorted({record.reason for record in found.records})
    details = sorted({record.detail for record in found.records})
    result = {"key": found.key, "problem": found.problem, "reasons": reasons, "details": details, "records": ids}
    shown = {"records": len(ids), "first records": ids[:_N_FIRST], "not readable": found.problem}
    _show(result, as_json=as_json, shown={"key": found.key, "reason": reasons, "detail": details, **shown})


def _show_record(record: "FailedRecord", marks: "Marks", *, as_json: bool) -> None:
    try:
        text, encoding = record.data.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = record.data.hex(), "hex"
    facts = {
        "id": record.record_id,
        "stream": record.stream,
        "shard_id": record.shard_id,
        "reason": record.reason,
        "detail": record.detail,
        "arrival_time": record.arrived.isoformat(),
        "partition_key": record.partition_key,
        "state": str(marks.state(record)),
        "key": record.key,
        "encoding": encoding,
        "data": text,
    }
    _show(facts, as_json=as_json, shown=facts)


def _show(result: Mapping[str, Any], *, as_json: bool, shown: Mapping[str, Any]) -> None:
    filled = {name.replace("_", " "): value for name, value in shown.items() if value}
    show_result("", result, as_json=as_json, shown=filled)


def _write_unreadable(unreadable: Mapping[str, str]) -> None:
    write_lines(f"not readable: {key}: {problem}" for key, problem in unreadable.items())


def _at(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ")
