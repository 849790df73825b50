"""Lambda's events: their format and size, and the records that a response reports as done."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.event_source.lambda_event import count_done, json_sizes, lambda_records

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/ride-events"
SHARD = "shardId-000000000000"


def raw_record(
    data: bytes = b"x", key: str = "key", sequence_number: str = "1", arrived_s: float = 1.5
) -> dict[str, Any]:
    arrived = datetime.fromtimestamp(arrived_s, UTC)
    return {
        "Data": data,
        "PartitionKey": key,
        "SequenceNumber": sequence_number,
        "ApproximateArrivalTimestamp": arrived,
    }


def batch_of(*numbers: str) -> Any:
    return lambda_records([raw_record(sequence_number=number) for number in numbers], SHARD, ARN)


def test_records_have_lambdas_format() -> None:
    raw = raw_record(b"Hello, this is a test.", "1", "49590338271490256608559692538361571095", arrived_s=1545084650.987)

    # The sample event of AWS's "Using Lambda to process records from Kinesis", with this record's own values.
    assert lambda_records([raw], SHARD, ARN) == [
        {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": "1",
                "sequenceNumber": "49590338271490256608559692538361571095",
                "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==",
                "approximateArrivalTimestamp": 1545084650.987,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{SHARD}:49590338271490256608559692538361571095",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
            "awsRegion": "eu-west-1",
            "eventSourceARN": ARN,
        }
    ]


@given(
    st.lists(
        st.builds(
            raw_record,
            data=st.binary(max_size=50),
            key=st.text(min_size=1, max_size=20),
            sequence_number=st.integers(1, 10**56).map(str),
            arrived_s=st.floats(0, 4e9),
        ),
        max_size=3,
    )
)
def test_size_is_exact_without_encoding(raw: list[dict[str, Any]]) -> None:
    records = lambda_records(raw, SHARD, ARN)

    assert json_sizes(records) == [len(json.dumps(record, separators=(",", ":"))) for record in records]


@pytest.mark.parametrize(
    "response",
    [
        None,
        {},
        {"batchItemFailures": []},
        {"batchItemFailures": None},
        {"statusCode": 200},
    ],
)
def test_response_without_failures_means_that_all_records_are_done(response: object) -> None:
    assert count_done(response, batch_of("1", "2", "3")) == 3


@pytest.mark.parametrize(
    "response",
    [
        "done",
        [],
        0,
        {"batchItemFailures": {}},
        {"batchItemFailures": "2"},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemIdentifier": "4"}]},
        {"batchItemFailures": [{"itemIdentifier": 2}]},
        {"batchItemFailures": [{"itemIdentifier": ["2"]}]},
        {"batchItemFailures": [{"itemIdentifer": "2"}]},
        {"batchItemFailures": ["2"]},
        {"batchItemFailures": [None]},
        {"batchItemFailures": [{"itemIdentifier": "3"}, {"itemIdentifier": "4"}]},
    ],
)
def test_malformed_response_or_unknown_record_means_that_no_record_is_done(response: object) -> None:
    assert count_done(response, batch_of("1", "2", "3")) == 0


def test_lowest_reported_number_is_the_lowest_number_not_the_lowest_text() -> None:
    failures = {"batchItemFailures": [{"itemIdentifier": "10"}, {"itemIdentifier": "9"}]}

    assert count_done(failures, batch_of("8", "9", "10")) == 1
