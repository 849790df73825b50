"""The gate's rules, a function each, with the limit of each and its derivation. `gate.py` applies them in this order.

A candidate is compared with the champion, the model in the channel, or with the baseline if the channel is empty.
docs/decisions/0010 gives the reasons for these rules.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, PARITY_MINUTES, Manifest, decode_golden_rides
from lambda_function.core.events import decode_ride_event, ride_columns
from lambda_function.core.features import feature_matrix
from lambda_function.core.pickup_time import pickup_minute
from training.data.months import Month, met_months, parse_days
from training.evaluation.bootstrap import LEVEL, Comparison, Intervals
from training.model.bundle import ExportedBundle
from training.model.results import METRIC_DECIMALS, MonthsResult, SliceResult


class RuleResult(msgspec.Struct, frozen=True):
    """The result of one rule; `wanted` and `seen` are one line each."""

    rule: str
    passed: bool  # a warning passes
    wanted: str
    seen: str
    is_warning: bool = False  # it is not as wanted, but that alone refuses no model; older verdicts have none


def rule_unseen(months: Sequence[Month], candidate: Manifest, champion: Manifest | None) -> RuleResult:
    """Check that neither model has met the months."""
    met = [
        f"{manifest.model_version} has met {month}"
        for manifest in (candidate, champion)
        if manifest
        for month in met_months(months, used_months(manifest))
    ]
    return RuleResult(
        "unseen month",
        passed=bool(months) and not met,
        wanted="neither model has trained, calibrated or validated on the month",
        seen=_list(met) or _unseen_months(months, candidate),
    )


def rule_service(candidate: Manifest, champion: Manifest | None) -> RuleResult:
    """Check that the model is for the taxi service whose rides the channel serves."""
    service = champion.service if champion else candidate.service
    return RuleResult(
        "same service",
        passed=candidate.service == service,
        wanted=f"the model is for {service} taxis" + (", as the channel's" if champion else ""),
        seen=f"it is for {candidate.service} taxis",
    )


MIN_DAYS = 7
"""With fewer days the difference may be chance: some weekday is missing."""


def rule_better(result: MonthsResult, comparison: Comparison, candidate: str, champion: str | None) -> RuleResult:
    """Check that the candidate is better than the champion, and not by chance.

    Models are named by version; the champion is None if the channel is empty and the comparison is with the baseline.
    """
    other = champion or "the baseline, because the channel is empty"
    seen = (
        f"{comparison.difference_rmse_minutes:+.3f} min [{comparison.low:+.3f}, {comparison.high:+.3f}]:"
        f" {result.model.rmse_minutes:.3f} against {result.baseline.rmse_minutes:.3f} of {other},"
        f" {comparison.n_rides:,} rides of {comparison.n_days} days"
    )
    if candidate == champion:
        seen = f"{candidate} is in the channel already: it cannot beat itself"
    elif comparison.n_days < MIN_DAYS:
        seen += f"; fewer than {MIN_DAYS} days are not enough"
    return RuleResult(
        "beats the model in the channel",
        passed=candidate != champion and comparison.n_days >= MIN_DAYS and comparison.high < 0,
        wanted=f"the {LEVEL:.0%} interval of the difference in RMSE, bootstrapped over days, is below 0",
        seen=seen,
    )


MIN_SLICE_RIDES = 1_000
"""With fewer rides, reports mark a slice's figures as uncertain: an RMSE over 1,000 green rides is known within 6 %."""

MIN_CHECKED_RIDES = 500
"""Slices with fewer rides are not checked. The intervals allow for chance, but heavy-tailed errors need some hundred
rides to average out: on yellow 2018 and 2019, a limit of 300 refuses two better models, and 500 none."""

MAX_SLICE_RATIO = 1.03
"""A checked slice's RMSE may be the champion's times this, and a month's chance above it."""


def rule_slices(slices: Sequence[SliceResult], worse: Intervals) -> RuleResult:
    """Check that no slice gets worse for the gain of the others.

    `worse` has the slices' differences in RMSE as shares, as `compare_errors` returns them.
    """
    order = sorted(range(len(slices)), key=lambda i: -worse.low[i])
    limit = MAX_SLICE_RATIO - 1
    failed = [i for i in order if worse.low[i] > limit]
    above = sum(ratio > limit for ratio in worse.value)
    named = [_slice_text(slices[i], worse.take(i)) for i in failed or order[:1]]
    return RuleResult(
        "no slice is worse",
        passed=not failed,
        wanted=f"in no slice of {MIN_CHECKED_RIDES:,} rides is the RMSE more than {limit:.0%} above the champion's: a"
        f" {LEVEL:.0%} interval over days, corrected for the number of slices, may not lie above it",
        seen=f"{len(failed)} of {len(slices)} do; {above} are over {limit:.0%}, by chance or not"
        + (f"; worst: {_list(named)}" if named else ""),
    )


def _slice_text(one: SliceResult, worse: tuple[float, float, float]) -> str:
    value, low, high = worse
    return f"{one.by} {one.name} {value:+.1%} [{low:+.1%}, {high:+.1%}] ({one.model.n_rides:,} rides)"


COVERAGE_SLACK, SLICE_COVERAGE_SLACK = 0.02, 0.06
"""How far coverage may be from the level: of all rides, of a checked slice. At 80%, chance moves it by 0.0016 over a
month of 65,000 rides; the rest is the difference between a month and the ones before."""

CHANCE_DEVIATIONS = 2.0
"""Standard deviations that chance may add to a slice's coverage: 0.025 over 1,000 rides. Of forty slices with the
right coverage, one or two deviate that far by chance."""


class IntervalsCompared(NamedTuple):
    """How a candidate's prediction intervals differ from its champion's, in some slices.

    `further` is from the level (`compare_coverage`), `worse` is the interval score (`compare_scores`).
    """

    further: Intervals
    worse: Intervals

    def are_worse(self) -> NDArray[np.bool_]:
        """Return the slices (n,) with a coverage further from the level and a worse score, each by more than chance."""
        both: NDArray[np.bool_] = (self.further.low > 0) & (self.worse.low > 0)
        return both


def rule_coverage(
    result: MonthsResult,
    slices: Sequence[SliceResult],
    candidate: Manifest,
    champion: Manifest | None,
    whole: IntervalsCompared | None = None,
    parts: IntervalsCompared | None = None,
) -> RuleResult:
    """Check that the prediction intervals contain the share of rides that they should, or are no worse than before.

    A month may be unlike the ones before, for every model. So a coverage off the level fails only if the champion's
    intervals were better in that month, by more than chance; else it is a warning.

    Args:
        result: The candidate's figures.
        slices: The checked slices.
        candidate: The candidate's manifest.
        champion: The champion's manifest; None for an empty channel.
        whole: The comparison on all rides; None if the champion has no intervals, or some of another level.
        parts: The comparison in the checked slices, likewise.
    """
    if candidate.interval is None or result.coverage is None:
        lost = champion is not None and champion.interval is not None
        return RuleResult(
            "coverage",
            passed=not lost,
            wanted="intervals, or none if the champion has none",
            seen="it has no intervals" + (", and the champion has" if lost else ""),
        )
    level = candidate.interval.level
    low, high = (round(level + sign * SLICE_COVERAGE_SLACK, METRIC_DECIMALS) for sign in (-1, 1))
    is_off = round(abs(result.coverage - level), METRIC_DECIMALS) > COVERAGE_SLACK
    outside = [i for i, one in enumerate(slices) if not low <= (one.coverage or 0.0) <= high]
    off = [i for i in outside if _is_off(slices[i], level)]
    is_worse = is_off and whole is not None and bool(whole.are_worse()[0])
    worse = [i for i in outside if parts is not None and parts.are_worse()[i]]
    named = [
        f"{one.by} {one.name} {one.coverage:.3f} ({one.model.n_rides:,} rides)"
        for one in (slices[i] for i in worse or off)
    ]
    return RuleResult(
        "coverage",
        passed=not (is_worse or worse),
        wanted=f"{level - COVERAGE_SLACK:.2f} to {level + COVERAGE_SLACK:.2f} overall,"
        f" {low:.2f} to {high:.2f} in slices of {MIN_CHECKED_RIDES:,} rides, apart from chance; or no worse than the"
        " champion's",
        seen=f"{result.coverage:.3f} overall, mean width {result.width_minutes:.2f} min;"
        f" {len(outside)} of {len(slices)} slices outside, {len(outside) - len(off)} of them by chance,"
        f" {len(worse)} worse than the champion's" + (f": {_list(named)}" if named else ""),
        is_warning=not (is_worse or worse) and (is_off or bool(off)),
    )


def _is_off(one: SliceResult, level: float) -> bool:
    """Return whether a slice's coverage is further from the level than the slack and chance together."""
    chance = CHANCE_DEVIATIONS * math.sqrt(level * (1 - level) / one.model.n_rides)
    return abs((one.coverage or 0.0) - level) > SLICE_COVERAGE_SLACK + chance


def rule_parity(candidate: ExportedBundle) -> RuleResult:
    """Check the golden rides, some of them at thresholds or with missing values, against scikit-learn's predictions."""
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


MAX_LOADED_BYTES = 500_000
"""Of the files that the function loads. 500 trees of 31 leaves take 0.2 MB, and 13 ms of the cold start's 300 to load
and verify. Its budget has room for twice that. Evaluation and reference are for people and for monitoring."""


def rule_size(candidate: ExportedBundle) -> RuleResult:
    """Check that a cold start can load the bundle in time."""
    n_bytes = sum(len(candidate.files[name]) for name in (MANIFEST, FOREST, GOLDEN))
    return RuleResult(
        "size",
        passed=n_bytes <= MAX_LOADED_BYTES,
        wanted=f"at most {MAX_LOADED_BYTES:,} bytes to load",
        seen=f"{n_bytes:,} bytes",
    )


MAX_PREDICT_RATIO = 1.5
"""Of the reference forest's time (predict_time.py). `make bench` gives the engine 2.2 us a ride, 500 trees take 1.65,
and intervals take 0.3 us more: 2.5 / 1.65."""


def rule_predict_time(ratio: float) -> RuleResult:
    """Check that the function can evaluate the trees in time, which depends on their number."""
    return RuleResult(
        "predict time",
        passed=ratio <= MAX_PREDICT_RATIO,
        wanted=f"at most {MAX_PREDICT_RATIO:.1f} times the reference forest's, 500 trees of 31 leaves",
        seen=f"{ratio:.2f} times",
    )


def used_months(manifest: Manifest) -> frozenset[Month]:
    """Return the months that a model has met: trained, calibrated or validated on."""
    trained = {data.month for data in manifest.data} | set(manifest.train_months)
    return frozenset(month for text in trained | set(manifest.validate_months) for month in parse_days(text))


def _unseen_months(months: Sequence[Month], candidate: Manifest) -> str:
    """Name the months, and whether they are before the candidate's last training month, which makes them easier."""
    if not months:
        return "one of the models has met each local month: add a later one"
    past = max(months) < parse_days(candidate.train_months[-1])[0]
    return _list([str(month) for month in months]) + (", before the candidate's last training month" if past else "")


def _list(texts: Sequence[str], n_named: int = 3) -> str:
    """Join the first few texts, and count the others."""
    more = len(texts) - n_named
    return ", ".join(texts[:n_named]) + (f" and {more} more" if more > 0 else "")
