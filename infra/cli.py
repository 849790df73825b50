"""`ridecast`: the command line. Commands read their options and show results; the work is done elsewhere."""

import sys
import time
from contextlib import suppress
from dataclasses import asdict
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from infra.demo import DemoReport

HELP = "Ride durations predicted on a Kinesis stream: the whole way on this machine, and its parts on any AWS."
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=HELP)
models = typer.Typer(no_args_is_help=True, help="Model bundles in a stack's bucket.")
app.add_typer(models, name="models")


class ServiceName(StrEnum):
    """TLC's services."""

    green = "green"
    yellow = "yellow"


class StartAt(StrEnum):
    """Where reading a stream begins."""

    oldest = "TRIM_HORIZON"
    latest = "LATEST"


Json = Annotated[bool, typer.Option("--json", help="Write no table, only the JSON object that ends standard output.")]
Service = Annotated[ServiceName, typer.Option(help="Whose rides.")]
TrainMonths = Annotated[
    str, typer.Option("--train", help="Months to learn from: 2021-01, a list, or 2023-01..2023-03.")
]
ValidateMonths = Annotated[str, typer.Option("--validate", help="Later months to measure on.")]
EndpointUrl = Annotated[str | None, typer.Option(help="Another AWS than the real one, as in http://127.0.0.1:5000.")]
Profile = Annotated[str | None, typer.Option(help="AWS profile.")]
Region = Annotated[str | None, typer.Option(help="AWS region.")]
BUILD = Path("build")


@app.command()
def demo(
    rides: Annotated[
        int, typer.Option(min=1, help="Ride events to send at most, a few malformed ones among them.")
    ] = 100_000,
    service: Service = ServiceName.green,
    train: TrainMonths = "2021-01",
    validate: ValidateMonths = "2021-02",
    shards: Annotated[int, typer.Option(min=1, help="Shards of each stream.")] = 1,
    output: Annotated[Path, typer.Option(help="Where bundles are kept between runs, and the log.")] = BUILD,
    as_json: Json = False,
) -> None:
    """Replay real rides through Kinesis, the function and out as predictions, all on this machine."""
    train_months, validate_months = _months(train, validate)  # before the imports below, which take a second

    from infra.console import ConsoleDisplay, error_console
    from infra.demo import DemoOptions, run_demo

    options = DemoOptions(
        service=service.value,
        train_months=train_months,
        validate_months=validate_months,
        n_events=rides,
        folder=output,
        n_shards=shards,
    )
    with ConsoleDisplay(error_console()).live() as display:
        report = run_demo(options, display)
    show_demo(report, output, as_json=as_json)


def show_demo(report: "DemoReport", output: Path, *, as_json: bool) -> None:
    """Shows how a demo ended, and ends the command with exit code 1 if a ride is lost."""
    from infra.console import show_result

    rows = {
        "ride events sent": f"{report.rides:,}",
        "predicted": f"{report.predicted:,}",
        "rejected (malformed on purpose)": f"{report.rejected:,}",
        "lost": f"{report.lost:,}",
        "repeated": f"{report.repeated:,}",
        "rides a second, the whole way": f"{report.rides_per_s:,.0f}",
        "RMSE, minutes": f"{report.rmse_minutes:.2f}   (the course's model: {report.baseline_rmse_minutes:.2f})",
        "MAE, minutes": f"{report.mae_minutes:.2f}",
        "model version": report.model_version,
        "rides from": "TLC trip record data" if report.data == "tlc" else "a generator: made up, not New York",
        "the function's log": str(output / "function.log"),
    }
    show_result("From ride event to prediction", rows, asdict(report), json_only=as_json)
    if report.lost:
        raise typer.Exit(1)


@app.command("train")
def train_command(
    service: Service = ServiceName.green,
    train: TrainMonths = "2021-01",
    validate: ValidateMonths = "2021-02",
    output: Annotated[Path, typer.Option(help="Folder that the bundle's folder is made in.")] = BUILD / "bundles",
    as_json: Json = False,
) -> None:
    """Fit a model on TLC months, measure it on later ones beside the course's, and export a bundle."""
    train_months, validate_months = _months(train, validate)

    from infra.console import ConsoleDisplay, error_console, show_result
    from training import pipeline
    from training.dataset import default_data_dir, load_rides
    from training.export import write_bundle

    with ConsoleDisplay(error_console()).live() as display:
        display.step("loading rides")
        folder = default_data_dir()
        train_rides = load_rides(service.value, train_months, data_dir=folder)
        validate_rides = load_rides(service.value, validate_months, data_dir=folder)
        run = pipeline.train(service.value, train_rides, validate_rides, on_step=display.step)
        path = write_bundle(run.bundle, output)
    errors, baseline = run.errors, run.baseline_errors
    rows = {
        "model version": run.bundle.model_version,
        "rides learnt from": f"{run.n_train:,}",
        "rides measured on": f"{errors.n_rides:,}",
        "RMSE, minutes": f"{errors.rmse_minutes:.2f}   (the course's model: {baseline.rmse_minutes:.2f})",
        "MAE, minutes": f"{errors.mae_minutes:.2f}   (the course's model: {baseline.mae_minutes:.2f})",
        "bundle": str(path),
    }
    result = {
        "model_version": run.bundle.model_version,
        "rmse_minutes": errors.rmse_minutes,
        "mae_minutes": errors.mae_minutes,
        "baseline": {"rmse_minutes": baseline.rmse_minutes, "mae_minutes": baseline.mae_minutes},
        "n_train": run.n_train,
        "n_validate": errors.n_rides,
        "bundle": str(path),
    }
    show_result(f"{service.value}, {train} → {validate}", rows, result, json_only=as_json)


@models.command("publish")
def models_publish(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, as `train` writes it.")],
    bucket: Annotated[str, typer.Option(help="The stack's bucket.")],
    channel: Annotated[str, typer.Option(help="The channel to move onto it.")] = "stable",
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Upload a bundle and move a channel onto it: a running function follows within a minute, without a deploy."""
    from infra.console import show_result
    from training.export import read_bundle
    from training.publish import move_channel, store_bundle

    exported = read_bundle(bundle.resolve())  # its version is the folder's name, which `.` is not
    s3 = _client("s3", endpoint_url, profile, region)
    store_bundle(s3, bucket, exported)
    moved = move_channel(s3, bucket, channel, exported.model_version, exported.manifest_sha256)
    rows = {"channel": channel, "now": moved.model_version, "before": moved.previous or "nothing"}
    result = {"channel": channel, "model_version": moved.model_version, "previous": moved.previous}
    show_result(f"s3://{bucket}", rows, result, json_only=as_json)


@app.command("publish")
def publish_command(
    stream: Annotated[str, typer.Option(help="The stream to send ride events to.")] = "ride-events",
    service: Service = ServiceName.green,
    months: Annotated[str, typer.Option(help="Months whose rides to send, in order of pickup.")] = "2021-02",
    rides: Annotated[int | None, typer.Option(min=1, help="So many rides at most.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Rides a second at most; a shard takes 1,000.")] = 1000.0,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Send ride events from TLC months to a stream of any AWS."""
    from infra.console import counting, error_console, show_result
    from infra.replay import Replay
    from infra.streams import publish
    from lambda_function.publisher import Publisher
    from training.dataset import default_data_dir, load_rides
    from training.months import parse_months

    loaded = load_rides(service.value, parse_months(months), data_dir=default_data_dir())
    replay = Replay(loaded.head(len(loaded) if rides is None else rides), n_malformed=0)
    publisher = Publisher(_client("kinesis", endpoint_url, profile, region), stream)
    n_published = 0
    with counting(error_console(), f"publishing to {stream}", len(replay)) as count:
        for n_published in publish(publisher, replay.entries(), rate_per_s=rate):
            count(n_published)
    result = {"stream": stream, "published": n_published}
    show_result("Ride events", {"stream": stream, "published": f"{n_published:,}"}, result, json_only=as_json)


@app.command("tail")
def tail_command(
    stream: Annotated[str, typer.Option(help="The stream to read predictions from.")] = "ride-predictions",
    start_at: Annotated[
        StartAt, typer.Option("--from", help="The oldest record, or the next to come.")
    ] = StartAt.oldest,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    idle_s: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds without one.")] = None,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Read predictions from a stream of any AWS, a line each, until Ctrl-C, --limit or --idle-s."""
    from infra.console import show_result
    from infra.streams import tail

    kinesis = _client("kinesis", endpoint_url, profile, region)
    patience = _Patience(idle_s)
    n_read = 0
    with suppress(KeyboardInterrupt):
        for record in islice(tail(kinesis, stream, start_at.value, patience.wait), limit):
            patience.renew()
            n_read += 1
            sys.stdout.write(record.data.decode(errors="replace") + "\n")
            sys.stdout.flush()
    if as_json:
        show_result("", {}, {"stream": stream, "read": n_read}, json_only=True)


class _Patience:
    """Waits between two looks at a stream, and says when it has been idle for too long."""

    def __init__(self, idle_s: float | None) -> None:
        self._idle_s = idle_s
        self.renew()

    def renew(self) -> None:
        self._since_s = time.monotonic()

    def wait(self, seconds: float) -> bool:
        if self._idle_s is not None and time.monotonic() - self._since_s >= self._idle_s:
            return True
        time.sleep(seconds)
        return False


def _months(train: str, validate: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    from training.months import parse_months

    train_months, validate_months = parse_months(train), parse_months(validate)
    if shared := sorted(set(train_months) & set(validate_months)):
        problem = f"{shared[0]} is learnt from already: choose months after those of --train"
        raise typer.BadParameter(problem, param_hint="'--validate'")
    return train_months, validate_months


def _client(service: str, endpoint_url: str | None, profile: str | None, region: str | None) -> Any:
    import boto3
    from botocore.config import Config

    session: Any = boto3.Session(profile_name=profile, region_name=region)
    retries = Config(connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
    try:
        return session.client(service, endpoint_url=endpoint_url, config=retries)
    except ValueError as error:  # botocore's way to say that this is no URL
        problem = f"{error}: write it as http://127.0.0.1:5000"
        raise typer.BadParameter(problem, param_hint="'--endpoint-url'") from error


def main() -> None:
    """Runs the command line; what the user can put right is one sentence on standard error and exit code 2."""
    from botocore.exceptions import BotoCoreError, ClientError

    from infra.errors import InfraError
    from lambda_function.errors import PredictorError
    from training.errors import TrainingError

    try:
        sys.exit(app(standalone_mode=False))  # True would draw a box of lines around each wrong option
    except typer.TyperException as error:
        sentence = " ".join(error.format_message().split())
    except (InfraError, PredictorError, TrainingError, BotoCoreError, ClientError, OSError) as error:
        sentence = str(error)
    if sentence:  # a command without arguments has shown its help instead
        sys.stderr.write(f"ridecast: {sentence}\n")
    sys.exit(2)
