"""`ridecast models release`, `promote`, `rollback`, `history` and `sign`: store models and move channels."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from infra.cli.options import (
    BUILD,
    KEY_OPTION,
    KEY_VARIABLE,
    Aws,
    BucketOption,
    Channel,
    Json,
    SigningKey,
    TrustedKey,
    Version,
    channel_name,
    on_aws,
    open_bucket,
)
from infra.cli.output import live_display, show_result, time_text, write_json, write_lines, write_table

if TYPE_CHECKING:
    from training.evaluation.gate import GateReport
    from training.registry.channel_history import HistoryEntry
    from training.registry.channels import Moved
    from training.workflows.release import Target


@on_aws
def release_command(
    aws: Aws,
    bundle: Annotated[str, typer.Argument(help="Bundle folder; with --judge-only also a version or a channel.")],
    channel: Channel = "stable",
    test: Annotated[
        str | None,
        typer.Option(help="Months to judge on. (default: the latest local month that neither model has used)"),
    ] = None,
    judge_only: Annotated[
        bool, typer.Option("--judge-only", help="Store the gate's verdict; store no model and move no channel.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Release to the channel `candidate` even if the gate fails.")
    ] = False,
    signing_key: SigningKey = None,
    bucket: BucketOption = None,
    as_json: Json = False,
) -> None:
    """Judge a bundle, store it and point a channel at it.

    The gate compares it with the channel's model. Prints one line per rule of the gate, then the move. Exits with 1
    if the gate fails. A running function follows within a minute.

    Example: ridecast models release build/bundles/green-2021-01-3f2a9c1d0b7e --test 2023-03 --stack ridecast
    """
    if judge_only and force:
        raise typer.BadParameter("cannot be used with --judge-only", param_hint="'--force'")
    if judge_only:
        _judge(open_target(bucket, channel, None, aws), bundle, test, as_json=as_json)
        return

    from training.errors import bucket_address
    from training.model.bundle import read_bundle
    from training.tracking.mirror import follow
    from training.workflows.release import release_bundle

    folder = Path(bundle).resolve()  # its name is the version, and `.` has none
    exported = read_bundle(folder)
    target = open_target(bucket, channel, signing_key, aws)
    with live_display() as display:
        report, moved = release_bundle(target, exported, test, force=force, progress=display)
    if not as_json:
        write_verdict(report)
    if moved is None:
        if as_json:
            write_json({"channel": channel, "passed": False, "model_version": None})
        raise typer.Exit(1)
    now, before = moved.now.model_version, moved.now.previous
    rows = {"channel": moved.channel, "now": now, "before": before or "nothing"}
    result = {"channel": moved.channel, "passed": report.passed, "model_version": now, "previous": before}
    show_result(bucket_address(target.bucket.name), rows, result, json_only=as_json)
    follow(target.bucket, (exported.model_version, folder.parent))


def open_target(bucket: str | None, channel: str, signing_key: str | None, aws: Aws) -> "Target":
    """Return the channel to release into, with the signer of what is stored."""
    from training.workflows.release import Target

    return Target(open_bucket(bucket, aws), channel, aws.signer(signing_key))


def _judge(target: "Target", name: str, test: str | None, *, as_json: bool) -> None:
    """Judge a bundle folder or a stored version. Exit with 1 if the gate fails."""
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
        write_verdict(report)
    if not report.passed:
        raise typer.Exit(1)


def write_verdict(report: "GateReport") -> None:
    """Write one line per rule of the gate."""
    from training.evaluation.gate import report_lines

    write_lines(report_lines(report))


@on_aws
def promote_command(
    aws: Aws,
    version: Version,
    channel: Channel = "stable",
    force: Annotated[
        bool, typer.Option("--force", help="Promote to the channel `candidate` even if the gate failed.")
    ] = False,
    signing_key: TrustedKey = None,
    bucket: BucketOption = None,
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

    models = open_bucket(bucket, aws)
    signer = aws.signer(signing_key)
    moved = promote(models, channel, resolve_version(models, version), force=force, signer=signer)
    _show_move(moved, models.name, json_only=as_json)
    follow(models)


@on_aws
def rollback_command(
    aws: Aws,
    version: Annotated[
        str | None, typer.Argument(help="Version that the channel has held before, or the beginning of one.")
    ] = None,
    channel: Channel = "stable",
    signing_key: TrustedKey = None,
    bucket: BucketOption = None,
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

    models = open_bucket(bucket, aws)
    if version is None:
        before = version_before(models, channel)
        repeat = shlex.join(("ridecast", "models", "rollback", before, "--channel", channel, "--bucket", models.name))
        raise UserError(f"name the version that {channel} goes back to; before, it held {before}", f"run `{repeat}`")
    moved = rollback(models, channel, version, signer=aws.signer(signing_key))
    _show_move(moved, models.name, json_only=as_json)
    follow(models)


@on_aws
def history_command(
    aws: Aws,
    channel: Annotated[
        str | None, typer.Option(help="Only this channel. (default: all)", callback=channel_name)
    ] = None,
    bucket: BucketOption = None,
    as_json: Json = False,
) -> None:
    """List the moves of the channels, oldest first.

    Prints time, channel, version, reason and person of each.

    Example: ridecast models history --channel stable --stack ridecast
    """
    from training.registry.channel_history import channels_with_history, read_history
    from training.registry.versions import read_channels

    models = open_bucket(bucket, aws)
    named = [channel] if channel else sorted({*read_channels(models), *channels_with_history(models)})
    entries = [entry for one in named for entry in read_history(models, one)]
    _show_history(sorted(entries, key=lambda entry: entry.moved_at), models.name, json_only=as_json)


@on_aws
def sign_command(
    aws: Aws,
    version: Version,
    signing_key: SigningKey = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the signature of another key.")] = False,
    bucket: BucketOption = None,
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
    models = open_bucket(bucket, aws)
    found = resolve_version(models, version)
    is_new = sign_stored(models, found, signer, replace=replace)
    rows = {"model version": found, "key": signer.key, "signed": "now" if is_new else "before; nothing changed"}
    result = {"model_version": found, "signing_key": signer.key, "signed_now": is_new}
    show_result(bucket_address(models.name), rows, result, json_only=as_json)


def _show_move(moved: "Moved", bucket_name: str, *, json_only: bool) -> None:
    from training.errors import bucket_address

    now = moved.now
    rows = {
        "channel": moved.channel,
        "now": now.model_version + ("" if moved.has_moved else "   (the channel already held it: nothing has moved)"),
        "before": now.previous or "nothing",
        "moved by": f"{now.moved_by or 'unknown'}, {_time(now.moved_at)}",
    }
    result = {
        "channel": moved.channel,
        "model_version": now.model_version,
        "previous": now.previous,
        "moved": moved.has_moved,
        "moved_at": now.moved_at,
        "moved_by": now.moved_by,
        "why": now.why,
    }
    show_result(bucket_address(bucket_name), rows, result, json_only=json_only)


def _show_history(entries: "Sequence[HistoryEntry]", bucket_name: str, *, json_only: bool) -> None:
    from training.errors import bucket_address

    address = bucket_address(bucket_name)
    if json_only:
        write_json({"bucket": address, "moves": [msgspec.to_builtins(entry) for entry in entries]})
        return
    rows = (
        (_time(one.moved_at), one.channel, one.model_version, one.why or "unknown", one.moved_by or "unknown")
        for one in entries
    )
    write_table(f"Moves in {address}", ("moved", "channel", "to", "why", "by"), rows)


def _time(moved_at: str) -> str:
    return time_text(datetime.fromisoformat(moved_at))
