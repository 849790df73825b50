"""What the HTTP API tells of the model that it serves, and of how it is."""

from typing import Any, Literal

import msgspec

from lambda_function.model import Manifest


class ModelFacts(msgspec.Struct, frozen=True):
    """The model that answers.

    `validate_metrics` are those that it was published with, on `validate_months`. `interval_level` is the share of
    rides that are to end within their prediction's interval, null where predictions have none. `loaded_at` is when
    this instance of the function loaded the model: ISO 8601, UTC.
    """

    model_version: str
    service: str
    train_months: tuple[str, ...]
    validate_months: tuple[str, ...]
    validate_metrics: dict[str, Any]
    feature_names: tuple[str, ...]
    duration_range_minutes: tuple[float, float]
    interval_level: float | None
    loaded_at: str


class Health(msgspec.Struct, frozen=True):
    """`stale` is an instance that could not look for a newer model, and goes on with the one that it has."""

    status: Literal["ok", "stale"]
    model_version: str


def model_facts(manifest: Manifest, loaded_at: str) -> ModelFacts:
    """Returns what callers may know of a model, out of its manifest."""
    return ModelFacts(
        model_version=manifest.model_version,
        service=manifest.service,
        train_months=manifest.train_months,
        validate_months=manifest.validate_months,
        validate_metrics=manifest.metrics.get("validate", {}),
        feature_names=manifest.feature_names,
        duration_range_minutes=manifest.duration_range_minutes,
        interval_level=manifest.interval.level if manifest.interval else None,
        loaded_at=loaded_at,
    )
