"""`ridecast rides send`, `tail` and `replay`: write ride events, read predictions, bring ride events again."""

import json
import sys
import time
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from infra.cli import signals
from infra.cli.options import Aws, Function, Json, expand_options, time_options
from infra.cli.output import counting, error_console, interrupted, printable, show_result
from infra.cli.sending import Sender, SendOptions, SendState

if TYPE_CHECKING:
    from lambda_function.core.records import Entry
    from training.data.rides import Rides


def _ride_events(rides: "Rides", _: SendState) -> "list[Entry]":
    from infra.local.demo.replay import Replay

    return Replay(rides, n_malformed=0).entries()


SENDER = Sender("rides send", "events", "RideEventsStream", "ride-events", _ride_events)


@expand_options
def send_command(
    aws: Aws,
    options: SendOptions,
    stream: Annotated[
        str | None, typer.Option(help="Stream to send to. (default: the stack's, or ride-events)")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send rides of TLC months to a stream, in order of pickup.

    Ctrl-C ends it after the events under way; --resume sends the rest. Prints the stream and the number of accepted
    events.

    Example: ridecast rides send --months 2021-02 --rides 1000 --stack ridecast
    """
    state, _ = SENDER.send(aws, stream, options)
    show_result("Ride events", {"stream": state.stream, "sent": state.n_sent}, as_json=as_json)


@expand_options
def replay_command(
    aws: Aws,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Arrived at or after this time: ISO 8601 in UTC, or 2h."),
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Arrived before this time. (default: now)")] = None,
    shard: Annotated[str | None, typer.Option(help="Only from this shard: its id or its number.")] = None,
    stream: Annotated[str | None, typer.Option(help="Stream to replay. (default: the stack's, or ride-events)")] = None,
    function: Function = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Records per second at most.")] = 1000.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the records.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, whose times and stream it takes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the ride events of a time to the function again.

    Reads them from the stream and invokes the function with them as they are: nothing is put onto the stream, and each
    prediction has the id that it always has. Ctrl-C ends it; --resume goes on. Prints how many records were replayed,
    and how many of them the function rejected.

    Example: ridecast rides replay --from 2h --to 1h --stack ridecast
    """
    from infra.cli.resume import HINT, ResumeFile
    from infra.operate.redrive.selection import full_shard_id
    from infra.operate.stream_replay import ReplayState, StreamReplay

    file = ResumeFile("rides replay")
    begin, end = time_options(since, until, ("--from", "--to"))
    asked = stream or aws.output("RideEventsStream")
    if resume:
        state = file.load(ReplayState, asked)
    elif begin is None:
        raise typer.BadParameter("is missing: give a time, or --resume", param_hint="'--from'")
    else:
        shard_id = None if shard is None else full_shard_id(shard)
        state = ReplayState(asked or "ride-events", begin, end or datetime.now(UTC), shard_id)
    run = StreamReplay(aws.client("kinesis"), None if dry_run else aws.replayer(function), state, rate)
    try:
        with (
            nullcontext() if dry_run else file.keeping(state),
            counting(error_console(), f"replaying {state.stream}", None) as count,
        ):
            for n_replayed in run.run():
                count(n_replayed)
    except KeyboardInterrupt:
        raise interrupted(f"{state.n_replayed:,} records of {state.stream} are replayed", HINT) from None
    result = {
        "stream": state.stream,
        "from": state.since.isoformat(),
        "to": state.until.isoformat(),
        "shards": len(state.finished),
        "to_replay" if dry_run else "replayed": state.n_replayed,
        "rejected": state.n_rejected,
    }
    show_result("Ride events", result, as_json=as_json)


@expand_options
def tail_command(
    aws: Aws,
    stream: Annotated[
        str | None, typer.Option(help="Stream to read from. (default: the stack's, or ride-predictions)")
    ] = None,
    start_at: Annotated[
        Literal["TRIM_HORIZON", "LATEST"], typer.Option("--from", help="Start at the oldest record, or at new ones.")
    ] = "TRIM_HORIZON",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many records.")] = None,
    idle_s: Annotated[float | None, typer.Option(min=0, help="Stop after this many seconds without a record.")] = None,
    as_json: Json = False,
) -> None:
    """Read predictions from a stream.

    Ends at Ctrl-C, --limit or --idle-s. Prints one line per prediction as it arrives; with --json, one object with all
    of them.

    Example: ridecast rides tail --limit 10 --stack ridecast
    """
    from infra.operate.streams import tail

    name = stream or aws.output("RidePredictionsStream") or "ride-predictions"
    idle, writer = _IdleTimer(idle_s), _JsonWriter(name) if as_json else _LineWriter()
    with suppress(KeyboardInterrupt), signals.stopping() as stop:

        def wait(seconds: float) -> bool:
            stop.check()
            return idle.wait(seconds)

        for record in islice(tail(aws.client("kinesis"), name, start_at, wait), limit):
            idle.restart()
            writer.write(record.data.decode(errors="replace"))
            stop.check()
    writer.end()


class _LineWriter:
    """Writes a line per prediction."""

    def write(self, text: str) -> None:
        """Write a prediction at once."""
        # JSON does not escape U+009B, which terminals obey.
        sys.stdout.write((printable(text) if sys.stdout.isatty() else text) + "\n")
        sys.stdout.flush()

    def end(self) -> None:
        """Do nothing: every line is complete."""


class _JsonWriter:
    """Writes one JSON object, a prediction at a time: a stream may hold more than the memory."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._n_written = 0

    def write(self, text: str) -> None:
        """Write a prediction; what is not JSON as text."""
        sys.stdout.write(", " if self._n_written else self._beginning)
        sys.stdout.write(json.dumps(_value(text)))
        sys.stdout.flush()
        self._n_written += 1

    def end(self) -> None:
        """Write the rest of the object."""
        beginning = "" if self._n_written else self._beginning
        sys.stdout.write(f'{beginning}], "read": {self._n_written}}}\n')
        sys.stdout.flush()

    @property
    def _beginning(self) -> str:
        return f'{{"stream": {json.dumps(self._stream)}, "predictions": ['


def _value(text: str) -> Any:
    """Return what a JSON text means, or any other text as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class _IdleTimer:
    """A wait between two reads that ends the reading after a time without records."""

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s = limit_s
        self.restart()

    def restart(self) -> None:
        self._since_s = time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Sleep and return False; return True if the limit is reached."""
        if self._limit_s is not None and time.monotonic() - self._since_s >= self._limit_s:
            return True
        time.sleep(seconds)
        return False
