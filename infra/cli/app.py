"""`ridecast`: the command line. Commands read options, call the rooms below and show results."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from infra.cli import (
    calibrate,
    channels,
    cost,
    demo,
    experiments,
    invoke,
    joined,
    loop,
    models,
    monitor,
    operate,
    outcomes,
    records,
    rides,
    signals,
    simulate,
    tracking,
    train,
    up,
)

HELP = """Ride durations, predicted on a Kinesis stream: train and release models, run and operate the pipeline.

Models, bundles and logs are in the folder build of the project, whatever the current folder, or in the one that
RIDECAST_BUILD names.
"""

_INTERRUPTED = 130  # typer's code for a command that KeyboardInterrupt has ended

Commands = dict[str, Callable[..., None]]

COMMANDS: Commands = {
    "demo": demo.demo_command,
    "up": up.up_command,
    "simulate": simulate.simulate_command,
    "train": train.train_command,
    "backtest": train.backtest_command,
    "report": train.report_command,
    "serve": demo.serve_command,
    "invoke": invoke.invoke_command,
    "doctor": operate.doctor_command,
    "smoke": operate.smoke_command,
    "cost": cost.cost_command,
}
MODELS: Commands = {
    "list": models.list_command,
    "show": models.show_command,
    "compare": models.compare_command,
    "release": channels.release_command,
    "promote": channels.promote_command,
    "rollback": channels.rollback_command,
    "restore": channels.restore_command,
    "calibrate": calibrate.calibrate_command,
    "history": channels.history_command,
    "reproduce": models.reproduce_command,
    "sign": channels.sign_command,
    "sync": tracking.sync_command,
    "check": tracking.check_command,
}
RIDES: Commands = {"send": rides.send_command, "tail": rides.tail_command, "replay": rides.replay_command}
OUTCOMES: Commands = {
    "send": outcomes.send_command,
    "join": joined.join_command,
    "audit": joined.audit_command,
    "forget": outcomes.forget_command,
}
MONITOR: Commands = {
    "status": monitor.status_command,
    "report": monitor.report_command,
    "acknowledge": monitor.acknowledge_command,
}
EXPERIMENTS: Commands = {
    "start": experiments.start_command,
    "status": experiments.status_command,
    "stop": experiments.stop_command,
}
LOOP: Commands = {
    "start": loop.start_command,
    "status": loop.status_command,
    "approve": loop.approve_command,
    "stop": loop.stop_command,
}
RECORDS: Commands = {"list": records.list_command, "show": records.show_command, "redrive": records.redrive_command}


def _group(text: str, commands: Commands) -> typer.Typer:
    # Without markup, Typer does not import rich: help takes half the time.
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=text)
    for name, command in commands.items():
        group.command(name)(command)
    return group


app = _group(HELP, COMMANDS)
app.add_typer(_group("Models in a bucket, and the channels that point at them.", MODELS), name="models")
app.add_typer(
    _group("Ride events into a stream and to the function again, predictions out of one.", RIDES),
    name="rides",
)
app.add_typer(_group("Outcomes: how long rides really took.", OUTCOMES), name="outcomes")
app.add_typer(_group("Monitoring of the served model: drift, errors, alarms.", MONITOR), name="monitor")
app.add_typer(_group("Experiments: models compared on live rides.", EXPERIMENTS), name="experiments")
app.add_typer(_group("Retraining that gates, compares, promotes and rolls back by itself.", LOOP), name="loop")
app.add_typer(_group("Failed records: rejects, and batches that failed.", RECORDS), name="records")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"ridecast {version('ridecast')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line. An error that the user can solve is one sentence on standard error and exit code 2."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    from infra.cli.aws_errors import aws_sentence
    from infra.cli.output import printable
    from infra.operate.local import in_local
    from lambda_function.errors import PredictorError
    from training.errors import UserError
    from training.room import explain

    try:
        with signals.raising():
            code = app(standalone_mode=False)
        sys.exit(signals.exit_code() if code == _INTERRUPTED else code)
    except KeyboardInterrupt as interrupt:  # just before or after the command, or it became an error of a library
        if interrupt.__cause__:
            sys.stderr.write(f"\nridecast: interrupted: {printable(str(interrupt.__cause__))}\n")
        sys.exit(signals.exit_code())
    except typer.TyperException as error:
        if error.format_message().startswith("Usage:"):  # a group without a command: the message is its help
            sys.stdout.write(f"{error.format_message()}\n")
            sys.exit(2)
        sentence = " ".join(error.format_message().split())
    except (UserError, PredictorError, BotoCoreError, ClientError, ResponseParserError) as error:
        sentence = aws_sentence(error)
    except OSError as error:
        sentence = explain(error)
    if "--local" in sys.argv:
        sentence = in_local(sentence)
    sys.stderr.write(f"ridecast: {printable(sentence)}\n")
    sys.exit(2)


if __name__ == "__main__":  # for the jobs that deploy: they do not install this project
    main()
