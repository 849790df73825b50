"""A small consumer of predictions: it holds one row for each `prediction_id`, however often a prediction comes.

The rule, in full in docs/consuming.md: of two predictions with one id, the one that is later on the stream stays.
They have the same bytes, unless a model was withdrawn by a rollback in between: then the later one is the good one. A
row remembers its place on the stream, so reading a part of the stream again changes nothing.

It needs the standard library, msgspec and the function's core, and nothing of `training`.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol, Self

import msgspec
from botocore.exceptions import ClientError

from lambda_function.core.kpl import is_aggregated, unpack
from lambda_function.errors import RejectError

_SEQUENCE_DIGITS = 60  # real sequence numbers have 56
_INDEX_DIGITS = 6

MAX_DYNAMO_BYTES = 399 * 1024
"""Of a prediction: an item has at most 400 KiB, names and key included. Only a huge `ride_id` makes one larger."""


class Row(NamedTuple):
    """A prediction as a table holds it."""

    prediction_id: str
    place: str  # on the stream; later records of an id have a greater text
    data: bytes  # the prediction's JSON


@dataclass(slots=True)
class Counts:
    """What became of the predictions that a table was given."""

    n_new: int = 0  # ids that it did not have
    n_repeated: int = 0  # the same bytes again
    n_replaced: int = 0  # other bytes, later on the stream: they replaced the row
    n_outdated: int = 0  # other bytes, earlier on the stream: the row stayed
    n_unreadable: int = 0  # records that are no predictions
    n_too_large: int = 0  # predictions that the table cannot hold

    def add(self, other: "Counts") -> None:
        """Add the counts of another."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


class Table(Protocol):
    """Where predictions are kept."""

    def upsert(self, rows: Iterable[Row]) -> Counts:
        """Keep rows, each if it is new or later on the stream than the one that is there."""


class _Identified(msgspec.Struct):
    prediction_id: str


_decode_id = msgspec.json.Decoder(_Identified).decode


def consume(records: Iterable[tuple[str, bytes]], table: Table) -> Counts:
    """Keep the predictions of some records of the output stream.

    Args:
        records: Sequence number and data of each; the data are a prediction, or a KPL aggregate of predictions.
        table: Where to keep them.
    """
    counts = Counts()
    counts.add(table.upsert(_rows(records, counts)))
    return counts


def _rows(records: Iterable[tuple[str, bytes]], counts: Counts) -> Iterator[Row]:
    for sequence_number, data in records:
        for index, one in enumerate(_predictions(data)):
            try:
                prediction_id = _decode_id(one).prediction_id
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                counts.n_unreadable += 1
            else:
                yield Row(prediction_id, f"{sequence_number:0>{_SEQUENCE_DIGITS}}:{index:0{_INDEX_DIGITS}}", one)


def _predictions(data: bytes) -> list[bytes]:
    if is_aggregated(data):
        with suppress(RejectError):
            return [one for _, one in unpack(data)]
    return [data]


class SqliteTable:
    """Predictions in an SQLite database, which is a file or ``:memory:``. Each upsert is one transaction.

    Use it in a `with` block, or close it.
    """

    def __init__(self, path: str) -> None:
        self._database = sqlite3.connect(path)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS predictions"
            " (prediction_id TEXT PRIMARY KEY, place TEXT NOT NULL, data BLOB NOT NULL) WITHOUT ROWID"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def upsert(self, rows: Iterable[Row]) -> Counts:
        """Keep rows."""
        counts = Counts()
        with self._database:
            for row in rows:
                self._upsert(row, counts)
        return counts

    def _upsert(self, row: Row, counts: Counts) -> None:
        select = "SELECT place, data FROM predictions WHERE prediction_id = ?"
        found = self._database.execute(select, (row.prediction_id,)).fetchone()
        if found is None:
            counts.n_new += 1
        elif found[1] == row.data:
            counts.n_repeated += 1
        elif found[0] < row.place:
            counts.n_replaced += 1
        else:
            counts.n_outdated += 1
        self._database.execute(
            "INSERT INTO predictions VALUES (?, ?, ?) ON CONFLICT (prediction_id) DO UPDATE"
            " SET place = excluded.place, data = excluded.data WHERE excluded.place > place",
            row,
        )

    def __len__(self) -> int:
        (n_rows,) = self._database.execute("SELECT count(*) FROM predictions").fetchone()
        return int(n_rows)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows by id."""
        for row in self._database.execute("SELECT prediction_id, place, data FROM predictions ORDER BY prediction_id"):
            yield Row(*row)


class DynamoTable:
    """Predictions in a DynamoDB table whose partition key is `prediction_id`, a string.

    Args:
        client: A boto3 client.
        name: The table's name.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def upsert(self, rows: Iterable[Row]) -> Counts:
        """Keep rows, each by one conditional put."""
        counts = Counts()
        for row in rows:
            self._upsert(row, counts)
        return counts

    def _upsert(self, row: Row, counts: Counts) -> None:
        if len(row.data) > MAX_DYNAMO_BYTES:  # it would be refused for ever, and the records behind it would wait
            counts.n_too_large += 1
            return
        try:
            answer = self._client.put_item(
                TableName=self._name,
                Item={"prediction_id": {"S": row.prediction_id}, "place": {"S": row.place}, "data": {"B": row.data}},
                ConditionExpression="attribute_not_exists(prediction_id) OR #place < :place",
                ExpressionAttributeNames={"#place": "place"},
                ExpressionAttributeValues={":place": {"S": row.place}},
                ReturnValues="ALL_OLD",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            kept: Any = error.response.get("Item", {})
            is_same = kept.get("data", {}).get("B") == row.data
            counts.n_repeated += is_same
            counts.n_outdated += not is_same
            return
        before = answer.get("Attributes")
        if before is None:
            counts.n_new += 1
        elif before["data"]["B"] == row.data:
            counts.n_repeated += 1
        else:
            counts.n_replaced += 1
