"""From a fitted scikit-learn forest to a bundle: plain arrays, golden rides and a manifest that vouches for both."""

import io
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
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
    check_files,
    load_bundle,
    sha256,
)
from lambda_function.core.events import Ride, RideEvent
from lambda_function.core.features import FEATURE_NAMES, RideColumns, feature_matrix
from lambda_function.core.intervals import Interval, IntervalTables
from training.data.months import Month, Service
from training.data.rides import MAX_DURATION_MINUTES, MIN_DURATION_MINUTES, Rides
from training.errors import ExportError
from training.model.bundle import ExportedBundle as ExportedBundle  # noqa: PLC0414 - imported from here as well
from training.model.evaluation import EVALUATION

# MERGED FROM training/golden.py
# Golden rides: events and what is predicted for them, which a bundle carries and every function replays first.
N_GOLDEN_RIDES = 100
_N_AT_THRESHOLDS = 30
_N_MISSING = 10
_RANGE_MINUTES = MIN_DURATION_MINUTES, MAX_DURATION_MINUTES


def golden_file(
    fitted: HistGradientBoostingRegressor, arrays: dict[str, NDArray[Any]], rides: Rides, interval: Interval | None
) -> bytes:
    """Picks a hundred rides, some at thresholds and some with missing values, and has scikit-learn predict them.

    Args:
        fitted: The forest.
        arrays: The same, as `forest_arrays` gives it.
        rides: To pick from, at least one.
        interval: What the rides' intervals are of, if they are to have any.

    Returns:
        The file's bytes, a ride a line.
    """
    chosen = rides.take(np.linspace(0, len(rides) - 1, N_GOLDEN_RIDES).astype(np.intp))
    columns = chosen.columns
    miles = np.where(columns.trip_distance_miles >= 0, columns.trip_distance_miles, 0.0)
    at_thresholds = _distances_at_thresholds(arrays)
    miles[: len(at_thresholds)] = at_thresholds
    miles[-_N_MISSING:] = 0.0
    dropoff_zone = columns.dropoff_zone.copy()
    dropoff_zone[-_N_MISSING // 2 :] = 264
    columns = RideColumns(columns.pickup_zone, dropoff_zone, miles, columns.pickup_minute)
    matrix = feature_matrix(columns)
    minutes = fitted.predict(matrix).clip(*_RANGE_MINUTES)
    times = columns.pickup_minute.astype("datetime64[m]").astype("datetime64[s]").astype(str)
    golden = [
        GoldenRide(
            msgspec.Raw(
                msgspec.json.encode(RideEvent(Ride(int(pickup), int(dropoff), float(mile), str(time)), number))
            ),
            float(minute),
            bounds,
        )
        for number, (pickup, dropoff, mile, time, minute, bounds) in enumerate(
            zip(
                columns.pickup_zone,
                dropoff_zone,
                miles,
                times,
                minutes,
                _bounds(interval, minutes, matrix),
                strict=True,
            )
        )
    ]
    return b"[\n" + b",\n".join(msgspec.json.encode(ride) for ride in golden) + b"\n]\n"


def _bounds(
    interval: Interval | None, minutes: NDArray[np.float64], matrix: NDArray[np.float64]
) -> list[tuple[float, float]] | list[None]:
    """Returns the intervals (n,) of predictions, if they have any."""
    if interval is None:
        return [None] * len(minutes)
    low, high = IntervalTables.of(interval, _RANGE_MINUTES).bounds(minutes, matrix)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _distances_at_thresholds(arrays: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Returns distances (m,) at thresholds and one ulp to either side."""
    of_distance = arrays["split_feature"] == FEATURE_NAMES.index("trip_distance_miles")
    thresholds = np.unique(arrays["split_threshold"][of_distance])
    thresholds = thresholds[np.isfinite(thresholds)]
    if not len(thresholds):
        return thresholds
    picked = thresholds[np.linspace(0, len(thresholds) - 1, _N_AT_THRESHOLDS // 3).astype(np.intp)]
    return np.concatenate([picked, np.nextafter(picked, -np.inf), np.nextafter(picked, np.inf)])


MAX_LEAVES = 32
_ALL_LEAVES = 0xFFFFFFFF
_LOCK = Path(__file__).parents[2] / "uv.lock"
_UNVERSIONED = "unversioned-0000-00-000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """What the manifest says of a training run."""

    service: Service
    train_months: tuple[Month, ...]
    validate_months: tuple[Month, ...]
    parameters: dict[str, Any]
    metrics: dict[str, Any]


def export_bundle(
    fitted: HistGradientBoostingRegressor,
    train_rides: Rides,
    facts: TrainingFacts,
    interval: Interval | None = None,
    evaluation: bytes | None = None,
) -> ExportedBundle:
    """Builds a bundle and loads it as the function would: all checks pass, the golden rides agree with scikit-learn.

    Args:
        fitted: The forest.
        train_rides: Whose files the manifest names, and some of which become golden rides.
        facts: What else the manifest says.
        interval: What `training.model.calibrate` found, if predictions are to have intervals.
        evaluation: What becomes of it in `training.model.evaluation`'s file, if there is one.

    Raises:
        ExportError: The forest is not one that bit masks can hold.
        BundleError: What was exported predicts something else than scikit-learn.
    """
    arrays = forest_arrays(fitted)
    files = {FOREST: _pack(arrays), GOLDEN: golden_file(fitted, arrays, train_rides, interval)}
    if evaluation is not None:
        files[EVALUATION] = evaluation
    manifest = _manifest(files, train_rides, facts, interval)
    files[MANIFEST] = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    return ExportedBundle(files, load_bundle(manifest.model_version, sha256(files[MANIFEST]), files))


def forest_arrays(fitted: HistGradientBoostingRegressor) -> dict[str, NDArray[Any]]:
    """Turns a fitted forest into the arrays of `lambda_function.core.forest.Forest`.

    Reads scikit-learn's private nodes: it offers no other way. Golden rides and parity tests stand guard.

    Raises:
        ExportError: A tree has more than 32 leaves, or a split that is not a threshold.
    """
    trees = [predictors[0].nodes for predictors in fitted._predictors]  # noqa: SLF001
    leaf_minutes = np.zeros((len(trees), MAX_LEAVES))
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


def write_bundle(bundle: ExportedBundle, folder: Path) -> Path:
    """Writes a bundle into ``folder/<version>`` and returns that; the manifest comes last and makes it whole."""
    target = folder / bundle.model_version
    target.mkdir(parents=True, exist_ok=True)
    for name in (*bundle.model.manifest.files, MANIFEST):
        part = target / f".{name}.part"
        part.write_bytes(bundle.files[name])
        part.replace(target / name)  # a run that ends half-way leaves no half of a file under its name
    return target


def read_bundle(folder: Path) -> ExportedBundle:
    """Reads and checks a bundle that `write_bundle` wrote.

    Raises:
        BundleError: Something about it is wrong: which file, and what.
    """
    files = _read_files(folder, (FOREST, GOLDEN, MANIFEST))
    model = load_bundle(folder.name, sha256(files.get(MANIFEST, b"")), files)
    files |= _read_files(folder, model.manifest.files)
    check_files(model.manifest, files)
    return ExportedBundle(files, model)


def _read_files(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def _add_tree(
    number: int, nodes: Any, splits: list[tuple[int, float, int, int, bool]], leaf_minutes: NDArray[np.float64]
) -> None:
    """Adds one tree's splits, and its leaves from left to right."""
    if int(nodes["is_leaf"].sum()) > MAX_LEAVES:
        raise ExportError(f"tree {number} has {int(nodes['is_leaf'].sum())} leaves, bit masks hold {MAX_LEAVES}")
    if nodes["is_categorical"].any():
        raise ExportError(f"tree {number} splits on a category, bit masks hold thresholds only")
    n_leaves = 0

    def leaves_below(index: int) -> int:
        """Adds what is below a node and returns its leaves as bits."""
        nonlocal n_leaves
        node = nodes[index]
        if node["is_leaf"]:
            leaf_minutes[number, n_leaves] = node["value"]
            n_leaves += 1
            return 1 << (n_leaves - 1)
        left = leaves_below(node["left"])
        right = leaves_below(node["right"])
        missing_right = not node["missing_go_to_left"]
        splits.append((node["feature_idx"], node["num_threshold"], number, _ALL_LEAVES & ~left, missing_right))
        return left | right

    leaves_below(0)


def _pack(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Packs arrays into an .npz; its zip entries carry no time, so the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _manifest(files: dict[str, bytes], train_rides: Rides, facts: TrainingFacts, interval: Interval | None) -> Manifest:
    """Builds the manifest; its version is a digest of everything else that stands in it."""
    manifest = Manifest(
        format=BUNDLE_FORMAT,
        model_version=_UNVERSIONED,
        service=facts.service,
        train_months=tuple(str(month) for month in facts.train_months),
        validate_months=tuple(str(month) for month in facts.validate_months),
        feature_names=FEATURE_NAMES,
        duration_range_minutes=(MIN_DURATION_MINUTES, MAX_DURATION_MINUTES),
        files={name: FileDigest(len(data), sha256(data)) for name, data in sorted(files.items())},
        data=training_data(train_rides),
        parameters=facts.parameters,
        metrics=facts.metrics,
        software=software(),
        interval=interval,
    )
    digest = sha256(msgspec.json.encode(manifest, order="sorted"))[:12]
    return msgspec.structs.replace(manifest, model_version=f"{facts.service}-{facts.train_months[-1]}-{digest}")


def training_data(rides: Rides) -> tuple[TrainingData, ...]:
    """Returns what a manifest says of the files that rides come from."""
    return tuple(
        TrainingData(source.file, str(source.month), source.sha256, source.n_rows, source.n_kept)
        for source in rides.sources
    )


def software() -> dict[str, str]:
    """Returns the versions that a model's bytes depend on, and the digest of the lock file where there is one."""
    versions = {name: version(name) for name in ("numpy", "ridecast", "scikit-learn")}
    versions["python"] = ".".join(platform.python_version_tuple()[:2])
    if _LOCK.is_file():
        versions["uv.lock"] = sha256(_LOCK.read_bytes())
    return versions
