"""Compare two models on the same rides: the difference as a whole and by slice, each with an interval over days."""

import msgspec
import numpy as np

from lambda_function.core.bundle import ModelBundle
from training.data.rides import Rides
from training.evaluation.bootstrap import Comparison, compare_days, compare_errors
from training.evaluation.gate_rules import MIN_CHECKED_RIDES
from training.evaluation.metrics import predictor, side_by_side
from training.model.results import METRIC_DECIMALS, Measured


class SliceDifference(msgspec.Struct, frozen=True):
    """How much greater B's RMSE is than A's on the rides of one slice, as a share: 0.03 is 3%, below 0 B is better.

    The interval is corrected for the number of slices: of two equal models, one comparison in twenty has an interval
    beside 0 in any slice at all. A slice of one day has no interval.
    """

    by: str
    name: str
    n_rides: int
    a_rmse_minutes: float
    b_rmse_minutes: float
    difference: float
    low: float | None
    high: float | None


class PairedResult(msgspec.Struct, frozen=True, kw_only=True):
    """Two models on the same rides."""

    months: tuple[str, ...]
    a: Measured
    b: Measured
    difference: Comparison  # B's RMSE less A's
    slices: tuple[SliceDifference, ...]  # of MIN_CHECKED_RIDES or more; the surest differences first


def compare_models(a: ModelBundle, b: ModelBundle, rides: Rides) -> PairedResult:
    """Compare two models on rides, at least one, that neither has learnt from."""
    sides = side_by_side(predictor(b), predictor(a), rides, rides)
    known = [one.by != "zone pair" and one.model.n_rides >= MIN_CHECKED_RIDES for one in sides.result.slices]
    kept = np.array(known, np.bool_)  # a zone pair may be new to one model and not to the other
    differences = compare_errors(sides.slice_days.take(kept).squares)
    slices = [one for one, is_kept in zip(sides.result.slices, known, strict=True) if is_kept]
    found = [
        SliceDifference(
            one.by,
            one.name,
            one.model.n_rides,
            one.baseline.rmse_minutes,
            one.model.rmse_minutes,
            *(round(part, METRIC_DECIMALS) if np.isfinite(part) else None for part in differences.take(i)),  # type: ignore[arg-type]
        )
        for i, one in enumerate(slices)
    ]
    return PairedResult(
        months=sides.result.months,
        a=sides.result.baseline,
        b=sides.result.model,
        difference=compare_days(*(sums[:, 0] for sums in sides.days.squares)),
        slices=tuple(sorted(found, key=_doubt)),
    )


def _doubt(one: SliceDifference) -> tuple[float, float]:
    """Sort the intervals furthest from 0 first; among those with 0 in them, the greatest difference."""
    if one.low is None or one.high is None:
        return (0.0, -abs(one.difference))
    return (-max(one.low, -one.high, 0.0), -abs(one.difference))
