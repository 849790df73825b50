"""`ridecast outcomes send` and `forget`: how long rides really took."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Aws, BucketAws, Json, expand_options, time_options
from infra.cli.output import counted, interrupted, show_result, write_lines
from infra.cli.sending import Sender, SendOptions, SendState

if TYPE_CHECKING:
    from infra.operate.forget.forget import ForgetReport
    from lambda_function.core.records import Entry
    from training.data.rides import Rides


def _outcomes(rides: "Rides", state: SendState) -> "list[Entry]":
    from infra.operate.outcomes import outcome_entries

    return outcome_entries(rides, state.share)


SENDER = Sender("outcomes send", "outcomes", "RideOutcomesStream", "ride-outcomes", _outcomes)


@expand_options
def send_command(
    aws: Aws,
    options: SendOptions,
    stream: Annotated[
        str | None, typer.Option(help="Stream to send to. (default: the stack's, or ride-outcomes)")
    ] = None,
    delay: Annotated[
        float,
        typer.Option(min=0, metavar="MINUTES", help="Minutes to wait before the first outcome: all are so much later."),
    ] = 0.0,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the rides whose outcome is sent; the others have none.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Send outcomes of rides to a stream: how long each ride took, in order of drop-off.

    Give the months and the number of rides of `ridecast rides send`, and run it after that: both number the rides in
    the same way. Outcomes follow each other at --rate, whatever time lies between the drop-offs. With --delay, all of
    them come that many real minutes later. With --share 0.9, one ride in ten has no outcome: always the same ones.

    Ctrl-C ends it after the outcomes under way; --resume sends the rest. Prints the stream, the number of accepted
    outcomes and the number of rides without one.

    Example: ridecast outcomes send --months 2021-02 --rides 1000 --share 0.9 --stack ridecast
    """
    state, n_rides = SENDER.send(aws, stream, options, share=share, delay_minutes=delay)
    result = {"stream": state.stream, "sent": state.n_sent, "without_outcome": n_rides - state.n_sent}
    show_result("Outcomes", result, as_json=as_json)


@expand_options
def forget_command(
    aws: BucketAws,
    ride_id: Annotated[str, typer.Argument(help="Id of the ride; 256 is the number 256 and the text 256.")],
    since: Annotated[
        str | None,
        typer.Option("--from", help="Search the archive from this time of arrival on: ISO 8601 in UTC, or 2h."),
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Search it up to this time. (default: now)")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a ride from the archive, the labelled rides and the rejects, for good.

    Reads every object, writes those that hold the ride again without it, and deletes their old versions. Safe to
    interrupt and to repeat. Sums in monitor/ stay. The streams keep records for up to two days, so repeat it then for a
    younger ride. Prints what was deleted. Exits with 1 if something is left that only you can delete: failed batches
    that hold the ride, and objects that cannot be read.

    Example: ridecast outcomes forget 256 --dry-run --stack ridecast
    """
    from infra.operate.forget.forget import Forget
    from infra.operate.forget.without import RideSearch

    begin, end = time_options(since, until, ("--from", "--to"))
    bucket = aws.open_named_bucket()
    if not (dry_run or yes):
        _ask(ride_id, bucket.name)
    run = Forget(bucket, RideSearch(ride_id), is_dry_run=dry_run)
    objects = run.objects(*(f"{time:dt=%Y-%m-%d/hh=%H}" if time else None for time in (begin, end)))
    try:
        with counted("searching", objects, len(objects)) as each:
            report = run.run(each)
    except KeyboardInterrupt:
        done = f"the ride is deleted from {run.report.n_objects:,} objects"
        raise interrupted(done, "the same command goes on") from None
    _show_forgotten(report, ride_id, dry_run=dry_run, as_json=as_json)
    if report.unreadable or report.failed_batches:
        raise typer.Exit(1)


def _ask(ride_id: str, bucket: str) -> None:
    """Ask whether to delete a ride; end the command unless the answer is yes. Standard output is for the result."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("is needed where nobody can be asked", param_hint="'--yes'")
    sys.stderr.write(f"Delete ride {ride_id} from {bucket} for good? [y/N]: ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        raise interrupted("nothing is deleted", "the same command asks again") from None
    if answer.strip().lower() not in {"y", "yes"}:
        sys.stderr.write("ridecast: nothing is deleted\n")
        raise typer.Exit(1)


def _show_forgotten(report: "ForgetReport", ride_id: str, *, dry_run: bool, as_json: bool) -> None:
    deleted = [f"{n:,} of {folder}" for folder, n in sorted(report.removed.items())]
    result = {
        "ride_id": ride_id,
        "dry_run": dry_run,
        "objects_searched": report.n_searched,
        "objects": report.n_objects,
        "old_versions": report.n_old_versions,
        "records": dict(report.removed),
        "failed_batches": report.failed_batches,
        "unreadable": report.unreadable,
    }
    shown = {
        "objects searched": report.n_searched,
        "objects that held it": report.n_objects,
        "older versions that held it": report.n_old_versions,
        "records to delete" if dry_run else "records deleted": deleted,
    }
    if not as_json:
        write_lines(f"not readable: {key}: {problem}" for key, problem in report.unreadable.items())
        write_lines(f"failed batch that holds it: {key}" for key in report.failed_batches)
        if report.failed_batches:
            write_lines(["redrive the failed batches, delete them with all their versions, and run this again"])
    show_result(f"Ride {ride_id}", result, as_json=as_json, shown=shown)
