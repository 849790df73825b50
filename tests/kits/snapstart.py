"""A function with SnapStart as Lambda starts and restores it: its setup, and its process under AWS's own client."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from infra.local.aws import LocalAws
from infra.local.runtime.emulator import (
    IN_THE_RUNTIME,
    RUNTIME_CLIENT,
    link_modules,
    runtime_environment,
)
from infra.local.runtime.function import FunctionConfig
from infra.local.stack import DeployedStack
from lambda_function.core.channel import channel_key
from tests.builders import invocation, ride_bytes
from tests.fakes import publish_bundle
from tests.kits.runtime_api import INVOCATION, PATIENCE_S, Call, RuntimeApi
from tests.kits.streams import read_stream
from tests.kits.watched_aws import WatchedAws, watched_aws
from training.model.bundle import ExportedBundle
from training.registry.signing import Signer

CLIENT = ("-m", "awslambdaric", "lambda_function.handler.lambda_handler")
"""The command that Lambda starts."""

IMAGE = (str(Path(__file__).with_name("snapshot_image.py")), "__main__.lambda_handler")
"""The same client, whose process is copied at each restore; its answers include a random number."""

START_KEY = "AKIDOFTHESTART"
"""The access key that a function has before its snapshot."""


@dataclass(frozen=True)
class SnapStartFunction:
    """A function with its own channel and output stream, for one test."""

    aws: LocalAws
    stack: DeployedStack
    config: FunctionConfig

    def publish(self, bundle: ExportedBundle, signer: Signer | None = None) -> str:
        """Store a bundle and move the channel to it; return its version."""
        channel = self.config.environment["MODEL_CHANNEL"]
        publish_bundle(self.aws.client("s3"), bundle, channel, self.stack.bucket, signer)
        return bundle.model_version

    def with_variables(self, **variables: str) -> Self:
        """Return a copy with other environment variables."""
        return replace(self, config=self.config.with_variables(**variables))

    def channel_request(self) -> str:
        """The request with which the function reads the channel."""
        return f"GET /{self.stack.bucket}/{channel_key(self.config.environment['MODEL_CHANNEL'])}"

    def versions(self) -> list[str]:
        """The model versions of the predictions on the output stream."""
        records = read_stream(self.aws.client("kinesis"), self.config.environment["OUTPUT_STREAM"])
        return [json.loads(record.data)["version"] for record in records]


@dataclass(frozen=True)
class Started:
    """The function's process, its calls to Lambda and its requests to AWS."""

    process: subprocess.Popen[bytes]
    api: RuntimeApi
    seen: WatchedAws

    def predict_one(self) -> Call:
        """Wait for the function's next call, invoke it with one ride and return the result."""
        return self.api.invoke(self.api.wait_for(INVOCATION), invocation(ride_bytes()))


@contextmanager
def started(function: SnapStartFunction, log: Path, command: Sequence[str] = CLIENT) -> Iterator[Started]:
    """Start the function as Lambda does before it takes a snapshot."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runtime-")))
        link_modules(folder, (*IN_THE_RUNTIME, *RUNTIME_CLIENT))
        api = stack.enter_context(RuntimeApi(START_KEY))
        seen = stack.enter_context(watched_aws(function.aws.endpoint_url))
        environment = {
            **runtime_environment(function.config, folder),
            **api.environment,
            "AWS_ENDPOINT_URL": seen.endpoint_url,
        }
        without_keys = {n: v for n, v in environment.items() if n not in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}}
        output = stack.enter_context(log.open("wb"))
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            [sys.executable, "-S", "-P", "-B", *command],
            cwd=function.config.package,
            env=without_keys,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that its copies end with it
        )
        stack.callback(_end, process)
        yield Started(process, api, seen)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # it has ended without a copy
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_S)
