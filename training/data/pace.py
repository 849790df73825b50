"""One more rule for rides that nobody has looked at: no days whose pace is far from that of the days around them.

It catches outcomes in another unit or cut in half for some days, which a month's medians hide. Pace is minutes a mile.
"""

import numpy as np
from numpy.typing import NDArray

from training.data.contract import ContractError
from training.data.labelled_rides import LabelledRows

PACE = "pace"
"""The name of the rule, by which it can be allowed to be broken."""

MAX_RATIO = 1.5
"""Of a day's median pace and that of the days around it, or the inverse. Measured on 960 real
days, March 2020 included: 0.70 to 1.35; 0.68 to 1.41 where the days end."""

DAYS_AROUND = 10
"""Before and after a day, and itself: a week that is wrong is the smaller part of 21 days."""

MAX_ODD_DAYS = 1
"""A storm or a holiday may be one."""

MIN_RIDES = 50
"""Of a day with a distance: the median of fewer is chance."""

_MIN_MILES = 0.2


def check_pace(rows: LabelledRows) -> None:
    """Check labelled rides of any number of days.

    Raises:
        ContractError: More than `MAX_ODD_DAYS` have another pace than the days around them.
    """
    days, ratios = pace_ratios(rows)
    odd = np.flatnonzero((ratios > MAX_RATIO) | (ratios < 1 / MAX_RATIO))
    if len(odd) <= MAX_ODD_DAYS:
        return
    worst = odd[np.argmax(np.abs(np.log(ratios[odd])))]
    raise ContractError(
        f"{days[odd[0]]} to {days[odd[-1]]} break {PACE}: on {len(odd)} of these days the median minutes a mile are far"
        f" from those of the days around, on {days[worst]} {ratios[worst]:.2f} times as many",
        "find out what was wrong with the outcomes of these days, and retrain when they are out of the training days",
    )


def pace_ratios(rows: LabelledRows) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Return the days with enough rides, ascending (n,), and each one's pace by that of the days around it (n,)."""
    is_usable, _ = rows.usable()
    kept = np.flatnonzero(is_usable & (rows.trip_distance_miles >= _MIN_MILES))
    pace = rows.duration_minutes[kept] / rows.trip_distance_miles[kept]
    found, begins = np.unique(rows.pickup_time[kept].astype("datetime64[D]"), return_index=True)
    groups = np.split(pace, begins[1:])
    known = [n for n, group in enumerate(groups) if len(group) >= MIN_RIDES]
    days, medians = found[known], np.array([np.median(groups[n]) for n in known], np.float64)
    reach = np.timedelta64(DAYS_AROUND, "D")
    around = [np.median(medians[np.abs(days - day) <= reach]) for day in days]
    return days, medians / np.array(around, np.float64)
