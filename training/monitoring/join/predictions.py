"""The archived predictions of an hour's rides: one a ride, and what else was predicted for it."""

import math
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import NamedTuple

import msgspec

from lambda_function.core.archive_lines import ArchivedRecord
from lambda_function.core.events import UNDECODABLE, decode_prediction
from training.monitoring.join.skew import digest64

NO_ROW = -1


class ArchivedPrediction(msgspec.Struct, gc=False):
    """A prediction as it was published first; NaN stands for no interval.

    Attributes:
        digest: `digest64` of its bytes.
        at_s: When the stream of predictions took it, in seconds since the epoch.
        row: The number of its ride; NO_ROW if none was read.
    """

    model_version: str
    digest: int
    minutes: float
    low_minutes: float
    high_minutes: float
    at_s: float
    row: int = NO_ROW


class Choice(NamedTuple):
    """The prediction that stands for a ride that was predicted differently, and whether that is a conflict."""

    prediction: ArchivedPrediction
    is_conflicting: bool


class Predictions:
    """Predictions by id. The result does not depend on the order in which they are added.

    Attributes:
        by_id: The first of each id.
        n_repeated: How often an id came again with the same bytes.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, ArchivedPrediction] = {}
        self.n_repeated = 0
        self._others: dict[str, list[ArchivedPrediction]] = {}
        self._versions: dict[str, str] = {}

    def add(self, records: Iterable[ArchivedRecord], is_other: Callable[[str], bool] | None = None) -> None:
        """Add the predictions among records; leave out what is none, and ids of which `is_other` is true."""
        for record in records:
            try:
                prediction = decode_prediction(record.data)
            except UNDECODABLE:
                continue
            if is_other and is_other(prediction.prediction_id):
                continue
            low, high = prediction.interval or (math.nan, math.nan)
            version = self._versions.setdefault(prediction.version, prediction.version)
            minutes = prediction.prediction.ride_duration
            new = ArchivedPrediction(version, digest64(record.data), minutes, low, high, record.at_s)
            old = self.by_id.setdefault(prediction.prediction_id, new)
            if old is not new:
                self._add_again(prediction.prediction_id, old, new)

    @property
    def has_others(self) -> bool:
        """Whether an id has predictions that differ."""
        return bool(self._others)

    def _add_again(self, prediction_id: str, old: ArchivedPrediction, new: ArchivedPrediction) -> None:
        known = [old, *self._others.get(prediction_id, ())]
        same = next((one for one in known if one.digest == new.digest), None)
        if same is None:
            self._others.setdefault(prediction_id, []).append(new)
            return
        self.n_repeated += 1
        same.at_s = min(same.at_s, new.at_s)

    def choices(self, withdrawn: Container[str]) -> dict[str, Choice]:
        """Return the choice for each id with predictions that differ.

        It is the first of a version that was not withdrawn, else the first. Two predictions of one version always
        conflict; those of several versions, if more than one of them was not withdrawn.
        """
        return {
            prediction_id: _choose([self.by_id[prediction_id], *others], withdrawn)
            for prediction_id, others in self._others.items()
        }


def id_of_prediction(data: bytes) -> str:
    """Return the id of an encoded prediction; empty if it is none."""
    try:
        return decode_prediction(data).prediction_id
    except UNDECODABLE:
        return ""


def _choose(predictions: list[ArchivedPrediction], withdrawn: Container[str]) -> Choice:
    standing = [one for one in predictions if one.model_version not in withdrawn]
    versions = {one.model_version for one in predictions}
    n_standing = len({one.model_version for one in standing})
    chosen = min(standing or predictions, key=_rank)
    return Choice(chosen, len(versions) < len(predictions) or n_standing > 1)


def _rank(one: ArchivedPrediction) -> tuple[object, ...]:
    """Return what orders predictions of one ride: NaN has no order, its text has."""
    return one.at_s, one.model_version, one.minutes, repr(one.low_minutes), repr(one.high_minutes)


def reached(prediction_ids: Iterable[str], shards: Collection[str], so_far: Mapping[str, int]) -> dict[str, int]:
    """Return the greatest sequence number that has a prediction, of each of these shards.

    >>> reached(["s-0:7", "s-0:9:2", "s-1:8"], {"s-0"}, {})
    {'s-0': 9}
    """
    numbers = dict(so_far)
    for prediction_id in prediction_ids:
        shard_id, _, place = prediction_id.partition(":")
        digits = place.partition(":")[0]
        if shard_id in shards and digits.isdecimal():
            numbers[shard_id] = max(int(digits), numbers.get(shard_id, -1))
    return numbers
