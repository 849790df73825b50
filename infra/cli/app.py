"""`ridecast`: the command line. Commands read their options and show results; the work is done elsewhere."""

import sys

import typer

from infra.cli.channels import (
    gate_command,
    history_command,
    promote_command,
    release_command,
    rollback_command,
    sign_command,
)
from infra.cli.demo import demo_command, serve_command
from infra.cli.models import compare_command, list_command, reproduce_command, show_command
from infra.cli.operate import cost_command, doctor_command, smoke_command
from infra.cli.records import failures, rejects
from infra.cli.streams import publish_command, tail_command
from infra.cli.tracking import check_command, track_command
from infra.cli.train import backtest_command, report_command, train_command

HELP = "Ride durations predicted on a Kinesis stream: the whole way on this machine, and its parts on any AWS."
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=HELP)
app.command("demo")(demo_command)
app.command("train")(train_command)
app.command("backtest")(backtest_command)
app.command("report")(report_command)
app.command("publish")(publish_command)
app.command("tail")(tail_command)
app.command("cost")(cost_command)
app.command("serve")(serve_command)
app.command("smoke")(smoke_command)
app.command("doctor")(doctor_command)

models = typer.Typer(no_args_is_help=True, help="Model bundles in a bucket, and the channels that point at them.")
models.command("list")(list_command)
models.command("show")(show_command)
models.command("compare")(compare_command)
models.command("promote")(promote_command)
models.command("rollback")(rollback_command)
models.command("history")(history_command)
models.command("reproduce")(reproduce_command)
models.command("gate")(gate_command)
models.command("publish")(release_command)
models.command("sign")(sign_command)
models.command("track")(track_command)
models.command("check")(check_command)
app.add_typer(models, name="models")
app.add_typer(rejects, name="rejects")
app.add_typer(failures, name="failures")


def main() -> None:
    """Runs the command line; what the user can put right is one sentence on standard error and exit code 2."""
    from botocore.exceptions import BotoCoreError, ClientError

    from infra.cli.output import printable
    from lambda_function.errors import PredictorError
    from training.errors import UserError

    try:
        sys.exit(app(standalone_mode=False))  # True would draw a box of lines around each wrong option
    except typer.TyperException as error:
        sentence = " ".join(error.format_message().split())
    except (UserError, PredictorError, BotoCoreError, ClientError, OSError) as error:
        sentence = str(error)
    if sentence:  # a command without arguments has shown its help instead
        sys.stderr.write(f"ridecast: {printable(sentence)}\n")
    sys.exit(2)
