"""The function's AWS clients: made fast, as a cold start waits for them, and patient no longer than there is time.

botocore's own session, not boto3's, which would import s3transfer too: 80 ms. And a loader of service descriptions that
decodes them with msgspec and knows what it is looking for, where botocore's would search its 400 folders: 36 ms.
"""

import gzip
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from botocore.config import Config
from botocore.loaders import JSONFileLoader, Loader
from botocore.session import Session

# MERGED FROM lambda_function/fast_kinesis.py
# PutRecords through boto3 without its cost per record: the request body is built, and the answer read, by msgspec.
# boto3 still finds the endpoint, signs, sends and turns errors into exceptions. It only gets no records to serialise one
# field at a time, and no results to parse one field at a time: its own events are where both are stepped over. Where a
# botocore knows none of these events, or another protocol, it does the work itself, as ever.
_encode = msgspec.json.Encoder().encode
_RECORDS = "ridecast_records"


class _Result(msgspec.Struct):
    """What became of one record. Its shard and sequence number are nobody's concern here."""

    ErrorCode: str | None = None
    ErrorMessage: str | None = None


class _Summary(msgspec.Struct):
    FailedRecordCount: int = 0


class _Answer(_Summary):
    Records: list[_Result] = []


_decode_summary = msgspec.json.Decoder(_Summary).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def speed_up_put_records(client: Any) -> None:
    """Makes a boto3 Kinesis client's `put_records` cheap.

    Requests and answers keep boto3's shape, but for an answer without failures, whose `Records` is empty, and for
    results, which hold their error alone.
    """
    model = client.meta.service_model
    # The runtime's botocore is not ours to choose: older ones know one protocol a service, and no `resolved_protocol`.
    if getattr(model, "resolved_protocol", model.protocol) != "json":
        return
    events = client.meta.events
    events.register("provide-client-params.kinesis.PutRecords", _take_records)
    events.register("before-call.kinesis.PutRecords", _build_body)
    events.register("before-parse.kinesis.PutRecords", _read_answer)


def _take_records(params: dict[str, Any], context: dict[str, Any], **_: object) -> dict[str, Any]:
    context[_RECORDS] = params["Records"]
    return {**params, "Records": []}


def _build_body(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    request = msgspec.json.decode(params["body"])
    params["body"] = _encode({**request, "Records": context[_RECORDS]})  # bytes become base64


def _read_answer(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    if response_dict["status_code"] != HTTPStatus.OK:
        return
    body = response_dict["body"]
    n_failed = _decode_summary(body).FailedRecordCount
    results = _decode_answer(body).Records if n_failed else []
    customized_response_dict["FailedRecordCount"] = n_failed
    customized_response_dict["Records"] = [
        {"ErrorCode": result.ErrorCode, "ErrorMessage": result.ErrorMessage} if result.ErrorCode else {}
        for result in results
    ]
    response_dict["body"] = b"{}"


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
