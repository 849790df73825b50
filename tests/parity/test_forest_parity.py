"""The engine agrees with scikit-learn to a billionth of a minute on rides of any value."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from lambda_function.core.bundle import PARITY_MINUTES
from lambda_function.core.features import FEATURE_NAMES, RideColumns, feature_matrix
from lambda_function.core.folding import MIN_RIDES
from lambda_function.core.forest import Forest
from tests.builders import JANUARY, random_matrix, small_bundle, small_rides
from training.data.synthetic import synthetic_rides
from training.model.export import forest_arrays
from training.model.fit import fit_forest

Matrix = NDArray[np.float64]
N_FEATURES = len(FEATURE_NAMES)


@dataclass(frozen=True)
class Pair:
    """A fitted forest and its export."""

    fitted: HistGradientBoostingRegressor
    forest: Forest
    arrays: dict[str, NDArray[Any]]

    def assert_equal(self, matrix: Matrix) -> None:
        """Fail unless the two agree on every row."""
        np.testing.assert_allclose(
            self.forest.predict(matrix), self.fitted.predict(matrix), rtol=0, atol=PARITY_MINUTES
        )


def pair_of(matrix: Matrix, minutes: Matrix, **parameters: Any) -> Pair:
    model = HistGradientBoostingRegressor(early_stopping=False, random_state=1, **parameters)
    fitted = model.fit(matrix, minutes)
    arrays = forest_arrays(fitted)
    return Pair(fitted, Forest.from_arrays(arrays, matrix.shape[1]), arrays)


def leaves_of(fitted: HistGradientBoostingRegressor) -> list[int]:
    return [int(predictors[0].nodes["is_leaf"].sum()) for predictors in fitted._predictors]


def minutes_of(matrix: Matrix) -> Matrix:
    """Made-up minutes that depend on every feature, and on its being missing."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=matrix.shape[1])
    low, high = np.nanmin(matrix, axis=0), np.nanmax(matrix, axis=0)
    filled = np.nan_to_num((matrix - low) / np.maximum(high - low, 1e-9), nan=-1.0)
    minutes: Matrix = filled @ weights + np.isnan(matrix) @ (3 * weights) + rng.normal(0, 0.1, len(matrix))
    return minutes


def rides() -> Matrix:
    return feature_matrix(small_rides().columns)


def complete() -> Matrix:
    return np.nan_to_num(rides(), nan=1.0)


def holed() -> Matrix:
    return random_matrix(2000, seed=3, missing_share=0.2)


def sevens_or_missing() -> Matrix:
    """Return a matrix whose rows differ only in missing values."""
    return np.where(np.random.default_rng(5).random((2000, N_FEATURES)) < 0.5, np.nan, 7.0)


def of_rides(matrix: Matrix, **parameters: Any) -> Pair:
    return pair_of(matrix, small_rides().duration_minutes, **{"max_iter": 20, "min_samples_leaf": 2, **parameters})


def of_every_feature(matrix: Matrix, **parameters: Any) -> Pair:
    return pair_of(matrix, minutes_of(matrix), **{"max_iter": 20, "min_samples_leaf": 2, **parameters})


PAIRS: dict[str, Callable[[], Pair]] = {
    "rides": lambda: of_rides(rides()),
    "no missing values": lambda: of_rides(complete()),
    "missing values everywhere": lambda: of_every_feature(holed()),
    "nothing but missing values": lambda: of_every_feature(sevens_or_missing()),
    "32 leaves": lambda: of_every_feature(holed(), max_iter=10, max_leaf_nodes=32, min_samples_leaf=1),
    "stumps": lambda: of_rides(complete(), max_leaf_nodes=2),
    "single leaves": lambda: of_rides(complete(), max_iter=3, min_samples_leaf=1500),
    "one tree": lambda: of_rides(complete(), max_iter=1),
    "few distinct values": lambda: of_rides(np.round(complete())),
}


@cache
def pair(name: str) -> Pair:
    """Return a compared forest."""
    return PAIRS[name]()


every_pair = pytest.mark.parametrize("name", PAIRS)


def on_thresholds(arrays: dict[str, NDArray[Any]], n_rows: int = 3000) -> Matrix:
    """Return rows whose features are thresholds, one ulp below or above them, or missing."""
    rng = np.random.default_rng(11)
    matrix = random_matrix(n_rows, seed=11)
    for feature in range(N_FEATURES):
        thresholds = np.unique(arrays["split_threshold"][arrays["split_feature"] == feature])
        if len(thresholds):
            picked = rng.choice(thresholds, n_rows)
            beside = [picked, np.nextafter(picked, -np.inf), np.nextafter(picked, np.inf)]
            matrix[:, feature] = np.choose(rng.integers(3, size=n_rows), beside)
    matrix[rng.random(matrix.shape) < 0.05] = np.nan
    return matrix


def each_feature_missing() -> Matrix:
    """Return rows that miss one feature each, and one that misses all."""
    alone = np.tile(random_matrix(50, missing_share=0.0), (N_FEATURES, 1))
    for feature in range(N_FEATURES):
        alone[feature * 50 : (feature + 1) * 50, feature] = np.nan
    return np.vstack([alone, np.full((1, N_FEATURES), np.nan)])


def with_infinite_values() -> Matrix:
    matrix = random_matrix(1000, seed=13)
    rng = np.random.default_rng(13)
    matrix[rng.random(matrix.shape) < 0.3] = np.inf
    matrix[rng.random(matrix.shape) < 0.3] = -np.inf
    return matrix


@every_pair
def test_forest_agrees_with_scikit_learn(name: str) -> None:
    for matrix in (
        random_matrix(3000, seed=9),
        on_thresholds(pair(name).arrays),
        each_feature_missing(),
        with_infinite_values(),
    ):
        pair(name).assert_equal(matrix)


@pytest.mark.parametrize("n_rows", [1, 2, 63, 64, 65, 127, 128, 129, 511, 512, 513, 100_000])
def test_batches_of_sizes_about_a_block_and_of_a_hundred_thousand(n_rows: int) -> None:
    pair("rides").assert_equal(random_matrix(n_rows))


@pytest.mark.parametrize("n_rides", [MIN_RIDES - 1, MIN_RIDES, 2000])
def test_rides_whose_features_fold_into_few_look_ups(n_rides: int) -> None:
    # GIVEN rides between few zones, within an hour, as a batch of a stream has them
    columns = small_rides().columns
    matrix = feature_matrix(
        RideColumns(
            columns.pickup_zone[:n_rides] % 50 + 1,
            columns.dropoff_zone[:n_rides] % 50 + 1,
            columns.trip_distance_miles[:n_rides],
            columns.pickup_minute[:1] + np.arange(n_rides) * 60 // n_rides,
        )
    )
    pair("rides").assert_equal(matrix)
    # THEN a ride has the same bits as in a batch of its own, which is not folded
    forest = pair("rides").forest
    alone = np.concatenate([forest.predict(row.reshape(1, -1)) for row in matrix[::100]])
    assert forest.predict(matrix)[::100].tobytes() == alone.tobytes()


@pytest.mark.slow
def test_hundred_thousand_rows_of_the_forest_that_is_served() -> None:
    parameters = {"max_iter": 500, "max_leaf_nodes": 31, "max_features": 0.5, "random_state": 1}
    rides = synthetic_rides(JANUARY, 20_000, seed=7)
    fitted = fit_forest(rides, parameters)
    arrays = forest_arrays(fitted)
    full = Pair(fitted, Forest.from_arrays(arrays, N_FEATURES), arrays)
    full.assert_equal(random_matrix(100_000))
    full.assert_equal(on_thresholds(arrays, 100_000))


def test_compared_forests_match_their_names() -> None:
    def thresholds(name: str) -> Matrix:
        values: Matrix = pair(name).arrays["split_threshold"]
        return values

    assert max(leaves_of(pair("32 leaves").fitted)) == 32
    assert set(leaves_of(pair("stumps").fitted)) == {2}
    assert set(leaves_of(pair("single leaves").fitted)) == {1}
    assert len(leaves_of(pair("one tree").fitted)) == 1
    assert np.isinf(thresholds("nothing but missing values")).any()
    assert np.isfinite(thresholds("no missing values")).all()
    missing_right = pair("missing values everywhere").arrays["split_missing_right"]
    assert missing_right.any()
    assert not missing_right.all()
    used = {int(feature) for feature in pair("missing values everywhere").arrays["split_feature"]}
    assert used == set(range(N_FEATURES))


@given(st.integers(1, 1500), st.integers(0, 1000), st.data())
def test_row_has_the_same_bits_alone_as_in_any_batch(n_rows: int, seed: int, data: st.DataObject) -> None:
    matrix = random_matrix(n_rows, seed=seed)
    forest = small_bundle().model.forest
    minutes = forest.predict(matrix)
    row = data.draw(st.integers(0, n_rows - 1))
    assert forest.predict(matrix[row : row + 1]).tobytes() == minutes[row : row + 1].tobytes()
    start = data.draw(st.integers(0, row))
    assert forest.predict(matrix[start:])[row - start].tobytes() == minutes[row].tobytes()


@every_pair
def test_rows_have_the_same_bits_one_by_one(name: str) -> None:
    forest, matrix = pair(name).forest, random_matrix(700, seed=19)
    alone = np.concatenate([forest.predict(row.reshape(1, -1)) for row in matrix])
    assert forest.predict(matrix).tobytes() == alone.tobytes()


def test_features_of_a_large_batch_have_the_same_bits_one_by_one() -> None:
    columns = small_rides().columns
    alone = [
        feature_matrix(
            RideColumns(
                columns.pickup_zone[n : n + 1],
                columns.dropoff_zone[n : n + 1],
                columns.trip_distance_miles[n : n + 1],
                columns.pickup_minute[n : n + 1],
            )
        )
        for n in range(len(columns))
    ]
    assert feature_matrix(columns).tobytes() == np.concatenate(alone).tobytes()
