"""`ridecast invoke`: predict one event file with the real function, on this machine."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.demo import BUNDLE_CHANNEL, bundle_bucket
from infra.cli.options import BucketAws, Channel, Json, expand_options
from infra.cli.output import show_result

if TYPE_CHECKING:
    from infra.local.invoke import Invoked

_STANDARD_INPUT = Path("-")

_MAX_BYTES = 10 << 20
"""Of a record of Kinesis, which is the larger one: Lambda delivers events of up to 6 MB."""


@expand_options
def invoke_command(
    aws: BucketAws,
    event: Annotated[Path, typer.Argument(help="File with the event; - for standard input.")],
    channel: Channel = "stable",
    bundle: Annotated[Path | None, typer.Option(help="Predict with this bundle folder, without a bucket.")] = None,
    as_json: Json = False,
) -> None:
    """Give one event to the function, and show its answer and what it would publish.

    Takes a Kinesis event as Lambda delivers it, a ride event, or an HTTP event of API Gateway. Fields that Lambda gives
    and a hand-written Kinesis event lacks are filled in. The models are those of the bucket; nothing is published to a
    stream, and nothing stored in the bucket. Exits with 1 if a ride was rejected, a record has to come again, or the
    HTTP answer is an error.

    Example: ridecast invoke event.json --local
    """
    data = _read(event)

    from infra.local.invoke import invoke
    from training.registry.channel_names import check_holds_model

    models = bundle_bucket(bundle) if bundle else aws.open_bucket()
    if not bundle:
        check_holds_model(models, channel)
    result = invoke(data, models, BUNDLE_CHANNEL if bundle else channel)
    show_invoked(result, as_json=as_json)
    if not result.is_done:
        raise typer.Exit(1)


def _read(path: Path) -> bytes:
    from training.errors import UserError

    try:
        if path == _STANDARD_INPUT:
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "name a file with one event") from error
    if len(data) > _MAX_BYTES:
        raise UserError(f"{path} has more than {_MAX_BYTES >> 20} MiB: no event is so large", "give one event")
    return data


def show_invoked(result: "Invoked", *, as_json: bool) -> None:
    """Show the answer and what was published."""
    answer = {
        "event": result.kind,
        "filled_in": list(result.filled_in),
        "answer": dict(result.answer),
        "published": [{"partition_key": key, "data": data} for key, data in result.published],
        "rejects": [dict(one) for one in result.rejects],
    }
    shown = {
        "taken for a": result.kind,
        "filled in": ", ".join(result.filled_in),
        "answer": json.dumps(result.answer),
        "published": [json.dumps(data) for _, data in result.published],
        "rejected": [f"{one['reason']}: {one['detail']}" for one in result.rejects],
    }
    always = {"taken for a", "answer"} | ({"published"} if result.kind != "HTTP event" else set())
    filled = {name: value for name, value in shown.items() if value or name in always}
    show_result("", answer, as_json=as_json, shown=filled)
