"""The function's AWS clients, built fast because a cold start waits for them, with timeouts that fit the invocation.

Two things save time at a cold start: botocore's session instead of boto3's, which also imports s3transfer (80 ms), and
a loader of service descriptions that decodes with msgspec and does not search botocore's 400 folders (36 ms).
"""

import gzip
from functools import cache
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from typing import Any

import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import JSONFileLoader, Loader
from botocore.parsers import ResponseParserError
from botocore.session import Session
from urllib3.exceptions import HTTPError

from lambda_function.aws.fast_kinesis import speed_up_put_records

CONNECT_TIMEOUT_S = 1
KINESIS_READ_TIMEOUT_S = 4
S3_READ_TIMEOUT_S, S3_ATTEMPTS = 3, 2
SQS_READ_TIMEOUT_S = 2
"""`Settings.deadline_margin_ms` covers these, so that Lambda never has to kill the function. A PutRecords that hangs
takes 5 s. Storing rejects takes twice 4 s in S3 and a pause of at most 1 s between the attempts; then 3 s in SQS."""

NO_USABLE_ANSWER = (
    BotoCoreError,
    ResponseParserError,
    HTTPError,
    HTTPException,
    ConnectionError,
    SSLError,
    LookupError,
    ValueError,
)
"""What a call raises, beside ClientError, if the answer is lost, cut off or not AWS's own: botocore lets errors of TLS
and urllib3 through while a body is read, and a proxy's page or half a header gives LookupError or ValueError."""

AWS_ERRORS = (ClientError, *NO_USABLE_ANSWER)
"""What a client raises when AWS refuses, does not answer, or answers what can't be read."""

SERVICES = ["events", "kinesis", "kms", "lambda", "s3", "sqs"]
"""All that the functions call. A package with a botocore of its own holds the descriptions of these alone."""


def make_clients() -> tuple[Any, Any]:
    """Make the S3 and the Kinesis client from the environment, as boto3 does. This sends no request."""
    session = _session()
    # The publisher resends what failed by itself, and it sends known shapes that need no validation.
    for_kinesis = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=KINESIS_READ_TIMEOUT_S,
        retries={"total_max_attempts": 1},
        parameter_validation=False,
    )
    kinesis = session.create_client("kinesis", config=for_kinesis)
    speed_up_put_records(kinesis)
    return session.create_client("s3", config=_patient()), kinesis


def make_s3_client(read_timeout_s: float = S3_READ_TIMEOUT_S, n_attempts: int = S3_ATTEMPTS) -> Any:
    """Make the S3 client for a function that publishes nothing."""
    return _session().create_client("s3", config=_patient(read_timeout_s, n_attempts))


def make_kms_client(region: str) -> Any:
    """Make a KMS client of a region. It takes 10 ms, and only a function that loads signed models needs it."""
    return _session().create_client("kms", region_name=region, config=_patient())


def make_events_client() -> Any:
    """Make an EventBridge client, for the monitor: what it can't send, its next run sends."""
    return _session().create_client("events", config=_patient())


def make_lambda_client(read_timeout_s: float, n_attempts: int) -> Any:
    """Make a Lambda client, for functions that work for a durable function."""
    return _session().create_client("lambda", config=_patient(read_timeout_s, n_attempts))


def make_sqs_client() -> Any:
    """Make an SQS client. Only a function whose bucket refuses rejects needs it.

    It does not try twice: the batch that comes again is the second attempt.
    """
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S, read_timeout=SQS_READ_TIMEOUT_S, retries={"total_max_attempts": 1}
    )
    return _session().create_client("sqs", config=config)


def _session() -> Session:
    session = Session()
    session.register_component("data_loader", _loader())
    return session


@cache
def _loader() -> Loader:
    """Make the loader, which caches what it has read: the first clients take 40 ms, later ones 11 ms."""
    return _KnownServices(file_loader=_DescriptionFiles())


def _patient(read_timeout_s: float = S3_READ_TIMEOUT_S, n_attempts: int = S3_ATTEMPTS) -> Config:
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": n_attempts},
    )


class _KnownServices(Loader):
    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - botocore's signature
        return SERVICES


class _DescriptionFiles(JSONFileLoader):
    """botocore's loader with another decoder: paths come without their ending; None means that there is no file."""

    def exists(self, file_path: str) -> bool:
        return self._find(file_path) is not None

    def load_file(self, file_path: str) -> Any:
        path = self._find(file_path)
        if path is None:
            return None
        data = path.read_bytes()
        return msgspec.json.decode(gzip.decompress(data) if path.suffix == ".gz" else data)

    def _find(self, file_path: str) -> Path | None:
        candidates = (Path(file_path + ending) for ending in (".json", ".json.gz"))
        return next((path for path in candidates if path.is_file()), None)
