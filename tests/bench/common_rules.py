"""Common drift rules, reimplemented: what they would have said on the same days. They are not the tools themselves.

Each day's values are compared with a sample of the training rides' values, as the tools do by default.

- "Evidently-like": an alarm if a quantity's two-sample Kolmogorov-Smirnov p-value is below 0.05 (its default up to
  1,000 reference rows), if its Wasserstein distance in standard deviations is 0.1 or more (its default above), or if
  its population stability index is above 0.2 (a widely used bound).
- "NannyML-like": an alarm if the day lies outside the mean of reference days plus or minus three standard deviations,
  by distance from the reference (data) or by RMSE (performance).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp, wasserstein_distance

from training.monitoring.monitor.days import Days, Floats

KS_P, WASSERSTEIN, PSI, SIGMAS = 0.05, 0.1, 0.2, 3.0
N_SAMPLE = 10_000
_MIN_SHARE = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class RuleDays:
    """What a rule says of each served day."""

    rule: str
    group: str
    is_alarm: NDArray[np.bool_]  # (n_days,)


def ride_rules(
    reference: Mapping[str, Floats], served: Mapping[str, Floats], day: NDArray[np.datetime64]
) -> list[RuleDays]:
    """Apply the rules that need single rides.

    Args:
        reference: Values of training rides, by data quantity.
        served: Values of served rides (n,).
        day: The day of each served ride (n,), ascending.
    """
    starts = np.unique(day, return_index=True)[1]
    ks, far = (np.zeros(len(starts), np.bool_) for _ in range(2))
    for name, values in served.items():
        known = reference[name][~np.isnan(reference[name])]
        sample = known[:: max(len(known) // N_SAMPLE, 1)]
        for number, rides in enumerate(np.split(values, starts[1:])):
            some = rides[~np.isnan(rides)]
            if len(some):
                ks[number] |= ks_2samp(sample, some, method="asymp").pvalue < KS_P
                far[number] |= wasserstein_distance(sample, some) / sample.std() >= WASSERSTEIN
    return [
        RuleDays(f"Evidently-like: Kolmogorov-Smirnov p < {KS_P:g}", "data", ks),
        RuleDays(f"Evidently-like: Wasserstein >= {WASSERSTEIN:g}", "data", far),
    ]


def day_rules(reference: Days, served: Days) -> list[RuleDays]:
    """Apply the rules that need counts and sums of days."""
    psi, outside = (np.zeros(len(served), np.bool_) for _ in range(2))
    for name, table in served.counts.items():
        centre = _shares(reference.counts[name].sum(axis=0, keepdims=True))
        psi |= _psi(_shares(table), centre) > PSI
        usual = np.abs(_shares(reference.counts[name]) - centre).sum(axis=1)
        outside |= np.abs(_shares(table) - centre).sum(axis=1) > usual.mean() + SIGMAS * usual.std()
    usual_rmse, rmse = (np.sqrt(days.sum_squared_error / days.n) for days in (reference, served))
    far = np.abs(rmse - usual_rmse.mean()) > SIGMAS * usual_rmse.std()
    return [
        RuleDays(f"Evidently-like: stability index > {PSI:g}", "data", psi),
        RuleDays(f"NannyML-like: distance beyond {SIGMAS:g} sigma", "data", outside),
        RuleDays(f"NannyML-like: RMSE beyond {SIGMAS:g} sigma", "performance", far),
    ]


def _shares(counts: Floats) -> Floats:
    return counts / counts.sum(axis=1, keepdims=True)


def _psi(shares: Floats, centre: Floats) -> Floats:
    ours, theirs = np.maximum(shares, _MIN_SHARE), np.maximum(centre, _MIN_SHARE)
    index: Floats = ((ours - theirs) * np.log(ours / theirs)).sum(axis=1)
    return index
