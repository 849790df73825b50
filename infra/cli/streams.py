"""The commands that talk to the streams of an AWS: the real one, or another by `--endpoint-url`."""

import sys
import time
from contextlib import suppress
from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer

from infra.cli.options import Aws, Json, Service, ServiceName, on_aws


class StartAt(StrEnum):
    """Where reading a stream begins."""

    oldest = "TRIM_HORIZON"
    latest = "LATEST"


@on_aws
def publish_command(
    aws: Aws,
    stream: Annotated[str, typer.Option(help="The stream to send ride events to.")] = "ride-events",
    service: Service = ServiceName.green,
    months: Annotated[str, typer.Option(help="Months whose rides to send, in order of pickup.")] = "2021-02",
    rides: Annotated[int | None, typer.Option(min=1, help="So many rides at most.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Rides a second at most; a shard takes 1,000.")] = 1000.0,
    as_json: Json = False,
) -> None:
    """Send ride events from TLC months to a stream of any AWS."""
    from infra.cli.output import counting, error_console, show_result
    from infra.local.demo.replay import Replay
    from infra.operate.streams import publish
    from lambda_function.aws.publisher import Publisher
    from training.data.load import load_rides
    from training.data.months import default_data_dir, parse_months

    loaded = load_rides(service.value, parse_months(months), data_dir=default_data_dir())
    replay = Replay(loaded.head(len(loaded) if rides is None else rides), n_malformed=0)
    publisher = Publisher(aws.client("kinesis"), stream)
    n_published = 0
    with counting(error_console(), f"publishing to {stream}", len(replay)) as count:
        for n_published in publish(publisher, replay.entries(), rate_per_s=rate):
            count(n_published)
    result = {"stream": stream, "published": n_published}
    show_result("Ride events", {"stream": stream, "published": f"{n_published:,}"}, result, json_only=as_json)


@on_aws
def tail_command(
    aws: Aws,
    stream: Annotated[str, typer.Option(help="The stream to read predictions from.")] = "ride-predictions",
    start_at: Annotated[
        StartAt, typer.Option("--from", help="The oldest record, or the next to come.")
    ] = StartAt.oldest,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    idle_s: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds without one.")] = None,
    as_json: Json = False,
) -> None:
    """Read predictions from a stream of any AWS, a line each, until Ctrl-C, --limit or --idle-s."""
    from infra.cli.output import printable, show_result
    from infra.operate.streams import tail

    kinesis = aws.client("kinesis")
    patience = _Patience(idle_s)
    n_read = 0
    with suppress(KeyboardInterrupt):
        for record in islice(tail(kinesis, stream, start_at.value, patience.wait), limit):
            patience.renew()
            n_read += 1
            text = record.data.decode(errors="replace")
            sys.stdout.write((printable(text) if sys.stdout.isatty() else text) + "\n")  # JSON leaves U+009B as it is
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
