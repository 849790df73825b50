"""`ridecast monitor`: what monitoring says about the served model."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from infra.cli.options import BUILD, BucketAws, Json, channel_name, expand_options
from infra.cli.output import live_display, show_result, write_json

if TYPE_CHECKING:
    from training.monitoring.monitor.status import MonitorStatus
    from training.registry.bucket import Bucket

Group = Literal["data", "performance"]
"""The groups of quantities that have an alarm each."""

_EXIT_ALARM, _EXIT_UNKNOWN = 1, 3
"""As `doctor`: something is bad; nothing is, but not everything is judged (2 is a wrong option)."""

_Watched = Annotated[
    str | None,
    typer.Option("--channel", help="Refuse if another channel is watched. (default: any)", callback=channel_name),
]


@expand_options
def status_command(aws: BucketAws, channel: _Watched = None, as_json: Json = False) -> None:
    """Show what monitoring says about the served model: drift, errors, evidence of a change, and calibration.

    Reads monitor/status.json, which the monitor function writes every 15 minutes. Prints a line a quantity: its value
    on the last whole day, in training, and its evidence of a change; then each alarm in a sentence, and the last 28
    days beside training. Exits with 1 if an alarm sounds or calibration is frozen, with 3 if neither does but a group
    is not judged or the status is over an hour old.

    Example: ridecast monitor status --stack ridecast
    """
    import msgspec

    from infra.cli.monitor_view import is_stale, is_unknown, sounds, write_status

    status, now = load_watched(aws.open_named_bucket(), channel), datetime.now(UTC)
    if as_json:
        write_json({**msgspec.to_builtins(status), "is_stale": is_stale(status, now)})
    else:
        write_status(status, now)
    if sounds(status) or is_unknown(status) or is_stale(status, now):
        raise typer.Exit(_EXIT_ALARM if sounds(status) else _EXIT_UNKNOWN)


@expand_options
def acknowledge_command(
    aws: BucketAws,
    group: Annotated[Group, typer.Argument(help="Whose alarm: data or performance.")],
    as_json: Json = False,
) -> None:
    """Acknowledge the alarm of data or performance: the change has passed, or is known.

    The alarm ends at the next run of the monitor function, within 15 minutes. The group's evidence starts again at 0,
    and later days join the reference. A change that stays raises the alarm again some days later: release a new model.
    Predictions do not change. Asks nothing. Prints what is stored.

    Example: ridecast monitor acknowledge data --stack ridecast
    """
    import msgspec

    from training.monitoring.monitor.acknowledge import acknowledge
    from training.registry.channels import this_mover

    done = msgspec.to_builtins(acknowledge(aws.open_named_bucket(), group, this_mover()))
    meaning = {"meaning": "the alarm ends within 15 minutes; evidence starts at 0; a change that stays raises it again"}
    show_result(
        "Acknowledged",
        done,
        as_json=as_json,
        shown={name.replace("_", " "): value for name, value in {**done, **meaning}.items()},
    )


@expand_options
def report_command(
    aws: BucketAws,
    output: Annotated[Path, typer.Option("--out", help="File to write.", dir_okay=False)] = BUILD / "monitor.html",
    is_opened: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    channel: _Watched = None,
    as_json: Json = False,
) -> None:
    """Write what monitoring knows about the served model as one HTML page.

    Shows by day the errors of the model's own and of the published predictions, the evidence of a change, alarms,
    today's rides beside training, errors by slice, outcomes and rejects. The page needs nothing else, so it can be
    sent. Prints the file's path.

    Example: ridecast monitor report --open --stack ridecast
    """
    from training.workflows.monitor_report import run_monitor_report

    bucket = aws.open_named_bucket()
    status = load_watched(bucket, channel)
    with live_display() as display:
        run_monitor_report(bucket, status, output, display)
    result = {"channel": status.channel, "model_version": status.model_version, "report": str(output)}
    show_result("Monitoring report", result, as_json=as_json)
    if is_opened:
        typer.launch(output.resolve().as_uri())


def load_watched(bucket: "Bucket", channel: str | None) -> "MonitorStatus":
    """Return a bucket's status.

    Raises:
        UserError: There is none, or it is of another channel.
    """
    from training.errors import UserError, bucket_address
    from training.monitoring.monitor.status import load_status

    status = load_status(bucket)
    if status is None:
        hint = "the monitor function writes it once hours are joined; see docs/monitoring.md"
        raise UserError(f"{bucket_address(bucket.name)} has no monitor/status.json", hint)
    if channel not in {None, status.channel}:
        raise UserError(f"channel {status.channel} is watched, not {channel}", "leave --channel out")
    return status
