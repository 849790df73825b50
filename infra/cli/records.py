"""`ridecast rejects` and `ridecast failures`: list, show and redrive what could not be processed."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from infra.cli.options import Aws, Json, on_aws

if TYPE_CHECKING:
    from infra.operate.redrive.marks import Marks
    from infra.operate.redrive.records import FailedObject
    from infra.operate.redrive.selection import Kind, Selection
    from training.registry.bucket import Bucket
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra.cli.output import printable, show_result
from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import FailedObject, FailedRecord
from infra.operate.redrive.redrive import RedriveReport
from infra.operate.redrive.summary import Group, Item, Summary, as_json

N_NEWEST = 5
_INTERRUPTED = 130  # as a shell says it of a program that Ctrl-C has ended

T = TypeVar("T")

BucketName = Annotated[str, typer.Option("--bucket", help="The stack's bucket.")]
Reason = Annotated[
    str | None, typer.Option("--reason", "--condition", help="A reject's reason, or a failure's condition.")
]
Since = Annotated[
    str | None, typer.Option(help="Arrived at or after this time: ISO 8601 (UTC), or 2h for 2 hours ago.")
]
Until = Annotated[str | None, typer.Option(help="Arrived before this time.")]
Shard = Annotated[str | None, typer.Option(help="From this shard: its id, or its number.")]
Stream = Annotated[str | None, typer.Option(help="From this stream.")]
Name = Annotated[str, typer.Argument(help="A record's id, <shard>:<sequence number>, or a key or a unique end of one.")]
OneName = Annotated[str | None, typer.Argument(help="Only this one: named as for `show`.")]


class _Commands:
    """The three commands of one kind: `rejects` or `failures`."""

    def __init__(self, kind_name: str) -> None:
        self._kind_name = kind_name

    @on_aws
    def list_(
        self,
        aws: Aws,
        bucket: BucketName,
        reason: Reason = None,
        since: Since = None,
        until: Until = None,
        shard: Shard = None,
        stream: Stream = None,
        pending: Annotated[bool, typer.Option("--pending", help="Leave out what is redriven.")] = False,
        every: Annotated[bool, typer.Option("--all", help="A line for each, not for the newest few only.")] = False,
        as_json: Json = False,
    ) -> None:
        """Count them by stream, shard and reason, how many are redriven, and show the newest."""
        selection = _selection(reason, since, until, shard, stream)

        from infra.operate.redrive.summary import summarize

        kept = _kept_in(self._kind_name, aws.client("s3"), bucket)
        marks = kept.marks()
        with kept.reading(selection) as read:
            left = (one.only(lambda record: marks.state(record) != "redriven") for one in read)
            summary = summarize(left if pending else read, kept.kind, marks, None if every else N_NEWEST)
        show_summary(summary, f"{self._kind_name} in s3://{bucket}", json_only=as_json)

    @on_aws
    def show(
        self,
        aws: Aws,
        name: Name,
        bucket: BucketName,
        as_json: Json = False,
    ) -> None:
        """Show one: why it is kept, and the original bytes of a record as text, or as hex where they are none."""
        from infra.operate.redrive.selection import find

        kept = _kept_in(self._kind_name, aws.client("s3"), bucket)
        show_object(find(kept.bucket, kept.kind, name), kept.marks(), json_only=as_json)

    @on_aws
    def redrive(
        self,
        aws: Aws,
        bucket: BucketName,
        name: OneName = None,
        reason: Reason = None,
        since: Since = None,
        until: Until = None,
        shard: Shard = None,
        stream: Stream = None,
        to: Annotated[str | None, typer.Option(help="Send to this stream, not to where they came from.")] = None,
        rate: Annotated[float, typer.Option(min=0.1, help="Records a second at most; a shard takes 1,000.")] = 1000.0,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Send and mark nothing; say what would be.")] = False,
        as_json: Json = False,
    ) -> None:
        """Send them back to their stream as they were, and mark them: safe to interrupt and to repeat.

        What is sent is a new record: its prediction has another id, and a ride without pickup_datetime another time.
        """
        selection = _selection(reason, since, until, shard, stream)

        from infra.operate.redrive.redrive import Redrive
        from lambda_function.aws.publisher import Publisher

        kept = _kept_in(self._kind_name, aws.client("s3"), bucket)
        kinesis = aws.client("kinesis")
        run = Redrive(
            kept.marks(), lambda target: Publisher(kinesis, target), to_stream=to, rate_per_s=rate, is_dry_run=dry_run
        )
        try:
            with kept.reading(selection, name) as objects:
                report = run.run(objects)
        except KeyboardInterrupt:
            sys.stderr.write(f"ridecast: interrupted after {run.report.n_redriven:,} records: run it again to go on\n")
            raise typer.Exit(_INTERRUPTED) from None
        show_redrive(report, f"{self._kind_name} in s3://{bucket}", is_dry_run=dry_run, json_only=as_json)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A bucket and what is looked for in it; a bar on standard error shows how far reading is."""

    kind: "Kind"
    bucket: "Bucket"

    def marks(self) -> "Marks":
        from infra.cli.output import counting, error_console
        from infra.operate.redrive.marks import Marks

        marks = Marks(self.bucket)
        keys = marks.keys()
        with counting(error_console(), "reading marks", len(keys)) as count:
            marks.load(_counted(keys, count))
        return marks

    @contextmanager
    def reading(self, selection: "Selection", name: str | None = None) -> Iterator[Iterable["FailedObject"]]:
        """Gives what is selected, read as it is iterated."""
        from infra.cli.output import counting, error_console
        from infra.operate.redrive.selection import find

        if name is not None:
            yield [find(self.bucket, self.kind, name).only(selection.admits)]
            return
        keys = self.kind.keys(self.bucket, selection.stream, selection.shard_id)
        with counting(error_console(), f"reading {self.kind.name}", len(keys)) as count:
            yield (one.only(selection.admits) for one in _counted(self.kind.read(self.bucket, keys), count))


def _kept_in(kind_name: str, s3: object, bucket: str) -> _Kept:
    from infra.operate.redrive.selection import FAILURES, REJECTS
    from training.registry.bucket import Bucket

    return _Kept(REJECTS if kind_name == REJECTS.name else FAILURES, Bucket(s3, bucket))


def _counted(items: Iterable[T], count: Callable[[int], None]) -> Iterator[T]:
    for number, item in enumerate(items, 1):
        yield item
        count(number)


def _selection(
    reason: str | None, since: str | None, until: str | None, shard: str | None, stream: str | None
) -> "Selection":
    from infra.operate.redrive.selection import Selection, full_shard_id

    return Selection(
        reason=reason,
        since=_time(since, "--since"),
        until=_time(until, "--until"),
        shard_id=None if shard is None else full_shard_id(shard),
        stream=stream,
    )


def _time(text: str | None, option: str) -> datetime | None:
    from infra.operate.redrive.selection import parse_time

    try:
        return None if text is None else parse_time(text, lambda: datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from error


def _group(kind_name: str, text: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=text)
    commands = _Commands(kind_name)
    group.command("list")(commands.list_)
    group.command("show")(commands.show)
    group.command("redrive")(commands.redrive)
    return group


rejects = _group("rejects", "Records that the function rejected, each with its reason.")
failures = _group("failures", "Batches that the event source mapping gave up, put aside by Lambda.")


# MERGED FROM infra/kept/view.py
# Kept records on a terminal and in JSON: a summary, one of them in full, and how a redrive ended.
# What producers sent is shown with its control characters escaped: a terminal obeys them.
_COLUMNS = ("stream", "shard", "reason", "records", "redriven", "oldest arrival", "newest arrival")
_N_FIRST = 5


def show_summary(summary: Summary, title: str, *, json_only: bool) -> None:
    """Shows counts in a table, the newest as a line each, and what could not be read."""
    if not json_only:
        table = Table(title=escape(title), title_justify="left")
        for column in _COLUMNS:
            table.add_column(column, justify="right" if column in {"records", "redriven"} else "left")
        for names, group in sorted(summary.groups.items()):
            figures = (f"{group.n_records:,}", f"{group.n_redriven:,}", _at(group.oldest), _at(group.newest))
            table.add_row(*(escape(printable(name)) for name in names), *figures)
        Console(file=sys.stdout).print(table)
        _write_lines(_line(item) for item in summary.newest)
        _write_unreadable(summary.unreadable)
    show_result("", {}, as_json(summary), json_only=True)


def _line(item: Item) -> str:
    group = item.group
    n_records = f"  {group.n_records:,} records" if group.n_records > 1 else ""
    return f"{_at(group.newest)}  {item.reason}  {_state(group)}  {item.name}{n_records}  {item.detail}"


def _state(group: Group) -> str:
    if group.n_redriven == group.n_records:
        return "redriven"
    if group.n_redriven:
        return f"{group.n_redriven:,} of {group.n_records:,} redriven"
    return "under way" if group.n_under_way else "pending"


def show_object(found: FailedObject, marks: Marks, *, json_only: bool) -> None:
    """Shows one record in full, or what a batch of them is and which they are."""
    if len(found.records) == 1:
        _show_record(found.records[0], marks, json_only=json_only)
        return
    ids = [record.record_id for record in found.records]
    reasons = sorted({record.reason for record in found.records})
    details = sorted({record.detail for record in found.records})
    result = {"key": found.key, "problem": found.problem, "reasons": reasons, "details": details, "records": ids}
    rows = {
        "key": found.key,
        "reason": ", ".join(reasons),
        "detail": "; ".join(details),
        "records": f"{len(ids):,}",
        "the first of them": "\n".join(ids[:_N_FIRST]),
        "not readable": found.problem,
    }
    _show(rows, result, json_only=json_only)


def _show_record(record: FailedRecord, marks: Marks, *, json_only: bool) -> None:
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
    _show({name.replace("_", " "): value for name, value in facts.items()}, facts, json_only=json_only)


def _show(rows: Mapping[str, str], result: Mapping[str, Any], *, json_only: bool) -> None:
    shown = {name: escape(printable(value)) for name, value in rows.items() if value}
    show_result("", shown, result, json_only=json_only)


def show_redrive(report: RedriveReport, title: str, *, is_dry_run: bool, json_only: bool) -> None:
    """Shows how a redrive ended."""
    streams = ", ".join(f"{n:,} to {stream}" for stream, n in sorted(report.by_stream.items()))
    rows = {
        "selected": f"{report.n_selected:,}",
        "would be sent" if is_dry_run else "sent and marked": streams or "none",
        "redriven before": f"{report.n_redriven_before:,}",
        "perhaps for the second time": f"{report.n_perhaps_repeated:,}",
        "objects not readable": f"{len(report.unreadable):,}",
    }
    result = {
        "selected": report.n_selected,
        "redriven": 0 if is_dry_run else report.n_redriven,
        "to_redrive": report.n_redriven if is_dry_run else 0,
        "redriven_before": report.n_redriven_before,
        "perhaps_repeated": report.n_perhaps_repeated,
        "by_stream": dict(report.by_stream),
        "unreadable": report.unreadable,
        "dry_run": is_dry_run,
    }
    if not json_only:
        _write_unreadable(report.unreadable)
    show_result(escape(title), {name: escape(value) for name, value in rows.items()}, result, json_only=json_only)


def _write_unreadable(unreadable: Mapping[str, str]) -> None:
    _write_lines(f"not readable: {key}: {problem}" for key, problem in unreadable.items())


def _write_lines(lines: Iterable[str]) -> None:
    """Writes lines as they are, however long: a table would break ids that are to be copied."""
    for line in lines:
        sys.stdout.write(printable(line).replace("\n", "\\n") + "\n")


def _at(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ")
