"""The code in docs/consuming.md works as it stands there."""

import gzip
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest
from moto import mock_aws

from infra.operate.consumer import SqliteTable
from infra.stack.template import TEMPLATE, read_template
from lambda_function.core.archive_lines import encode_lines
from lambda_function.core.events import encode_predictions
from lambda_function.core.kpl import pack
from lambda_function.core.records import decode_records
from tests.builders import invocation
from tests.fakes import FakeKinesis

TEXT = (Path(__file__).parents[2] / "docs" / "consuming.md").read_text(encoding="utf-8")
DYNAMODB, SQLITE = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
UPSERT, FROM_ARCHIVE = re.findall(r"```sql\n(.*?)```", TEXT, flags=re.DOTALL)
(MAPPING,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


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


def test_statement_keeps_the_later_of_two_predictions_with_one_id() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE predictions (prediction_id TEXT PRIMARY KEY, place TEXT, data TEXT)")
        for place, data in ((9, "withdrawn"), (10, "good"), (9, "withdrawn"), (10, "good")):
            row = {"prediction_id": "shardId-000000000000:1", "place": str(place).zfill(60), "data": data}
            database.execute(UPSERT, row)
        assert database.execute("SELECT data FROM predictions").fetchall() == [("good",)]


def test_query_of_the_archive_keeps_the_later_of_two_predictions_with_one_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sent = (
        prediction(1, "withdrawn"),
        prediction(2, "a"),
        prediction(1, "good"),
        prediction(2**70, "big"),
        b"not JSON \xff",
    )
    lines = encode_lines(decode_records(invocation(*sent)))
    for hour, some in (("08", lines), ("09", lines)):  # a record may be in several objects
        folder = tmp_path / "archive" / "predictions" / "dt=2021-01-05" / f"hh={hour}"
        folder.mkdir(parents=True)
        (folder / "shardId-000000000000-1-0.ndjson.gz").write_bytes(gzip.compress(some))
    with duckdb.connect() as connection:
        found = connection.execute(FROM_ARCHIVE).fetchall()
    assert sorted(json.loads(data)["version"] for _, data in found) == ["a", "big", "good"]
    assert {one_id for one_id, _ in found} == {f"shardId-000000000000:{number}" for number in (1, 2, 2**70)}


def test_mapping_reads_outputs_that_the_stack_exports() -> None:
    imported = re.findall(r"!ImportValue ridecast(-[A-Za-z]+)", MAPPING)
    exported = [
        one["Export"]["Name"]["Fn::Sub"] for one in read_template(TEMPLATE)["Outputs"].values() if "Export" in one
    ]
    assert {f"${{AWS::StackName}}{name}" for name in imported} <= set(exported)
