"""`ridecast models gate` and `publish`: the two ways of a trained model to a channel, one step or all of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.bucket import LOCAL_BUCKET, ModelBucket, open_bucket
from infra.commands.options import BUILD, Bundles, Channel, Json, Version
from infra.commands.signing import SigningKey, open_signer

if TYPE_CHECKING:
    from training.judging.gate import GateReport
    from training.release import Target

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
    from infra.console import ConsoleDisplay, error_console
    from infra.models.release_run import judge_version
    from training.release import Target
    from training.tracking.catch_up import Sources

    sources = Sources(*open_bucket(bucket, aws), bundles)
    target = Target(sources.s3, sources.bucket, channel)
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
    from infra.console import ConsoleDisplay, error_console, show_result
    from infra.models.mirroring import follow
    from infra.models.release_run import publish_bundle
    from training.errors import bucket_address
    from training.export import read_bundle

    exported = read_bundle(bundle.resolve())  # its version is the folder's name, which `.` is not
    target = open_target(bucket, channel, signing_key, aws)
    with ConsoleDisplay(error_console()).live() as display:
        report, moved = publish_bundle(target, exported, test, force=force, display=display)
    if not as_json:
        _write_lines(report)
    if moved is None:
        show_result("", {}, {"channel": channel, "passed": False, "model_version": None}, json_only=True)
        raise typer.Exit(1)
    follow(target.s3, target.bucket, (exported.model_version, bundle.resolve().parent))
    now, before = moved.now.model_version, moved.now.previous
    rows = {"channel": moved.channel, "now": now, "before": before or "nothing"}
    result = {"channel": moved.channel, "passed": report.passed, "model_version": now, "previous": before}
    show_result(bucket_address(target.bucket), rows, result, json_only=as_json)


def open_target(bucket: str, channel: str, signing_key: str | None, aws: Aws) -> "Target":
    """Returns the channel of a bucket that a candidate wants into, and who signs for it."""
    from training.release import Target

    return Target(*open_bucket(bucket, aws), channel, open_signer(signing_key, aws))


def _show_verdict(report: "GateReport", *, as_json: bool) -> None:
    import msgspec

    from infra.console import show_result

    if not as_json:
        _write_lines(report)
    show_result("", {}, msgspec.to_builtins(report), json_only=True)


def _write_lines(report: "GateReport") -> None:
    from training.judging.gate import lines

    typer.echo("\n".join(lines(report)))
