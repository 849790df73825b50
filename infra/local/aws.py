"""The embedded AWS as a context manager: moto's server in a process of its own, gone as soon as its parent is."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

from infra.errors import LocalAwsError

HOST = "127.0.0.1"
REGION = "us-east-1"
ACCOUNT_ID = "123456789012"
"""The account that moto gives to unknown credentials."""

_CREDENTIALS = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}  # nosec B105 - moto checks none
_LOG_TAIL_BYTES = 2000
_STOP_WITHIN_S = 10

_CLIENT_CONFIG = Config(
    region_name=REGION,
    proxies={},  # never through a proxy that the user has set: the server is on this machine
    max_pool_connections=32,
    connect_timeout=5,
    read_timeout=60,
    tcp_keepalive=True,
)


class LocalAws:
    """An AWS on this machine, alive inside its `with` block and never longer than this process.

    It is ready for clients at once: the listening socket is made here and handed down, so requests wait in its
    queue for the second that the server takes to import moto, while the caller gets on with something else.

    Args:
        limits: Whether Kinesis has AWS's limits: what a shard takes and gives in a second, iterators that expire.
            Off, it is as fast as it can be.

    Raises:
        LocalAwsError: On leaving the block, where the server has ended by itself; carries its last words.
    """

    def __init__(self, *, limits: bool = False) -> None:
        self._session = _hermetic_session()
        self._options = ["--limits"] if limits else []

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        with socket.create_server((HOST, 0), backlog=128) as listener:
            self.endpoint_url = f"http://{HOST}:{listener.getsockname()[1]}"
            self._process = subprocess.Popen(  # noqa: S603 - our own module, no outside input
                [sys.executable, "-m", "infra.local.moto.server", str(listener.fileno()), *self._options],
                stdin=subprocess.PIPE,  # never written to: its end tells the server that the parent is gone
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=[listener.fileno()],
                env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
                start_new_session=True,  # Ctrl-C is the parent's business: it may still want to read the streams
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=_STOP_WITHIN_S)  # closes its standard input and waits
        with self._log:
            if code := self._process.returncode:  # the end of its input makes it end with 0
                raise LocalAwsError(f"ended with code {code}", self._last_words()) from error

    @property
    def environment(self) -> dict[str, str]:
        """Returns what a function's environment needs so that its boto3 clients come here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": _CREDENTIALS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": _CREDENTIALS["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: str, n_attempts: int = 2, credentials: Mapping[str, str] | None = None) -> Any:
        """Makes a boto3 client, deaf to the user's profiles, proxies and endpoint settings. Thread-safe to use.

        Args:
            service: The service, as boto3 calls it.
            n_attempts: How often it sends a request that is throttled or lost; with 1, every refusal is seen.
            credentials: Whose it is, as `assume` gives them; None for who may do anything while nothing is enforced.
        """
        config = _CLIENT_CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": n_attempts}))
        return self._session.client(
            service, endpoint_url=self.endpoint_url, config=config, **(credentials or _CREDENTIALS)
        )

    def assume(self, role_name: str) -> dict[str, str]:
        """Returns credentials of a role of this account, as `client` takes them; not while policies are enforced."""
        arn = f"arn:aws:iam::{ACCOUNT_ID}:role/{role_name}"
        found = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="local")["Credentials"]
        return {
            "aws_access_key_id": found["AccessKeyId"],
            "aws_secret_access_key": found["SecretAccessKey"],
            "aws_session_token": found["SessionToken"],
        }

    @contextmanager
    def enforcing(self) -> Iterator[None]:
        """Holds each request against the caller's IAM policies in the block: moto_cloudformation/enforcement.py."""
        self.client("cloudformation").list_stacks()  # until it is loaded, the check is still moto's
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

    def _last_words(self) -> str:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        return self._log.read().decode(errors="replace").strip()


def _hermetic_session() -> Any:
    """Makes a session that reads no file and no profile of the user's."""
    core = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    core.set_config_variable("config_file", os.devnull)
    core.set_config_variable("credentials_file", os.devnull)
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_utc)
    return boto3.Session(botocore_session=core)


def _utc(value: float | str) -> datetime:
    """Reads a timestamp. botocore's own way to the local zone takes half of the time of reading a record."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    parsed: datetime = parse_timestamp(value)
    return parsed
