"""Clients: the same requests, answers and errors as boto3's own, in less time."""

import base64
import io
import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.aws.clients import (
    CONNECT_TIMEOUT_S,
    S3_ATTEMPTS,
    S3_READ_TIMEOUT_S,
    SQS_READ_TIMEOUT_S,
    make_clients,
    make_events_client,
    make_sqs_client,
)
from lambda_function.aws.fast_kinesis import speed_up_put_records
from lambda_function.aws.publisher import Publisher
from lambda_function.core.records import Entry

SERVICES = ("s3", "kinesis")


@pytest.fixture(scope="module")
def clients() -> dict[str, Any]:
    return dict(zip(SERVICES, make_clients(), strict=True))


@pytest.mark.parametrize("service", SERVICES)
def test_client_is_described_as_botocore_describes_it(clients: dict[str, Any], service: str) -> None:
    theirs: Any = Session().create_client(service)
    ours = clients[service]
    assert ours.meta.service_model.operation_names == theirs.meta.service_model.operation_names
    assert ours.meta.service_model.metadata == theirs.meta.service_model.metadata
    assert ours.meta.endpoint_url == theirs.meta.endpoint_url
    assert ours.meta.region_name == theirs.meta.region_name


def test_client_of_the_rejects_queue_sends_once_and_waits_briefly() -> None:
    queue = make_sqs_client()
    assert "SendMessage" in queue.meta.service_model.operation_names
    config = queue.meta.config
    assert (config.connect_timeout, config.read_timeout) == (CONNECT_TIMEOUT_S, SQS_READ_TIMEOUT_S)
    assert config.retries["total_max_attempts"] == 1


def test_client_of_the_event_bus_tries_twice_and_waits_briefly() -> None:
    config = make_events_client().meta.config
    assert (config.connect_timeout, config.read_timeout) == (CONNECT_TIMEOUT_S, S3_READ_TIMEOUT_S)
    assert config.retries["total_max_attempts"] == S3_ATTEMPTS


def test_answers_are_read_as_botocore_reads_them(clients: dict[str, Any]) -> None:
    with Stubber(clients["s3"]) as stub:
        stub.add_response("get_object", {"Body": io.BytesIO(b"channel"), "ETag": '"1"'}, {"Bucket": "b", "Key": "k"})
        assert clients["s3"].get_object(Bucket="b", Key="k")["Body"].read() == b"channel"


def test_refusals_are_exceptions_that_the_function_handles(clients: dict[str, Any]) -> None:
    assert issubclass(clients["kinesis"].exceptions.ProvisionedThroughputExceededException, Exception)
    assert issubclass(clients["s3"].exceptions.NoSuchKey, Exception)


ENTRIES = st.lists(st.tuples(st.text(min_size=1, max_size=20), st.binary(max_size=50)), min_size=1, max_size=20)


class Wire:
    """A Kinesis client that records its requests, and answers with `status` and `answer`."""

    def __init__(self, *, fast: bool) -> None:
        self.requests: list[Any] = []
        self.status = 200
        self.answer: dict[str, Any] | bytes | None = None
        config = Config(parameter_validation=False, retries={"total_max_attempts": 1})
        self.client: Any = boto3.client("kinesis", region_name="us-east-1", config=config)
        self.client.meta.events.register("before-send.kinesis.PutRecords", self._answer)  # type: ignore[arg-type]
        if fast:
            speed_up_put_records(self.client)

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        self.requests.append(request)
        n_records = len(json.loads(request.body)["Records"])
        taken = {"SequenceNumber": "1", "ShardId": "shardId-000000000000"}
        taken_all = {"FailedRecordCount": 0, "Records": [taken] * n_records}
        answer = taken_all if self.answer is None else self.answer
        headers = HTTPHeaders.from_dict({"content-type": "application/x-amz-json-1.1"})
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return AWSResponse(request.url, self.status, headers, Raw(body))

    def publish(self, entries: list[Entry]) -> list[int]:
        """Send entries once and return the positions that were not taken."""
        publisher = Publisher(self.client, "ride-predictions", sleep=lambda _: None)
        return publisher.publish(entries, iter_time()).unpublished


class Raw(io.BytesIO):
    """The part of an HTTP answer that botocore reads."""

    def stream(self, **_: object) -> list[bytes]:
        """Return all of it."""
        return [self.getvalue()]


def iter_time() -> Any:
    """Time for one request."""
    left_s = iter([1.0, -1.0])
    return lambda: next(left_s, -1.0)


@pytest.fixture(scope="module")
def wires() -> tuple[Wire, Wire]:
    return Wire(fast=True), Wire(fast=False)


@given(ENTRIES)
def test_request_equals_that_of_boto3(wires: tuple[Wire, Wire], entries: list[Entry]) -> None:
    for wire in wires:
        assert wire.publish(entries) == []
    fast, slow = (wire.requests[-1] for wire in wires)
    assert json.loads(fast.body) == json.loads(slow.body)
    assert {name: fast.headers[name] for name in ("X-Amz-Target", "Content-Type")} == {
        name: slow.headers[name] for name in ("X-Amz-Target", "Content-Type")
    }
    assert int(fast.headers["Content-Length"]) == len(fast.body)
    sent = json.loads(fast.body)["Records"]
    assert [(one["PartitionKey"], base64.b64decode(one["Data"])) for one in sent] == entries


@pytest.mark.parametrize("fast", [True, False])
def test_entries_that_were_not_taken_are_found_in_the_answer(fast: bool) -> None:
    wire = Wire(fast=fast)
    failed = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded for shard."}
    taken = {"SequenceNumber": "1", "ShardId": "shardId-000000000000"}
    wire.answer = {"FailedRecordCount": 2, "Records": [taken, failed, taken, failed]}
    assert wire.publish([("key", b"ride")] * 4) == [1, 3]


ALL_TAKEN = json.dumps({"FailedRecordCount": 0, "Records": [{"SequenceNumber": "1", "ErrorCode": None}] * 4}).encode()


@pytest.mark.parametrize("fast", [True, False])
def test_null_instead_of_an_error_is_none(fast: bool) -> None:
    wire = Wire(fast=fast)
    wire.answer = ALL_TAKEN
    assert wire.publish([("key", b"ride")] * 4) == []


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("n_bytes", [0, 1, len(ALL_TAKEN) // 2, len(ALL_TAKEN) - 1])
def test_answer_that_is_cut_off_confirms_nothing(fast: bool, n_bytes: int) -> None:
    wire = Wire(fast=fast)
    wire.answer = ALL_TAKEN[:n_bytes]
    assert wire.publish([("key", b"ride")] * 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        {"FailedRecordCount": 0, "Records": [{"SequenceNumber": "1"}]},
        {"FailedRecordCount": 0, "Records": [{"SequenceNumber": "1"}, {"ErrorCode": "InternalFailure"}]},
        {"FailedRecordCount": 1, "Records": [{"SequenceNumber": "1"}, {"SequenceNumber": "2"}]},
        {"Records": [{"SequenceNumber": "1"}, {"SequenceNumber": "2"}]},
        {"FailedRecordCount": 0},
        {},
    ],
)
def test_answer_that_contradicts_itself_confirms_nothing(fast: bool, answer: dict[str, Any]) -> None:
    wire = Wire(fast=fast)
    wire.answer = answer
    assert wire.publish([("key", b"ride")] * 2) == [0, 1]


def test_reason_of_a_refused_entry_is_reported() -> None:
    wire = Wire(fast=True)
    wire.answer = {"FailedRecordCount": 1, "Records": [{"ErrorCode": "InternalFailure", "ErrorMessage": "Oops."}]}
    publisher = Publisher(wire.client, "ride-predictions", sleep=lambda _: None)
    assert publisher.publish([("key", b"ride")], iter_time()).last_error == "InternalFailure: Oops."


@pytest.mark.parametrize("fast", [True, False])
def test_refused_request_raises_what_boto3_raises(fast: bool) -> None:
    wire = Wire(fast=fast)
    wire.status, wire.answer = 400, {"__type": "ResourceNotFoundException", "message": "No such stream."}
    with pytest.raises(ClientError, match="No such stream") as refused:
        wire.client.put_records(StreamName="ride-predictions", Records=[{"Data": b"", "PartitionKey": "key"}])
    assert refused.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_request_is_signed_over_its_real_body() -> None:
    wire = Wire(fast=True)
    wire.publish([("key", b"ride")])
    assert b"cmlkZQ==" in wire.requests[0].body
    assert "Signature=" in str(wire.requests[0].headers["Authorization"])


@dataclass(frozen=True, slots=True)
class OlderModel:
    """A service's description in a botocore that supports one protocol a service."""

    protocol: str


@pytest.mark.parametrize(("protocol", "n_hooks"), [("json", 3), ("smithy-rpc-v2-cbor", 0)])
def test_older_botocore_is_sped_up_and_another_protocol_left_alone(protocol: str, n_hooks: int) -> None:
    hooks: list[str] = []
    events = SimpleNamespace(register=lambda name, _: hooks.append(name))
    speed_up_put_records(SimpleNamespace(meta=SimpleNamespace(service_model=OlderModel(protocol), events=events)))
    assert len(hooks) == n_hooks
