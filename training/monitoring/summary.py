"""The summary of a joined hour, `monitor/hours/dt=…/hh=….json`: counts and sums that can be added up over hours."""

import math

import msgspec

from training.errors import BucketError
from training.monitoring.hours import Hour
from training.registry.bucket import Bucket

FOLDER = "monitor/hours/"


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over labelled rides of 1 to 60 minutes; an error is predicted minus actual minutes.

    Attributes:
        sum_fourth_power: Of the errors, from which follows how the mean squared error of so many rides varies. Figures
            of monitoring have it; the join's summary leaves it at 0.
    """

    n: int = 0
    sum_error: float = 0.0
    sum_squared_error: float = 0.0
    sum_absolute_error: float = 0.0
    n_with_interval: int = 0
    n_within_interval: int = 0
    sum_width_minutes: float = 0.0
    sum_fourth_power: float = 0.0

    @property
    def bias_minutes(self) -> float | None:
        """The mean error; None without rides."""
        return self.sum_error / self.n if self.n else None

    @property
    def mean_squared_error(self) -> float | None:
        """In square minutes; None without rides."""
        return self.sum_squared_error / self.n if self.n else None

    @property
    def rmse_minutes(self) -> float | None:
        """The root of the mean squared error; None without rides."""
        return math.sqrt(self.sum_squared_error / self.n) if self.n else None

    @property
    def coverage(self) -> float | None:
        """The share of rides that ended within their interval; None without intervals."""
        return self.n_within_interval / self.n_with_interval if self.n_with_interval else None


class Third(msgspec.Struct, frozen=True, kw_only=True):
    """A third of the predicted rides by predicted minutes, from `low` to `high`, and how many have an outcome."""

    low: float
    high: float
    n: int
    n_with_outcome: int


class DamagedObject(msgspec.Struct, frozen=True):
    """An object of the archive that can't be read, and was left out."""

    key: str
    problem: str


class HourSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a join found. Numbers of rides count ride events: distinct ids that arrived in the hour.

    Attributes:
        n_ride_events: Rides, and records that are no ride event. It is the sum of the six numbers that follow.
        n_labelled: With a prediction and an outcome.
        n_without_outcome: With a prediction alone.
        n_rejected: A reject is stored.
        n_rejected_by_reason: The same by the reject's reason. Records that were predicted although they are no ride
            event by this code count as rejected without a reason.
        n_failed: They lie in a failed batch.
        n_waiting: Without any result, and no later record of their shard has one: the function is behind.
        n_lost: Without any result.
        n_conflicting: Two predictions of the ride differ, and neither's version was withdrawn.
        n_differing: Two predictions of the ride differ, conflicting or not.
        n_skewed: The version that served, loaded again, predicts something else.
        n_recomputed: How many predictions were compared with what their version predicts now.
        n_unrecomputed: Predictions whose version can't be loaded.
        unloadable_versions: Why, by version.
        n_duplicates: Records until the first horizon that the archive holds once more, of all kinds.
        n_outcomes: Outcomes that arrived in the hour.
        n_outcomes_rejected: Records on the outcomes stream in the hour that are no outcome.
        n_outcomes_unmatched: Outcomes that arrived in the hour, and no ride event with their ride id before them.
        n_outcomes_unusable: Outcomes of the hour's rides that give no duration, as a drop-off before its pickup.
        n_contradicting: Rides with a second outcome that gives another duration; the first that arrived counts.
        n_out_of_range: Labelled rides that did not take 1 to 60 minutes: they are in no sum.
        by_version: The sums by model version.
        rmse_bounds_minutes: The least and the greatest RMSE possible if the rides without outcome took 1 to 60 minutes.
        damaged_objects: Of the hours until the first horizon. The joins of later hours name theirs.
        n_objects: Objects of the archive that it depends on, by kind: of the hours until the first horizon, and before.
        n_bytes: Their size as stored.
        inputs: The digest of their keys and sizes, the options and the version of DuckDB.
        duckdb: The version of DuckDB: the same bytes come out for one version.
    """

    hour: str
    pass_number: int = msgspec.field(name="pass")
    horizon_minutes: int
    n_ride_events: int = 0
    n_labelled: int = 0
    n_without_outcome: int = 0
    n_rejected: int = 0
    n_rejected_by_reason: dict[str, int] = {}
    n_failed: int = 0
    n_waiting: int = 0
    n_lost: int = 0
    n_conflicting: int = 0
    n_differing: int = 0
    n_skewed: int = 0
    n_recomputed: int = 0
    n_unrecomputed: int = 0
    unloadable_versions: dict[str, str] = {}
    n_duplicates: int = 0
    n_outcomes: int = 0
    n_outcomes_rejected: int = 0
    n_outcomes_unmatched: int = 0
    n_outcomes_unusable: int = 0
    n_contradicting: int = 0
    n_out_of_range: int = 0
    by_version: dict[str, Sums] = {}
    outcome_share_by_third: tuple[Third, ...] = ()
    rmse_minutes: float | None = None
    rmse_bounds_minutes: tuple[float, float] | None = None
    damaged_objects: tuple[DamagedObject, ...] = ()
    n_objects: dict[str, int] = {}
    n_bytes: int = 0
    inputs: str = ""
    duckdb: str = ""


_decode = msgspec.json.Decoder(HourSummary).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def summary_key(hour: Hour) -> str:
    """Return the key of an hour's summary.

    >>> summary_key(Hour.parse("2026-08-01T09"))
    'monitor/hours/dt=2026-08-01/hh=09.json'
    """
    return f"{FOLDER}{hour.partition}.json"


def encode_summary(summary: HourSummary) -> bytes:
    """Encode a summary as JSON with its keys sorted."""
    return _encode(summary) + b"\n"


class DamagedSummaryError(BucketError):
    """An object that is no summary."""

    def __init__(self, bucket: str, key: str, error: Exception) -> None:
        super().__init__(bucket, key, f"is no summary of an hour ({error}): join the hour again")


def load_summary(bucket: Bucket, hour: Hour) -> HourSummary | None:
    """Return an hour's summary; None if it is not joined.

    Raises:
        DamagedSummaryError: The object is no summary.
        BucketError: S3 fails.
    """
    key = summary_key(hour)
    stored = bucket.read(key)
    if stored is None:
        return None
    try:
        return _decode(stored.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedSummaryError(bucket.name, key, error) from error
