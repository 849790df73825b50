"""`ridecast`: the command line. Commands read their options and show results; the work is done elsewhere."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli_aws import publish_command, tail_command
from infra.cli_cost import cost_command
from infra.cli_dashboard import dashboard_command
from infra.cli_doctor import doctor_command
from infra.cli_kept import failures, rejects
from infra.cli_models import models
from infra.cli_options import BUILD, Json, RuntimeChoice, Service, ServiceName, TrainMonths, ValidateMonths
from infra.cli_release import gate_command
from infra.cli_release import publish_command as models_publish_command
from infra.cli_serve import serve_command
from infra.cli_signing import sign_command
from infra.cli_smoke import smoke_command
from infra.cli_tracking import models_check, models_track
from infra.cli_train import backtest_command, report_command, train_command

if TYPE_CHECKING:
    from infra.demo import DemoReport

HELP = "Ride durations predicted on a Kinesis stream: the whole way on this machine, and its parts on any AWS."
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=HELP)


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
    runtime: Annotated[
        RuntimeChoice,
        typer.Option(
            help="The function in this process, or its built package in AWS's own runtime (Linux with Python 3.13)."
        ),
    ] = RuntimeChoice.in_process,
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
        runtime=runtime.value,
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


app.command("train")(train_command)
app.command("backtest")(backtest_command)
app.command("report")(report_command)
app.command("publish")(publish_command)
app.command("tail")(tail_command)
app.command("cost")(cost_command)
app.command("serve")(serve_command)
app.command("smoke")(smoke_command)
app.command("dashboard")(dashboard_command)
app.command("doctor")(doctor_command)
models.command("gate")(gate_command)
models.command("publish")(models_publish_command)
models.command("sign")(sign_command)
models.command("track")(models_track)
models.command("check")(models_check)
app.add_typer(models, name="models")
app.add_typer(rejects, name="rejects")
app.add_typer(failures, name="failures")


def _months(train: str, validate: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    from training.months import parse_months

    train_months, validate_months = parse_months(train), parse_months(validate)
    if shared := sorted(set(train_months) & set(validate_months)):
        problem = f"{shared[0]} is learnt from already: choose months after those of --train"
        raise typer.BadParameter(problem, param_hint="'--validate'")
    return train_months, validate_months


def main() -> None:
    """Runs the command line; what the user can put right is one sentence on standard error and exit code 2."""
    from botocore.exceptions import BotoCoreError, ClientError

    from infra.errors import InfraError
    from infra.printable import printable
    from lambda_function.errors import PredictorError
    from training.errors import TrainingError

    try:
        sys.exit(app(standalone_mode=False))  # True would draw a box of lines around each wrong option
    except typer.TyperException as error:
        sentence = " ".join(error.format_message().split())
    except (InfraError, PredictorError, TrainingError, BotoCoreError, ClientError, OSError) as error:
        sentence = str(error)
    if sentence:  # a command without arguments has shown its help instead
        sys.stderr.write(f"ridecast: {printable(sentence)}\n")
    sys.exit(2)
