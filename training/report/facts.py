"""The facts of a report: values that are computed before the page and its plots are made."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import Manifest, ModelBundle
from lambda_function.core.features import feature_matrix
from training.data.months import met_months, parse_days
from training.data.rides import Rides
from training.errors import UserError
from training.evaluation.backtest import AgeRow
from training.evaluation.gate import GateReport
from training.evaluation.metrics import measure, predictor
from training.model.baseline import Baseline
from training.model.bundle import ExportedBundle
from training.model.results import Evaluation, Measured, MonthsResult
from training.report.measures import (
    FeatureImportance,
    PredictedRides,
    feature_importance,
    sample_rides,
)

MAX_RIDES = 200_000
"""The limit of rides to draw: more do not change a plot visibly."""


@dataclass(frozen=True, slots=True)
class PreviousModel:
    """The model before, measured on the same rides. `trained_on` lists those of their months that it was trained on."""

    model_version: str
    errors: Measured
    trained_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReportFacts:
    """The content of a report."""

    manifest: Manifest
    manifest_sha256: str  # as a channel names it
    rides: PredictedRides  # validation rides and their predictions
    importance: tuple[FeatureImportance, ...]  # of groups of features and of each feature alone
    evaluation: Evaluation | None = None  # None if the bundle has none
    unseen: MonthsResult | None = None  # on months that no choice can have been made on; None if none is local
    previous: PreviousModel | None = None  # the model that this one replaces, if any
    ageing: tuple[AgeRow, ...] = ()  # of a backtest, or of this model on later months; in any order
    verdict: GateReport | None = None
    breaches: tuple[str, ...] = ()  # of the data contract by the bundle's months, a sentence each
    outlines: tuple[NDArray[np.float64], ...] = ()  # rings, (m, 2) each: longitude, latitude
    interval_level: float | None = None  # wanted share of rides inside; None without intervals

    @property
    def results(self) -> tuple[MonthsResult, ...]:
        """The results by month: the headline's first, which are of unseen months if there are some."""
        evaluation = self.evaluation
        parts = (self.unseen, evaluation and evaluation.test, evaluation and evaluation.validate)
        return tuple(result for result in parts if result)

    @property
    def is_headline_unseen(self) -> bool:
        """Whether the first of the results are of months that the model was not validated on."""
        return bool(self.results) and self.results[0].months != self.manifest.validate_months


def gather_facts(
    bundle: ExportedBundle, rides: Rides, baseline: Baseline, previous: ExportedBundle | None = None
) -> ReportFacts:
    """Compute the facts of a report; `dataclasses.replace` adds ageing, verdict, breaches and outlines.

    Args:
        bundle: The model.
        rides: Rides of its validation months; at most MAX_RIDES of them are drawn, always the same.
        baseline: The baseline of its training rides.
        previous: The model that it replaces; measured on the same rides.
    """
    interval = bundle.model.manifest.interval
    sample = sample_rides(rides, MAX_RIDES)
    return ReportFacts(
        manifest=bundle.model.manifest,
        manifest_sha256=bundle.manifest_sha256,
        rides=_predicted(bundle.model, sample, baseline, len(rides)),
        importance=feature_importance(bundle.model, sample),
        evaluation=bundle.evaluation(),
        previous=_previous(previous.model, rides) if previous else None,
        interval_level=interval.level if interval else None,
    )


def find_outlines(data_dir: Path | None) -> Path | None:
    """Return a GeoJSON of zones in a folder of months, in its folder `zones`, or in one beside it; else None."""
    if data_dir is None:
        return None
    folder = data_dir.resolve()
    places = ((folder, "*zones*"), (folder / "zones", "*"), (folder.parent / "zones", "*"))
    return next(
        (path for place, name in places for path in sorted(place.glob(f"{name}.geojson")) if path.is_file()), None
    )


def read_outlines(path: Path) -> tuple[NDArray[np.float64], ...]:
    """Read the rings of a GeoJSON's polygons: float64 (m, 2) each, longitude and latitude.

    Raises:
        UserError: The file cannot be read or holds no outlines.
    """
    try:
        document = json.loads(path.read_bytes())
        rings = tuple(ring for feature in document["features"] for ring in _rings(feature["geometry"]))
        if not rings:
            raise ValueError("no polygons")  # noqa: TRY301 - the same error as a file of another kind
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        hint = "name a GeoJSON file of TLC's taxi zones, or leave it out"
        raise UserError(f"{path} holds no outlines of zones", hint) from error
    return rings


def _predicted(model: ModelBundle, rides: Rides, baseline: Baseline, n_all: int) -> PredictedRides:
    matrix = feature_matrix(rides.columns)
    minutes = model.predict(matrix)
    return PredictedRides(
        months=tuple(map(str, rides.months)),
        n_all=n_all,
        pickup_zone=rides.columns.pickup_zone,
        actual_minutes=rides.duration_minutes,
        predicted_minutes=minutes,
        baseline_minutes=baseline.predict(rides.columns),
        interval_minutes=model.interval_bounds(matrix, minutes),
    )


def _previous(model: ModelBundle, rides: Rides) -> PreviousModel:
    trained = (month for text in model.manifest.train_months for month in parse_days(text))
    trained_on = tuple(map(str, met_months(rides.months, trained)))
    return PreviousModel(model.model_version, measure(predictor(model), rides), trained_on)


def _rings(geometry: Any) -> Iterator[NDArray[np.float64]]:
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    for polygon in polygons:
        for ring in polygon:
            yield np.array(ring, np.float64)[:, :2]
