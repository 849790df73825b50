"""Training: both models on one split, the bundle with its evaluation, and finding a bundle again."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST
from lambda_function.core.features import feature_matrix
from tests.builders import FEBRUARY, JANUARY, SMALL_PARAMETERS, small_rides
from tests.builders_channels import new_bucket
from training.data.load import synthetic_months
from training.data.rides import Rides, concat_rides
from training.data.synthetic import synthetic_rides
from training.evaluation.metrics import measure_errors
from training.model.bundle import REFERENCE, read_bundle, write_bundle
from training.model.calibrate import Predict, calibration_mask, split_calibration
from training.model.fit import fit_forest
from training.model.results import EVALUATION, decode_evaluation
from training.monitoring.monitor.reference import build_reference, decode_reference
from training.workflows.pipeline import TrainingRun, find_bundle, train
from training.workflows.reproduce import reproduce, train_as_before

TRAIN = small_rides()
VALIDATE = synthetic_rides(FEBRUARY, 800, seed=7)


@pytest.fixture(scope="module")
def run() -> TrainingRun:
    return train("green", TRAIN, VALIDATE, SMALL_PARAMETERS)


def test_errors_are_those_of_exported_model_and_baseline_on_the_validation_rides(run: TrainingRun) -> None:
    minutes = run.bundle.model.predict(feature_matrix(VALIDATE.columns))
    assert run.evaluation.validate.model == measure_errors(minutes, VALIDATE.duration_minutes)
    baseline_minutes = run.baseline.predict(VALIDATE.columns)
    assert run.evaluation.validate.baseline == measure_errors(baseline_minutes, VALIDATE.duration_minutes)
    assert (run.n_train, run.evaluation.validate.model.n_rides) == (2000, 800)


def test_manifest_holds_both_models_errors(run: TrainingRun) -> None:
    metrics = run.bundle.model.manifest.metrics
    assert metrics["validate"] == msgspec.to_builtins(run.evaluation.validate.model)
    assert metrics["validate_baseline"] == msgspec.to_builtins(run.evaluation.validate.baseline)


def test_evaluation_has_slices_intervals_and_late_arrivals(run: TrainingRun) -> None:
    evaluation = decode_evaluation(run.bundle.files[EVALUATION])
    assert evaluation == run.evaluation
    assert {one.by for one in evaluation.validate.slices} >= {"hour", "weekday", "boroughs", "distance", "zone pair"}
    assert evaluation.validate.coverage is not None
    at_pickup, *later = (one.model.rmse_minutes for one in evaluation.without_pickup_time)
    assert at_pickup == evaluation.validate.model.rmse_minutes
    assert max(later) > at_pickup


def test_reference_has_the_training_days_out_of_fold_with_the_models_own_intervals(run: TrainingRun) -> None:
    def fit(rides: Rides) -> Predict:
        forest = fit_forest(rides, SMALL_PARAMETERS)
        return lambda some: forest.predict(feature_matrix(some.columns)).clip(1, 60)

    reference = run.bundle.files[REFERENCE]
    assert reference == build_reference(TRAIN, fit, run.bundle.model.manifest.interval)
    days = decode_reference(reference).days
    assert days.day.tolist() == np.unique(TRAIN.pickup_time.astype("datetime64[D]")).tolist()
    in_sample = run.bundle.model.predict(feature_matrix(TRAIN.columns)) - TRAIN.duration_minutes
    assert days.sum_squared_error.sum() > 1.2 * (in_sample**2).sum()


def test_model_without_a_reference_is_otherwise_the_same(run: TrainingRun) -> None:
    without = train("green", TRAIN, VALIDATE, SMALL_PARAMETERS, has_reference=False)
    assert set(run.bundle.files) - set(without.bundle.files) == {REFERENCE}
    for name in (FOREST, GOLDEN, EVALUATION):
        assert without.bundle.files[name] == run.bundle.files[name]


def test_training_again_gives_the_same_bytes(run: TrainingRun) -> None:
    again = train("green", TRAIN, VALIDATE, SMALL_PARAMETERS).bundle
    assert again.files == run.bundle.files


def test_calibration_rides_fit_nothing_of_the_forest(run: TrainingRun) -> None:
    fit_rides, calibration_rides = split_calibration(TRAIN)
    assert len(fit_rides) + len(calibration_rides) == len(TRAIN)
    altered_minutes = np.where(calibration_mask(TRAIN.columns), 60.0, TRAIN.duration_minutes)
    longer = Rides(TRAIN.columns, TRAIN.pickup_time, altered_minutes, TRAIN.sources)
    other = train("green", longer, VALIDATE, SMALL_PARAMETERS)
    assert other.bundle.files["forest.npz"] == run.bundle.files["forest.npz"]
    assert other.bundle.model.manifest.interval != run.bundle.model.manifest.interval


def test_validation_rides_do_not_affect_the_fit(run: TrainingRun) -> None:
    other = train("green", TRAIN, VALIDATE.head(10), SMALL_PARAMETERS)
    assert other.bundle.files["forest.npz"] == run.bundle.files["forest.npz"]
    assert other.baseline.predict(VALIDATE.columns).tolist() == run.baseline.predict(VALIDATE.columns).tolist()


def test_version_names_the_last_training_month() -> None:
    both = concat_rides([synthetic_rides(JANUARY, 300, seed=1), synthetic_rides(FEBRUARY, 300, seed=1)])
    run = train("yellow", both, synthetic_rides(FEBRUARY.next(), 50, seed=1), SMALL_PARAMETERS)
    assert re.fullmatch(r"yellow-2021-02-[0-9a-f]{12}", run.bundle.model_version)
    assert run.bundle.model.manifest.train_months == ("2021-01", "2021-02")
    assert both.months == (JANUARY, FEBRUARY)


@pytest.mark.parametrize("has_reference", [True, False], ids=["a bundle", "a bundle of an earlier version"])
def test_bundle_is_reproduced_from_its_manifest(has_reference: bool) -> None:
    rides, validate_rides = (synthetic_months(600)([month]) for month in (JANUARY, FEBRUARY))
    stored = train("green", rides, validate_rides, SMALL_PARAMETERS, has_reference=has_reference).bundle
    found = reproduce(stored, train_as_before(new_bucket(), lambda _: None))
    assert found.is_identical
    assert (REFERENCE in stored.files) == has_reference


# Finding a bundle again ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, run: TrainingRun) -> Path:
    """A folder with the run's bundle in it."""
    write_bundle(run.bundle, tmp_path)
    return tmp_path


def test_bundle_of_the_same_rides_and_parameters_is_found(folder: Path, run: TrainingRun) -> None:
    found = find_bundle(folder, "green", TRAIN, VALIDATE, SMALL_PARAMETERS)
    assert found is not None
    assert found.files == run.bundle.files


def test_bundle_of_another_training_is_not_found(folder: Path) -> None:
    other_rides, other_month = synthetic_rides(JANUARY, 2000, seed=8), synthetic_rides(JANUARY, 800, seed=7)
    assert find_bundle(folder, "yellow", TRAIN, VALIDATE, SMALL_PARAMETERS) is None
    assert find_bundle(folder, "green", other_rides, VALIDATE, SMALL_PARAMETERS) is None
    assert find_bundle(folder, "green", TRAIN, other_month, SMALL_PARAMETERS) is None
    assert find_bundle(folder, "green", TRAIN, VALIDATE, {**SMALL_PARAMETERS, "max_iter": 21}) is None
    assert find_bundle(folder, "green", TRAIN, VALIDATE) is None
    assert find_bundle(folder / "nowhere", "green", TRAIN, VALIDATE, SMALL_PARAMETERS) is None


def test_bundle_without_a_reference_is_not_found(tmp_path: Path) -> None:
    write_bundle(train("green", TRAIN, VALIDATE, SMALL_PARAMETERS, has_reference=False).bundle, tmp_path)
    assert find_bundle(tmp_path, "green", TRAIN, VALIDATE, SMALL_PARAMETERS) is None


def test_bundle_that_does_not_load_is_skipped(folder: Path, run: TrainingRun) -> None:
    manifest = folder / run.bundle.model_version / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:-50])
    assert find_bundle(folder, "green", TRAIN, VALIDATE, SMALL_PARAMETERS) is None


def test_writing_a_bundle_again_repairs_a_broken_one(folder: Path, run: TrainingRun) -> None:
    (folder / run.bundle.model_version / "forest.npz").write_bytes(b"")
    write_bundle(run.bundle, folder)
    assert read_bundle(folder / run.bundle.model_version).files == run.bundle.files
