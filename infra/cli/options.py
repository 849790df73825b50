"""Options that several commands share, and the AWS and the bucket that they name."""

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
    from infra.stack.describe import DescribedStack
    from training.registry.bucket import Bucket
    from training.registry.signing import Signer

BUILD = Path("build")
"""The default folder of bundles and logs."""

LOCAL_BUCKET = "file:build/bucket"
"""The default bucket of models: a folder, so no AWS is needed."""

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class ServiceName(StrEnum):
    """TLC's taxi services."""

    green = "green"
    yellow = "yellow"


def channel_name(name: str | None) -> str | None:
    """Check a channel's name: it becomes a part of a key."""
    if name is None or _CHANNEL.fullmatch(name):
        return name
    raise typer.BadParameter(f"{name!r} is not a channel name: use lower-case letters, digits, - and _")


KEY_OPTION, KEY_VARIABLE = "--signing-key", "RIDECAST_SIGNING_KEY"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Service = Annotated[ServiceName, typer.Option(help="Taxi service: green or yellow.")]
Parameters = Annotated[list[str] | None, typer.Option("--set", help="Model parameter, for example max_iter=400.")]
Zones = Annotated[
    Path | None, typer.Option("--zones", help="GeoJSON file of the taxi zones, for outlines on the report's map.")
]
Version = Annotated[str, typer.Argument(help="Version, the beginning of one, or a channel that points at one.")]
Channel = Annotated[str, typer.Option(help="Channel.", callback=channel_name)]
Bundles = Annotated[Path, typer.Option("--bundles", help="Folder that `train` writes bundles to.")]
BucketOption = Annotated[
    str | None,
    typer.Option("--bucket", help="Bucket, or a folder such as file:build/bucket. (default: the stack's bucket)"),
]
SigningKey = Annotated[
    str | None,
    typer.Option(
        KEY_OPTION, envvar=KEY_VARIABLE, help="KMS key that signs stored versions: ARN, id or alias. (default: none)"
    ),
]
TrustedKey = Annotated[
    str | None,
    typer.Option(KEY_OPTION, envvar=KEY_VARIABLE, help="KMS key: refuse versions without its signature."),
]


@dataclass(frozen=True)
class Aws:
    """The AWS account to use. Each field is an option of every command with the decorator `on_aws`."""

    stack: Annotated[
        str | None, typer.Option(help="Deployed stack: it gives bucket, streams and signing key; other options win.")
    ] = None
    endpoint_url: Annotated[
        str | None, typer.Option(help="Endpoint in place of AWS's own, for example http://127.0.0.1:5000.")
    ] = None
    profile: Annotated[str | None, typer.Option(help="AWS profile.")] = None
    region: Annotated[str | None, typer.Option(help="AWS region.")] = None

    def client(self, service: str, region: str | None = None) -> Any:
        """Return a boto3 client with short timeouts and few retries, because a person waits.

        Args:
            service: The service, as boto3 names it.
            region: A region in place of the option's.
        """
        from botocore.config import Config

        retries = Config(connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
        try:
            return self._session.client(service, region, endpoint_url=self.endpoint_url, config=retries)
        except ValueError as error:  # botocore's error for a URL that is none
            problem = f"{error}: write it as http://127.0.0.1:5000"
            raise typer.BadParameter(problem, param_hint="'--endpoint-url'") from error

    def output(self, name: str) -> str | None:
        """Return an output of the stack; None without `--stack`.

        Raises:
            UserError: The stack cannot be described, or has no such output.
        """
        from training.errors import UserError

        if self._described is None:
            return None
        if name not in self._described.outputs:
            hint = "name a stack that was deployed from this project's template"
            raise UserError(f"stack {self.stack} has no output {name}", hint)
        return self._described.outputs[name]

    def signer(self, key: str | None) -> "Signer | None":
        """Return the signer for a key, else for the stack's key, in the key's own region; None without a key."""
        from lambda_function.aws.signature import KEY_ARN
        from training.registry.signing import Signer

        key = key or (self._described.parameters.get("ModelSigningKeyArn") if self._described else None)
        if not key:
            return None
        arn = KEY_ARN.fullmatch(key)
        return Signer(self.client("kms", arn["region"] if arn else None), key)

    @cached_property
    def _session(self) -> Any:
        import boto3

        return boto3.Session(profile_name=self.profile, region_name=self.region)

    @cached_property
    def _described(self) -> "DescribedStack | None":
        if self.stack is None:
            return None
        from infra.stack.describe import describe_stack

        return describe_stack(self.client("cloudformation"), self.stack)


def on_aws(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `aws` of a command by the options of `Aws`, placed before the command's last option.

    Typer makes options from a function's parameters and cannot share groups of them.
    """
    own = signature(command)
    options = signature(Aws).parameters
    *before, last = (one for name, one in own.parameters.items() if name != "aws")
    shown = [*before, *options.values(), last]

    @wraps(command)
    def run(**given: Any) -> None:
        command(aws=Aws(**{name: given.pop(name) for name in options}), **given)

    typed: Any = run  # Typer reads both attributes, which mypy does not know
    typed.__signature__ = own.replace(parameters=shown)
    typed.__annotations__ = {one.name: one.annotation for one in shown}
    return run


def open_bucket(bucket: str | None, aws: Aws | None = None) -> "Bucket":
    """Open a bucket of AWS, or a folder that stands in for one.

    Args:
        bucket: A bucket's name, with or without ``s3://``, or ``file:`` and a folder, which is created when needed.
            None means the stack's bucket, or LOCAL_BUCKET without a stack.
        aws: The account of the bucket. A folder needs none.
    """
    from training.errors import FOLDER_PREFIX
    from training.registry.bucket import Bucket

    aws = aws or Aws()
    name = bucket or aws.output("BucketName") or LOCAL_BUCKET
    if not name.startswith(FOLDER_PREFIX):
        return Bucket(aws.client("s3"), name.removeprefix("s3://").rstrip("/"))

    from infra.local.s3 import FolderS3

    folder = name.removeprefix(FOLDER_PREFIX)
    if not folder:
        raise typer.BadParameter(f"names no folder: write it as {LOCAL_BUCKET}", param_hint="'--bucket'")
    return Bucket(FolderS3(Path(folder).expanduser()), name)
