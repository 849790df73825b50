"""The code in docs/consuming.md works as it stands there."""

import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.operate.consumer import SqliteTable
from lambda_function.core.events import encode_predictions
from lambda_function.core.kpl import pack
from tests.builders import invocation
from tests.fakes import FakeKinesis

TEXT = (Path(__file__).parents[2] / "docs" / "consuming.md").read_text(encoding="utf-8")
DYNAMODB, SQLITE = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def prediction(number: int, version: str) -> bytes:
    (data,) = encode_predictions(version, [17.4], [number], [f"shardId-000000000000:{number}"])
    return data


def names_in(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own document
    return names


@pytest.mark.slow  # moto in process
def test_function_keeps_the_later_of_two_predictions_with_one_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client: Any = boto3.client("dynamodb")
        client.create_table(
            TableName="predictions",
            KeySchema=[{"AttributeName": "prediction_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "prediction_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        handler = names_in(DYNAMODB)["lambda_handler"]
        too_large = prediction(3, "x" * 500_000)
        event = invocation(prediction(1, "withdrawn"), too_large, prediction(2, "a"), prediction(1, "good"))
        for one in (event, event, {"Records": event["Records"][:1]}):
            handler(one, None)
        kept = sorted(bytes(item["data"]["B"]) for item in client.scan(TableName="predictions")["Items"])
    assert kept == sorted([prediction(1, "good"), prediction(2, "a")])


def test_program_keeps_the_later_of_two_predictions_with_one_id(tmp_path: Path) -> None:
    kinesis = FakeKinesis(stream_name="ride-predictions")
    (packed,) = pack([("2", prediction(2, "a")), ("3", prediction(3, "a"))], n_groups=1)
    kinesis.put(prediction(1, "withdrawn"), packed.data, prediction(1, "good"), prediction(2, "a"))
    path = str(tmp_path / "predictions.sqlite")
    for _ in range(2):
        names_in(SQLITE)["keep_predictions"](kinesis, path, lambda _: True)
    with SqliteTable(path) as table:
        assert [row.data for row in table] == [prediction(1, "good"), prediction(2, "a"), prediction(3, "a")]
