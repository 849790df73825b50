"""The function's clients: botocore's own in all but the time that they take to make."""

import io
from typing import Any

import pytest
from botocore.session import Session
from botocore.stub import Stubber

from lambda_function.aws.clients import make_clients

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


def test_answers_are_read_as_botocore_reads_them(clients: dict[str, Any]) -> None:
    with Stubber(clients["s3"]) as stub:
        stub.add_response("get_object", {"Body": io.BytesIO(b"channel"), "ETag": '"1"'}, {"Bucket": "b", "Key": "k"})
        assert clients["s3"].get_object(Bucket="b", Key="k")["Body"].read() == b"channel"


def test_refusals_are_the_exceptions_that_the_function_knows(clients: dict[str, Any]) -> None:
    assert issubclass(clients["kinesis"].exceptions.ProvisionedThroughputExceededException, Exception)
    assert issubclass(clients["s3"].exceptions.NoSuchKey, Exception)
