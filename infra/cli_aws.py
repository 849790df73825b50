"""The commands that talk to an AWS: the real one, or another by `--endpoint-url`."""

import sys
import time
from contextlib import suppress
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.cli_options import Json, Service, ServiceName

models = typer.Typer(no_args_is_help=True, help="Model bundles in a stack's bucket.")

EndpointUrl = Annotated[str | None, typer.Option(help="Another AWS than the real one, as in http://127.0.0.1:5000.")]
Profile = Annotated[str | None, typer.Option(help="AWS profile.")]
Region = Annotated[str | None, typer.Option(help="AWS region.")]


class StartAt(StrEnum):
    """Where reading a stream begins."""

    oldest = "TRIM_HORIZON"
    latest = "LATEST"


@models.command("publish")
def models_publish(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, as `train` writes it.")],
    bucket: Annotated[str, typer.Option(help="The stack's bucket.")],
    channel: Annotated[str, typer.Option(help="The channel to move onto it.")] = "stable",
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Upload a bundle and move a channel onto it: a running function follows within a minute, without a deploy."""
    from infra.console import show_result
    from training.export import read_bundle
    from training.publish import move_channel, store_bundle

    exported = read_bundle(bundle.resolve())  # its version is the folder's name, which `.` is not
    s3 = aws_client("s3", endpoint_url, profile, region)
    store_bundle(s3, bucket, exported)
    moved = move_channel(s3, bucket, channel, exported.model_version, exported.manifest_sha256)
    rows = {"channel": channel, "now": moved.model_version, "before": moved.previous or "nothing"}
    result = {"channel": channel, "model_version": moved.model_version, "previous": moved.previous}
    show_result(f"s3://{bucket}", rows, result, json_only=as_json)


def publish_command(
    stream: Annotated[str, typer.Option(help="The stream to send ride events to.")] = "ride-events",
    service: Service = ServiceName.green,
    months: Annotated[str, typer.Option(help="Months whose rides to send, in order of pickup.")] = "2021-02",
    rides: Annotated[int | None, typer.Option(min=1, help="So many rides at most.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Rides a second at most; a shard takes 1,000.")] = 1000.0,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Send ride events from TLC months to a stream of any AWS."""
    from infra.console import counting, error_console, show_result
    from infra.replay import Replay
    from infra.streams import publish
    from lambda_function.publisher import Publisher
    from training.dataset import default_data_dir, load_rides
    from training.months import parse_months

    loaded = load_rides(service.value, parse_months(months), data_dir=default_data_dir())
    replay = Replay(loaded.head(len(loaded) if rides is None else rides), n_malformed=0)
    publisher = Publisher(aws_client("kinesis", endpoint_url, profile, region), stream)
    n_published = 0
    with counting(error_console(), f"publishing to {stream}", len(replay)) as count:
        for n_published in publish(publisher, replay.entries(), rate_per_s=rate):
            count(n_published)
    result = {"stream": stream, "published": n_published}
    show_result("Ride events", {"stream": stream, "published": f"{n_published:,}"}, result, json_only=as_json)


def tail_command(
    stream: Annotated[str, typer.Option(help="The stream to read predictions from.")] = "ride-predictions",
    start_at: Annotated[
        StartAt, typer.Option("--from", help="The oldest record, or the next to come.")
    ] = StartAt.oldest,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    idle_s: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds without one.")] = None,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Read predictions from a stream of any AWS, a line each, until Ctrl-C, --limit or --idle-s."""
    from infra.console import show_result
    from infra.streams import tail

    kinesis = aws_client("kinesis", endpoint_url, profile, region)
    patience = _Patience(idle_s)
    n_read = 0
    with suppress(KeyboardInterrupt):
        for record in islice(tail(kinesis, stream, start_at.value, patience.wait), limit):
            patience.renew()
            n_read += 1
            sys.stdout.write(record.data.decode(errors="replace") + "\n")
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


def aws_client(service: str, endpoint_url: str | None, profile: str | None, region: str | None) -> Any:
    """Makes a client that gives up early: a person is waiting."""
    import boto3
    from botocore.config import Config

    session: Any = boto3.Session(profile_name=profile, region_name=region)
    retries = Config(connect_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
    try:
        return session.client(service, endpoint_url=endpoint_url, config=retries)
    except ValueError as error:  # botocore's way to say that this is no URL
        problem = f"{error}: write it as http://127.0.0.1:5000"
        raise typer.BadParameter(problem, param_hint="'--endpoint-url'") from error
