"""Send records of rides to a stream: what `rides send` and `outcomes send` have in common."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli import signals
from infra.cli.options import Aws, Service, ServiceName
from infra.cli.output import counting, error_console, interrupted

if TYPE_CHECKING:
    from lambda_function.core.records import Entry
    from training.data.rides import Rides

_S_PER_MINUTE = 60


@dataclass(frozen=True)
class SendOptions:
    """Which rides to send, and how fast. Each field is an option: see `expand_options`."""

    service: Service = "green"
    months: Annotated[str, typer.Option(help="Months of the rides.")] = "2021-02"
    synthetic: Annotated[
        int | None, typer.Option(min=1, help="Send this many made-up rides a month in place of TLC's.")
    ] = None
    rides: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of rides, the first by pickup. (default: all)")
    ] = None
    rate: Annotated[float, typer.Option(min=0.1, help="Records per second; a shard accepts 1,000.")] = 1000.0
    resume: Annotated[
        bool, typer.Option("--resume", help="Send the rest of an interrupted run, whose rides and stream it takes.")
    ] = False


@dataclass
class SendState:
    """What a sending is about, and how far it is."""

    stream: str
    service: ServiceName
    months: str
    rides: int | None
    n_sent: int = 0  # records that the stream has confirmed, counted from the first
    synthetic: int | None = None
    share: float = 1.0  # of the rides whose outcome is sent
    not_before_s: float = 0.0  # the first record is not sent before this time, in seconds since the epoch


@dataclass(frozen=True)
class Sender:
    """One of the two commands."""

    command: str  # as in ``rides send``
    noun: str  # of the records
    output: str  # of the stack: the stream's name
    default_stream: str
    entries: "Callable[[Rides, SendState], list[Entry]]"  # the records of rides, in sending order

    def send(
        self, aws: Aws, stream: str | None, options: SendOptions, *, share: float = 1.0, delay_minutes: float = 0.0
    ) -> tuple[SendState, int]:
        """Send the records; return what was sent, and the number of rides that they are of."""
        from infra.cli.resume import HINT, ResumeFile
        from infra.operate.streams import Timing, publish
        from lambda_function.aws.publisher import Publisher

        file = ResumeFile(self.command)
        asked = stream or aws.output(self.output)
        state = (
            file.load(SendState, asked)
            if options.resume
            else SendState(
                asked or self.default_stream,
                options.service,
                options.months,
                options.rides,
                synthetic=options.synthetic,
                share=share,
                not_before_s=time.time() + delay_minutes * _S_PER_MINUTE if delay_minutes else 0.0,
            )
        )
        rides = _load(state)
        entries, n_before = self.entries(rides, state), state.n_sent
        publisher = Publisher(aws.client("kinesis"), state.stream)
        try:
            with file.keeping(state), signals.stopping() as stop:
                _wait_until(state.not_before_s, stop)
                with counting(error_console(), f"sending to {state.stream}", len(entries)) as count:
                    timing = Timing(sleep=stop.sleep)
                    for n_sent in publish(publisher, entries[n_before:], rate_per_s=options.rate, timing=timing):
                        state.n_sent = n_before + n_sent
                        count(state.n_sent)
                        if state.n_sent < len(entries):
                            stop.check()
        except KeyboardInterrupt:
            done = f"{state.n_sent:,} of {len(entries):,} {self.noun} are sent to {state.stream}"
            raise interrupted(done, HINT) from None
        return state, len(rides)


def amount_option(n_rides: int) -> str:
    """Return the option that sends so many rides: of the default month if it is on this machine, else made-up ones."""
    from training.data.months import default_cache_dir, default_data_dir, find_month, parse_months
    from training.errors import UserError

    default = SendOptions()
    folders = default_data_dir(), default_cache_dir()
    try:
        is_local = all(find_month(default.service, month, *folders) for month in parse_months(default.months))
    except UserError:  # TLC_DATA_DIR names no folder
        is_local = False
    return f"--rides {n_rides}" if is_local else f"--synthetic {n_rides}"


def _load(state: SendState) -> "Rides":
    from training.data.load import synthetic_months, tlc_months
    from training.data.months import parse_months
    from training.errors import MonthUnavailableError, UserError

    load = tlc_months(state.service) if state.synthetic is None else synthetic_months(state.synthetic)
    try:
        rides = load(parse_months(state.months))
    except MonthUnavailableError as error:
        raise UserError(f"{error}, or give --synthetic 1000 for made-up rides") from error
    return rides if state.rides is None else rides.head(state.rides)


def _wait_until(time_s: float, stop: signals.Stop) -> None:
    """Wait until a time, with a moving bar on standard error; raise KeyboardInterrupt at the first signal."""
    left_s = time_s - time.time()
    if left_s <= 0:
        return
    with counting(error_console(), f"waiting {left_s / _S_PER_MINUTE:.1f} minutes", None):
        stop.sleep(left_s)
        stop.check()
