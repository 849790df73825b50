"""An answer that is not AWS's own is retried, and an error of AWS if it stays."""

import io
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import ClientError

from infra.operate.answers import retry_cut_off_answers

PAGE = b"<!doctype html>\n<title>Bad Gateway</title><p>proxy"
STACKS = b"<DescribeStacksResponse><DescribeStacksResult><Stacks/></DescribeStacksResult></DescribeStacksResponse>"


class Raw(io.BytesIO):
    """The part of urllib3's response that botocore reads."""

    def stream(self, **_: object) -> Iterator[bytes]:
        """Yield the body."""
        yield self.read()


def client_with(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, bytes], service: str = "cloudformation") -> Any:
    """A client that gets these answers in place of AWS's."""
    left = list(answers)

    def answer(request: Any, **_: object) -> Any:
        status, body = left.pop(0)
        return AWSResponse(request.url, status, HTTPHeaders(), Raw(body))

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    retries = Config(retries={"mode": "standard", "total_max_attempts": 2})
    monkeypatch.setattr("time.sleep", lambda _: None)  # between two attempts
    make: Any = boto3.client
    made = make(service, region_name="us-east-1", config=retries)
    made.meta.events.register("before-send", answer)
    retry_cut_off_answers(made)
    return made


@pytest.mark.parametrize("status", [200, 403, 502])
def test_page_of_a_proxy_is_no_answer_of_aws(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client_with(monkeypatch, (status, PAGE), (200, STACKS)).describe_stacks()["Stacks"] == []
    with pytest.raises(ClientError, match="reached max retries: 1"):
        client_with(monkeypatch, (status, PAGE), (status, PAGE)).describe_stacks()


@pytest.mark.parametrize("n_bytes", [0, 10])
@pytest.mark.parametrize("service", ["kms", "sqs"])
def test_answer_that_is_cut_off_is_asked_for_again(service: str, n_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"KeyId": "k", "Attributes": {}}'
    client = client_with(monkeypatch, (200, body[:n_bytes]), (200, body), service=service)
    if service == "kms":
        assert client.get_key_rotation_status(KeyId="k")["KeyId"] == "k"
    else:
        assert client.get_queue_attributes(QueueUrl="https://q")["Attributes"] == {}


def test_error_of_aws_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"<ErrorResponse><Error><Code>ValidationError</Code><Message>no</Message></Error></ErrorResponse>"
    with pytest.raises(ClientError, match="ValidationError"):
        client_with(monkeypatch, (400, body)).describe_stacks()
    with pytest.raises(ClientError, match="AccessDenied"):
        client_with(monkeypatch, (403, b"<Code>AccessDenied"), service="kms").get_key_rotation_status(KeyId="k")
