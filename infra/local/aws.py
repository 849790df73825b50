"""The local AWS as a context manager: moto's server in a process that ends with its parent."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

from infra.local.ports import HOST, listen
from training.errors import UserError

REGION = "us-east-1"
ACCOUNT_ID = "123456789012"
"""The account that moto uses for unknown credentials."""

_CREDENTIALS = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), "local")  # moto checks none
_LOG_TAIL_BYTES = 2000
_STOP_WITHIN_S = 60  # generous: the machine may be busy

_CLIENT_CONFIG = Config(
    region_name=REGION,
    proxies={},  # ignore the user's proxies: the server is on this machine
    max_pool_connections=32,
    connect_timeout=5,
    read_timeout=60,
    tcp_keepalive=True,
)


class LocalAws:
    """An AWS on this machine. It runs inside its `with` block and ends with this process at the latest.

    Clients can be used at once: this process creates the listening socket and the server inherits it, so requests wait
    in the socket's queue for the second that the server takes to import moto.

    Args:
        limits: Whether Kinesis has AWS's limits: records and bytes a second for each shard, iterators that expire.
            Without limits it is as fast as the machine allows.
        port: 0 for any free one.
        state: A file that keeps the streams' records and the buckets' objects; None to forget them.
        inherited: Open files that the server inherits: a lock on one of them is held until the server has ended too.

    Raises:
        UserError: On entering the block, if the port is taken. On leaving it, if the server has failed; with the end of
            its output.
    """

    def __init__(
        self, *, limits: bool = False, port: int = 0, state: Path | None = None, inherited: Sequence[int] = ()
    ) -> None:
        self._session = hermetic_session()
        self._options = ["--limits"] if limits else []
        self._options += ["--state", str(state)] if state else []
        self._port = port
        self._inherited = inherited

    def __enter__(self) -> Self:
        with listen(self._port) as listener:
            self._log = tempfile.TemporaryFile()
            self.endpoint_url = f"http://{HOST}:{listener.getsockname()[1]}"
            self._process = subprocess.Popen(  # noqa: S603 - our own module, no outside input
                [sys.executable, "-m", "infra.local.moto.server", str(listener.fileno()), *self._options],
                stdin=subprocess.PIPE,  # never written to: its end makes the server stop
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=[listener.fileno(), *self._inherited],
                env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
                start_new_session=True,  # Ctrl-C goes to the parent only: it may still read the streams
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=_STOP_WITHIN_S)  # closes its standard input and waits
        with self._log:
            if code := self._process.returncode:  # after the end of its input the server exits with 0
                output = self._last_output() or "none"
                raise UserError(f"the local AWS ended with code {code}; the end of its output: {output}") from error

    def check(self) -> None:
        """Raise a UserError if the server has ended; leaving the block tells why."""
        if self._process.poll() is not None:
            raise UserError(f"the local AWS at {self.endpoint_url} has ended")

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that make a function's boto3 clients use this AWS."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": _CREDENTIALS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": _CREDENTIALS["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: str, n_attempts: int = 2, credentials: Mapping[str, str] | None = None) -> Any:
        """Create a boto3 client that ignores the user's profiles, proxies and endpoint settings. It is thread-safe.

        Args:
            service: The service's name in boto3.
            n_attempts: How often it sends a request that is throttled or lost; with 1, every throttling is an error.
            credentials: As `assume` returns them; None for credentials without restrictions while none are enforced.
        """
        config = _CLIENT_CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": n_attempts}))
        return self._session.client(service, endpoint_url=self.endpoint_url, config=config, **(credentials or {}))

    def assume(self, role_name: str) -> dict[str, str]:
        """Return credentials of a role of this account for `client`. Call it before `enforcing`."""
        arn = f"arn:aws:iam::{ACCOUNT_ID}:role/{role_name}"
        found = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="local")["Credentials"]
        return {
            "aws_access_key_id": found["AccessKeyId"],
            "aws_secret_access_key": found["SecretAccessKey"],
            "aws_session_token": found["SessionToken"],
        }

    @contextmanager
    def enforcing(self) -> Iterator[None]:
        """Check each request in the block against the caller's IAM policies: infra/local/moto/enforcement.py."""
        self.client("cloudformation").list_stacks()  # waits until our check has replaced moto's
        self._enforce_after("0")
        try:
            yield
        finally:
            self._enforce_after("inf")

    def _enforce_after(self, n_requests: str) -> None:
        connection = HTTPConnection(urlsplit(self.endpoint_url).netloc, timeout=_STOP_WITHIN_S)
        with closing(connection):
            connection.request("POST", "/moto-api/reset-auth", n_requests)
            connection.getresponse().read()

    def _last_output(self) -> str:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        return self._log.read().decode(errors="replace").strip()


def hermetic_session() -> Any:
    """Return a session with the local AWS's region and credentials, which reads no files and no profile of the user."""
    core = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    core.set_config_variable("config_file", os.devnull)
    core.set_config_variable("credentials_file", os.devnull)
    core.set_config_variable("region", REGION)
    core.set_credentials(*_CREDENTIALS.values())
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_utc)
    return boto3.Session(botocore_session=core)


def _utc(value: float | str) -> datetime:
    """Parse a timestamp as UTC. botocore converts to the local zone, which takes half of the time to read a record."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    parsed: datetime = parse_timestamp(value)
    return parsed
