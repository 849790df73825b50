"""`ridecast models release`, `promote`, `rollback`, `history` and `sign`: store models and move channels."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from infra.cli.options import (
    BUILD,
    KEY_OPTION,
    KEY_VARIABLE,
    ActivationDelay,
    BucketAws,
    Channel,
    Create,
    Force,
    Json,
    Labelled,
    SigningKey,
    Version,
    channel_name,
    expand_options,
)
from infra.cli.output import begin_text, live_display, show_result, time_text, write_json, write_lines, write_table

if TYPE_CHECKING:
    from lambda_function.core.channel import Channel as ChannelState
    from lambda_function.core.channel import Segment
    from training.registry.channel_history import Moves
    from training.registry.channels import Moved
    from training.workflows.target import Target


@expand_options
def release_command(
    aws: BucketAws,
    bundle: Annotated[str, typer.Argument(help="Bundle folder; with --judge-only also a version or a channel.")],
    channel: Channel = "stable",
    test: Annotated[
        str | None,
        typer.Option(help="Months or days to judge on. (default: the latest local month that neither model has used)"),
    ] = None,
    judge_only: Annotated[
        bool, typer.Option("--judge-only", help="Store the gate's verdict; store no model and move no channel.")
    ] = False,
    force: Force = False,
    create: Create = False,
    activation_delay: ActivationDelay = None,
    signing_key: SigningKey = None,
    labelled: Labelled = None,
    as_json: Json = False,
) -> None:
    """Judge a bundle, store it and promote it in a channel.

    The gate compares it with the channel's model. Prints one line per rule of the gate, then the move and the time
    from which the model serves. Exits with 1 if the gate fails.

    Example: ridecast models release build/bundles/green-2021-01-3f2a9c1d0b7e --test 2023-03 --stack ridecast
    """
    if judge_only and force:
        raise typer.BadParameter("cannot be used with --judge-only", param_hint="'--force'")

    from training.evaluation.gate import report_lines
    from training.model.bundle import read_bundle
    from training.tracking.mirror import follow
    from training.workflows.release import release_bundle
    from training.workflows.target import Target

    signer = None if judge_only else aws.signer(signing_key)
    delay_s = aws.activation_delay_s(activation_delay)
    target = Target(aws.open_bucket(), channel, signer, delay_s, aws.open_labelled(labelled))
    if judge_only:
        _judge(target, bundle, test, as_json=as_json)
        return
    aws.check_channel(target.bucket, channel, create=create)
    folder = Path(bundle).resolve()  # its name is the version, and `.` has none
    exported = read_bundle(folder)
    with live_display() as display:
        report, moved = release_bundle(target, exported, test, force=force, progress=display)
    if not as_json:
        write_lines(report_lines(report))
    if moved is None:
        if as_json:
            write_json({"channel": channel, "passed": False, "model_version": None})
        raise typer.Exit(1)
    show_move(moved, target.bucket.name, as_json=as_json, passed=report.passed)
    follow(target.bucket, (exported.model_version, folder.parent))


def _judge(target: "Target", name: str, test: str | None, *, as_json: bool) -> None:
    """Judge a bundle folder or a stored version. Exit with 1 if the gate fails."""
    from training.evaluation.gate import report_lines
    from training.registry.sources import Sources
    from training.workflows.release import gate_version

    folder = Path(name).resolve()
    is_folder = folder.is_dir()
    sources = Sources(target.bucket, folder.parent if is_folder else BUILD / "bundles")
    with live_display() as display:
        report = gate_version(sources, target, folder.name if is_folder else name, test, display)
    if as_json:
        write_json(msgspec.to_builtins(report))
    else:
        write_lines(report_lines(report))
    if not report.passed:
        raise typer.Exit(1)


@expand_options
def promote_command(
    aws: BucketAws,
    version: Version,
    channel: Channel = "stable",
    force: Force = False,
    create: Create = False,
    activation_delay: ActivationDelay = None,
    signing_key: SigningKey = None,
    as_json: Json = False,
) -> None:
    """Let a stored version serve a channel's rides from a time on.

    The version must have passed the gate, or the channel must have held it before. It serves the rides that arrive
    after the activation delay. Prints the channel's new state. Does nothing if it is the channel's newest version.

    Example: ridecast models promote candidate --stack ridecast
    """
    from lambda_function.core.calibration import split_version
    from training.errors import UserError
    from training.registry.channels import promote
    from training.registry.versions import resolve_version
    from training.tracking.mirror import follow

    if split_version(version)[1]:
        hint = "leave out the part from +; `ridecast models rollback` goes back to one of a channel's calibrations"
        raise UserError(f"{version} is a model with a calibration, and a promotion is of a model", hint)
    models = aws.open_bucket()
    aws.check_channel(models, channel, create=create)
    signer = aws.signer(signing_key)
    found, delay_s = resolve_version(models, version), aws.activation_delay_s(activation_delay)
    moved = promote(models, channel, found, force=force, signer=signer, activation_delay_s=delay_s)
    show_move(moved, models.name, as_json=as_json)
    follow(models)


@expand_options
def rollback_command(
    aws: BucketAws,
    version: Annotated[
        str | None,
        typer.Argument(
            help="Version that the channel has held before, or the beginning of one; with its +HOUR, if any."
        ),
    ] = None,
    channel: Channel = "stable",
    signing_key: SigningKey = None,
    as_json: Json = False,
) -> None:
    """Withdraw a channel's newest version and put an earlier one in its place.

    Needs no verdict of the gate. Acts as soon as running functions read the channel, also on rides that come again. The
    version serves with its latest calibration in the channel, or with the one of the hour that is given. Prints the
    channel's new state. Does nothing if the version is the newest, so it is safe to repeat. Without a version, it
    prints the command for the version before, and exits with 2.

    Example: ridecast models rollback green-2021-01-3f2a9c1d0b7e --stack ridecast
    """
    from training.errors import UserError
    from training.registry.channels import rollback, version_before
    from training.tracking.mirror import follow

    models = aws.open_bucket()
    if version is None:
        before = version_before(models, channel)
        place = ("--local",) if aws.local else ("--bucket", models.name)
        repeat = shlex.join(("ridecast", "models", "rollback", before, "--channel", channel, *place))
        raise UserError(f"name the version that {channel} goes back to; before, it held {before}", f"run `{repeat}`")
    moved = rollback(models, channel, version, signer=aws.signer(signing_key))
    show_move(moved, models.name, as_json=as_json)
    follow(models)


@expand_options
def restore_command(aws: BucketAws, channel: Channel = "stable", as_json: Json = False) -> None:
    """Write a damaged or lost channel again.

    The channel gets the segments of its latest history entry. Prints the channel's new state. Refuses if the channel
    can be read.

    Example: ridecast models restore --channel stable --stack ridecast
    """
    from training.registry.channels import Moved, restore
    from training.tracking.mirror import follow

    models = aws.open_bucket()
    now = restore(models, channel)
    show_move(Moved(channel, now, has_moved=True), models.name, as_json=as_json)
    follow(models)


@expand_options
def history_command(
    aws: BucketAws,
    channel: Annotated[
        str | None, typer.Option(help="Only this channel. (default: all)", callback=channel_name)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List each calibration in a line of its own.")] = False,
    as_json: Json = False,
) -> None:
    """List the moves of the channels, oldest first.

    Prints time, channel, version, the time from which it serves, reason and person of each. A rollback also names the
    version that it withdrew. Calibrations of one model in a row are one line: their number, the first and the last.

    Example: ridecast models history --channel stable --stack ridecast
    """
    from training.errors import bucket_address, did_you_mean
    from training.registry.channel_history import Moves, channels_with_history, entry_facts, read_history, read_moves
    from training.registry.versions import read_channels

    models = aws.open_bucket()
    named = [channel] if channel else sorted({*read_channels(models), *channels_with_history(models)})
    if every:
        moves = [Moves(entry, entry) for one in named for entry in read_history(models, one)]
    else:
        moves = [moves for one in named for moves in read_moves(models, one)]
    moves.sort(key=lambda one: one.last.moved_at)
    address = bucket_address(models.name)
    if as_json:
        facts = [{**entry_facts(one.last), "served_version": one.last.served_version, **_run(one)} for one in moves]
        write_json({"bucket": address, "moves": facts})
        return
    columns = ("moved", "channel", "to", "serves from", "why", "by")
    meant = did_you_mean(channel, read_channels(models)) if channel else ""
    empty = meant or "no channel has moved yet: `ridecast models release` stores a model and promotes it"
    write_table(f"Moves in {address}", columns, map(_move_row, moves), empty=empty)


def _move_row(moves: "Moves") -> tuple[str, ...]:
    entry, first = moves.last, moves.first
    withdrew = f", withdrew {', '.join(entry.all_withdrawn)}" if entry.withdrawn else ""
    why = f"{entry.why or 'unknown'}{withdrew}"
    if moves.n_moves > 1:
        why = f"{moves.n_moves:,} calibrations since {_time(first.moved_at)}, the first to {first.segments[0].as_of}"
    return (
        _time(entry.moved_at),
        entry.channel,
        entry.segments[0].text,
        begin_text(_oldest_changed(entry)),
        why,
        entry.moved_by or "unknown",
    )


def _run(moves: "Moves") -> dict[str, Any]:
    """Return what JSON has of a run of calibrations beside its last move."""
    if moves.n_moves == 1:
        return {}
    return {
        "n_moves": moves.n_moves,
        "first_moved_at": moves.first.moved_at,
        "first_version": moves.first.served_version,
    }


@expand_options
def sign_command(
    aws: BucketAws,
    version: Version,
    signing_key: SigningKey = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the signature of another key.")] = False,
    as_json: Json = False,
) -> None:
    """Check a stored version and sign it.

    For versions that were stored without a key. Prints the version, the key, and whether the version was signed
    before. The key is --signing-key or the stack's.

    Example: ridecast models sign stable --stack ridecast
    """
    from training.errors import UserError, bucket_address
    from training.registry.signing import sign_stored
    from training.registry.versions import resolve_version

    signer = aws.signer(signing_key)
    if signer is None:
        raise UserError("no signing key is named", f"give {KEY_OPTION}, set {KEY_VARIABLE}, or name a signing --stack")
    models = aws.open_bucket()
    found = resolve_version(models, version)
    is_new = sign_stored(models, found, signer, replace=replace)
    result = {"model_version": found, "signing_key": signer.key, "signed_now": is_new}
    show_result(bucket_address(models.name), result, as_json=as_json)


def show_move(moved: "Moved", bucket_name: str, *, as_json: bool, **more: bool) -> None:
    """Show a channel's state after a command; JSON also has what is in `more`."""
    from training.errors import bucket_address

    now = moved.now
    shown = {
        "channel": moved.channel,
        "now": now.segments[0].text
        + ("" if moved.has_moved else "   (the channel already held it: nothing has moved)"),
        "serves": _serves(now),
        "before": now.previous or "nothing",
        "moved by": f"{now.moved_by or 'unknown'}, {_time(now.moved_at)}",
    }
    names = ("model_version", "served_version", "previous", "withdrawn", "moved_at", "moved_by", "why")
    state = {name: getattr(now, name) for name in names}
    newest = now.segments[0]
    state |= {
        "also_withdrawn": now.also_withdrawn,
        "candidate_version": newest.candidate_version,
        "candidate_share": newest.candidate_share,
        "effective_from": newest.effective_from,
    }
    result = {"channel": moved.channel, "moved": moved.has_moved, **state, **more}
    show_result(bucket_address(bucket_name), result, as_json=as_json, shown=shown)


def _serves(now: "ChannelState") -> str:
    if now.withdrawn:
        since = begin_text(_oldest_changed(now))
        return f"rides that arrived from {since}, as soon as running functions read the channel"
    newest = now.segments[0]
    return "all rides" if len(now.segments) == 1 else f"rides that arrive from {begin_text(newest)}"


def _oldest_changed(now: "ChannelState") -> "Segment":
    """Return the oldest segment that a move took something out of; the newest if it took nothing out."""
    since = now.withdrawn_since if now.withdrawn else None
    return next((one for one in now.segments if one.effective_from == since), now.segments[0])


def _time(moved_at: str) -> str:
    return time_text(datetime.fromisoformat(moved_at))
