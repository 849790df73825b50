"""Options that several commands of `ridecast` share."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ServiceName(StrEnum):
    """TLC's services."""

    green = "green"
    yellow = "yellow"


class RuntimeChoice(StrEnum):
    """Where the function of a demo runs."""

    in_process = "in-process"
    emulator = "emulator"


Json = Annotated[bool, typer.Option("--json", help="Write no table, only the JSON object that ends standard output.")]
Service = Annotated[ServiceName, typer.Option(help="Whose rides.")]
TrainMonths = Annotated[
    str, typer.Option("--train", help="Months to learn from: 2021-01, a list, or 2023-01..2023-03.")
]
ValidateMonths = Annotated[str, typer.Option("--validate", help="Later months to measure on.")]
BUILD = Path("build")
"""Where bundles and logs go unless told otherwise."""

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def channel_name(name: str | None) -> str | None:
    """Checks a channel's name: it becomes part of a key."""
    if name is None or _CHANNEL.fullmatch(name):
        return name
    raise typer.BadParameter(f"{name!r} is no channel's name: use small letters, digits, - and _")
