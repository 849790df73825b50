"""`ridecast train`: one training run, from months to a bundle, and on into a channel where one is named."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.channels import SigningKey, open_target
from infra.cli.options import (
    BUILD,
    LOCAL_BUCKET,
    Aws,
    Json,
    ModelBucket,
    Parameters,
    ServiceName,
    Zones,
    channel_name,
    on_aws,
)

if TYPE_CHECKING:
    from training.workflows.train import RunOptions, RunOutcome
from typing import Any

import msgspec

from infra.cli.options import Bundles, Version, open_bucket
from infra.cli.options import Service as ServiceOption
from training.evaluation.backtest import BacktestResult
from training.model.results import Measured, MonthsResult, worse_than_baseline
from training.workflows.train import RunOutcome

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
    from training.workflows.config import build_config

    settings = {"service": service and service.value, "train": train, "validate": validate, "test": test}
    run = build_config(config, {**settings, "allow": allow or None}, parameters or ())

    from training.workflows.train import RunOptions  # not before a mistake in the options is told: it takes a second

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
    from infra.cli.output import ConsoleDisplay, error_console
    from training.workflows.train import run_training

    with ConsoleDisplay(error_console()).live() as display:
        return run_training(options, display)


def _show(outcome: "RunOutcome", *, as_json: bool) -> None:
    """Shows how a run ended, and ends the command with exit code 1 if the gate said no, and was not overruled."""
    from infra.cli.output import show_result
    from training.evaluation.gate import report_lines

    manifest = outcome.run.bundle.model.manifest
    title = f"{manifest.service}, {', '.join(manifest.train_months)} → {', '.join(manifest.validate_months)}"
    if outcome.verdict and not as_json:
        typer.echo("\n".join(report_lines(outcome.verdict)))
    show_result(title, run_rows(outcome), run_json(outcome), json_only=as_json)
    if outcome.verdict and not outcome.moved:
        raise typer.Exit(1)


# MERGED FROM infra/commands/backtest.py
# `ridecast backtest`: how models age.
def backtest_command(
    service: ServiceOption = ServiceName.green,
    first: Annotated[
        str | None, typer.Option("--from", help="First month, as in 2021-01; else the first there is.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month; else the last there is.")] = None,
    window: Annotated[int, typer.Option(min=1, help="Months that each model learns from.")] = 1,
    parameters: Parameters = None,
    output: Annotated[Path, typer.Option(help="Folder for the figures and the plot.")] = BUILD / "backtest",
    as_json: Json = False,
) -> None:
    """Walk forward through the months in hand: how models age, and what not retraining costs."""
    import msgspec

    from training.data.months import Month

    first_month, last_month = (Month.parse(text) if text else None for text in (first, last))

    from infra.cli.output import ConsoleDisplay, error_console, show_result
    from training.workflows.backtest import run_backtest

    with ConsoleDisplay(error_console()).live() as display:
        result, files = run_backtest(
            service.value, first_month, last_month, window, parameters or (), output, display.step
        )
    rows = {**backtest_rows(result), "plot": str(files.plot), "figures": str(files.figures)}
    title = f"{service.value}: error by months since training"
    show_result(title, rows, msgspec.to_builtins(result), json_only=as_json)


# MERGED FROM infra/commands/report.py
# `ridecast report`: a version's report and model card, drawn again.
@on_aws
def report_command(
    aws: Aws,
    version: Version,
    output: Annotated[
        Path | None, typer.Option(help="The file to write; else beside the bundle in build/bundles.")
    ] = None,
    bundles: Bundles = BUILD / "bundles",
    zones: Zones = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Draw a version's report and model card again: one HTML file, with what is known of it by now."""
    from infra.cli.output import ConsoleDisplay, error_console, show_result
    from training.tracking.mirror import Sources
    from training.workflows.report import run_report

    sources = Sources(open_bucket(bucket, aws), bundles)
    with ConsoleDisplay(error_console()).live() as display:
        written = run_report(sources, version, output, zones, display)
    path = str(written.path)
    rows = {"model version": written.model_version, "report": path}
    result = {"model_version": written.model_version, "report": path}
    show_result("Report and model card", rows, result, json_only=as_json)


# MERGED FROM infra/models/run_view.py
# A training run and a backtest as a person reads them and as JSON.
_NAMED_SLICES = 5


def run_rows(outcome: RunOutcome) -> dict[str, str]:
    """Returns how a run ended, a row a fact."""
    validated = outcome.run.validated
    rows = {
        "model version": outcome.run.bundle.model_version,
        "rides learnt from": f"{outcome.run.n_train:,}",
        "rides measured on": f"{validated.model.n_rides:,}",
        **_errors(validated, ""),
        "worse than the course's in": _worse(validated),
        "without a pickup time": _late(outcome),
    }
    if outcome.test:
        months = ", ".join(outcome.test.months)
        rows |= {f"rides of {months}": f"{outcome.test.model.n_rides:,}", **_errors(outcome.test, f" on {months}")}
    rows["bundle"] = str(outcome.path)
    if outcome.verdict:
        verdict = "passed" if outcome.verdict.passed else "not passed"
        rows["gate"] = (
            f"{verdict}, against {outcome.verdict.against or 'the baseline'} on {_list(outcome.verdict.months)}"
        )
    if outcome.moved:
        rows["channel"] = f"{outcome.moved.channel} now holds {outcome.moved.now.model_version}"
    if outcome.run_id:
        rows["MLflow run"] = outcome.run_id
    return rows


def run_json(outcome: RunOutcome) -> dict[str, Any]:
    """Returns how a run ended, for programs."""
    validated, verdict, moved = outcome.run.validated, outcome.verdict, outcome.moved
    return {
        "model_version": outcome.run.bundle.model_version,
        **_minutes(validated.model),
        "baseline": _minutes(validated.baseline),
        "n_train": outcome.run.n_train,
        "n_validate": validated.model.n_rides,
        "coverage": validated.coverage,
        "interval_width_minutes": validated.width_minutes,
        "test": outcome.test and {**_minutes(outcome.test.model), "baseline": _minutes(outcome.test.baseline)},
        "allowed": [str(finding) for finding in outcome.findings],
        "gate": verdict and msgspec.to_builtins(verdict),
        "channel": moved and {"name": moved.channel, "model_version": moved.now.model_version},
        "run_id": outcome.run_id,
        "bundle": str(outcome.path),
    }


def backtest_rows(result: BacktestResult) -> dict[str, str]:
    """Returns how models age, a row an age."""
    return {
        f"{age.months_since_training} months": (
            f"RMSE {age.rmse_minutes:.2f}   (the course's {age.baseline_rmse_minutes:.2f}; "
            f"{age.ratio_to_newest - 1:+.1%} beside the newest model; {age.n_rows} months)"
        )
        for age in result.by_age
    }


def _errors(result: MonthsResult, where: str) -> dict[str, str]:
    model, baseline = result.model, result.baseline
    rows = {
        f"RMSE{where}, minutes": f"{model.rmse_minutes:.2f}   (the course's model: {baseline.rmse_minutes:.2f})",
        f"MAE{where}, minutes": f"{model.mae_minutes:.2f}   (the course's model: {baseline.mae_minutes:.2f})",
    }
    if result.coverage is not None:
        rows[f"intervals{where}"] = f"{result.coverage:.1%} of rides inside, {result.width_minutes:.1f} minutes wide"
    return rows


def _worse(result: MonthsResult) -> str:
    worse = [f"{one.by} {one.name} ({one.model.n_rides:,} rides)" for one in worse_than_baseline(result)]
    more = f" and {len(worse) - _NAMED_SLICES} more" if len(worse) > _NAMED_SLICES else ""
    return _list(worse[:_NAMED_SLICES]) + more


def _late(outcome: RunOutcome) -> str:
    return ", ".join(
        f"{late.arrival} {late.model.rmse_minutes:.2f}" for late in outcome.run.evaluation.without_pickup_time
    )


def _minutes(measured: Measured) -> dict[str, float]:
    return {"rmse_minutes": measured.rmse_minutes, "mae_minutes": measured.mae_minutes}


def _list(items: "list[str] | tuple[str, ...]") -> str:
    return ", ".join(items) or "none"
