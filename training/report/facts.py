"""What a report shows: values, already computed. For a part that is missing, the page says how to get it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lambda_function.model import Manifest
from training.evaluation import Evaluation, Measured, MonthsResult
from training.judging.backtest import AgeRow
from training.judging.gate import GateReport


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PredictedRides:
    """Validation rides beside what is predicted for them, or a sample of them where a month holds too many to draw.

    Attributes:
        months: Whose rides they are.
        n_all: How many rides those months hold; more than the arrays where they are a sample.
        pickup_zone: int64 (n,), LocationID.
        actual_minutes: float64 (n,).
        predicted_minutes: float64 (n,).
        baseline_minutes: float64 (n,), or None where no baseline was fitted.
        interval_minutes: Lower and upper ends, float64 (n,) each, or None where the bundle has no intervals.
    """

    months: tuple[str, ...]
    n_all: int
    pickup_zone: NDArray[np.int64]
    actual_minutes: NDArray[np.float64]
    predicted_minutes: NDArray[np.float64]
    baseline_minutes: NDArray[np.float64] | None = None
    interval_minutes: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def __len__(self) -> int:
        return len(self.actual_minutes)


@dataclass(frozen=True, slots=True)
class FeatureImportance:
    """How much the RMSE rises where features' values are shuffled among the rides: mean and range over repeats.

    `name` is the feature's, or that of a group whose features are shuffled together.
    """

    name: str
    features: tuple[str, ...]
    rise_minutes: float
    low_minutes: float
    high_minutes: float


@dataclass(frozen=True, slots=True)
class PreviousModel:
    """The model before, on the same rides. `has_learnt` names those of their months that it was trained on."""

    model_version: str
    errors: Measured
    has_learnt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReportFacts:
    """All that a report shows.

    Attributes:
        manifest: What the bundle says of itself.
        manifest_sha256: Its digest, as a channel names it.
        evaluation: The bundle's `evaluation.json`.
        rides: Validation rides and their predictions.
        importance: Of groups of features and of each alone.
        n_importance_rides: How many rides it was measured on.
        previous: The model that this one would replace.
        ageing: Rows of a backtest, or of this very model on the months after its training; in any order.
        verdict: What the gate says.
        breaches: Rules of the data contract that the training months break and somebody allowed, a sentence each.
        outlines: Rings of the zones' outlines, float64 (m, 2) each: longitude, latitude.
        interval_level: The share of rides that intervals promise to hold, or None where the bundle has none.
        run: More lines for how it was made, by name: what only the run itself knows, like time or code version.
    """

    manifest: Manifest
    manifest_sha256: str
    evaluation: Evaluation | None = None
    rides: PredictedRides | None = None
    importance: tuple[FeatureImportance, ...] = ()
    n_importance_rides: int = 0
    previous: PreviousModel | None = None
    ageing: tuple[AgeRow, ...] = ()
    verdict: GateReport | None = None
    breaches: tuple[str, ...] = ()
    outlines: tuple[NDArray[np.float64], ...] = ()
    interval_level: float | None = None
    run: Mapping[str, str] = field(default_factory=dict)

    @property
    def results(self) -> tuple[MonthsResult, ...]:
        """What the evaluation holds: validation months, then test months."""
        if self.evaluation is None:
            return ()
        return tuple(result for result in (self.evaluation.validate, self.evaluation.test) if result)
