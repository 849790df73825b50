"""`ridecast train`: one training run, from months to a bundle, and on into a channel where one is named."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.bucket import LOCAL_BUCKET, ModelBucket
from infra.commands.options import BUILD, Json, Parameters, ServiceName, Zones, channel_name
from infra.commands.release import open_target
from infra.commands.signing import SigningKey

if TYPE_CHECKING:
    from infra.models.training_run import RunOptions, RunOutcome

# What may stand in --config too has no default here: an option that is not given does not outrank it.
Service = Annotated[ServiceName | None, typer.Option(help="Whose rides. (default: green)")]
Train = Annotated[
    str | None, typer.Option(help="Months to learn from: 2021-01, a list, or 2023-01..2023-03. (default: 2021-01)")
]
Validate = Annotated[str | None, typer.Option(help="Later months to measure on. (default: 2021-02)")]
Test = Annotated[str | None, typer.Option(help="Later months that the gate judges on.")]
Allow = Annotated[list[str] | None, typer.Option(help="A rule of the data contract that months may break. Repeatable.")]
Config = Annotated[Path | None, typer.Option(help="TOML with any of these; options outrank it.")]
Synthetic = Annotated[int | None, typer.Option(min=1, help="So many made-up rides a month instead of TLC's.")]
Output = Annotated[Path, typer.Option(help="Folder that the bundle's folder is made in.")]
IntoChannel = Annotated[
    str | None,
    typer.Option(help="Go on: judge against what this channel holds, store, move it.", callback=channel_name),
]
Force = Annotated[bool, typer.Option("--force", help="Into `candidate` if the gate says no.")]
Report = Annotated[bool, typer.Option(help="Draw the report beside the bundle.")]
Track = Annotated[bool, typer.Option(help="Tell MLflow.")]


@on_aws
def train_command(
    aws: Aws,
    service: Service = None,
    train: Train = None,
    validate: Validate = None,
    test: Test = None,
    parameters: Parameters = None,
    config: Config = None,
    allow: Allow = None,
    synthetic: Synthetic = None,
    output: Output = BUILD / "bundles",
    channel: IntoChannel = None,
    force: Force = False,
    signing_key: SigningKey = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    report: Report = True,
    track: Track = True,
    zones: Zones = None,
    as_json: Json = False,
) -> None:
    """Fit a model on TLC months, measure it on later ones beside the course's, and export a bundle.

    With --channel it goes on: the gate, the bucket, the channel. Exit code 1 if the gate says no.
    """
    from training.config import build_config

    settings = {"service": service and service.value, "train": train, "validate": validate, "test": test}
    run = build_config(config, {**settings, "allow": allow or None}, parameters or ())

    from infra.models.training_run import RunOptions  # not before a mistake in the options is told: it takes a second

    options = RunOptions(
        config=run,
        folder=output,
        target=open_target(bucket, channel, signing_key, aws) if channel else None,
        force=force,
        synthetic=synthetic,
        report=report,
        track=track,
        outlines=zones,
    )
    _show(_run(options), as_json=as_json)


def _run(options: "RunOptions") -> "RunOutcome":
    from infra.console import ConsoleDisplay, error_console
    from infra.models.training_run import run_training

    with ConsoleDisplay(error_console()).live() as display:
        return run_training(options, display)


def _show(outcome: "RunOutcome", *, as_json: bool) -> None:
    """Shows how a run ended, and ends the command with exit code 1 if the gate said no, and was not overruled."""
    from infra.console import show_result
    from infra.models.run_view import run_json, run_rows
    from training.judging.gate import lines

    manifest = outcome.run.bundle.model.manifest
    title = f"{manifest.service}, {', '.join(manifest.train_months)} → {', '.join(manifest.validate_months)}"
    if outcome.verdict and not as_json:
        typer.echo("\n".join(lines(outcome.verdict)))
    show_result(title, run_rows(outcome), run_json(outcome), json_only=as_json)
    if outcome.verdict and not outcome.moved:
        raise typer.Exit(1)
