"""The function's AWS clients: made fast, as a cold start waits for them, and patient no longer than there is time.

botocore's own session, not boto3's, which would import s3transfer too: 80 ms. And a loader of service descriptions that
decodes them with msgspec and knows what it is looking for, where botocore's would search its 400 folders: 36 ms.
"""

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from botocore.config import Config
from botocore.loaders import JSONFileLoader, Loader
from botocore.session import Session

from lambda_function.fast_kinesis import speed_up_put_records

CONNECT_TIMEOUT_S = 1
KINESIS_READ_TIMEOUT_S = 4
S3_READ_TIMEOUT_S, S3_ATTEMPTS = 3, 2
"""One PutRecords that hangs takes 5 s, storing the rejects after it 2 x 4 s and the pause between, 1 s at most: what
`Settings.deadline_margin_ms` keeps free, so that Lambda never has to kill the function."""

_SERVICES = ["kinesis", "kms", "s3"]


def make_clients() -> tuple[Any, Any]:
    """Makes the S3 and the Kinesis client, from the environment as boto3 would. Nothing is sent yet."""
    session = _session()
    # The publisher resends by itself, only what failed. The shapes of what it sends are known: no need to check them.
    for_kinesis = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=KINESIS_READ_TIMEOUT_S,
        retries={"total_max_attempts": 1},
        parameter_validation=False,
    )
    kinesis = session.create_client("kinesis", config=for_kinesis)
    speed_up_put_records(kinesis)
    return session.create_client("s3", config=_patient()), kinesis


def make_s3_client() -> Any:
    """Makes the S3 client alone, for a function without a stream."""
    return _session().create_client("s3", config=_patient())


def make_kms_client(region: str) -> Any:
    """Makes a KMS client of a region: 10 ms that only a function with signed models spends, when it loads one."""
    return _session().create_client("kms", region_name=region, config=_patient())


def _session() -> Session:
    session = Session()
    session.register_component("data_loader", _loader())
    return session


@cache
def _loader() -> Loader:
    """Makes the loader that keeps what it has read: clients made anew take 11 ms, where the first ones took 40."""
    return _KnownServices(file_loader=_DescriptionFiles())


def _patient() -> Config:
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=S3_READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": S3_ATTEMPTS},
    )


class _KnownServices(Loader):
    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - botocore's signature
        return _SERVICES


class _DescriptionFiles(JSONFileLoader):
    """botocore's, with another decoder: paths come without their ending, and None says that there is no file."""

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
