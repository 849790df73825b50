"""The audit of an hour: is each ride accounted for, and does it have one prediction, that of the version that served?

- *lost*: a ride event without prediction and without reject, and not in a failed batch (`account_for`).
- *conflicting*: an id with different bytes. One version always gives the same; two versions may both have predicted a
  record if a rollback withdrew all but one of them (`withdrawn_versions`).
- *skewed*: the version that served, loaded again, gives other bytes (`skew.py`).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from training.data.labelled import FAILED, LOST, REJECTED, WAITING
from training.monitoring.hours import Hour
from training.monitoring.join.failures import Unaccounted, place_of, take_out_failed, take_out_rejects
from training.registry.bucket import Bucket


class Account(NamedTuple):
    """What became of records and parts without a prediction, by id."""

    statuses: dict[str, str]  # a value of `labelled.STATUSES` for each
    reasons: dict[str, str]  # why those were rejected of which a reject is stored


def account_for(
    bucket: Bucket,
    stream: str,
    hour: Hour,
    missing: Iterable[str],
    reached: Mapping[str, int],
    other_predictions: Iterable[str] = (),
    *,
    may_wait: bool = True,
) -> Account:
    """Return what became of records and parts without a prediction.

    Args:
        bucket: Where rejects, failed batches and the archive are.
        stream: The name of the ride events' stream.
        hour: When the records arrived.
        missing: The ids of rides without prediction, and of records and parts that are no ride.
        reached: The greatest sequence number that has a prediction, by shard, of all predictions that were read, also
            of those of later hours.
        other_predictions: Ids of predictions whose record arrived in the hour, but that no ride has by this code: the
            code that served divided the record otherwise. They count as a result of the record, REJECTED.
        may_wait: Whether a record that nothing has come after is WAITING, and not LOST. Without it, as two days after
            the hour, such a record is LOST too.

    Raises:
        BucketError: S3 fails.
    """
    left = Unaccounted(missing)
    rejects = take_out_rejects(bucket, stream, hour, left)
    statuses = dict.fromkeys(rejects, REJECTED)
    statuses |= dict.fromkeys(take_out_failed(bucket, stream, hour, left), FAILED)
    for prediction_id in other_predictions:
        statuses |= dict.fromkeys(left.take_out(prediction_id), REJECTED)
    last = dict(reached)
    for shard_id, number in map(place_of, statuses):
        last[shard_id] = max(last.get(shard_id, -1), number)
    for event_id in left:
        shard_id, number = place_of(event_id)
        statuses[event_id] = WAITING if may_wait and number > last.get(shard_id, -1) else LOST
    return Account(statuses, rejects)
