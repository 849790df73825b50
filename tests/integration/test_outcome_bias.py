"""Real rides whose outcomes arrive when they end: errors judged at once are biased, those of cohorts are exact."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.local.demo.replay import ride_events
from lambda_function.aws.archive_store import ArchiveStore
from lambda_function.core.bundle import ModelBundle
from lambda_function.core.events import decode_prediction
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.processor import process
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES, Entry, Envelope, KinesisRecord
from tests.builders import SHARD_ID, SMALL_PARAMETERS, training_facts
from tests.builders_tlc import needs_real_months
from tests.fakes import BUCKET, FakeS3
from training.data.load import load_rides
from training.data.months import Month, default_data_dir
from training.data.rides import Rides
from training.model.export import export_bundle
from training.model.fit import fit_forest
from training.monitoring.hours import Hour
from training.monitoring.join.join import join_hour
from training.monitoring.join.options import JoinOptions
from training.monitoring.summary import HourSummary, Sums
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle

pytestmark = needs_real_months

HOUR_UTC, NEW_YORK_BEHIND_S = 22, 5 * 3600
"""The rides of 17:00 to 18:00 in New York's winter: the busiest hour."""

N_DAYS = 28


@dataclass
class Stack:
    """The archive of one hour of real rides, as the functions leave it."""

    model: ModelBundle
    rides: Rides  # that arrived in the hour
    bucket: Bucket
    n_archived: int = field(default=0)

    def __post_init__(self) -> None:
        self.arrival_s = self.rides.pickup_time.astype(np.int64) + float(NEW_YORK_BEHIND_S)
        self.hour = Hour.of(float(self.arrival_s[0]))
        self.ended_s = self.arrival_s + self.rides.duration_minutes * 60
        events = ride_events(self.rides, range(len(self.rides)))
        records = self._records([(str(n), data) for n, data in enumerate(events)], self.arrival_s)
        self._store(RIDES, records)
        batch = process(records, self.model)
        self.predicted_minutes = np.array(
            [decode_prediction(data).prediction.ride_duration for _, data in batch.entries]
        )
        self._store(PREDICTIONS, self._records(batch.entries, self.arrival_s + 1))

    @property
    def has_ended(self) -> NDArray[np.bool_]:
        """Whether each ride has ended in the hour."""
        return self.ended_s < self.hour.end.timestamp()

    def outcomes(self, chosen: NDArray[np.bool_]) -> None:
        """Archive the outcomes of the chosen rides, which arrive when the rides end."""
        rows = [row for row in np.argsort(self.ended_s, kind="stable").tolist() if chosen[row]]
        minutes = self.rides.duration_minutes.tolist()
        entries = [(str(row), encode_outcome(Outcome(row, minutes[row]))) for row in rows]
        self._store(OUTCOMES, self._records(entries, self.ended_s[rows]))

    def join(self) -> HourSummary:
        """Join the hour from what is archived."""
        return join_hour(self.bucket, self.hour, JoinOptions())

    def rmse_minutes(self) -> float:
        """The error, computed directly."""
        error = self.predicted_minutes - self.rides.duration_minutes
        return math.sqrt(float(error @ error) / len(error))

    def _records(self, entries: Sequence[Entry], at_s: NDArray[np.floating[Any]]) -> list[KinesisRecord]:
        first = 49590338271490256608559692538361571095921575989136588898 + self.n_archived
        self.n_archived += len(entries)
        return [
            KinesisRecord(f"{SHARD_ID}:{first + n}", Envelope(key, str(first + n), one_s, data))
            for n, ((key, data), one_s) in enumerate(zip(entries, at_s.tolist(), strict=True))
        ]

    def _store(self, kind: str, records: Sequence[KinesisRecord]) -> None:
        if records:
            ArchiveStore(self.bucket.s3, BUCKET).store(kind, records, lambda: 60.0)


@cache
def model() -> ModelBundle:
    """A small forest of 2023-01."""
    rides = load_rides("green", [Month(2023, 1)], data_dir=default_data_dir())
    bundle = export_bundle(fit_forest(rides, SMALL_PARAMETERS), rides, training_facts())
    store_bundle(_models(), bundle)
    return bundle.model


@cache
def _models() -> Bucket:
    return Bucket(FakeS3(), BUCKET, n_threads=1)


@cache
def hours() -> tuple[Rides, ...]:
    """The rides of the hour, by day of 2023-02."""
    rides = load_rides("green", [Month(2023, 2)], data_dir=default_data_dir())
    hour = rides.pickup_time.astype("datetime64[h]").astype(np.int64) + NEW_YORK_BEHIND_S // 3600
    return tuple(rides.take(hour == one) for one in np.unique(hour[hour % 24 == HOUR_UTC]).tolist()[:N_DAYS])


def stack(day: int) -> Stack:
    served = model()
    return Stack(served, hours()[day], Bucket(FakeS3(dict(_models().s3.objects)), BUCKET, n_threads=1))


def total(summaries: Iterable[HourSummary]) -> Sums:
    """Add up the sums of hours: they are made for that."""
    sums = [one for summary in summaries for one in summary.by_version.values()]
    names = ("n", "sum_error", "sum_squared_error")
    return Sums(**{name: sum(getattr(one, name) for one in sums) for name in names})


def test_error_judged_at_once_is_biased_and_that_of_the_cohort_is_exact() -> None:
    stacks = [stack(day) for day in range(len(hours()))]
    for one in stacks:
        one.outcomes(one.has_ended)
    at_once = [one.join() for one in stacks]
    for one in stacks:
        one.outcomes(~one.has_ended)
    cohort = [one.join() for one in stacks]

    # Judged at the end of the hour, only the rides that have ended count: they are short, and predicted too long.
    early, whole = total(at_once), total(cohort)
    assert early.n == sum(int(one.has_ended.sum()) for one in stacks)
    assert whole.n == sum(len(one.rides) for one in stacks)
    early_rmse, rmse = (math.sqrt(sums.sum_squared_error / sums.n) for sums in (early, whole))
    early_bias, bias = (sums.sum_error / sums.n for sums in (early, whole))
    minutes = np.concatenate([one.rides.duration_minutes for one in stacks])
    early_minutes = np.concatenate([one.rides.duration_minutes[one.has_ended] for one in stacks])
    print(  # noqa: T201 - the figures of docs/outcomes.md
        f"\nat once: {early.n:,} rides, {early_minutes.mean():.2f} min, RMSE {early_rmse:.3f}, mean error"
        f" {early_bias:+.3f}\ncohort:  {whole.n:,} rides, {minutes.mean():.2f} min, RMSE {rmse:.3f}, mean error"
        f" {bias:+.3f}"
    )
    assert early_minutes.mean() < minutes.mean() - 1
    assert early_bias > bias + 0.3
    assert abs(early_rmse - rmse) > 0.1

    # Judged by cohort, each hour's error and that of all hours are the ones computed directly.
    for one, summary in zip(stacks, cohort, strict=True):
        assert summary.rmse_minutes == pytest.approx(one.rmse_minutes(), abs=1e-9)
    squares = sum(one.rmse_minutes() ** 2 * len(one.rides) for one in stacks)
    assert rmse == pytest.approx(math.sqrt(squares / whole.n), abs=1e-9)
    assert {summary.n_lost + summary.n_conflicting + summary.n_skewed for summary in cohort} == {0}


@pytest.mark.parametrize(
    "missing", ["none", "a tenth at random", "the longest", "the shortest", "the worst predicted", "all"]
)
def test_missing_outcomes_show_in_the_thirds_and_the_bounds_hold(missing: str) -> None:
    one = stack(2)
    n, minutes = len(one.rides), one.rides.duration_minutes
    rank = {
        "none": np.arange(n) + n,
        "a tenth at random": np.random.default_rng(1).permutation(n),
        "the longest": (-minutes).argsort().argsort(),
        "the shortest": minutes.argsort().argsort(),
        "the worst predicted": (-np.abs(one.predicted_minutes - minutes)).argsort().argsort(),
        "all": np.arange(n) - n,
    }[missing]
    has_outcome = rank >= n // 10
    one.outcomes(has_outcome)
    summary = one.join()
    assert summary.n_without_outcome == n - has_outcome.sum()
    assert summary.rmse_bounds_minutes is not None
    low, high = summary.rmse_bounds_minutes
    shares = [third.n_with_outcome / third.n for third in summary.outcome_share_by_third]
    known = summary.rmse_minutes or math.nan
    print(  # noqa: T201 - as above
        f"\nmissing: {missing}: shares {', '.join(f'{share:.2f}' for share in shares)}, RMSE {known:.3f} with outcomes,"
        f" {one.rmse_minutes():.3f} of all, bounds {low:.3f} to {high:.3f}"
    )
    assert low - 1e-9 <= one.rmse_minutes() <= high + 1e-9
    for third in summary.outcome_share_by_third:
        inside = (third.low <= one.predicted_minutes) & (one.predicted_minutes <= third.high)
        assert [third.n, third.n_with_outcome] == [np.count_nonzero(inside), np.count_nonzero(inside & has_outcome)]
    if missing == "the longest":  # which are mostly predicted long
        assert shares[2] < shares[0] - 0.1
