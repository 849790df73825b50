"""`ridecast demo` and `serve`: the whole pipeline, or the HTTP API, on this machine."""

import sys
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from infra.cli.options import BUILD, BucketAws, Channel, Json, Service, Timestamps, expand_options
from infra.cli.output import (
    beside_baseline,
    error_console,
    live_display,
    minutes_text,
    show_result,
    write_lines,
    write_table,
)

if TYPE_CHECKING:
    from infra.local.demo.demo import DemoReport
    from training.data.months import Month
    from training.monitoring.monitor.status import MonitorStatus
    from training.registry.bucket import Bucket

BUNDLE_CHANNEL = "bundle"
"""The channel of a bundle folder that is served without a bucket."""


def demo_command(
    rides: Annotated[
        int, typer.Option(min=1, help="Maximum number of ride events. A few are malformed on purpose.")
    ] = 100_000,
    service: Service = "green",
    train: Annotated[str, typer.Option(help="Training months: 2021-01, a list, or 2023-01..2023-03.")] = "2021-01",
    validate: Annotated[str, typer.Option(help="Later months to validate on.")] = "2021-02",
    shards: Annotated[int, typer.Option(min=1, help="Shards of each stream.")] = 1,
    output: Annotated[
        Path, typer.Option(help="Folder of labelled rides, logs, and bundles, which the next run uses again.")
    ] = BUILD,
    runtime: Annotated[
        Literal["in-process", "emulator"],
        typer.Option(help="Run the function in this process, or its package in AWS's runtime (Linux, Python 3.13)."),
    ] = "in-process",
    timestamps: Timestamps = None,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline on this machine.

    Sends real rides through Kinesis and the function, and reads the predictions. Then it sends how long the rides
    took, archives all three streams and joins them to labelled rides. Trains a model first if there is none, and
    leaves it in the default bucket, where `ridecast report stable` and `serve` find it. Prints counts, rides per
    second, errors of the labelled rides, the audit, and what the monitor says so far. Exits with 1 if a ride is lost
    or not labelled, or the audit found something.

    Example: ridecast demo --rides 20000 --service yellow
    """
    train_months, validate_months = _months(train, validate)  # before the imports below, which take a second

    from infra.local.demo.demo import DemoOptions, run_demo

    options = DemoOptions(
        service=service,
        train_months=train_months,
        validate_months=validate_months,
        n_events=rides,
        folder=output,
        n_shards=shards,
        runtime=runtime,
        timestamps=timestamps,
    )
    with live_display() as display:
        report = run_demo(options, display)
    show_demo(report, output, as_json=as_json)


def _months(train: str, validate: str) -> "tuple[tuple[Month, ...], tuple[Month, ...]]":
    from training.data.months import parse_months

    train_months, validate_months = parse_months(train), parse_months(validate)
    if shared := sorted(set(train_months) & set(validate_months)):
        problem = f"{shared[0]} is a training month already: choose months after those of --train"
        raise typer.BadParameter(problem, param_hint="'--validate'")
    return train_months, validate_months


def show_demo(report: "DemoReport", output: Path, *, as_json: bool) -> None:
    """Show the result of a demo. Exit with 1 if it is not sound."""
    shown = {
        "ride events sent": report.rides,
        "predicted": report.predicted,
        "rejected (malformed on purpose)": report.rejected,
        "lost": report.lost,
        "repeated": report.repeated,
        "rides per second, end to end": f"{report.rides_per_s:,.0f}",
        "labelled: predicted, with outcome": report.labelled,
        "RMSE, minutes": beside_baseline(report.rmse_minutes, report.baseline_rmse_minutes),
        "MAE, minutes": minutes_text(report.mae_minutes),
        "rides within their interval": "none" if report.coverage is None else f"{report.coverage:.1%}",
        "audit of the archive": (
            f"{report.audit_lost} lost, {report.audit_conflicting} conflicting, {report.audit_skewed} skewed"
        ),
        "model version": report.model_version,
        "rides from": "TLC trip record data" if report.data == "tlc" else "a generator, not from New York",
        "labelled rides": output / "demo" / "labelled",
        "the function's log": output / "function.log",
    }
    import msgspec

    result = {**asdict(report), "monitor": msgspec.to_builtins(report.monitor)}
    show_result("From ride event to prediction", result, as_json=as_json, shown=shown)
    if not as_json:
        show_monitor(report.monitor)
        write_lines(["", "Next: `ridecast up` keeps this stack running, with this model, for rides of your own."])
    if not report.is_sound:
        raise typer.Exit(1)


def show_monitor(status: "MonitorStatus") -> None:
    """Show what the monitor says so far: the main quantities beside training, and why nothing is judged yet."""
    from infra.cli.monitor_view import COMPACT_COLUMNS, status_table

    write_lines([""])
    title, numeric = (
        "The monitor, on the rides so far; reference: training days of today's kind",
        set(COMPACT_COLUMNS[1:3]),
    )
    write_table(title, COMPACT_COLUMNS, status_table(status), numeric)
    write_lines(dict.fromkeys(group.text for group in status.groups))


@expand_options
def serve_command(
    aws: BucketAws,
    channel: Channel = "stable",
    bundle: Annotated[Path | None, typer.Option(help="Serve this bundle folder, without a bucket.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 for any free one.")] = 8080,
    refresh_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two reads of the channel.")] = 5.0,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Origin of web pages that may read answers; repeatable; * for all.")
    ] = None,
    log: Annotated[Path, typer.Option(help="File of the function's log.")] = BUILD / "serve.log",
    as_json: Json = False,
) -> None:
    """Serve the HTTP API on 127.0.0.1 until Ctrl-C.

    Runs the handler that API Gateway calls. Prints the address, a curl command, and one line per request on
    standard error.

    Example: ridecast serve --bundle build/bundles/green-2021-01-3f2a9c1d0b7e
    """
    from infra.local.runtime.http import ApiServer, RequestCount, example_curl, model_version
    from lambda_function.api.handler import build_handler
    from lambda_function.aws.settings import ServingSettings
    from training.errors import UserError, bucket_address, did_you_mean
    from training.registry.channel_history import read_channel
    from training.registry.versions import read_channels

    models = bundle_bucket(bundle) if bundle else aws.open_bucket()
    if not bundle:
        stored = read_channel(models, channel)  # a damaged channel ends the command here, with the remedy
        if stored.state is None and (meant := did_you_mean(channel, read_channels(models))):
            raise UserError(f"{bucket_address(models.name)} has no channel {channel}", meant)
    settings = ServingSettings(
        bucket=models.name,
        model_channel=BUNDLE_CHANNEL if bundle else channel,
        model_refresh_s=refresh_s,
        model_activation_delay_s=max(ServingSettings.model_activation_delay_s, 3 * refresh_s),
        service_name="ridecast-api",
    )
    console = error_console()
    count = RequestCount(lambda line: console.print(line, highlight=False, markup=False))
    log.parent.mkdir(parents=True, exist_ok=True)
    out = sys.stdout
    with log.open("a", encoding="utf-8") as log_file, redirect_stdout(log_file):
        handler = build_handler(settings, models.s3)
        with ApiServer(handler, port, count, cors_origins=cors_origin or ()) as server:
            version = model_version(handler)
            missing = f"no model yet: `ridecast models release` stores one for channel {channel} of {models.name}"
            model = f"model {version}" if version else missing
            for line in (f"listening on {server.url}, {model}", example_curl(server.url), "press Ctrl-C to stop"):
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            with suppress(KeyboardInterrupt):
                server.wait()
    with redirect_stdout(out):
        result = {"url": server.url, "requests": count.n_requests, "errors": count.n_errors, "model_version": version}
        show_result("Served", result, as_json=as_json)


def bundle_bucket(folder: Path) -> "Bucket":
    """Return a bucket in memory with one bundle, checked as the function checks it, and a channel that points at it."""
    from infra.local.s3 import MemoryS3
    from training.model.bundle import read_bundle
    from training.registry.bucket import Bucket
    from training.registry.channels import move_channel, store_bundle

    exported = read_bundle(folder.resolve())
    bucket = Bucket(MemoryS3(), str(folder))
    store_bundle(bucket, exported)
    move_channel(bucket, BUNDLE_CHANNEL, exported.model_version, exported.manifest_sha256)
    return bucket
