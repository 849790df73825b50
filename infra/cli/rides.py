"""`ridecast rides send` and `tail`: write ride events to a stream, and read predictions from one."""

import json
import sys
import time
from contextlib import suppress
from itertools import islice
from typing import Annotated, Any, Literal

import typer

from infra.cli.options import Aws, Json, Service, expand_options
from infra.cli.output import counting, error_console, printable, show_result, write_json


@expand_options
def send_command(
    aws: Aws,
    stream: Annotated[
        str | None, typer.Option(help="Stream to send to. (default: the stack's, or ride-events)")
    ] = None,
    service: Service = "green",
    months: Annotated[str, typer.Option(help="Months of the rides, sent in order of pickup.")] = "2021-02",
    rides: Annotated[int | None, typer.Option(min=1, help="Maximum number of rides. (default: all)")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Rides per second; a shard accepts 1,000.")] = 1000.0,
    as_json: Json = False,
) -> None:
    """Send rides of TLC months to a stream.

    Prints the stream and the number of accepted events.

    Example: ridecast rides send --months 2021-02 --rides 1000 --stack ridecast
    """
    from infra.local.demo.replay import Replay
    from infra.operate.streams import publish
    from lambda_function.aws.publisher import Publisher
    from training.data.load import load_rides
    from training.data.months import default_data_dir, parse_months

    loaded = load_rides(service, parse_months(months), data_dir=default_data_dir())
    replay = Replay(loaded.head(len(loaded) if rides is None else rides), n_malformed=0)
    name = stream or aws.output("RideEventsStream") or "ride-events"
    n_sent = 0
    with counting(error_console(), f"sending to {name}", len(replay)) as count:
        for n_sent in publish(Publisher(aws.client("kinesis"), name), replay.entries(), rate_per_s=rate):
            count(n_sent)
    show_result("Ride events", {"stream": name, "sent": n_sent}, as_json=as_json)


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

    Ends at Ctrl-C, --limit or --idle-s. Prints one line per prediction as it arrives; with --json, one object with
    all of them at the end.

    Example: ridecast rides tail --limit 10 --stack ridecast
    """
    from infra.operate.streams import tail

    name = stream or aws.output("RidePredictionsStream") or "ride-predictions"
    idle = _IdleTimer(idle_s)
    found = []
    with suppress(KeyboardInterrupt):
        for record in islice(tail(aws.client("kinesis"), name, start_at, idle.wait), limit):
            idle.restart()
            text = record.data.decode(errors="replace")
            if as_json:
                found.append(_value(text))
            else:
                # JSON does not escape U+009B, which terminals obey.
                sys.stdout.write((printable(text) if sys.stdout.isatty() else text) + "\n")
                sys.stdout.flush()
    if as_json:
        write_json({"stream": name, "read": len(found), "predictions": found})


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
