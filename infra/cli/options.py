"""Options that several commands share, and the AWS and the bucket that they name."""

import re
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import typer

from training.project import build_folder, project_root

if TYPE_CHECKING:
    from infra.operate.replayer import Replayer
    from infra.stack.describe import DescribedStack
    from training.registry.bucket import Bucket
    from training.registry.signing import Signer

ROOT = project_root()
"""The project's folder."""

BUILD = build_folder()
"""The default folder of bundles and logs, whatever the current folder is."""

LOCAL_BUCKET = f"file:{BUILD / 'bucket'}"
"""The default bucket of models: a folder, so no AWS is needed."""

_ELSEWHERE = ("stack", "endpoint_url", "profile", "region")
"""Options that name another AWS than --local does."""

_GIVE_LOCAL = "give --local for the stack of `ridecast up`"

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

ServiceName = Literal["green", "yellow"]
"""TLC's taxi services."""


def channel_name(name: str | None) -> str | None:
    """Check a channel's name: it becomes a part of a key."""
    if name is None or _CHANNEL.fullmatch(name):
        return name
    raise typer.BadParameter(f"{name!r} is not a channel name: use lower-case letters, digits, - and _")


def time_option(text: str | None, option: str) -> datetime | None:
    """Parse an option's time: ISO 8601, or an age such as 2h."""
    from infra.operate.redrive.selection import parse_time

    try:
        return None if text is None else parse_time(text, lambda: datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from error


def time_options(
    since: str | None, until: str | None, names: tuple[str, str]
) -> tuple[datetime | None, datetime | None]:
    """Parse two options that bound a time, and refuse a time without a moment in it."""
    begin, end = time_option(since, names[0]), time_option(until, names[1])
    if begin and begin >= (end or datetime.now(UTC)):
        problem = f"{begin:%Y-%m-%dT%H:%M:%SZ} is not before {names[1] if end else 'now'}"
        raise typer.BadParameter(problem, param_hint=f"'{names[0]}'")
    return begin, end


KEY_OPTION, KEY_VARIABLE = "--signing-key", "RIDECAST_SIGNING_KEY"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Service = Annotated[ServiceName, typer.Option(help="Taxi service: green or yellow.")]
Parameters = Annotated[list[str] | None, typer.Option("--set", help="Model parameter, for example max_iter=400.")]
Zones = Annotated[
    Path | None,
    typer.Option(
        "--zones",
        help="GeoJSON file of the zones, for outlines on the report's map. (default: one in or beside TLC_DATA_DIR)",
    ),
]
Timestamps = Annotated[
    Literal["local", "utc"] | None,
    typer.Option(
        "--timestamps",
        envvar="TLC_TIMESTAMPS",
        help="What times with a time zone are in TLC's months: New York's wall clock (local), or true times (utc).",
    ),
]
Version = Annotated[str, typer.Argument(help="Version, the beginning of one, or a channel that points at one.")]
Channel = Annotated[str, typer.Option(help="Channel.", callback=channel_name)]
Create = Annotated[bool, typer.Option("--create", help="Make the channel if the bucket has none of its name.")]
Force = Annotated[bool, typer.Option("--force", help="Move the channel `candidate` even if the gate fails.")]
Function = Annotated[
    str | None, typer.Option(help="Function to invoke, by ARN or as NAME:ALIAS. (default: the alias of the stack's)")
]
Labelled = Annotated[
    str | None,
    typer.Option(
        help="Bucket of the labelled rides, or a folder as file:PATH, if the model is of such. (default: the models')"
    ),
]
Bundles = Annotated[Path, typer.Option("--bundles", help="Folder that `train` writes bundles to.")]
ActivationDelay = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=86_400,
        metavar="SECONDS",
        help="Seconds until the model serves: running functions read the channel. (default: the stack's, or 150)",
    ),
]
SigningKey = Annotated[
    str | None,
    typer.Option(
        KEY_OPTION,
        envvar=KEY_VARIABLE,
        help="KMS key (ARN, id or alias). It signs stored versions; channels move to no others. (default: the stack's)",
    ),
]


@dataclass(frozen=True)
class Aws:
    """The AWS account to use. Each field is an option: see `expand_options`."""

    stack: Annotated[
        str | None, typer.Option(help="Deployed stack: it gives bucket, streams and signing key; other options win.")
    ] = None
    endpoint_url: Annotated[
        str | None, typer.Option(help="Endpoint in place of AWS's own, for example http://127.0.0.1:5000.")
    ] = None
    profile: Annotated[str | None, typer.Option(help="AWS profile.")] = None
    region: Annotated[str | None, typer.Option(help="AWS region.")] = None
    local: Annotated[
        bool, typer.Option("--local", help="Use the stack that `ridecast up` runs on this machine, and no account.")
    ] = False

    def found(self) -> Self:
        """Return these options with the place of the running local stack if they ask for it; else as they are.

        Raises:
            UserError: No local stack runs.
        """
        if not self.local:
            return self
        from infra.local.aws import REGION
        from infra.local.up.state import FOLDER, find_running
        from training.errors import UserError

        for option in _ELSEWHERE:
            if getattr(self, option) is not None:
                problem = "cannot be used with --local, which names the stack of `ridecast up`"
                raise typer.BadParameter(problem, param_hint=f"'--{option.replace('_', '-')}'")
        running = find_running(BUILD / FOLDER)
        if running is None:
            raise UserError("no local stack runs", "start one with `ridecast up`")
        return replace(self, stack=running.stack, endpoint_url=running.endpoint_url, region=REGION)

    @property
    def deployed(self) -> str | None:
        """The stack in an account of AWS; None without one, and for the local stack."""
        return None if self.local else self.stack

    def client(self, service: str, region: str | None = None, read_timeout_s: float = 60) -> Any:
        """Return a boto3 client with short timeouts and few retries, because a person waits.

        Args:
            service: The service, as boto3 names it.
            region: A region in place of the option's.
            read_timeout_s: How long an answer may take.
        """
        from botocore.config import Config
        from botocore.exceptions import NoRegionError

        from infra.operate.answers import retry_cut_off_answers
        from training.errors import UserError

        config = Config(
            connect_timeout=5,
            read_timeout=read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": 3},
            proxies={} if self.local else None,
        )
        try:
            client = self._session.client(service, region, endpoint_url=self.endpoint_url, config=config)
        except NoRegionError as error:
            raise UserError("no AWS region is named", f"{_GIVE_LOCAL}, or give --region or --profile") from error
        except ValueError as error:  # botocore's error for a URL that is none
            problem = f"{error}: write it as http://127.0.0.1:5000"
            raise typer.BadParameter(problem, param_hint="'--endpoint-url'") from error
        retry_cut_off_answers(client)
        return client

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

    def optional_output(self, name: str) -> str | None:
        """Return an output of the stack; None without `--stack`, or if an older template made the stack without it."""
        return None if self._described is None else self._described.outputs.get(name)

    def parameter(self, name: str) -> str | None:
        """Return a parameter of the stack; None without `--stack`, or if an older template has none of that name."""
        return None if self._described is None else self._described.parameters.get(name)

    def replayer(self, function: str | None) -> "Replayer":
        """Return the replayer to a function, else to the alias of the stack's function.

        Raises:
            UserError: Neither is named.
        """
        from infra.operate.replayer import LONGEST_TIMEOUT_S, Replayer
        from training.errors import UserError

        function = function or self.output("FunctionAliasArn")
        if function is None:
            raise UserError("no function is named", "give --stack, --local, or --function NAME:ALIAS")
        return Replayer(self.client("lambda", read_timeout_s=LONGEST_TIMEOUT_S), function)

    def archiver(self, function: str | None) -> "Replayer":
        """Return the replayer to an archive function, else to the stack's.

        Raises:
            UserError: Neither is named.
        """
        from training.errors import UserError

        function = function or self.output("ArchiverName")
        if function is None:
            hint = "give --stack, --local, or --archiver"
            raise UserError("no archive function is named for records that are for it", hint)
        return self.replayer(function)

    def activation_delay_s(self, given: float | None) -> float:
        """Return the given delay, else the stack's, else the default; an old stack has none."""
        from lambda_function.core.channel import ACTIVATION_DELAY_S

        if given is not None:
            return given
        outputs = self._described.outputs if self._described else {}
        return float(outputs.get("ModelActivationDelaySeconds", ACTIVATION_DELAY_S))

    def signer(self, key: str | None) -> "Signer | None":
        """Return the signer for a key, else for the stack's key, in the key's own region; None without a key."""
        from lambda_function.aws.signature import KEY_ARN
        from training.registry.signing import Signer

        key = key or self.parameter("ModelSigningKeyArn")
        if not key:
            return None
        arn = KEY_ARN.fullmatch(key)
        return Signer(self.client("kms", arn["region"] if arn else None), key)

    @cached_property
    def _session(self) -> Any:
        """The session; a missing credential is an error here, and not of each request."""
        from botocore.exceptions import PartialCredentialsError

        from training.errors import UserError

        if self.local:
            from infra.local.aws import hermetic_session

            return hermetic_session()
        import boto3

        session: Any = boto3.Session(profile_name=self.profile, region_name=self.region)
        hint = f"{_GIVE_LOCAL}, or give --profile, or log in with `aws configure` or `aws sso login`"
        try:
            if session.get_credentials() is None:
                raise UserError("there are no AWS credentials", hint)
        except PartialCredentialsError as error:
            raise UserError(f"the AWS credentials are not complete ({error})", hint) from error
        return session

    @cached_property
    def _described(self) -> "DescribedStack | None":
        if self.stack is None:
            return None
        from infra.stack.describe import describe_stack

        return describe_stack(self.client("cloudformation"), self.stack)


@dataclass(frozen=True)
class BucketAws(Aws):
    """The AWS account and the bucket to use; a folder needs no account."""

    bucket: Annotated[
        str | None,
        typer.Option(help="Bucket, or a folder as file:PATH. (default: the stack's, or for models build/bucket)"),
    ] = None

    def open_named_bucket(self) -> "Bucket":
        """Open the bucket as named, or the stack's.

        Raises:
            UserError: Neither is named: unlike models, what it holds has no default bucket.
        """
        from training.errors import UserError

        if self.bucket is None and self.stack is None:
            raise UserError("no bucket is named", "give --stack, --local, or --bucket")
        return self.open_bucket()

    def open_bucket(self) -> "Bucket":
        """Open the bucket: as named, else the stack's, else LOCAL_BUCKET.

        The name of a bucket of AWS may begin with ``s3://``. A folder is created when it is first written to.
        """
        return self._open(self.bucket or self.output("BucketName") or LOCAL_BUCKET, "--bucket")

    def open_labelled(self, name: str | None) -> "Bucket | None":
        """Open the bucket or the existing folder of labelled rides that an option names; None without a name.

        Raises:
            UserError: There is no such folder.
        """
        from training.errors import FOLDER_PREFIX, UserError

        if name is None:
            return None
        labelled = self._open(name, "--labelled")
        if name.startswith(FOLDER_PREFIX) and not Path(name.removeprefix(FOLDER_PREFIX)).expanduser().is_dir():
            raise UserError(f"there is no folder {name.removeprefix(FOLDER_PREFIX)}", "name one that has labelled/")
        return labelled

    def check_channel(self, bucket: "Bucket", channel: str, *, create: bool) -> None:
        """Refuse a channel that a bucket does not have, unless it is to be made, or is the one that the stack serves.

        Raises:
            UserError: There is no such channel.
        """
        from training.registry.channel_names import check_channel

        check_channel(bucket, channel, create=create, also=filter(None, [self.parameter("ModelChannel")]))

    def _open(self, name: str, option: str) -> "Bucket":
        from training.errors import FOLDER_PREFIX
        from training.registry.bucket import Bucket

        if not name.startswith(FOLDER_PREFIX):
            bucket = name.removeprefix("s3://").rstrip("/")
            if "/" in bucket:
                raise typer.BadParameter(f"{name} is no bucket: write a folder as file:PATH", param_hint=f"'{option}'")
            return Bucket(self.client("s3"), bucket)

        from training.registry.folder_s3 import FolderS3

        folder = name.removeprefix(FOLDER_PREFIX)
        if not folder:
            raise typer.BadParameter(f"names no folder: write it as {LOCAL_BUCKET}", param_hint=f"'{option}'")
        return Bucket(FolderS3(Path(folder).expanduser()), name)


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command that is a dataclass by its fields, placed before the command's last option.

    Typer makes options from a function's parameters and cannot share groups of them.
    """
    own = signature(command)
    groups: dict[str, Any] = {
        name: one.annotation for name, one in own.parameters.items() if is_dataclass(one.annotation)
    }
    fields = {name: signature(group).parameters for name, group in groups.items()}
    *before, last = (one for name, one in own.parameters.items() if name not in groups)
    shown = [*before, *(field for group in fields.values() for field in group.values()), last]

    @wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            made = group(**{field: given.pop(field) for field in fields[name]})
            given[name] = made.found() if isinstance(made, Aws) else made
        command(**given)

    typed: Any = run  # Typer reads both attributes, which mypy does not know
    typed.__signature__ = own.replace(parameters=shown)
    typed.__annotations__ = {one.name: one.annotation for one in shown}
    return run
