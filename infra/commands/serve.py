"""`ridecast serve`: the HTTP API on this machine, with a model from a bucket, from a folder, or of one bundle."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.bucket import LOCAL_BUCKET, ModelBucket, open_bucket
from infra.commands.options import BUILD, Json, channel_name

if TYPE_CHECKING:
    from lambda_function.api import HttpHandler

_BUNDLE_CHANNEL = "bundle"


@on_aws
def serve_command(
    aws: Aws,
    bucket: ModelBucket = LOCAL_BUCKET,
    channel: Annotated[
        str, typer.Option(callback=channel_name, help="The channel to follow, as a deployed function does.")
    ] = "stable",
    bundle: Annotated[
        Path | None, typer.Option(help="Serve this bundle's folder, as `train` writes it; no bucket is asked.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8080,
    refresh_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the channel.")] = 5.0,
    log: Annotated[Path, typer.Option(help="Where the function's own log goes.")] = BUILD / "serve.log",
    as_json: Json = False,
) -> None:
    """Answer POST /predictions on 127.0.0.1, with the very handler that API Gateway would call, until Ctrl-C."""
    from infra.console import error_console, show_result
    from infra.http.server import ApiServer, RequestCount, example_curl, model_version

    s3, name = bundle_bucket(bundle) if bundle else open_bucket(bucket, aws)
    console = error_console()
    count = RequestCount(lambda line: console.print(line, highlight=False, markup=False))
    log.parent.mkdir(parents=True, exist_ok=True)
    out = sys.stdout
    with log.open("a", encoding="utf-8") as log_file, redirect_stdout(log_file):
        handler = _handler(s3, name, _BUNDLE_CHANNEL if bundle else channel, refresh_s)
        with ApiServer(handler, port, count) as server:
            version = model_version(handler)
            missing = f"no model yet: `ridecast models publish` puts one into channel {channel} of {name}"
            model = f"model {version}" if version else missing
            for line in (f"listening on {server.url}, {model}", example_curl(server.url), "Ctrl-C ends it"):
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            with suppress(KeyboardInterrupt), _ended_by_signals():
                server.wait()
    with redirect_stdout(out):
        result = {"url": server.url, "requests": count.n_requests, "errors": count.n_errors, "model_version": version}
        show_result("Served", {name: str(value) for name, value in result.items()}, result, json_only=as_json)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Makes Ctrl-C's signal, and that of `kill`, end the block: a shell has background jobs ignore the former."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def bundle_bucket(folder: Path) -> tuple[Any, str]:
    """Returns a bucket in memory in which a channel points at one bundle, checked as a function checks it."""
    from infra.local.memory.s3 import MemoryBucket
    from training.export import read_bundle
    from training.publish import move_channel, store_bundle

    exported = read_bundle(folder.resolve())
    bucket = MemoryBucket()
    store_bundle(bucket, str(folder), exported)
    move_channel(bucket, str(folder), _BUNDLE_CHANNEL, exported.model_version, exported.manifest_sha256)
    return bucket, str(folder)


def _handler(s3: Any, bucket: str, channel: str, refresh_s: float) -> "HttpHandler":
    from lambda_function.api import build_handler
    from lambda_function.settings import ServingSettings

    settings = ServingSettings(
        bucket=bucket, model_channel=channel, model_refresh_s=refresh_s, service_name="ridecast-api"
    )
    return build_handler(settings, s3)
