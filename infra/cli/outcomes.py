"""`ridecast outcomes send`: how long rides really took."""

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Aws, Json, expand_options
from infra.cli.output import show_result
from infra.cli.sending import Sender, SendOptions, SendState

if TYPE_CHECKING:
    from lambda_function.core.records import Entry
    from training.data.rides import Rides


def _outcomes(rides: "Rides", state: SendState) -> "list[Entry]":
    from infra.operate.outcomes import outcome_entries

    return outcome_entries(rides, state.share)


SENDER = Sender("outcomes send", "outcomes", "RideOutcomesStream", "ride-outcomes", _outcomes)


@expand_options
def send_command(
    aws: Aws,
    options: SendOptions,
    stream: Annotated[
        str | None, typer.Option(help="Stream to send to. (default: the stack's, or ride-outcomes)")
    ] = None,
    delay: Annotated[
        float,
        typer.Option(min=0, metavar="MINUTES", help="Minutes to wait before the first outcome: all are so much later."),
    ] = 0.0,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the rides whose outcome is sent; the others have none.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Send outcomes of rides to a stream: how long each ride took, in order of drop-off.

    Give the months and the number of rides of `ridecast rides send`, and run it after that: both number the rides in
    the same way. Outcomes follow each other at --rate, whatever time lies between the drop-offs. With --delay, all of
    them come that many real minutes later. With --share 0.9, one ride in ten has no outcome: always the same ones.

    Ctrl-C ends it after the outcomes under way; --resume sends the rest. Prints the stream, the number of accepted
    outcomes and the number of rides without one.

    Example: ridecast outcomes send --months 2021-02 --rides 1000 --share 0.9 --stack ridecast
    """
    state, n_rides = SENDER.send(aws, stream, options, share=share, delay_minutes=delay)
    result = {"stream": state.stream, "sent": state.n_sent, "without_outcome": n_rides - state.n_sent}
    show_result("Outcomes", result, as_json=as_json)
