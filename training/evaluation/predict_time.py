"""Measure a model's predict time as a multiple of a reference forest's, which does not depend on the machine's load.

A time in microseconds depends on the machine as much as on the model. So the same thread predicts the same rides in
turns with the model and with a made-up forest of the size that the function's budget was set for.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lambda_function.core.bundle import ModelBundle
from lambda_function.core.features import feature_matrix
from training.data.rides import Rides

REFERENCE_TREES, REFERENCE_LEAVES = 500, 31
TIMED_RIDES = 10_000
"""A large batch, as `make bench` times it."""

_REFERENCE_FEATURES = 8  # the first ones: one more takes the model longer, and not the reference
_MAX_THRESHOLDS = 254  # of a feature, all trees together: scikit-learn has 255 bins
_ALL_LEAVES = 0xFFFFFFFF
_SEED = 20210101
_ROUNDS = 9


def predict_time_ratio(model: ModelBundle, rides: Rides, clock: Callable[[], float] = time.thread_time) -> float:
    """Return the median ratio of a model's predict time, intervals included, to that of the reference forest.

    TIMED_RIDES of the rides, at least one, are predicted, evenly spread, repeated if there are fewer. The clock returns
    seconds of this thread's CPU time, which other processes do not change.
    """
    chosen = np.linspace(0, len(rides) - 1, TIMED_RIDES).astype(np.intp)
    matrix = feature_matrix(rides.take(chosen).columns)
    reference_matrix = np.ascontiguousarray(matrix[:, :_REFERENCE_FEATURES])
    # Both use the model's engine, so only the trees differ.
    reference = type(model.forest).from_arrays(_reference_arrays(reference_matrix), _REFERENCE_FEATURES)

    def predict() -> None:
        model.encoded_intervals(matrix, model.predict(matrix))

    def predict_reference() -> None:
        reference.predict(reference_matrix)

    predict()
    predict_reference()
    ratios = [_seconds(predict, clock) / _seconds(predict_reference, clock) for _ in range(_ROUNDS)]
    return statistics.median(ratios)


def _reference_arrays(matrix: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Make up the arrays of a forest of REFERENCE_TREES trees, each a chain of REFERENCE_LEAVES leaves.

    The time of a forest of bit masks depends on the number of trees, not on their shape. It depends, through the
    processor's caches, on how rides spread over each feature's thresholds: so these are quantiles of the rides (n,
    n_features) in the matrix.
    """
    rng = np.random.default_rng(_SEED)
    thresholds = [_quantiles(column) for column in matrix.T]
    feature = rng.choice(
        np.flatnonzero([len(values) for values in thresholds]), (REFERENCE_TREES, REFERENCE_LEAVES - 1)
    )
    leaf_minutes = np.zeros((REFERENCE_TREES, 32))
    leaf_minutes[:, :REFERENCE_LEAVES] = rng.normal(0, 0.1, (REFERENCE_TREES, REFERENCE_LEAVES))
    left_leaf = np.broadcast_to(np.arange(REFERENCE_LEAVES - 1), feature.shape).ravel()
    return {
        "split_feature": feature.astype(np.uint8).ravel(),
        "split_threshold": np.array([rng.choice(thresholds[i]) for i in feature.ravel()]),
        "split_tree": np.repeat(np.arange(REFERENCE_TREES, dtype=np.uint16), REFERENCE_LEAVES - 1),
        "split_mask": (_ALL_LEAVES & ~(1 << left_leaf)).astype(np.uint32),
        "split_missing_right": np.zeros(feature.size, np.bool_),
        "leaf_minutes": leaf_minutes,
        "base_minutes": np.array(15.0),
    }


def _quantiles(column: NDArray[np.float64]) -> NDArray[np.float64]:
    known = column[~np.isnan(column)]
    return np.unique(np.quantile(known, np.linspace(0, 1, _MAX_THRESHOLDS))) if len(known) else known


def _seconds(run: Callable[[], None], clock: Callable[[], float]) -> float:
    started_s = clock()
    run()
    return clock() - started_s
