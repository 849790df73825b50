"""Options and arguments that several commands of `ridecast` share."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from training.registry.bucket import Bucket

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


# MERGED FROM infra/commands/aws.py
# How commands reach an AWS, the real one or another: three options, which all that need an AWS share.
@dataclass(frozen=True)
class Aws:
    """An AWS, as the command line names it: each field is an option of every command `on_aws`."""

    endpoint_url: Annotated[
        str | None, typer.Option(help="Another AWS than the real one, as in http://127.0.0.1:5000.")
    ] = None
    profile: Annotated[str | None, typer.Option(help="AWS profile.")] = None
    region: Annotated[str | None, typer.Option(help="AWS region.")] = None

    def client(self, service: str, region: str | None = None) -> Any:
        """Makes a client that gives up early: a person is waiting.

        Args:
            service: As boto3 names it.
            region: Another than the option's.
        """
        from botocore.config import Config

        retries = Config(connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
        try:
            return self._session.client(service, region, endpoint_url=self.endpoint_url, config=retries)
        except ValueError as error:  # botocore's way to say that this is no URL
            problem = f"{error}: write it as http://127.0.0.1:5000"
            raise typer.BadParameter(problem, param_hint="'--endpoint-url'") from error

    @cached_property
    def _session(self) -> Any:
        import boto3

        return boto3.Session(profile_name=self.profile, region_name=self.region)


def on_aws(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of an `Aws`, just before its last one, and what they say as its argument `aws`.

    Typer makes the options of a command from its parameters, and has no groups of them to share. So it is shown the
    command's own, with the fields of `Aws` in the place of `aws`.
    """
    own = signature(command)
    options = signature(Aws).parameters
    *before, last = (one for name, one in own.parameters.items() if name != "aws")
    shown = [*before, *options.values(), last]

    @wraps(command)
    def run(*of_class: Any, **given: Any) -> None:
        aws = Aws(**{name: given.pop(name) for name in options})
        command(*of_class, aws=aws, **given)

    looked_at: Any = run  # Typer reads both, and mypy knows of neither
    looked_at.__signature__ = own.replace(parameters=shown)
    looked_at.__annotations__ = {one.name: one.annotation for one in shown}
    return run


# MERGED FROM infra/commands/bucket.py
# The bucket that models are in: one of an AWS, or the folder that stands in for one.
LOCAL_BUCKET = "file:build/bucket"
"""The models' bucket unless told otherwise: a folder that needs no AWS."""

ModelBucket = Annotated[str, typer.Option("--bucket", help="The stack's bucket, or a folder, as in file:build/bucket.")]


def open_bucket(bucket: str, aws: Aws | None = None) -> "Bucket":
    """Opens a bucket of an AWS, or a folder that stands in for one.

    Args:
        bucket: A bucket's name, ``s3://`` before it or not, or ``file:`` and a folder, which is made when it is needed.
        aws: Where the bucket is; the real one where not given. A folder needs none.
    """
    from training.errors import FOLDER_PREFIX
    from training.registry.bucket import Bucket

    if not bucket.startswith(FOLDER_PREFIX):
        return Bucket((aws or Aws()).client("s3"), bucket.removeprefix("s3://").rstrip("/"))

    from infra.local.s3 import FolderS3

    folder = bucket.removeprefix(FOLDER_PREFIX)
    if not folder:
        raise typer.BadParameter(f"names no folder: write it as {LOCAL_BUCKET}", param_hint="'--bucket'")
    return Bucket(FolderS3(Path(folder).expanduser()), bucket)
