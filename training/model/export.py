"""Export a fitted scikit-learn forest as a bundle: plain arrays, golden rides and a manifest with their digests."""

import io
import platform
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from lambda_function.core.bundle import (
    BUNDLE_FORMAT,
    FOREST,
    GOLDEN,
    MANIFEST,
    FileDigest,
    GoldenRide,
    Manifest,
    TrainingData,
    load_bundle,
    sha256,
)
from lambda_function.core.events import RideEvent, ride_of
from lambda_function.core.features import FEATURE_NAMES, UNKNOWN_ZONE, feature_matrix
from lambda_function.core.intervals import Interval, IntervalTables
from training.data.months import Month, Service
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides
from training.errors import UserError
from training.model.bundle import ExportedBundle
from training.model.parameters import MAX_LEAF_NODES

N_GOLDEN_RIDES = 100

_N_AT_THRESHOLDS = 30
_N_MISSING = 10
_RANGE_MINUTES = MIN_DURATION_MINUTES, MAX_DURATION_MINUTES
_ALL_LEAVES = 0xFFFFFFFF
_PROJECT = Path(__file__).parents[2]
_LOCK, _PYPROJECT = _PROJECT / "uv.lock", _PROJECT / "pyproject.toml"
_UNVERSIONED = "unversioned-0000-00-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """The facts of a training run that the manifest states."""

    service: Service
    train_months: tuple[Month, ...]
    validate_months: tuple[Month, ...]
    parameters: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)


def export_bundle(
    fitted: HistGradientBoostingRegressor,
    train_rides: Rides,
    facts: TrainingFacts,
    interval: Interval | None = None,
    more_files: Mapping[str, bytes] | None = None,
) -> ExportedBundle:
    """Build a bundle and load it as the function would: all checks pass, the golden rides agree with scikit-learn.

    The manifest names the files of the training rides. Some of these rides become golden rides. `more_files` are those
    that people and monitoring read, by name.

    Raises:
        UserError: Bit masks cannot represent the forest.
        BundleError: The exported model predicts something else than scikit-learn.
    """
    arrays = forest_arrays(fitted)
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)  # without times: the same arrays give the same bytes
    files = {FOREST: packed.getvalue(), GOLDEN: _golden_file(fitted, arrays, train_rides, interval)}
    files |= more_files or {}
    manifest = _manifest(files, train_rides, facts, interval)
    files[MANIFEST] = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    return ExportedBundle(files, load_bundle(manifest.model_version, sha256(files[MANIFEST]), files))


def forest_arrays(fitted: HistGradientBoostingRegressor) -> dict[str, NDArray[Any]]:
    """Return a fitted forest as the arrays of `lambda_function.core.forest.Forest`.

    Reads scikit-learn's private nodes, because there is no public access. Golden rides and parity tests check it.

    Raises:
        UserError: A tree has more than 32 leaves, or a split that is not a threshold.
    """
    trees = [predictors[0].nodes for predictors in fitted._predictors]  # noqa: SLF001
    leaf_minutes = np.zeros((len(trees), MAX_LEAF_NODES))
    splits: list[tuple[int, float, int, int, bool]] = []
    for number, nodes in enumerate(trees):
        _add_tree(number, nodes, splits, leaf_minutes)
    feature, threshold, tree, mask, missing_right = zip(*splits, strict=True) if splits else ((),) * 5
    return {
        "split_feature": np.array(feature, np.uint8),
        "split_threshold": np.array(threshold, np.float64),
        "split_tree": np.array(tree, np.uint16),
        "split_mask": np.array(mask, np.uint32),
        "split_missing_right": np.array(missing_right, np.bool_),
        "leaf_minutes": leaf_minutes,
        "base_minutes": np.array(float(fitted._baseline_prediction.item())),  # noqa: SLF001
    }


def _add_tree(
    number: int, nodes: Any, splits: list[tuple[int, float, int, int, bool]], leaf_minutes: NDArray[np.float64]
) -> None:
    """Add one tree's splits, and its leaves from left to right."""
    n_leaves = int(nodes["is_leaf"].sum())
    if n_leaves > MAX_LEAF_NODES:
        raise UserError(f"tree {number} has {n_leaves} leaves, bit masks have {MAX_LEAF_NODES}")
    if nodes["is_categorical"].any():
        raise UserError(f"tree {number} splits on a category, bit masks only represent thresholds")
    next_leaf = 0

    def leaves_below(index: int) -> int:
        """Add the part of the tree below a node and return its leaves as bits."""
        nonlocal next_leaf
        node = nodes[index]
        if node["is_leaf"]:
            leaf_minutes[number, next_leaf] = node["value"]
            next_leaf += 1
            return 1 << (next_leaf - 1)
        left = leaves_below(node["left"])
        right = leaves_below(node["right"])
        missing_right = not node["missing_go_to_left"]
        splits.append((node["feature_idx"], node["num_threshold"], number, _ALL_LEAVES & ~left, missing_right))
        return left | right

    leaves_below(0)


def _golden_file(
    fitted: HistGradientBoostingRegressor, arrays: dict[str, NDArray[Any]], rides: Rides, interval: Interval | None
) -> bytes:
    """Return the file of golden rides, a ride a line: events with scikit-learn's predictions, which functions replay.

    There are a hundred: some of them at thresholds of the forest, some with missing values.
    """
    columns = rides.take(np.linspace(0, len(rides) - 1, N_GOLDEN_RIDES).astype(np.intp)).columns
    miles = np.where(columns.trip_distance_miles >= 0, columns.trip_distance_miles, 0.0)
    at_thresholds = _distances_at_thresholds(arrays)
    miles[: len(at_thresholds)] = at_thresholds
    miles[-_N_MISSING:] = 0.0
    dropoff_zone = columns.dropoff_zone.copy()
    dropoff_zone[-_N_MISSING // 2 :] = UNKNOWN_ZONE
    columns = replace(columns, dropoff_zone=dropoff_zone, trip_distance_miles=miles)
    matrix = feature_matrix(columns)
    minutes = fitted.predict(matrix).clip(*_RANGE_MINUTES)
    lines = []
    for i, bounds in enumerate(_bounds(interval, minutes, matrix)):
        event = msgspec.Raw(msgspec.json.encode(RideEvent(ride_of(columns, i), i)))
        lines.append(msgspec.json.encode(GoldenRide(event, float(minutes[i]), bounds)))
    return b"[\n" + b",\n".join(lines) + b"\n]\n"


def _bounds(
    interval: Interval | None, minutes: NDArray[np.float64], matrix: NDArray[np.float64]
) -> list[tuple[float, float]] | list[None]:
    """Return the intervals (n,) of predictions, or n times None."""
    if interval is None:
        return [None] * len(minutes)
    low, high = IntervalTables.of(interval, _RANGE_MINUTES).bounds(minutes, matrix)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _distances_at_thresholds(arrays: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return distances (m,) at thresholds and one ulp to either side."""
    of_distance = arrays["split_feature"] == FEATURE_NAMES.index("trip_distance_miles")
    thresholds = np.unique(arrays["split_threshold"][of_distance])
    thresholds = thresholds[np.isfinite(thresholds)]
    if not len(thresholds):
        return thresholds
    picked = thresholds[np.linspace(0, len(thresholds) - 1, _N_AT_THRESHOLDS // 3).astype(np.intp)]
    return np.concatenate([picked, np.nextafter(picked, -np.inf), np.nextafter(picked, np.inf)])


def _manifest(files: dict[str, bytes], train_rides: Rides, facts: TrainingFacts, interval: Interval | None) -> Manifest:
    """Build the manifest; its version is a digest of everything else in it."""
    manifest = Manifest(
        format=BUNDLE_FORMAT,
        model_version=_UNVERSIONED,
        service=facts.service,
        train_months=tuple(str(month) for month in facts.train_months),
        validate_months=tuple(str(month) for month in facts.validate_months),
        feature_names=FEATURE_NAMES,
        duration_range_minutes=_RANGE_MINUTES,
        files={name: FileDigest(len(data), sha256(data)) for name, data in sorted(files.items())},
        data=training_data(train_rides),
        parameters=facts.parameters,
        metrics=facts.metrics,
        software=software(),
        interval=interval,
    )
    digest = sha256(msgspec.json.encode(manifest, order="sorted"))[:12]
    return msgspec.structs.replace(manifest, model_version=f"{facts.service}-{facts.train_months[-1].whole}-{digest}")


def training_data(rides: Rides) -> tuple[TrainingData, ...]:
    """Return the manifest's entries for the files that rides come from."""
    return tuple(
        TrainingData(source.file, str(source.month), source.sha256, source.n_rows, source.n_kept)
        for source in rides.sources
    )


def software() -> dict[str, str]:
    """Return the versions that a model's bytes depend on, and the digest of the lock file if there is one."""
    versions = {"numpy": version("numpy"), "ridecast": _own_version(), "scikit-learn": version("scikit-learn")}
    versions["python"] = ".".join(platform.python_version_tuple()[:2])
    if _LOCK.is_file():
        versions["uv.lock"] = sha256(_LOCK.read_bytes())
    return versions


def _own_version() -> str:
    """Return the project's version. The function's package is not installed: it has pyproject.toml beside it."""
    try:
        return version("ridecast")
    except PackageNotFoundError:
        return str(tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]["version"])
