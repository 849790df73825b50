"""Options and arguments that several commands of `ridecast` share."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

BUILD = Path("build")
"""Where bundles and logs go unless told otherwise."""

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class ServiceName(StrEnum):
    """TLC's services."""

    green = "green"
    yellow = "yellow"


def channel_name(name: str | None) -> str | None:
    """Checks a channel's name: it becomes part of a key."""
    if name is None or _CHANNEL.fullmatch(name):
        return name
    raise typer.BadParameter(f"{name!r} is no channel's name: use small letters, digits, - and _")


Json = Annotated[bool, typer.Option("--json", help="Write no table, only the JSON object that ends standard output.")]
Service = Annotated[ServiceName, typer.Option(help="Whose rides.")]
Parameters = Annotated[list[str] | None, typer.Option("--set", help="A parameter of the model, as in max_iter=400.")]
Zones = Annotated[
    Path | None, typer.Option("--zones", help="GeoJSON of the taxi zones, for outlines on the report's map.")
]
Version = Annotated[str, typer.Argument(help="A version, the beginning of one, or a channel that points at it.")]
Channel = Annotated[str, typer.Option(help="Which channel.", callback=channel_name)]
Bundles = Annotated[Path, typer.Option("--bundles", help="Folder that training has written bundles to.")]
