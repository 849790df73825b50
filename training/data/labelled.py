"""The form of labelled rides, `labelled/dt=…/hh=…/rides.parquet`: columns, their types, and the values of status.

The join writes it, training reads it, and the template's Glue table describes it.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import Final, NamedTuple


class Column(NamedTuple):
    """A column of labelled rides, and its type for DuckDB, which writes it, and for Glue, which Athena reads."""

    name: str
    duckdb: str
    glue: str


COLUMNS: Final = (
    Column("event_id", "VARCHAR", "string"),
    Column("ride_id", "VARCHAR", "string"),  # JSON form as text
    Column("arrival_time", "TIMESTAMP", "timestamp"),  # microseconds, UTC
    Column("pickup_zone", "SMALLINT", "smallint"),
    Column("dropoff_zone", "SMALLINT", "smallint"),
    Column("trip_distance_miles", "DOUBLE", "double"),  # as sent; 0 if it is missing
    Column("pickup_time", "TIMESTAMP", "timestamp"),  # New York wall clock; the arrival's if the event has none
    Column("has_pickup_time", "BOOLEAN", "boolean"),
    Column("model_version", "VARCHAR", "string"),  # null, as the next three, without a prediction
    Column("predicted_minutes", "DOUBLE", "double"),
    Column("low_minutes", "DOUBLE", "double"),  # null if the model has no interval
    Column("high_minutes", "DOUBLE", "double"),
    Column("duration_minutes", "DOUBLE", "double"),  # null, as the next two, without an outcome
    Column("outcome_time", "TIMESTAMP", "timestamp"),  # the outcome's arrival, as arrival_time
    Column("outcome_id", "VARCHAR", "string"),
    Column("status", "VARCHAR", "string"),  # one of STATUSES
    Column("contradicting", "BOOLEAN", "boolean"),  # a later outcome gave another duration
    Column("conflicting", "BOOLEAN", "boolean"),  # two predictions of the event differ
    Column("skewed", "BOOLEAN", "boolean"),  # the version that served gives another prediction
)
"""The columns, in the order of the file. A file has one row a ride event, sorted by arrival_time and event_id."""

LABELLED: Final = "labelled"
NO_OUTCOME: Final = "no_outcome"
REJECTED: Final = "rejected"
FAILED: Final = "failed"
WAITING: Final = "waiting"
LOST: Final = "lost"

STATUSES: Final = (LABELLED, NO_OUTCOME, REJECTED, FAILED, WAITING, LOST)
"""Prediction and outcome; prediction alone; and without a prediction: a reject is stored, the event lies in a failed
batch, the function has not reached it yet, or none of these."""

FOLDER: Final = "labelled"
FILE: Final = "rides.parquet"
"""The key of an hour is ``labelled/dt=2026-08-01/hh=09/rides.parquet``, by the ride event's arrival in UTC."""

MAX_EARLY: Final = timedelta(days=2)
"""How long before its pickup an event may arrive: New York's offset, and a producer's clock that is a day ahead."""

_KEY: Final = re.compile(rf"{FOLDER}/dt=(\d{{4}}-\d\d-\d\d)/.+\.parquet")


def keys_from(keys: Iterable[str], first: date) -> Iterator[str]:
    """Return those keys of files that may have a ride with a pickup on a day or later.

    A late event may arrive at any time after its pickup, so the newest file may have a ride of any day.
    """
    earliest = first - MAX_EARLY
    for key in keys:
        found = _KEY.fullmatch(key)
        if found and date.fromisoformat(found[1]) >= earliest:
            yield key
