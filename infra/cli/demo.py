"""`ridecast demo`: the whole way of a ride, on this machine."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import BUILD, Json, Service, ServiceName

if TYPE_CHECKING:
    from infra.local.demo.demo import DemoReport
    from training.data.months import Month
    from training.registry.bucket import Bucket
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING

from infra.cli.options import LOCAL_BUCKET, Aws, ModelBucket, channel_name, on_aws, open_bucket

if TYPE_CHECKING:
    from lambda_function.api.handler import HttpHandler


class RuntimeChoice(StrEnum):
    """Where the function runs."""

    in_process = "in-process"
    emulator = "emulator"


Rides = Annotated[int, typer.Option(min=1, help="Ride events to send at most, a few malformed ones among them.")]
Train = Annotated[str, typer.Option(help="Months to learn from: 2021-01, a list, or 2023-01..2023-03.")]
Validate = Annotated[str, typer.Option(help="Later months to measure on.")]
Shards = Annotated[int, typer.Option(min=1, help="Shards of each stream.")]
Output = Annotated[Path, typer.Option(help="Where bundles are kept between runs, and the log.")]
Runtime = Annotated[
    RuntimeChoice,
    typer.Option(
        help="The function in this process, or its built package in AWS's own runtime (Linux with Python 3.13)."
    ),
]


def demo_command(
    rides: Rides = 100_000,
    service: Service = ServiceName.green,
    train: Train = "2021-01",
    validate: Validate = "2021-02",
    shards: Shards = 1,
    output: Output = BUILD,
    runtime: Runtime = RuntimeChoice.in_process,
    as_json: Json = False,
) -> None:
    """Replay real rides through Kinesis, the function and out as predictions, all on this machine."""
    train_months, validate_months = _months(train, validate)  # before the imports below, which take a second

    from infra.cli.output import ConsoleDisplay, error_console
    from infra.local.demo.demo import DemoOptions, run_demo

    options = DemoOptions(
        service=service.value,
        train_months=train_months,
        validate_months=validate_months,
        n_events=rides,
        folder=output,
        n_shards=shards,
        runtime=runtime.value,
    )
    with ConsoleDisplay(error_console()).live() as display:
        report = run_demo(options, display)
    show_demo(report, output, as_json=as_json)


def _months(train: str, validate: str) -> "tuple[tuple[Month, ...], tuple[Month, ...]]":
    from training.data.months import parse_months

    train_months, validate_months = parse_months(train), parse_months(validate)
    if shared := sorted(set(train_months) & set(validate_months)):
        problem = f"{shared[0]} is learnt from already: choose months after those of --train"
        raise typer.BadParameter(problem, param_hint="'--validate'")
    return train_months, validate_months


def show_demo(report: "DemoReport", output: Path, *, as_json: bool) -> None:
    """Shows how a demo ended, and ends the command with exit code 1 if a ride is lost."""
    from infra.cli.output import show_result

    rows = {
        "ride events sent": f"{report.rides:,}",
        "predicted": f"{report.predicted:,}",
        "rejected (malformed on purpose)": f"{report.rejected:,}",
        "lost": f"{report.lost:,}",
        "repeated": f"{report.repeated:,}",
        "rides a second, the whole way": f"{report.rides_per_s:,.0f}",
        "RMSE, minutes": f"{_two(report.rmse_minutes)}   (the course's model: {_two(report.baseline_rmse_minutes)})",
        "MAE, minutes": _two(report.mae_minutes),
        "model version": report.model_version,
        "rides from": "TLC trip record data" if report.data == "tlc" else "a generator: made up, not New York",
        "the function's log": str(output / "function.log"),
    }
    show_result("From ride event to prediction", rows, asdict(report), json_only=as_json)
    if report.lost:
        raise typer.Exit(1)


def _two(minutes: float | None) -> str:
    return "none" if minutes is None else f"{minutes:.2f}"


# MERGED FROM infra/commands/serve.py
# `ridecast serve`: the HTTP API on this machine, with a model from a bucket, from a folder, or of one bundle.
_BUNDLE_CHANNEL = "bundle"


@on_aws
def serve_command(
    aws: Aws,
    bucket: ModelBucket = LOCAL_BUCKET,
    channel: Annotated[
        str, typer.Option(callback=channel_name, help="The channel to follow, as a deployed function does.")
    ] = "stable",
    bundle: Annotated[
        Path | None, typer.Option(help="Serve this bundle's folder, as `train` writes it; no bucket is asked.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8080,
    refresh_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the channel.")] = 5.0,
    log: Annotated[Path, typer.Option(help="Where the function's own log goes.")] = BUILD / "serve.log",
    as_json: Json = False,
) -> None:
    """Answer POST /predictions on 127.0.0.1, with the very handler that API Gateway would call, until Ctrl-C."""
    from infra.cli.output import error_console, show_result
    from infra.local.runtime.http import ApiServer, RequestCount, example_curl, model_version

    models = bundle_bucket(bundle) if bundle else open_bucket(bucket, aws)
    console = error_console()
    count = RequestCount(lambda line: console.print(line, highlight=False, markup=False))
    log.parent.mkdir(parents=True, exist_ok=True)
    out = sys.stdout
    with log.open("a", encoding="utf-8") as log_file, redirect_stdout(log_file):
        handler = _handler(models, _BUNDLE_CHANNEL if bundle else channel, refresh_s)
        with ApiServer(handler, port, count) as server:
            version = model_version(handler)
            missing = f"no model yet: `ridecast models publish` puts one into channel {channel} of {models.name}"
            model = f"model {version}" if version else missing
            for line in (f"listening on {server.url}, {model}", example_curl(server.url), "Ctrl-C ends it"):
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            with suppress(KeyboardInterrupt), _ended_by_signals():
                server.wait()
    with redirect_stdout(out):
        result = {"url": server.url, "requests": count.n_requests, "errors": count.n_errors, "model_version": version}
        show_result("Served", {name: str(value) for name, value in result.items()}, result, json_only=as_json)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Makes Ctrl-C's signal, and that of `kill`, end the block: a shell has background jobs ignore the former."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def bundle_bucket(folder: Path) -> "Bucket":
    """Returns a bucket in memory in which a channel points at one bundle, checked as a function checks it."""
    from infra.local.s3 import MemoryS3
    from training.model.bundle import read_bundle
    from training.registry.bucket import Bucket
    from training.registry.channels import move_channel, store_bundle

    exported = read_bundle(folder.resolve())
    bucket = Bucket(MemoryS3(), str(folder))
    store_bundle(bucket, exported)
    move_channel(bucket, _BUNDLE_CHANNEL, exported.model_version, exported.manifest_sha256)
    return bucket


def _handler(bucket: "Bucket", channel: str, refresh_s: float) -> "HttpHandler":
    from lambda_function.api.handler import build_handler
    from lambda_function.aws.settings import ServingSettings

    settings = ServingSettings(
        bucket=bucket.name, model_channel=channel, model_refresh_s=refresh_s, service_name="ridecast-api"
    )
    return build_handler(settings, bucket.s3)
