"""`ridecast up`: the whole stack on this machine, until it is stopped."""

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from infra.cli import signals
from infra.cli.options import BUILD, Json, Service
from infra.cli.output import error_console, live_display, show_result, write_lines

if TYPE_CHECKING:
    from rich.console import Console

    from infra.cli.output import ConsoleDisplay
    from infra.local.up.feed import FeedOptions
    from infra.local.up.stack import LocalStack
    from infra.local.up.state import RunningStack

_REFRESH_S = 0.5
_LINE_S = 60.0
"""Without a terminal, a line of figures so often."""

_RIDE = '{"ride": {"PULocationID": 130, "DOLocationID": 205, "trip_distance": 3.66}, "ride_id": 256}'
_OUTCOME = '{"ride_id": 256, "outcome": {"ride_duration": 17.4}}'


def up_command(
    replay: Annotated[str | None, typer.Option(help="Feed the rides of this month: 2023-02.")] = None,
    speed: Annotated[float, typer.Option(min=0.1, max=1e6, help="How many times real time the feed is.")] = 60.0,
    service: Service = "green",
    model: Annotated[
        Path | None, typer.Option(help="Serve this bundle; default: the one that serves, or the newest.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the local AWS; 0 for any free one.")] = 4566,
    api_port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the HTTP API; 0 for any free one.")] = 8080,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin without the state of earlier runs.")] = False,
    runtime: Annotated[
        Literal["in-process", "emulator"],
        typer.Option(help="Run the functions in this process, or their package in AWS's runtime (Linux, Python 3.13)."),
    ] = "in-process",
    as_json: Json = False,
) -> None:
    """Run the whole stack on this machine until Ctrl-C.

    Streams, functions, HTTP API, archive, join and monitor run on a local AWS; no account is used. Trains a model first
    if there is none. Prints the endpoint, and commands to copy. Rides, models and positions are kept in build/local,
    and the next `up` goes on with them. If a stack runs already, it says where.

    Example: ridecast up --replay 2023-02 --speed 60
    """
    if port and port == api_port:
        raise typer.BadParameter(f"{port} is also --api-port", param_hint="'--port'")
    feed = _feed(replay, service, speed)  # before the imports below, which take a second

    from infra.local.up.state import FOLDER, find_running

    if found := find_running(BUILD / FOLDER):
        _show_other(found, is_fresh=fresh, as_json=as_json)
        return

    from infra.local.up.stack import UpOptions, running_stack

    options = UpOptions(
        build=BUILD,
        port=port,
        api_port=api_port,
        model=model,
        runtime=runtime,
        feed=feed,
        is_fresh=fresh,
    )
    users = sorted(name for name in os.environ if name.startswith("AWS_"))
    console = error_console()
    with live_display(console) as display, running_stack(options, display) as stack, signals.stopping() as stop:
        display.bars.stop()
        _show_ready(stack, options.folder, users, as_json=as_json)
        with suppress(KeyboardInterrupt):
            _watch(stack, stop, display, console)
        display.step("stopping: what the functions have begun is finished")
    console.print(f"stopped; `ridecast up` goes on with what {options.folder} keeps", highlight=False, soft_wrap=True)


def _feed(replay: str | None, service: str, speed: float) -> "FeedOptions | None":
    if replay is None:
        return None
    from infra.local.up.feed import FeedOptions
    from training.data.months import parse_months

    months = parse_months(replay)
    if len(months) != 1:
        raise typer.BadParameter(f"{replay!r} is more than one month", param_hint="'--replay'")
    return FeedOptions(months[0], service, speed)  # type: ignore[arg-type]


def _show_other(running: "RunningStack", *, is_fresh: bool, as_json: bool) -> None:
    import msgspec

    from training.errors import UserError

    if is_fresh:
        raise UserError(
            f"a stack runs already, at {running.endpoint_url} (process {running.pid})",
            f"stop it first, with Ctrl-C or `kill {running.pid}`",
        )
    result = {**msgspec.to_builtins(running), "already_running": True}
    show_result("A stack runs already", result, as_json=as_json, shown=_facts(running))


def _facts(running: "RunningStack") -> dict[str, Any]:
    return {
        "endpoint": running.endpoint_url,
        "HTTP API": running.api_url,
        "streams": f"{running.input_stream}, {running.output_stream}, {running.outcomes_stream}",
        "bucket": running.bucket,
        "process": str(running.pid),
        "running since": running.started_at,
    }


def _show_ready(stack: "LocalStack", folder: Path, users: Sequence[str], *, as_json: bool) -> None:
    import msgspec

    running = stack.running
    result = {**msgspec.to_builtins(running), "model_version": stack.model_version, "already_running": False}
    shown = {
        **_facts(running),
        "model version": stack.model_version,
        "labelled rides": str(folder / "labelled"),
        "logs": str(folder / "logs"),
    }
    show_result("The stack runs on this machine; no AWS account is used", result, as_json=as_json, shown=shown)
    if not as_json:
        if users:
            write_lines([f"These settings of yours are not used: {', '.join(users)}; nothing leaves this machine."])
        write_lines(_commands(running))
        sys.stdout.flush()


def _commands(running: "RunningStack") -> list[str]:
    """Return commands to copy."""
    from infra.cli.sending import amount_option
    from infra.local.runtime.http import example_curl

    ridecast = "ridecast" if shutil.which("ridecast") else sys.argv[0]
    amount = amount_option(1000)
    put = f"aws kinesis put-record --endpoint-url {running.endpoint_url}"
    return [
        "Hours are joined as soon as their rides are archived; on AWS they are joined once all outcomes have come.",
        "",
        "In another terminal:",
        f"  {ridecast} rides send {amount} --local",
        f"  {ridecast} outcomes send {amount} --local",
        f"  {ridecast} rides tail --local",
        f"  {ridecast} monitor status --local",
        f"  {ridecast} doctor --local",
        f"  {example_curl(running.api_url)}",
        "With the AWS CLI (version 2 also needs --cli-binary-format raw-in-base64-out):",
        "  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=us-east-1",
        f"  {put} --stream-name {running.input_stream} --partition-key 256 --data '{_RIDE}'",
        f"  {put} --stream-name {running.outcomes_stream} --partition-key 256 --data '{_OUTCOME}'",
        "",
        "Press Ctrl-C to stop.",
    ]


def _watch(stack: "LocalStack", stop: signals.Stop, display: "ConsoleDisplay", console: "Console") -> None:
    """Show figures and problems until a signal comes, or a part of the stack fails."""
    known, n_ticks = set[str](), 0
    with console.status("running") as line:
        while True:
            stop.check()
            stack.check()
            for problem in stack.problems():
                if problem not in known:
                    known.add(problem)
                    display.warn(problem)
            figures = stack.figures()
            line.update(figures)
            n_ticks += 1
            if not console.is_terminal and n_ticks % (_LINE_S / _REFRESH_S) == 0:
                console.print(figures, highlight=False, markup=False, soft_wrap=True)
            stop.sleep(_REFRESH_S)
