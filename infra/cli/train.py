"""`ridecast train`, `backtest` and `report`: fit models, measure how they age, and write reports."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from infra.cli.options import (
    BUILD,
    BucketAws,
    Bundles,
    Create,
    Force,
    Json,
    Labelled,
    Parameters,
    Service,
    ServiceName,
    SigningKey,
    Timestamps,
    Version,
    Zones,
    channel_name,
    expand_options,
)
from infra.cli.output import (
    beside_baseline,
    live_display,
    show_result,
    worse_slices,
    write_facts,
    write_json,
    write_lines,
)

if TYPE_CHECKING:
    from training.model.results import Measured, MonthsResult
    from training.workflows.target import Target
    from training.workflows.train import RunOutcome

_N_NAMED_SLICES = 5


@expand_options
def train_command(
    aws: BucketAws,
    # Options that --config can also set have no default here, so that only a given option outranks the file.
    service: Annotated[ServiceName | None, typer.Option(help="Taxi service: green or yellow. (default: green)")] = None,
    train: Annotated[
        str | None, typer.Option(help="Training months: 2021-01, a list, or 2023-01..2023-03. (default: 2021-01)")
    ] = None,
    validate: Annotated[str | None, typer.Option(help="Later months to validate on. (default: 2021-02)")] = None,
    test: Annotated[str | None, typer.Option(help="Later months for the gate to judge on.")] = None,
    parameters: Parameters = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with any of these options; options outrank it.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="Rule of the data contract that months may break. Repeatable.")
    ] = None,
    synthetic: Annotated[
        int | None, typer.Option(min=1, help="Use this many generated rides per month, not TLC's.")
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option(
            help="Use the labelled rides of this bucket, or of a folder as file:PATH; by day: 2026-08-01..2026-10-31."
        ),
    ] = None,
    timestamps: Timestamps = None,
    output: Annotated[Path, typer.Option(help="Folder to write the bundle's folder to.")] = BUILD / "bundles",
    channel: Annotated[
        str | None, typer.Option(help="Release the model to this channel.", callback=channel_name)
    ] = None,
    force: Force = False,
    create: Create = False,
    signing_key: SigningKey = None,
    report: Annotated[bool, typer.Option(help="Write the report beside the bundle.")] = True,
    track: Annotated[bool, typer.Option(help="Log the run to MLflow.")] = True,
    zones: Zones = None,
    as_json: Json = False,
) -> None:
    """Fit a model on TLC months, or on labelled rides, and write a bundle.

    Measures it on later months beside the course's linear model. With --channel, judges it with the gate, stores it and
    points the channel at it. Prints the errors and the bundle's folder. Exits with 1 if the gate fails.

    Example: ridecast train --train 2022-01..2022-12 --validate 2023-01 --test 2023-03 --channel stable
    """
    from training.data.months import parse_days, parse_months
    from training.workflows.config import build_config

    if labelled and synthetic:
        raise typer.BadParameter("cannot be used with --synthetic", param_hint="'--labelled'")
    settings = {"service": service, "train": train, "validate": validate, "test": test}
    parse = parse_days if labelled else parse_months
    run = build_config(config, {**settings, "allow": allow or None}, parameters or (), parse)
    rides = aws.open_labelled(labelled)

    # This takes a second, so mistakes in the options are reported first.
    from training.evaluation.gate import report_lines
    from training.workflows.train import RunOptions, log_run, run_training

    options = RunOptions(
        config=run,
        folder=output,
        target=_target(aws, channel, signing_key, create=create) if channel else None,
        force=force,
        synthetic=synthetic,
        labelled=rides,
        timestamps=timestamps,
        report=report,
        outlines=zones,
    )
    with live_display() as display:
        outcome = run_training(options, display)
    manifest = outcome.run.bundle.model.manifest
    title = f"{manifest.service}, {', '.join(manifest.train_months)} → {', '.join(manifest.validate_months)}"
    if not as_json:  # before MLflow, which may be slow; the JSON object has MLflow's run id
        if outcome.verdict:
            write_lines(report_lines(outcome.verdict))
        write_facts(title, _run_facts(outcome))
    run_id = None
    if track:
        with live_display() as display:
            run_id = log_run(options, outcome, display)
    if as_json:
        write_json(_run_json(outcome, run_id))
    elif run_id:
        typer.echo(f"MLflow run: {run_id}")
    if outcome.verdict and not outcome.moved:
        raise typer.Exit(1)


def backtest_command(
    service: Service = "green",
    first: Annotated[
        str | None, typer.Option("--from", help="First month, for example 2021-01. (default: the first local month)")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month. (default: the last local month)")] = None,
    window: Annotated[int, typer.Option(min=1, help="Training months of each model.")] = 1,
    parameters: Parameters = None,
    timestamps: Timestamps = None,
    output: Annotated[Path, typer.Option(help="Folder of the figures and the plot.")] = BUILD / "backtest",
    as_json: Json = False,
) -> None:
    """Measure how models age.

    Trains a model on each local month and measures it on all later ones. Prints one line per age, and writes the
    figures and a plot.

    Example: ridecast backtest --service green --from 2022-01 --to 2023-03
    """
    from training.data.months import Month

    first_month, last_month = (Month.parse(text) if text else None for text in (first, last))

    from training.workflows.backtest import run_backtest

    with live_display() as display:
        result, figures, plot = run_backtest(
            service, (first_month, last_month), window, parameters or (), output, display.step, timestamps
        )
    shown = {
        f"{age.months_since_training} months": f"RMSE {age.rmse_minutes:.2f}   "
        f"(the course's {age.baseline_rmse_minutes:.2f}; "
        f"{age.ratio_to_newest - 1:+.1%} against the newest model; {age.n_rows} months)"
        for age in result.by_age
    }
    shown |= {"plot": str(plot), "figures": str(figures)}
    title = f"{service}: error by months since training"
    show_result(title, msgspec.to_builtins(result), as_json=as_json, shown=shown)


@expand_options
def report_command(
    aws: BucketAws,
    version: Version,
    output: Annotated[
        Path | None, typer.Option(help="File to write. (default: beside the bundle, in build/bundles)")
    ] = None,
    bundles: Bundles = BUILD / "bundles",
    zones: Zones = None,
    labelled: Labelled = None,
    timestamps: Timestamps = None,
    as_json: Json = False,
) -> None:
    """Write the report and model card of a version again.

    The report is one HTML file, with everything that was added since training. Prints the file's path.

    Example: ridecast report stable --stack ridecast
    """
    from training.registry.sources import Sources
    from training.workflows.report import run_report

    sources = Sources(aws.open_bucket(), bundles)
    with live_display() as display:
        found, path = run_report(sources, version, output, zones, display, aws.open_labelled(labelled), timestamps)
    show_result("Report and model card", {"model_version": found, "report": str(path)}, as_json=as_json)


def _target(aws: BucketAws, channel: str, signing_key: str | None, *, create: bool) -> "Target":
    from training.workflows.target import Target

    target = Target(aws.open_bucket(), channel, aws.signer(signing_key), aws.activation_delay_s(None))
    aws.check_channel(target.bucket, channel, create=create)
    return target


def _run_facts(outcome: "RunOutcome") -> dict[str, str]:
    validated = outcome.run.evaluation.validate
    rows = {
        "model version": outcome.run.bundle.model_version,
        "training rides": f"{outcome.run.n_train:,}",
        "validation rides": f"{validated.model.n_rides:,}",
        **_errors(validated, ""),
        "slices worse than the course's": worse_slices(validated, _N_NAMED_SLICES),
        "without a pickup time": ", ".join(
            f"{late.arrival} {late.model.rmse_minutes:.2f}" for late in outcome.run.evaluation.without_pickup_time
        ),
    }
    if outcome.test:
        months = ", ".join(outcome.test.months)
        rows |= {f"rides of {months}": f"{outcome.test.model.n_rides:,}", **_errors(outcome.test, f" on {months}")}
    rows["bundle"] = str(outcome.path)
    if outcome.verdict:
        verdict = "passed" if outcome.verdict.passed else "not passed"
        months = ", ".join(outcome.verdict.months) or "no month"
        rows["gate"] = f"{verdict}, against {outcome.verdict.against or 'the baseline'} on {months}"
    if outcome.moved:
        rows["channel"] = f"{outcome.moved.channel} now holds {outcome.moved.now.model_version}"
    return rows


def _run_json(outcome: "RunOutcome", run_id: str | None) -> dict[str, Any]:
    validated, verdict, moved = outcome.run.evaluation.validate, outcome.verdict, outcome.moved
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
        "run_id": run_id,
        "bundle": str(outcome.path),
    }


def _errors(result: "MonthsResult", where: str) -> dict[str, str]:
    model, baseline = result.model, result.baseline
    rows = {
        f"RMSE{where}, minutes": beside_baseline(model.rmse_minutes, baseline.rmse_minutes),
        f"MAE{where}, minutes": beside_baseline(model.mae_minutes, baseline.mae_minutes),
    }
    if result.coverage is not None:
        rows[f"intervals{where}"] = f"{result.coverage:.1%} of rides inside, {result.width_minutes:.1f} minutes wide"
    return rows


def _minutes(measured: "Measured") -> dict[str, float]:
    return {"rmse_minutes": measured.rmse_minutes, "mae_minutes": measured.mae_minutes}
