"""Where a run's rides come from: TLC's months, or a generator's."""

from collections.abc import Callable, Sequence
from typing import cast

from lambda_function.model import Manifest
from training.data.month_files import default_data_dir, months_in_hand
from training.data.months import Month, Service
from training.data.rides import Rides, concat_rides
from training.data.synthetic import SOURCE_NAME, synthetic_rides
from training.dataset import load_rides

SYNTHETIC_SEED = 2021
"""Of made-up rides in runs: a manifest does not name it, their digest tells whether it was this one."""

Load = Callable[[Sequence[Month]], Rides]
"""Brings the rides of months, at least one, sorted by pickup."""


def tlc_months(service: Service) -> Load:
    """Returns what loads a service's months: from the folder that TLC_DATA_DIR names, the cache, or TLC."""
    return lambda months: load_rides(service, months, data_dir=default_data_dir())


def synthetic_months(n_rides_a_month: int) -> Load:
    """Returns what makes months up, each joined to the others and forgotten."""
    return lambda months: concat_rides(synthetic_rides(month, n_rides_a_month, SYNTHETIC_SEED) for month in months)


def rides_of(manifest: Manifest) -> tuple[Load, tuple[Month, ...]]:
    """Returns what brings rides as a model's were brought, and the months that it brings without a download."""
    if any(part.file == SOURCE_NAME for part in manifest.data):
        return synthetic_months(manifest.data[0].n_rows), ()
    service = cast("Service", manifest.service)
    return tlc_months(service), months_in_hand(service, default_data_dir())
