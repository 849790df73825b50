"""A model trained on real months, its reference, and later months as days that it served."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.features import feature_matrix
from training.data.load import tlc_months
from training.data.months import Service, parse_months
from training.data.rides import Rides
from training.errors import UserError
from training.model.bundle import REFERENCE, ExportedBundle
from training.model.cross_fit import predict_out_of_fold
from training.model.parameters import PARAMETERS
from training.monitoring.monitor.days import Days, Floats
from training.monitoring.monitor.measured_days import measure_days
from training.monitoring.monitor.quantities import quantity_values
from training.monitoring.monitor.reference import Reference, decode_reference, last_days
from training.workflows.pipeline import _fit, train

_BLOCK_RIDES = 1 << 17
_N_CHECK_RIDES = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class MonitoredModel:
    """A model as training makes it, and the reference in its bundle."""

    bundle: ExportedBundle
    reference: Reference
    rides: Rides  # that it learned from

    def days(self, rides: Rides) -> Days:
        """Return rides as days that the model served, each on the day of its pickup."""
        manifest = self.bundle.model.manifest
        return measure_days(rides, self.predict(rides), self.reference.edges, manifest.interval)

    def predict(self, rides: Rides) -> Floats:
        """Return the forest's own minutes (n,)."""
        blocks = (rides.take(slice(start, start + _BLOCK_RIDES)) for start in range(0, len(rides), _BLOCK_RIDES))
        return np.concatenate([self.bundle.model.predict(feature_matrix(block.columns)) for block in blocks])

    def values(self, rides: Rides) -> dict[str, NDArray[np.float64]]:
        """Return the values (n,) of each data quantity."""
        return quantity_values(feature_matrix(rides.columns), self.predict(rides))

    def all_days(self) -> Days:
        """Return all days of training out of fold: a reference has a year of them at most."""
        if len(last_days(self.rides)) == len(self.rides):
            return self.reference.days
        fit = partial(_fit, parameters=self.bundle.model.manifest.parameters)
        minutes = predict_out_of_fold(self.rides, fit, len(self.rides))
        if minutes is None:
            raise UserError("the rides are of one day", "train on a month at least")
        return measure_days(self.rides, minutes, self.reference.edges, self.bundle.model.manifest.interval)


def load(service: Service, months: str) -> Rides:
    """Load months such as 2018-01..2020-02."""
    return tlc_months(service)(parse_months(months))


def train_monitored(
    service: Service,
    rides: Rides,
    on_step: Callable[[str], None] = lambda _: None,
    parameters: dict[str, Any] = PARAMETERS,
) -> MonitoredModel:
    """Train as `ridecast train` does; the model is validated on some of these rides, which says nothing."""
    bundle = train(service, rides, rides.head(_N_CHECK_RIDES), parameters, on_step).bundle
    return MonitoredModel(bundle, decode_reference(bundle.files[REFERENCE]), rides)
