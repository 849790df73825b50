"""`ridecast models release`, `promote`, `rollback`, `history` and `sign`: store models and move channels."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from infra.cli.options import (
    BUILD,
    KEY_OPTION,
    KEY_VARIABLE,
    BucketAws,
    Channel,
    Force,
    Json,
    SigningKey,
    Version,
    channel_name,
    expand_options,
)
from infra.cli.output import live_display, show_result, time_text, write_json, write_lines, write_table

if TYPE_CHECKING:
    from training.registry.channels import Moved
    from training.workflows.release import Target


@expand_options
def release_command(
    aws: BucketAws,
    bundle: Annotated[str, typer.Argument(help="Bundle folder; with --judge-only also a version or a channel.")],
    channel: Channel = "stable",
    test: Annotated[
        str | None,
        typer.Option(help="Months to judge on. (default: the latest local month that neither model has used)"),
    ] = None,
    judge_only: Annotated[
        bool, typer.Option("--judge-only", help="Store the gate's verdict; store no model and move no channel.")
    ] = False,
    force: Force = False,
    signing_key: SigningKey = None,
    as_json: Json = False,
) -> None:
    """Judge a bundle, store it and point a channel at it.

    The gate compares it with the channel's model. Prints one line per rule of the gate, then the move. Exits with 1
    if the gate fails. A running function follows within a minute.

    Example: ridecast models release build/bundles/green-2021-01-3f2a9c1d0b7e --test 2023-03 --stack ridecast
    """
    if judge_only and force:
        raise typer.BadParameter("cannot be used with --judge-only", param_hint="'--force'")

    from training.evaluation.gate import report_lines
    from training.model.bundle import read_bundle
    from training.tracking.mirror import follow
    from training.workflows.release import Target, release_bundle

    target = Target(aws.open_bucket(), channel, None if judge_only else aws.signer(signing_key))
    if judge_only:
        _judge(target, bundle, test, as_json=as_json)
        return
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
    _show_move(moved, target.bucket.name, as_json=as_json, passed=report.passed)
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
    signing_key: SigningKey = None,
    as_json: Json = False,
) -> None:
    """Point a channel at a stored version.

    The version must have passed the gate, or the channel must have held it before. Prints the channel's new state.
    Does nothing if the channel already points at the version.

    Example: ridecast models promote candidate --stack ridecast
    """
    from training.registry.channels import promote
    from training.registry.versions import resolve_version
    from training.tracking.mirror import follow

    models = aws.open_bucket()
    signer = aws.signer(signing_key)
    moved = promote(models, channel, resolve_version(models, version), force=force, signer=signer)
    _show_move(moved, models.name, as_json=as_json)
    follow(models)


@expand_options
def rollback_command(
    aws: BucketAws,
    version: Annotated[
        str | None, typer.Argument(help="Version that the channel has held before, or the beginning of one.")
    ] = None,
    channel: Channel = "stable",
    signing_key: SigningKey = None,
    as_json: Json = False,
) -> None:
    """Point a channel at a version that it has held before.

    Needs no verdict of the gate. Prints the channel's new state. Does nothing if the channel already points at the
    version, so it is safe to repeat. Without a version, it prints the command for the version before, and exits
    with 2.

    Example: ridecast models rollback green-2021-01-3f2a9c1d0b7e --stack ridecast
    """
    from training.errors import UserError
    from training.registry.channels import rollback, version_before
    from training.tracking.mirror import follow

    models = aws.open_bucket()
    if version is None:
        before = version_before(models, channel)
        repeat = shlex.join(("ridecast", "models", "rollback", before, "--channel", channel, "--bucket", models.name))
        raise UserError(f"name the version that {channel} goes back to; before, it held {before}", f"run `{repeat}`")
    moved = rollback(models, channel, version, signer=aws.signer(signing_key))
    _show_move(moved, models.name, as_json=as_json)
    follow(models)


@expand_options
def history_command(
    aws: BucketAws,
    channel: Annotated[
        str | None, typer.Option(help="Only this channel. (default: all)", callback=channel_name)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the moves of the channels, oldest first.

    Prints time, channel, version, reason and person of each.

    Example: ridecast models history --channel stable --stack ridecast
    """
    from training.errors import bucket_address
    from training.registry.channel_history import channels_with_history, read_history
    from training.registry.versions import read_channels

    models = aws.open_bucket()
    named = [channel] if channel else sorted({*read_channels(models), *channels_with_history(models)})
    entries = [entry for one in named for entry in read_history(models, one)]
    entries.sort(key=lambda entry: entry.moved_at)
    address = bucket_address(models.name)
    if as_json:
        write_json({"bucket": address, "moves": msgspec.to_builtins(entries)})
        return
    rows = (
        (_time(one.moved_at), one.channel, one.model_version, one.why or "unknown", one.moved_by or "unknown")
        for one in entries
    )
    write_table(f"Moves in {address}", ("moved", "channel", "to", "why", "by"), rows)


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


def _show_move(moved: "Moved", bucket_name: str, *, as_json: bool, **more: bool) -> None:
    """Show a channel's state after a command; JSON also has what is in `more`."""
    from training.errors import bucket_address

    now = moved.now
    shown = {
        "channel": moved.channel,
        "now": now.model_version + ("" if moved.has_moved else "   (the channel already held it: nothing has moved)"),
        "before": now.previous or "nothing",
        "moved by": f"{now.moved_by or 'unknown'}, {_time(now.moved_at)}",
    }
    state = {name: getattr(now, name) for name in ("model_version", "previous", "moved_at", "moved_by", "why")}
    result = {"channel": moved.channel, "moved": moved.has_moved, **state, **more}
    show_result(bucket_address(bucket_name), result, as_json=as_json, shown=shown)


def _time(moved_at: str) -> str:
    return time_text(datetime.fromisoformat(moved_at))
