"""Export a fitted forest as a bundle: its contents, and the changes that give another version."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, PARITY_MINUTES, decode_golden_rides, sha256
from lambda_function.core.features import FEATURE_NAMES, feature_matrix
from lambda_function.core.forest import FOREST_DTYPES
from lambda_function.core.intervals import Interval
from lambda_function.errors import BundleError
from tests.builders import (
    JANUARY,
    SMALL_PARAMETERS,
    interval_bundle,
    random_matrix,
    small_bundle,
    small_interval,
    small_rides,
    training_facts,
)
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.errors import UserError
from training.model.bundle import ExportedBundle, read_bundle, write_bundle
from training.model.export import TrainingFacts, export_bundle, forest_arrays
from training.model.fit import fit_forest
from training.model.results import EVALUATION


def fitted(rides: Rides | None = None, **parameters: Any) -> HistGradientBoostingRegressor:
    return fit_forest(rides or small_rides(), {**SMALL_PARAMETERS, "max_iter": 3, **parameters})


def exported(
    facts: TrainingFacts | None = None,
    rides: Rides | None = None,
    interval: Interval | None = None,
    more_files: Mapping[str, bytes] | None = None,
    **parameters: Any,
) -> ExportedBundle:
    rides = rides or small_rides()
    return export_bundle(fitted(rides, **parameters), rides, facts or training_facts(), interval, more_files)


def test_exported_model_predicts_what_was_fitted() -> None:
    model, matrix = fitted(), random_matrix(500)
    bundle = export_bundle(model, small_rides(), training_facts())
    np.testing.assert_allclose(
        bundle.model.predict(matrix), model.predict(matrix).clip(1, 60), rtol=0, atol=PARITY_MINUTES
    )


def test_manifest_states_the_facts_of_the_training() -> None:
    manifest = exported(training_facts({"max_iter": 3})).model.manifest
    assert manifest.service == "green"
    assert manifest.train_months == ("2021-01",)
    assert manifest.validate_months == ("2021-02",)
    assert manifest.feature_names == FEATURE_NAMES
    assert manifest.parameters == {"max_iter": 3}
    assert manifest.metrics == {"validate": {"rmse_minutes": 5.0}}
    assert set(manifest.software) == {"numpy", "python", "ridecast", "scikit-learn", "uv.lock"}
    assert manifest.software["uv.lock"] == sha256((Path(__file__).parents[2] / "uv.lock").read_bytes())
    (data,) = manifest.data
    assert (data.file, data.month, data.n_rows, data.n_kept) == ("synthetic", "2021-01", 2000, 2000)
    assert data.sha256 == small_rides().sources[0].sha256


def test_same_rides_parameters_and_facts_give_the_same_bytes() -> None:
    once, again = (exported(max_features=0.5, half_life_days=5.0) for _ in range(2))
    assert once.files == again.files


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: exported(learning_rate=0.2), id="parameters"),
        pytest.param(lambda: exported(rides=synthetic_rides(JANUARY, 2000, seed=8)), id="rides"),
        pytest.param(lambda: exported(replace(training_facts(), validate_months=(JANUARY,))), id="validation"),
        pytest.param(lambda: exported(replace(training_facts(), metrics={"rmse": 4.0})), id="metrics"),
        pytest.param(lambda: exported(replace(training_facts(), service="yellow")), id="service"),
        pytest.param(lambda: exported(interval=small_interval()), id="interval"),
        pytest.param(lambda: exported(more_files={EVALUATION: b"{}"}), id="evaluation"),
    ],
)
def test_any_other_input_gives_another_version(other: Any) -> None:
    assert other().model_version[-12:] != exported().model_version[-12:]


def test_forest_is_plain_arrays_of_the_expected_dtypes() -> None:
    with np.load(io.BytesIO(small_bundle().files[FOREST]), allow_pickle=False) as arrays:
        assert {name: arrays[name].dtype for name in arrays.files} == FOREST_DTYPES


def test_unused_leaves_are_zero() -> None:
    leaves = forest_arrays(fitted(max_leaf_nodes=4))["leaf_minutes"]
    assert leaves.shape == (3, 32)
    assert (leaves[:, :4] != 0).all()
    assert (leaves[:, 4:] == 0).all()


def test_tree_of_more_leaves_than_bits_is_refused() -> None:
    model = HistGradientBoostingRegressor(max_iter=1, max_leaf_nodes=33, min_samples_leaf=1, early_stopping=False)
    model.fit(feature_matrix(small_rides().columns), small_rides().duration_minutes)
    with pytest.raises(UserError, match="tree 0 has 33 leaves, bit masks have 32"):
        forest_arrays(model)


def test_split_on_a_category_is_refused() -> None:
    matrix = feature_matrix(small_rides().columns)
    model = HistGradientBoostingRegressor(max_iter=1, categorical_features=[2], early_stopping=False)
    model.fit(matrix[:, :3], np.where(matrix[:, 2] == 3, 10.0, 0.0))
    with pytest.raises(UserError, match="tree 0 splits on a category"):
        forest_arrays(model)


def test_few_rides_and_a_forest_without_splits_give_a_bundle() -> None:
    assert exported(rides=small_rides().head(7), min_samples_leaf=1).model_version
    assert exported(min_samples_leaf=2000).model_version


def test_interval_is_in_the_manifest_and_golden_rides_have_theirs() -> None:
    bundle = interval_bundle()
    assert bundle.model.manifest.interval == small_interval()
    golden = decode_golden_rides(bundle.files[GOLDEN])
    for ride in golden:
        assert ride.interval is not None
        low, high = ride.interval
        assert 1 <= low <= round(ride.duration_minutes, 2) <= high <= 60
    assert len({round(high - low, 2) for low, high in [ride.interval or (0, 0) for ride in golden]}) > 4


# On disk ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_whole", [False, True])
def test_bundle_is_read_as_it_was_written_once_or_twice(tmp_path: Path, is_whole: bool) -> None:
    bundle = exported(interval=small_interval(), more_files={EVALUATION: b"{}"}) if is_whole else small_bundle()
    for _ in range(2):
        folder = write_bundle(bundle, tmp_path)
        assert folder == tmp_path / bundle.model_version
        assert {path.name for path in folder.iterdir()} == set(bundle.files)
        assert read_bundle(folder).files == bundle.files
        assert read_bundle(folder).manifest_sha256 == bundle.manifest_sha256


@pytest.mark.parametrize("name", [FOREST, GOLDEN, MANIFEST, EVALUATION])
def test_file_changed_or_missing_on_disk_is_named(tmp_path: Path, name: str) -> None:
    folder = write_bundle(exported(more_files={EVALUATION: b"{}"}), tmp_path)
    (folder / name).write_bytes(b"[]")
    with pytest.raises(BundleError, match=f"{name}: (has other bytes|does not decode|has 2 bytes)"):
        read_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: is missing"):
        read_bundle(folder)


def test_artifact_beside_a_bundle_is_none_of_its_files(tmp_path: Path) -> None:
    folder = write_bundle(small_bundle(), tmp_path)
    (folder / "report.html").write_text("rewritten at will")
    assert read_bundle(folder).files == small_bundle().files


def test_folder_of_another_name_is_no_bundle_of_that_version(tmp_path: Path) -> None:
    folder = write_bundle(small_bundle(), tmp_path)
    with pytest.raises(BundleError, match="is of version"):
        read_bundle(folder.rename(tmp_path / "green-2021-01-000000000000"))
