"""What a join depends on, and whether the second pass of an hour can change anything at all.

Most second passes of a quiet stream find nothing new. Then the labelled rides stay, and only the summary is stored
again, with the bytes that joining the hour once more would give.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

import duckdb
import msgspec

from lambda_function.core.archive_lines import ArchivedRecord
from lambda_function.core.outcomes import ride_key
from lambda_function.core.records import KINDS, OUTCOMES, PREDICTIONS, RIDES
from lambda_function.errors import ArchiveError
from training.errors import BucketError
from training.monitoring.hours import FIRST, LONGEST_RIDE_MINUTES, SECOND, SECOND_PASS_AGE, Hour, hours_between
from training.monitoring.join.archive_reader import list_hours
from training.monitoring.join.failures import first_numbers, is_before
from training.monitoring.join.late import LateRecords
from training.monitoring.join.options import JoinOptions
from training.monitoring.join.outcome_match import outcomes_of
from training.monitoring.join.predictions import id_of_prediction
from training.monitoring.summary import HourSummary, load_summary
from training.registry.bucket import Bucket

_MINUTES_PER_HOUR = 60
_DIGEST_DIGITS = 16
_PARQUET = b"PAR1"  # at both ends of a file


@dataclass(frozen=True, slots=True)
class Inputs:
    """The objects of the archive that the first pass of an hour depends on.

    Attributes:
        n_objects: How many, by kind.
        n_bytes: Their size as stored.
        digest: Of their keys and sizes, the options and the version of DuckDB.
    """

    n_objects: dict[str, int]
    n_bytes: int
    digest: str

    @classmethod
    def of(cls, bucket: Bucket, hour: Hour, options: JoinOptions, reach_hours: int) -> "Inputs":
        """List them: of the hour and of the hours until the horizon, and what the join reads of the hours before."""
        first = {RIDES: -reach_hours, PREDICTIONS: -1, OUTCOMES: 0}
        listed = [
            (kind, one) for kind in KINDS for one in list_hours(bucket, kind, hour + first[kind], hour + reach_hours)
        ]
        facts = [options.outcome_delay_minutes, options.max_recomputed, duckdb.__version__]
        text = msgspec.json.encode([*facts, sorted((one.key, one.n_bytes) for _, one in listed)])
        return cls(
            n_objects=dict(Counter(kind for kind, _ in listed)),
            n_bytes=sum(one.n_bytes for _, one in listed),
            digest=hashlib.sha256(text).hexdigest()[:_DIGEST_DIGITS],
        )


def unchanged(
    bucket: Bucket, hour: Hour, options: JoinOptions, inputs: Inputs, late: LateRecords, labelled: str
) -> HourSummary | None:
    """Return the summary of a second pass that changes no labelled ride; None if it may change one.

    It changes none if the archive is as it was, all was read and compared, each ride event has one prediction or a
    reject, and no late outcome or prediction may be of one of the rides. Rejects that were found are not looked for
    again.

    Args:
        bucket: The archive, the labelled rides and the summary of the first pass.
        hour: The hour.
        options: What the join depends on besides.
        inputs: What the hour depends on now.
        late: The late outcomes of the hours after the horizon.
        labelled: The key of the labelled rides.

    Raises:
        BucketError: S3 fails.
    """
    before = None
    with suppress(BucketError):  # a damaged summary: the hour is joined
        before = load_summary(bucket, hour)
    ends_on_the_hour = (LONGEST_RIDE_MINUTES + options.outcome_delay_minutes) % _MINUTES_PER_HOUR == 0
    if before is None or not ends_on_the_hour or not _is_final(before, inputs):
        return None
    hours = list(hours_between(hour + (1 + late.reach_hours), hour.end + SECOND_PASS_AGE))
    try:
        if before.n_rejected and _may_be_predicted(bucket, hour, late.records(PREDICTIONS, hours)):
            return None
        keys = set(_ride_keys(late.records(OUTCOMES, hours)))
    except ArchiveError:
        return None
    if _has_ride(bucket, labelled, keys):
        return None
    minutes = int(SECOND_PASS_AGE.total_seconds()) // _MINUTES_PER_HOUR
    return msgspec.structs.replace(before, pass_number=SECOND, horizon_minutes=minutes)


def _is_final(before: HourSummary, inputs: Inputs) -> bool:
    """Return whether only late records can change what a pass has found."""
    return (
        before.pass_number >= FIRST
        and before.inputs == inputs.digest
        and not (before.n_failed or before.n_waiting or before.n_lost)
        and not (before.damaged_objects or before.n_unrecomputed or before.n_differing)
    )


def _ride_keys(records: Iterable[ArchivedRecord]) -> Iterator[str]:
    found = chain.from_iterable(outcomes_of(record)[0] for record in records)
    return (ride_key(outcome.ride_id) for _, outcome in found)


def _may_be_predicted(bucket: Bucket, hour: Hour, records: Iterable[ArchivedRecord]) -> bool:
    """Return whether one of these predictions may be of a record that arrived in the hour, and not before it."""
    firsts = first_numbers(bucket, [hour + -1, hour])
    return not all(is_before(id_of_prediction(record.data), firsts) for record in records)


def _has_ride(bucket: Bucket, labelled: str, keys: set[str]) -> bool:
    """Return whether labelled rides have one of these keys; True if there are none, or they are damaged."""
    stored = bucket.read(labelled)
    if stored is None or not (stored.body.startswith(_PARQUET) and stored.body.endswith(_PARQUET)):
        return True
    if not keys:
        return False
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, _database().cursor() as connection:
        Path(file.name).write_bytes(stored.body)
        try:
            found = connection.execute("select ride_id from read_parquet(?)", [file.name]).fetchnumpy()
            return not keys.isdisjoint(found["ride_id"].tolist())
        except duckdb.Error:
            return True


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """Open an empty database, once a process: that takes longer than to read a small hour. Each reader has a cursor."""
    return duckdb.connect(config={"threads": 1})
