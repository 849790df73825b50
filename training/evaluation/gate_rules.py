"""The gate's rules, a function each, with the limit of each and its derivation. `gate.py` applies them in this order.

A candidate is compared with the champion, the model in the channel, or with the baseline if the channel is empty.
docs/decisions/0010 gives the reasons for these rules.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from lambda_function.core.bundle import GOLDEN, PARITY_MINUTES, Manifest, decode_golden_rides
from lambda_function.core.events import decode_ride_event, ride_columns
from lambda_function.core.features import feature_matrix
from lambda_function.core.pickup_time import pickup_minute
from training.data.months import Month, met_months, parse_days
from training.evaluation.bootstrap import LEVEL, Comparison
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
"""Slices with fewer rides are not checked. An RMSE over 1,000 green rides is known within 6 %, and the ratio of two
models, being paired, within 1 to 2 %: with fewer, chance would decide about a limit of 3 %."""

MAX_SLICE_RATIO = 1.03
"""A checked slice's RMSE may be at most the champion's times this."""


def rule_slices(result: MonthsResult) -> RuleResult:
    """Check that no large slice gets worse for the gain of the others."""
    checked = sorted(_checked(result), key=_ratio, reverse=True)
    worse = [one for one in checked if _ratio(one) > MAX_SLICE_RATIO]
    named = [
        f"{one.by} {one.name} {_ratio(one) - 1:+.1%} ({one.model.n_rides:,} rides)" for one in worse or checked[:1]
    ]
    return RuleResult(
        "no slice is worse",
        passed=not worse,
        wanted=f"no slice of {MIN_SLICE_RIDES:,} rides has an RMSE over {MAX_SLICE_RATIO - 1:.0%} above the champion's",
        seen=f"{len(worse)} of {len(checked)} do" + (f"; worst: {_list(named)}" if named else ""),
    )


COVERAGE_SLACK, SLICE_COVERAGE_SLACK = 0.02, 0.06
"""How far coverage may be from the level: of all rides, of a checked slice. At 80%, chance moves it by 0.0016 over a
month of 65,000 rides; the rest is the difference between a month and the ones before."""

CHANCE_DEVIATIONS = 2.0
"""Standard deviations that chance may add to a slice's coverage: 0.025 over 1,000 rides. Of forty slices with the
right coverage, one or two deviate that far by chance, and would fail the rule without it."""


def rule_coverage(result: MonthsResult, candidate: Manifest, champion: Manifest | None) -> RuleResult:
    """Check that the intervals have their level of coverage; without intervals, that the champion has none either."""
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
    checked = _checked(result)
    outside = [one for one in checked if not low <= (one.coverage or 0.0) <= high]
    off = [one for one in outside if _is_off(one, level)]
    named = [f"{one.by} {one.name} {one.coverage:.3f} ({one.model.n_rides:,} rides)" for one in off]
    return RuleResult(
        "coverage",
        passed=round(abs(result.coverage - level), METRIC_DECIMALS) <= COVERAGE_SLACK and not off,
        wanted=f"{level - COVERAGE_SLACK:.2f} to {level + COVERAGE_SLACK:.2f} overall,"
        f" {low:.2f} to {high:.2f} in slices of {MIN_SLICE_RIDES:,} rides, apart from chance",
        seen=f"{result.coverage:.3f} overall, mean width {result.width_minutes:.2f} min;"
        f" {len(outside)} of {len(checked)} slices outside, {len(outside) - len(off)} of them by chance"
        + (f": {_list(named)}" if named else ""),
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


MAX_BUNDLE_BYTES = 500_000
"""All files of a bundle. 500 trees of 31 leaves take 0.2 MB, a year's reference 0.2 MB, the evaluation 0.05 MB. The
function reads forest and golden rides only: 13 ms of the cold start's 300 to load and verify. Its budget has room for
twice that."""


def rule_size(candidate: ExportedBundle) -> RuleResult:
    """Check that a cold start can load the bundle in time."""
    n_bytes = sum(len(data) for data in candidate.files.values())
    return RuleResult(
        "size",
        passed=n_bytes <= MAX_BUNDLE_BYTES,
        wanted=f"at most {MAX_BUNDLE_BYTES:,} bytes",
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


def _checked(result: MonthsResult) -> list[SliceResult]:
    return [one for one in result.slices if one.model.n_rides >= MIN_SLICE_RIDES]


def _ratio(one: SliceResult) -> float:
    return one.model.rmse_minutes / max(one.baseline.rmse_minutes, 1e-9)


def _list(texts: Sequence[str], n_named: int = 3) -> str:
    """Join the first few texts, and count the others."""
    more = len(texts) - n_named
    return ", ".join(texts[:n_named]) + (f" and {more} more" if more > 0 else "")
