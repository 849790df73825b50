"""Rides whose events carry no pickup time: when their records may arrive, and what then stands in for the pickup."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lambda_function.features import MINUTES_PER_DAY, RideColumns

DELAYS_MINUTES: Mapping[str, int] = {
    "at pickup": 0,
    "10 minutes late": 10,
    "30 minutes late": 30,
    "60 minutes late": 60,
}
"""The same delay for every ride, by name."""

ANY_TIME = "any time of the week"
"""A replay, which has nothing to do with when the rides took place."""

_MINUTES_PER_WEEK = 7 * MINUTES_PER_DAY


def arrival_scenarios(columns: RideColumns, seed: int = 0) -> dict[str, RideColumns]:
    """Returns rides as the function sees them where events carry no pickup time: by the record's time of arrival.

    A stream that is kept up with delivers a ride as it begins, to the minute: "at pickup" is then as good as a pickup
    time. Late records have the clock of their arrival, and so another traffic than the ride had. A replay may come at
    any time: each ride arrives up to a week late, any hour of any day alike, which is the worst there is.

    Args:
        columns: Rides whose pickup times are known.
        seed: Draws the delays of the replay.

    Returns:
        The rides by scenario, from the best to the worst; nothing but `pickup_minute` differs. On the two nights a year
        when the clocks change, delays are those of the wall clock.
    """
    minute = columns.pickup_minute
    late = {name: replace(columns, pickup_minute=minute + delay) for name, delay in DELAYS_MINUTES.items()}
    delay = np.random.default_rng(seed).integers(0, _MINUTES_PER_WEEK, len(minute)).astype(minute.dtype)
    return {**late, ANY_TIME: replace(columns, pickup_minute=minute + delay)}
