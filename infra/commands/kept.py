"""`ridecast rejects` and `ridecast failures`: list, show and redrive what could not be processed."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.options import Json

if TYPE_CHECKING:
    from infra.bucket import Bucket
    from infra.kept.bucket import Kind
    from infra.kept.marks import Marks
    from infra.kept.record import KeptObject
    from infra.kept.selection import Selection

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

        from infra.kept.summary import summarize
        from infra.kept.view import show_summary

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
        from infra.kept.bucket import find
        from infra.kept.view import show_object

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

        from infra.kept.redrive import Redrive
        from infra.kept.view import show_redrive
        from lambda_function.publisher import Publisher

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
        from infra.console import counting, error_console
        from infra.kept.marks import Marks

        marks = Marks(self.bucket)
        keys = marks.keys()
        with counting(error_console(), "reading marks", len(keys)) as count:
            marks.load(_counted(keys, count))
        return marks

    @contextmanager
    def reading(self, selection: "Selection", name: str | None = None) -> Iterator[Iterable["KeptObject"]]:
        """Gives what is selected, read as it is iterated."""
        from infra.console import counting, error_console
        from infra.kept.bucket import find

        if name is not None:
            yield [find(self.bucket, self.kind, name).only(selection.admits)]
            return
        keys = self.kind.keys(self.bucket, selection.stream, selection.shard_id)
        with counting(error_console(), f"reading {self.kind.name}", len(keys)) as count:
            yield (one.only(selection.admits) for one in _counted(self.kind.read(self.bucket, keys), count))


def _kept_in(kind_name: str, s3: object, bucket: str) -> _Kept:
    from infra.bucket import Bucket
    from infra.kept.bucket import FAILURES, REJECTS

    return _Kept(REJECTS if kind_name == REJECTS.name else FAILURES, Bucket(s3, bucket))


def _counted(items: Iterable[T], count: Callable[[int], None]) -> Iterator[T]:
    for number, item in enumerate(items, 1):
        yield item
        count(number)


def _selection(
    reason: str | None, since: str | None, until: str | None, shard: str | None, stream: str | None
) -> "Selection":
    from infra.kept.selection import Selection, full_shard_id

    return Selection(
        reason=reason,
        since=_time(since, "--since"),
        until=_time(until, "--until"),
        shard_id=None if shard is None else full_shard_id(shard),
        stream=stream,
    )


def _time(text: str | None, option: str) -> datetime | None:
    from infra.kept.selection import parse_time

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
