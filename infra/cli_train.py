"""The commands that fit models: `train` and `backtest`, and `report`, which shows what came of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli_bucket import LOCAL_BUCKET, EndpointUrl, ModelBucket, Profile, Region, open_bucket
from infra.cli_models import Version
from infra.cli_options import BUILD, Json, Service, ServiceName, channel_name
from infra.cli_signing import SigningKey, open_signer

if TYPE_CHECKING:
    from infra.training_run import RunOutcome
    from training.release import Target

Set = Annotated[list[str] | None, typer.Option("--set", help="A parameter of the model, as in max_iter=400.")]
Bundles = Annotated[Path, typer.Option("--output", help="Folder that the bundle's folder is made in.")]
Zones = Annotated[
    Path | None, typer.Option("--zones", help="GeoJSON of the taxi zones, for outlines on the report's map.")
]


def train_command(
    service: Annotated[ServiceName | None, typer.Option(help="Whose rides. [default: green]")] = None,
    train: Annotated[
        str | None,
        typer.Option(help="Months to learn from: 2021-01, a list, or 2023-01..2023-03. [default: 2021-01]"),
    ] = None,
    validate: Annotated[str | None, typer.Option(help="Later months to measure on. [default: 2021-02]")] = None,
    test: Annotated[str | None, typer.Option(help="Later months that the gate judges on.")] = None,
    parameters: Set = None,
    config: Annotated[Path | None, typer.Option(help="TOML with any of these; options outrank it.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="A rule of the data contract that months may break. Repeatable.")
    ] = None,
    synthetic: Annotated[
        int | None, typer.Option(min=1, help="So many made-up rides a month instead of TLC's.")
    ] = None,
    output: Bundles = BUILD / "bundles",
    channel: Annotated[
        str | None,
        typer.Option(help="Go on: judge against what this channel holds, store, move it.", callback=channel_name),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Into `candidate` if the gate says no.")] = False,
    signing_key: SigningKey = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    report: Annotated[bool, typer.Option(help="Draw the report beside the bundle.")] = True,
    track: Annotated[bool, typer.Option(help="Tell MLflow.")] = True,
    zones: Zones = None,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Fit a model on TLC months, measure it on later ones beside the course's, and export a bundle.

    With --channel it goes on: the gate, the bucket, the channel. Exit code 1 if the gate says no.
    """
    from training.config import build_config

    settings = {"service": service and service.value, "train": train, "validate": validate, "test": test}
    run = build_config(config, {**settings, "allow": allow or None}, parameters or ())

    from infra.console import ConsoleDisplay, error_console
    from infra.training_run import RunOptions, run_training

    options = RunOptions(
        config=run,
        folder=output,
        target=_target(channel, signing_key, bucket, endpoint_url, profile, region),
        force=force,
        synthetic=synthetic,
        report=report,
        track=track,
        outlines=zones,
    )
    with ConsoleDisplay(error_console()).live() as display:
        outcome = run_training(options, display)
    _show(outcome, as_json=as_json)


def _target(channel: str | None, signing_key: str | None, bucket: str, *aws: str | None) -> "Target | None":
    from training.release import Target

    return Target(*open_bucket(bucket, *aws), channel, open_signer(signing_key, *aws)) if channel else None


def _show(outcome: "RunOutcome", *, as_json: bool) -> None:
    """Shows how a run ended, and ends the command with exit code 1 if the gate said no, and was not overruled."""
    from infra.console import show_result
    from infra.run_view import run_json, run_rows
    from training.gate import lines

    manifest = outcome.run.bundle.model.manifest
    title = f"{manifest.service}, {', '.join(manifest.train_months)} → {', '.join(manifest.validate_months)}"
    if outcome.verdict and not as_json:
        typer.echo("\n".join(lines(outcome.verdict)))
    show_result(title, run_rows(outcome), run_json(outcome), json_only=as_json)
    if outcome.verdict and not outcome.moved:
        raise typer.Exit(1)


def backtest_command(
    service: Service = ServiceName.green,
    first: Annotated[
        str | None, typer.Option("--from", help="First month, as in 2021-01; else the first there is.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month; else the last there is.")] = None,
    window: Annotated[int, typer.Option(min=1, help="Months that each model learns from.")] = 1,
    parameters: Set = None,
    output: Annotated[Path, typer.Option(help="Folder for the figures and the plot.")] = BUILD / "backtest",
    as_json: Json = False,
) -> None:
    """Walk forward through the months in hand: how models age, and what not retraining costs."""
    import msgspec

    from training.months import Month

    first_month, last_month = (Month.parse(text) if text else None for text in (first, last))

    from infra.backtest_run import run_backtest
    from infra.console import ConsoleDisplay, error_console, show_result
    from infra.run_view import backtest_rows

    with ConsoleDisplay(error_console()).live() as display:
        result, files = run_backtest(
            service.value, first_month, last_month, window, parameters or (), output, display.step
        )
    rows = {**backtest_rows(result), "plot": str(files.plot), "figures": str(files.figures)}

    show_result(
        f"{service.value}: error by months since training", rows, msgspec.to_builtins(result), json_only=as_json
    )


def report_command(
    version: Version,
    output: Annotated[
        Path | None, typer.Option(help="The file to write; else beside the bundle in build/bundles.")
    ] = None,
    bundles: Annotated[Path, typer.Option(help="Folder that training has written bundles to.")] = BUILD / "bundles",
    zones: Zones = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Draw a version's report and model card again: one HTML file, with what is known of it by now."""
    from infra.console import ConsoleDisplay, error_console, show_result
    from infra.report_run import run_report
    from training.tracking.catch_up import Sources

    sources = Sources(*open_bucket(bucket, endpoint_url, profile, region), bundles)
    with ConsoleDisplay(error_console()).live() as display:
        written = run_report(sources, version, output, zones, display)
    result: dict[str, Any] = {"model_version": written.model_version, "report": str(written.path)}
    rows = {"model version": written.model_version, "report": str(written.path)}
    show_result("Report and model card", rows, result, json_only=as_json)
