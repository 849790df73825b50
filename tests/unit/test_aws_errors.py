"""Errors of AWS are one sentence, which names the options that mend them."""

import pytest
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from infra.cli.aws_errors import aws_sentence


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "It was refused."}}, "PutRecords")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refused("ExpiredTokenException"), ("It was refused: log in again", "--profile", "--local")),
        (refused("UnrecognizedClientException"), ("log in again", "--local")),
        (refused("ResourceNotFoundException"), ("check the name, --stack, --region", "--local")),
        (EndpointConnectionError(endpoint_url="https://kinesis.nowhere"), ("nowhere", "--region", "--endpoint-url")),
    ],
)
def test_error_names_the_options(error: BotoCoreError | ClientError, words: tuple[str, ...]) -> None:
    sentence = aws_sentence(error)
    assert all(word in sentence for word in words)


def test_other_error_is_left_as_it_is() -> None:
    error = refused("ProvisionedThroughputExceededException")
    assert aws_sentence(error) == str(error)
