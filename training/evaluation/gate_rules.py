"""The gate's rules, one function each: what is wanted, what is seen, and whether that is enough.

docs/decisions/0010 says why these and not others.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import GOLDEN, PARITY_MINUTES, Manifest, ModelBundle, decode_golden_rides
from lambda_function.core.events import decode_ride_event, ride_columns
from lambda_function.core.features import feature_matrix
from lambda_function.core.pickup_time import pickup_minute
from training.data.months import Month
from training.data.rides import Rides
from training.evaluation.bootstrap import LEVEL, Comparison
from training.model.bundle import ExportedBundle
from training.model.evaluation import METRIC_DECIMALS, MonthsResult, SliceResult

JUDGED_RIDES = 1_000
"""From how many rides on a slice is judged. An RMSE over 1,000 green rides is known within 6 %, two models'
ratio, being paired, within 1 to 2 %: below that, a limit of 3 % would be a lottery."""

MAX_SLICE_RATIO = 1.03
"""No judged slice's RMSE may be above its rival's times this."""

COVERAGE_SLACK, SLICE_COVERAGE_SLACK = 0.02, 0.06
"""How far coverage may be from the level: of all rides, of a judged slice. At 80%, chance moves it by
0.0016 over a month of 65,000 rides; the rest is what a month differs from the ones before."""

CHANCE_DEVIATIONS = 2.0
"""Standard deviations that chance may add to a slice's coverage: 0.025 over 1,000 rides. Of forty slices that hold what
they promise one or two stray that far; without it the gate would be a lottery, and name the unlucky one."""

MAX_BUNDLE_BYTES = 500_000
"""All files of a bundle. 500 trees of 31 leaves take 0.2 MB, their evaluation 0.05 MB, and 13 ms of the cold start's
300 to load and verify. Twice that is the most which the cold start's budget has room for."""

MAX_PREDICT_RATIO = 1.5
"""Of the reference forest's time (predict_time.py). `make bench` gives the engine 2.2 us a ride where 500
trees take 1.65, and intervals have 0.3 us more: 2.5 / 1.65."""

MIN_DAYS = 7
"""Fewer days cannot be told from luck: there is not one of each weekday."""

_NAMED_SLICES = 3


class RuleResult(msgspec.Struct, frozen=True):
    """What one rule says: `wanted` and `seen` are one line each."""

    rule: str
    passed: bool
    wanted: str
    seen: str


def used_months(manifest: Manifest) -> frozenset[Month]:
    """Returns the months that a model has met: trained, calibrated or validated on."""
    trained = {data.month for data in manifest.data} | set(manifest.train_months)
    return frozenset(Month.parse(month) for month in trained | set(manifest.validate_months))


def rule_unseen(months: Sequence[Month], candidate: Manifest, champion: Manifest | None) -> RuleResult:
    """Neither model has met the months."""
    met = [
        f"{manifest.model_version} has met {month}"
        for manifest in (candidate, champion)
        if manifest
        for month in sorted(used_months(manifest) & set(months))
    ]
    return RuleResult(
        "unseen month",
        passed=bool(months) and not met,
        wanted="neither model has trained, calibrated or validated on the month",
        seen=_list(met) or _unseen_months(months, candidate),
    )


def rule_service(candidate: Manifest, champion: Manifest | None) -> RuleResult:
    """A channel goes on serving the rides of one service."""
    service = champion.service if champion else candidate.service
    return RuleResult(
        "same service",
        passed=candidate.service == service,
        wanted=f"the model is for {service} taxis" + (", as the channel's" if champion else ""),
        seen=f"it is for {candidate.service} taxis",
    )


def rule_better(result: MonthsResult, comparison: Comparison, candidate: str, champion: str | None) -> RuleResult:
    """The candidate is better than its rival, and not by luck.

    Args:
        result: Candidate and rival on the month.
        comparison: The same by bootstrap.
        candidate: The candidate's version.
        champion: The channel's; None where it is empty, and the rival the baseline.
    """
    rival = champion or "the baseline, the channel being empty"
    seen = (
        f"{comparison.difference_rmse_minutes:+.3f} min [{comparison.low:+.3f}, {comparison.high:+.3f}]:"
        f" {result.model.rmse_minutes:.3f} against {result.baseline.rmse_minutes:.3f} of {rival},"
        f" {comparison.n_rides:,} rides of {comparison.n_days} days"
    )
    if candidate == champion:
        seen = f"{candidate} is in the channel already: it cannot beat itself"
    elif comparison.n_days < MIN_DAYS:
        seen += f"; under {MIN_DAYS} days tell nothing"
    return RuleResult(
        "beats the model in the channel",
        passed=candidate != champion and comparison.n_days >= MIN_DAYS and comparison.high < 0,
        wanted=f"RMSE less the rival's: the {LEVEL:.0%} interval, bootstrapped over days, lies below 0",
        seen=seen,
    )


def rule_slices(result: MonthsResult) -> RuleResult:
    """No large slice pays for what the others gain."""
    judged = sorted(_judged(result), key=_ratio, reverse=True)
    worse = [one for one in judged if _ratio(one) > MAX_SLICE_RATIO]
    named = [f"{one.by} {one.name} {_ratio(one) - 1:+.1%} ({one.model.n_rides:,} rides)" for one in worse or judged[:1]]
    return RuleResult(
        "no slice is worse",
        passed=not worse,
        wanted=f"no slice of {JUDGED_RIDES:,} rides has an RMSE over {MAX_SLICE_RATIO - 1:.0%} above the rival's",
        seen=f"{len(worse)} of {len(judged)} do" + (f"; worst: {_list(named)}" if named else ""),
    )


def rule_coverage(result: MonthsResult, candidate: Manifest, champion: Manifest | None) -> RuleResult:
    """The intervals hold what they promise; a model without them may only follow one without them."""
    if candidate.interval is None or result.coverage is None:
        lost = champion is not None and champion.interval is not None
        return RuleResult(
            "coverage",
            passed=not lost,
            wanted="intervals that hold, or none where the channel has none",
            seen="it has no intervals" + (", and the channel's model has" if lost else ""),
        )
    level = candidate.interval.level
    low, high = (round(level + sign * SLICE_COVERAGE_SLACK, METRIC_DECIMALS) for sign in (-1, 1))
    outside = [one for one in _judged(result) if not low <= (one.coverage or 0.0) <= high]
    off = [one for one in outside if _is_off(one, level)]
    named = [f"{one.by} {one.name} {one.coverage:.3f} ({one.model.n_rides:,} rides)" for one in off]
    return RuleResult(
        "coverage",
        passed=round(abs(result.coverage - level), METRIC_DECIMALS) <= COVERAGE_SLACK and not off,
        wanted=f"{level - COVERAGE_SLACK:.2f} to {level + COVERAGE_SLACK:.2f} overall,"
        f" {low:.2f} to {high:.2f} in slices of {JUDGED_RIDES:,} rides, but for chance",
        seen=f"{result.coverage:.3f} overall, mean width {result.width_minutes:.2f} min;"
        f" {len(outside)} of {len(_judged(result))} slices outside, {len(outside) - len(off)} of them by chance"
        + (f": {_list(named)}" if named else ""),
    )


def rule_parity(candidate: ExportedBundle) -> RuleResult:
    """The golden rides, some of them at thresholds or with missing values, come out as scikit-learn predicted them."""
    golden = decode_golden_rides(candidate.files[GOLDEN])
    rides = [decode_ride_event(bytes(ride.event)).ride for ride in golden]
    minutes = np.array([pickup_minute(ride.pickup_datetime, 0.0) for ride in rides], np.int64)
    predicted = candidate.model.predict(feature_matrix(ride_columns(rides, minutes)))
    off_minutes = float(np.abs(predicted - [ride.duration_minutes for ride in golden]).max())
    return RuleResult(
        "parity with scikit-learn",
        passed=off_minutes <= PARITY_MINUTES,
        wanted=f"golden rides within {PARITY_MINUTES:g} min of scikit-learn's predictions",
        seen=f"at most {off_minutes:.1e} min off, {len(golden)} rides",
    )


def rule_size(candidate: ExportedBundle) -> RuleResult:
    """The cold start can carry the bundle."""
    n_bytes = sum(len(data) for data in candidate.files.values())
    return RuleResult(
        "size",
        passed=n_bytes <= MAX_BUNDLE_BYTES,
        wanted=f"at most {MAX_BUNDLE_BYTES:,} bytes",
        seen=f"{n_bytes:,} bytes",
    )


def rule_predict_time(ratio: float) -> RuleResult:
    """The function can carry the trees: their number, mostly."""
    return RuleResult(
        "predict time",
        passed=ratio <= MAX_PREDICT_RATIO,
        wanted=f"at most {MAX_PREDICT_RATIO:.1f} times the reference forest's, 500 trees of 31 leaves",
        seen=f"{ratio:.2f} times",
    )


def _unseen_months(months: Sequence[Month], candidate: Manifest) -> str:
    """Names the months, and says so where they lie in the candidate's past: there it knows how things went on."""
    if not months:
        return "each month in hand has been met by one of them: bring a later one"
    past = max(months) < Month.parse(candidate.train_months[-1])
    return _list([str(month) for month in months]) + (", before the candidate's last training month" if past else "")


def _is_off(one: SliceResult, level: float) -> bool:
    """Whether a slice's coverage lies further from the level than the slack and chance together."""
    chance = CHANCE_DEVIATIONS * math.sqrt(level * (1 - level) / one.model.n_rides)
    return abs((one.coverage or 0.0) - level) > SLICE_COVERAGE_SLACK + chance


def _judged(result: MonthsResult) -> list[SliceResult]:
    return [one for one in result.slices if one.model.n_rides >= JUDGED_RIDES]


def _ratio(one: SliceResult) -> float:
    return one.model.rmse_minutes / max(one.baseline.rmse_minutes, 1e-9)


def _list(texts: Sequence[str]) -> str:
    """Joins texts, the first few, and says how many more there are."""
    more = len(texts) - _NAMED_SLICES
    return ", ".join(texts[:_NAMED_SLICES]) + (f" and {more} more" if more > 0 else "")


# MERGED FROM training/judging/predict_time.py
# How long a model predicts, in multiples of a reference forest: what a busy machine cannot blur.
# A time in microseconds says as much of the machine as of the model. So the same thread predicts the same rides with
# the model and with a made-up forest of the size that the function's budget was made for, in turns.
REFERENCE_TREES, REFERENCE_LEAVES = 500, 31
TIMED_RIDES = 10_000
"""A large batch, as `make bench` times it."""

_REFERENCE_FEATURES = 8  # the first ones: one more costs the model something, and not the reference
_MAX_THRESHOLDS = 254  # of a feature, all trees together: scikit-learn has 255 bins
_ALL_LEAVES = 0xFFFFFFFF
_SEED = 20210101
_ROUNDS = 9

Clock = Callable[[], float]


def predict_time_ratio(model: ModelBundle, rides: Rides, clock: Clock = time.thread_time) -> float:
    """Times a model, intervals included, beside the reference forest, and returns the median ratio of the two.

    Args:
        model: Whose predictions are timed.
        rides: Which ones: TIMED_RIDES of them, evenly spread, repeated where there are fewer; at least one.
        clock: Seconds of this thread's CPU time, which other processes leave alone.
    """
    chosen = np.linspace(0, len(rides) - 1, TIMED_RIDES).astype(np.intp)
    matrix = feature_matrix(rides.take(chosen).columns)
    reference_matrix = np.ascontiguousarray(matrix[:, :_REFERENCE_FEATURES])
    # The engine is the model's own: what is compared is the trees.
    reference = type(model.forest).from_arrays(reference_arrays(reference_matrix), _REFERENCE_FEATURES)

    def predict() -> None:
        model.encoded_intervals(matrix, model.predict(matrix))

    def predict_reference() -> None:
        reference.predict(reference_matrix)

    predict()
    predict_reference()
    ratios = [_seconds(predict, clock) / _seconds(predict_reference, clock) for _ in range(_ROUNDS)]
    return statistics.median(ratios)


def reference_arrays(matrix: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Makes up the arrays of a forest of REFERENCE_TREES trees, each a chain of REFERENCE_LEAVES leaves.

    What a forest of bit masks costs depends on its trees' number, not on their shape. It depends, through the
    processor's caches, on how rides spread over each feature's thresholds: so these are quantiles of the rides'.

    Args:
        matrix: Some rides (n, n_features).
    """
    rng = np.random.default_rng(_SEED)
    thresholds = [_quantiles(column) for column in matrix.T]
    feature = rng.choice(
        np.flatnonzero([len(values) for values in thresholds]), (REFERENCE_TREES, REFERENCE_LEAVES - 1)
    )
    leaf_minutes = np.zeros((REFERENCE_TREES, 32))
    leaf_minutes[:, :REFERENCE_LEAVES] = rng.normal(0, 0.1, (REFERENCE_TREES, REFERENCE_LEAVES))
    left_leaf = np.broadcast_to(np.arange(REFERENCE_LEAVES - 1), feature.shape).ravel()
    return {
        "split_feature": feature.astype(np.uint8).ravel(),
        "split_threshold": np.array([rng.choice(thresholds[i]) for i in feature.ravel()]),
        "split_tree": np.repeat(np.arange(REFERENCE_TREES, dtype=np.uint16), REFERENCE_LEAVES - 1),
        "split_mask": (_ALL_LEAVES & ~(1 << left_leaf)).astype(np.uint32),
        "split_missing_right": np.zeros(feature.size, np.bool_),
        "leaf_minutes": leaf_minutes,
        "base_minutes": np.array(15.0),
    }


def _quantiles(column: NDArray[np.float64]) -> NDArray[np.float64]:
    known = column[~np.isnan(column)]
    return np.unique(np.quantile(known, np.linspace(0, 1, _MAX_THRESHOLDS))) if len(known) else known


def _seconds(run: Callable[[], None], clock: Clock) -> float:
    started_s = clock()
    run()
    return clock() - started_s
