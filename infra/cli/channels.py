"""`ridecast models promote`, `rollback` and `history`: a bucket's channels, moved and looked back at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import (
    BUILD,
    LOCAL_BUCKET,
    Aws,
    Bundles,
    Channel,
    Json,
    ModelBucket,
    Version,
    channel_name,
    on_aws,
    open_bucket,
)

if TYPE_CHECKING:
    from training.evaluation.gate import GateReport
    from training.workflows.release import Target
from collections.abc import Sequence
from datetime import datetime

import msgspec

from infra.cli.output import escaped, show_result, time_text, write_table
from training.registry.channel_history import HistoryEntry
from training.registry.channels import Moved

if TYPE_CHECKING:
    from training.registry.signing import Signer


_NAME = "--signing-key"
_VARIABLE = "RIDECAST_SIGNING_KEY"
"""One for every command: a team sets it once, and what it publishes, promotes or rolls back to is signed."""

_SIGNS = "KMS key that signs what is stored: its ARN, or another of its names. (default: no signature)"
_TRUSTED = "KMS key of the function: refuse a version that it has not signed. (default: nobody looks)"

SigningKey = Annotated[str | None, typer.Option(_NAME, envvar=_VARIABLE, help=_SIGNS)]
TrustedKey = Annotated[str | None, typer.Option(_NAME, envvar=_VARIABLE, help=_TRUSTED)]


# MERGED FROM infra/commands/release.py
# `ridecast models gate` and `publish`: the two ways of a trained model to a channel, one step or all of them.
Test = Annotated[
    str | None, typer.Option(help="Months to judge on; else the latest in hand that neither model has met.")
]


@on_aws
def gate_command(
    aws: Aws,
    version: Version,
    channel: Channel = "stable",
    test: Test = None,
    bundles: Bundles = BUILD / "bundles",
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Judge a version against what a channel holds, a rule a line. Exit code 1 if it fails."""
    from infra.cli.output import ConsoleDisplay, error_console
    from training.tracking.mirror import Sources
    from training.workflows.release import Target, judge_version

    sources = Sources(open_bucket(bucket, aws), bundles)
    target = Target(sources.bucket, channel)
    with ConsoleDisplay(error_console()).live() as display:
        report = judge_version(sources, target, version, test, display)
    _show_verdict(report, as_json=as_json)
    if not report.passed:
        raise typer.Exit(1)


@on_aws
def release_command(
    aws: Aws,
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, as `train` writes it.")],
    channel: Channel = "stable",
    test: Test = None,
    force: Annotated[bool, typer.Option("--force", help="Into `candidate` if the gate says no.")] = False,
    signing_key: SigningKey = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Judge a bundle, upload it, and move a channel onto it: a running function follows within a minute."""
    from infra.cli.output import ConsoleDisplay, error_console, show_result
    from training.errors import bucket_address
    from training.model.export import read_bundle
    from training.workflows.mirror import follow
    from training.workflows.release import publish_bundle

    exported = read_bundle(bundle.resolve())  # its version is the folder's name, which `.` is not
    target = open_target(bucket, channel, signing_key, aws)
    with ConsoleDisplay(error_console()).live() as display:
        report, moved = publish_bundle(target, exported, test, force=force, display=display)
    if not as_json:
        _write_lines(report)
    if moved is None:
        show_result("", {}, {"channel": channel, "passed": False, "model_version": None}, json_only=True)
        raise typer.Exit(1)
    follow(target.bucket, (exported.model_version, bundle.resolve().parent))
    now, before = moved.now.model_version, moved.now.previous
    rows = {"channel": moved.channel, "now": now, "before": before or "nothing"}
    result = {"channel": moved.channel, "passed": report.passed, "model_version": now, "previous": before}
    show_result(bucket_address(target.bucket.name), rows, result, json_only=as_json)


def open_target(bucket: str, channel: str, signing_key: str | None, aws: Aws) -> "Target":
    """Returns the channel of a bucket that a candidate wants into, and who signs for it."""
    from training.workflows.release import Target

    return Target(open_bucket(bucket, aws), channel, open_signer(signing_key, aws))


def _show_verdict(report: "GateReport", *, as_json: bool) -> None:
    import msgspec

    from infra.cli.output import show_result

    if not as_json:
        _write_lines(report)
    show_result("", {}, msgspec.to_builtins(report), json_only=True)


def _write_lines(report: "GateReport") -> None:
    from training.evaluation.gate import lines

    typer.echo("\n".join(lines(report)))


AnyChannel = Annotated[str | None, typer.Option(help="This channel only.", callback=channel_name)]


@on_aws
def promote_command(
    aws: Aws,
    version: Version,
    channel: Channel = "stable",
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; into candidate only.")] = False,
    signing_key: TrustedKey = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Point a channel at a stored version that the gate let through, or that the channel has held before."""
    from training.errors import bucket_address
    from training.registry.channels import promote
    from training.registry.versions import resolve_version
    from training.workflows.mirror import follow

    models = open_bucket(bucket, aws)
    signer = open_signer(signing_key, aws)
    moved = promote(models, channel, resolve_version(models, version), force=force, signer=signer)
    follow(models)
    show_move(moved, bucket_address(models.name), json_only=as_json)


@on_aws
def rollback_command(
    aws: Aws,
    channel: Channel = "stable",
    signing_key: TrustedKey = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Point a channel at the version that it held before. Twice is where it began."""
    from training.errors import bucket_address
    from training.registry.channels import rollback
    from training.workflows.mirror import follow

    models = open_bucket(bucket, aws)
    moved = rollback(models, channel, signer=open_signer(signing_key, aws))
    follow(models)
    show_move(moved, bucket_address(models.name), json_only=as_json)


@on_aws
def history_command(
    aws: Aws, channel: AnyChannel = None, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False
) -> None:
    """List every move of the channels, the oldest first: when, from where to where, who, and why."""
    from training.errors import bucket_address
    from training.registry.channel_history import channels_with_history, read_history
    from training.registry.versions import read_channels

    models = open_bucket(bucket, aws)
    named = [channel] if channel else sorted({*read_channels(models), *channels_with_history(models)})
    lines = [line for one in named for line in read_history(models, one)]
    show_history(sorted(lines, key=lambda line: line.moved_at), bucket_address(models.name), json_only=as_json)


# MERGED FROM infra/models/channel_view.py
# A channel's move and its history, on a terminal and in JSON.
def show_move(moved: Moved, address: str, *, json_only: bool) -> None:
    """Shows where a channel is after a command, and whether the command moved it."""
    now = moved.now
    rows = {
        "channel": moved.channel,
        "now": now.model_version + ("" if moved.has_moved else "   (it was there already: nothing has moved)"),
        "before": now.previous or "nothing",
        "moved by": f"{now.moved_by or 'somebody'}, {_time(now.moved_at)}",
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
    show_result(address, escaped(rows), result, json_only=json_only)


def show_history(lines: Sequence[HistoryEntry], address: str, *, json_only: bool) -> None:
    """Shows a line a move, the oldest first."""
    if not json_only:
        rows = (
            (
                _time(line.moved_at),
                line.channel,
                line.model_version,
                line.why or "unknown",
                line.moved_by or "unknown",
            )
            for line in lines
        )
        write_table(f"Moves in {address}", ("moved", "channel", "to", "why", "by"), rows)
    show_result("", {}, {"bucket": address, "moves": [msgspec.to_builtins(line) for line in lines]}, json_only=True)


def _time(moved_at: str) -> str:
    return time_text(datetime.fromisoformat(moved_at))


# MERGED FROM infra/commands/signing.py
# `ridecast models sign`, and the option that has other commands sign what they store or look who has signed it.
def open_signer(key: str | None, aws: Aws) -> "Signer | None":
    """Returns what signs with a key, in the key's own region where its ARN says it; None without a key."""
    from lambda_function.aws.signature import KEY_ARN
    from training.registry.signing import Signer

    if not key:
        return None
    arn = KEY_ARN.fullmatch(key)
    return Signer(aws.client("kms", arn["region"] if arn else None), key)


@on_aws
def sign_command(
    aws: Aws,
    version: Version,
    signing_key: Annotated[str, typer.Option(_NAME, envvar=_VARIABLE, help="KMS key: its ARN, or another name.")],
    replace: Annotated[bool, typer.Option("--replace", help="In the place of another key's signature.")] = False,
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Sign a stored version, after checking it as the function would: for those from before there was a key."""
    from infra.cli.output import show_result
    from training.errors import bucket_address
    from training.registry.signing import sign_stored
    from training.registry.versions import resolve_version

    signer = open_signer(signing_key, aws)
    assert signer is not None  # noqa: S101 - the option has no default
    models = open_bucket(bucket, aws)
    found = resolve_version(models, version)
    is_new = sign_stored(models, found, signer, replace=replace)
    rows = {"model version": found, "key": signing_key, "signed": "now" if is_new else "it was already"}
    result = {"model_version": found, "signing_key": signing_key, "signed_now": is_new}
    show_result(bucket_address(models.name), rows, result, json_only=as_json)
