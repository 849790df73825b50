"""The consumer: one row a prediction id, whatever comes twice, in any cut; the later on the stream stays."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from infra.operate.consumer import MAX_DYNAMO_BYTES, Counts, DynamoTable, Row, SqliteTable, Table, consume
from lambda_function.core.events import encode_predictions
from lambda_function.core.kpl import pack


def prediction(number: int, version: str = "a") -> bytes:
    (data,) = encode_predictions(version, [17.4], [number], [f"shardId-000000000000:{number}"])
    return data


def rows(table: SqliteTable) -> dict[str, bytes]:
    return {row.prediction_id: row.data for row in table}


@pytest.fixture
def table() -> Iterator[SqliteTable]:
    with SqliteTable(":memory:") as made:
        yield made


def test_row_is_new_repeated_replaced_or_outdated_by_its_place_on_the_stream(table: SqliteTable) -> None:
    assert consume([("5", prediction(1))], table) == Counts(n_new=1)
    assert consume([("50", prediction(1))], table) == Counts(n_repeated=1)
    assert consume([("6", prediction(1, "withdrawn"))], table) == Counts(n_outdated=1)
    assert consume([("51", prediction(1, "good"))], table) == Counts(n_replaced=1)
    assert consume([("5", prediction(1)), ("51", prediction(1, "good"))], table) == Counts(n_outdated=1, n_repeated=1)
    assert [row.data for row in table] == [prediction(1, "good")]
    assert len(table) == 1


def test_aggregates_are_unpacked_and_what_is_no_prediction_is_counted(table: SqliteTable) -> None:
    (packed,) = pack([(str(n), prediction(n)) for n in range(3)], n_groups=1)
    records = [("1", packed.data), ("2", b"no prediction"), ("3", packed.data[:-1]), ("4", b"{}"), ("5", b"[" * 9999)]
    assert consume(records, table) == Counts(n_new=3, n_unreadable=4)
    assert list(rows(table).values()) == [prediction(n) for n in range(3)]


def test_rows_stay_in_a_file(tmp_path: Any) -> None:
    path = str(tmp_path / "predictions.sqlite")
    with SqliteTable(path) as table:
        consume([("1", prediction(1))], table)
    with SqliteTable(path) as table:
        assert consume([("1", prediction(1))], table) == Counts(n_repeated=1)


STREAMS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from("ab")), max_size=20)


@given(STREAMS, st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6))
def test_any_parts_of_a_stream_read_again_give_the_rows_of_the_whole_stream(
    stream: list[tuple[int, str]], parts: list[tuple[int, int]]
) -> None:
    records = [(str(place), prediction(number, version)) for place, (number, version) in enumerate(stream)]
    with SqliteTable(":memory:") as table:
        for first, end in [*parts, (0, len(records)), *parts]:
            consume(records[first:end], table)
        found = rows(table)
    assert found == {f"shardId-000000000000:{number}": prediction(number, version) for number, version in stream}


@pytest.mark.slow  # moto in process
def test_dynamodb_gives_the_same_rows_and_counts(table: SqliteTable) -> None:
    with mock_aws():
        client: Any = boto3.client("dynamodb", region_name="us-east-1")
        client.create_table(
            TableName="predictions",
            KeySchema=[{"AttributeName": "prediction_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "prediction_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        history = [("5", "a"), ("50", "a"), ("6", "withdrawn"), ("51", "good"), ("5", "a"), ("51", "good")]
        tables: list[Table] = [table, DynamoTable(client, "predictions")]
        counts = [[consume([(at, prediction(1, version))], one) for at, version in history] for one in tables]
        assert counts[0] == counts[1]
        items = client.scan(TableName="predictions")["Items"]
        found = [Row(one["prediction_id"]["S"], one["place"]["S"], bytes(one["data"]["B"])) for one in items]
        assert found == list(table)
        # AND a prediction that no item can hold does not keep those behind it from the table
        (large,) = encode_predictions("a", [17.4], ["x" * MAX_DYNAMO_BYTES], ["shardId-000000000000:2"])
        records = [("52", large), ("53", prediction(3))]
        assert consume(records, tables[1]) == Counts(n_new=1, n_too_large=1)


def test_it_needs_nothing_of_training() -> None:
    code = (
        "import sys\n"
        "for name in ('training', 'sklearn', 'pyarrow', 'scipy', 'rich', 'typer', 'moto'): sys.modules[name] = None\n"
        "import infra.operate.consumer"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own code
