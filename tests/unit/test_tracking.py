"""Tracking: a run for each version, completed after failures of MLflow, and the environment of training."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from lambda_function.core.bundle import GOLDEN
from lambda_function.errors import BundleError
from tests.builders import FEBRUARY, small_bundle
from tests.builders_report import evaluation, months_result, slice_result
from tests.fakes_tracking import GONE, LEGAL_NAME, URI, FakeTracking
from training.data.months import Month
from training.data.synthetic import synthetic_rides
from training.errors import TrackingError
from training.evaluation.slices import slicings
from training.model.bundle import ExportedBundle
from training.model.results import (
    EVALUATION,
    Evaluation,
    encode_evaluation,
)
from training.tracking.environment import (
    ENVIRONMENT,
    Environment,
    describe_environment,
    encode_environment,
)
from training.tracking.facts import MODEL_VERSION, SLICES, legal_name, run_facts
from training.tracking.mlflow_store import open_store
from training.tracking.pyfunc import ML_MODEL, _load_pyfunc
from training.tracking.runs import track_run
from training.tracking.training_record import TRAINING_RECORD
from training.workflows.record import record_training

COMMIT = "0ac80f1" * 5 + "0ac80"
TRAINED_IN = Environment(
    git_commit=COMMIT, git_dirty=True, uv_lock_sha256="ab" * 32, python="3.13.0", platform="Linux", packages={"a": "1"}
)
N_CALLS_OF_A_RUN = 5
MARCH = Month(2021, 3)


def evaluated(evaluation: Evaluation) -> ExportedBundle:
    bundle = small_bundle()
    return replace(bundle, files={**bundle.files, EVALUATION: encode_evaluation(evaluation)})


def metrics_of(evaluation: Evaluation) -> dict[str, float]:
    return dict(run_facts(evaluated(evaluation), None).metrics)


# Facts --------------------------------------------------------------------------------------------------------------


def test_parameters_are_those_of_the_manifest() -> None:
    parameters = run_facts(small_bundle(), None).parameters
    data = small_bundle().model.manifest.data[0]
    assert parameters["service"] == "green"
    assert (parameters["train_months"], parameters["validate_months"]) == ("2021-01", "2021-02")
    assert parameters["parameters/max_iter"] == "20"
    assert parameters["software/numpy"] == np.__version__
    assert parameters["bundle/n_bytes"] == str(sum(map(len, small_bundle().files.values())))
    assert data.sha256 in parameters[legal_name("data", data.file)]
    assert all(LEGAL_NAME.fullmatch(name) for name in parameters)


def test_metrics_are_the_few_figures_of_each_part() -> None:
    metrics = metrics_of(evaluation(slice_result("hour", "08", 3.0)))
    assert metrics["validate/rmse_minutes"] == 4.0
    assert metrics["validate/baseline_rmse_minutes"] == 6.0
    assert metrics["validate/n_rides"] == 2000
    assert (metrics["validate/coverage"], metrics["validate/width_minutes"]) == (0.8, 7.5)
    assert metrics["test/bias_minutes"] == -0.1
    assert len(metrics) == 15
    without_intervals = msgspec.structs.replace(months_result(), coverage=None, width_minutes=None)
    assert "validate/coverage" not in metrics_of(Evaluation(validate=without_intervals))


def test_table_has_every_slice_of_the_report_whatever_its_name() -> None:
    every = [slice_result(cut.by, name) for cut in slicings(np.zeros((266, 266), np.bool_)) for name in cut.names]
    store = FakeTracking()
    run = store.runs[track_run(store, evaluated(evaluation(slice_result("pair", "A/B → C", 3.0), *every)))]
    table = json.loads(run.files[SLICES])
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert len(rows) == 2 * (1 + 1 + len(every)) + 1
    found = {(row["part"], row["by"], row["name"]): row for row in rows}
    assert found["test", "all", "all"]["rmse_minutes"] == 4.0
    assert found["validate", "pair", "A/B → C"]["rmse_minutes"] == 3.0
    assert found["validate", "pair", "A/B → C"]["baseline_mae_minutes"] == 2.5
    assert found["validate", "without pickup time", "10 minutes after the pickup"]["rmse_minutes"] == 4.1
    assert json.loads(run.tags["mlflow.loggedArtifacts"]) == [{"path": SLICES, "type": "table"}]


def test_description_says_what_the_model_is_and_how_good() -> None:
    text = run_facts(evaluated(evaluation()), None).tags["mlflow.note.content"]
    assert "learned from 2021-01" in text
    assert "RMSE on 2021-03 (unseen): **4.00 minutes**; the course's linear model: 6.00." in text
    assert f'load_model("{small_bundle().model_version}")' in text


def test_bundle_without_an_evaluation_has_the_metrics_of_its_manifest() -> None:
    metrics = run_facts(small_bundle(), None).metrics
    assert metrics["validate/rmse_minutes"] == 5.0


def test_evaluation_that_does_not_decode_is_an_error() -> None:
    bundle = small_bundle()
    broken = replace(bundle, files={**bundle.files, EVALUATION: b'{"validate": 1}'})
    with pytest.raises(BundleError, match=r"evaluation\.json"):
        run_facts(broken, None)


def test_tags_have_the_commit_of_training_only_if_it_is_known() -> None:
    tags = run_facts(small_bundle(), TRAINED_IN).tags
    assert tags["mlflow.source.git.commit"] == COMMIT
    assert tags["ridecast.git_dirty"] == "True"
    assert tags["ridecast.uv_lock_sha256"] == "ab" * 32
    assert "mlflow.source.git.commit" not in run_facts(small_bundle(), None).tags


# Environment --------------------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    settings = ("user.name=a", "user.email=a@b", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *(word for setting in settings for word in ("-c", setting)), *words]
    return subprocess.run(  # noqa: S603 - git, with words of tests
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_environment_has_commit_lock_and_changes_of_a_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "uv.lock").write_text("locked")
    git(tmp_path, "add", "uv.lock")
    git(tmp_path, "commit", "--quiet", "--message=first")
    clean = describe_environment(tmp_path)
    (tmp_path / "uv.lock").write_text("other")
    changed = describe_environment(tmp_path)
    assert clean.git_commit == changed.git_commit == git(tmp_path, "rev-parse", "HEAD")
    assert (clean.git_dirty, changed.git_dirty) == (False, True)
    assert clean.uv_lock_sha256 != changed.uv_lock_sha256
    assert clean.packages["numpy"] == np.__version__


def test_package_inside_another_repository_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=theirs")
    (tmp_path / "site-packages").mkdir()
    found = describe_environment(tmp_path / "site-packages")
    assert (found.git_commit, found.git_dirty, found.uv_lock_sha256) == (None, None, None)


# Runs ---------------------------------------------------------------------------------------------------------------


def test_run_holds_facts_files_and_artifacts() -> None:
    store, bundle = FakeTracking(), evaluated(evaluation())
    artifacts = {"report.html": b"<p>", "plots/hour.svg": b"<svg>", ENVIRONMENT: encode_environment(TRAINED_IN)}
    run = store.runs[track_run(store, bundle, artifacts)]
    assert (run.experiment, run.name, run.has_ended) == ("ridecast-green", bundle.model_version, True)
    assert run.tags[MODEL_VERSION] == bundle.model_version
    assert run.tags["mlflow.source.git.commit"] == COMMIT
    assert run.metrics["validate/rmse_minutes"] == 4.0
    assert store.n_calls == N_CALLS_OF_A_RUN  # slices need no calls of their own
    for name, data in {**{f"bundle/{name}": data for name, data in bundle.files.items()}, **artifacts}.items():
        assert run.files[name] == data


def test_run_has_the_time_and_the_rides_of_its_training() -> None:
    started_at, test = datetime(2026, 11, 29, 10, tzinfo=UTC), months_result(months=("2021-03",))
    record = record_training(started_at, synthetic_rides(FEBRUARY, 100, 1), synthetic_rides(MARCH, 100, 1), test)
    store = FakeTracking()
    without_test = Evaluation(validate=months_result())
    run = store.runs[track_run(store, evaluated(without_test), {TRAINING_RECORD: record})]
    began_s, ended_s = run.span_s
    assert began_s == started_at.timestamp()
    assert ended_s is not None
    assert ended_s > began_s
    assert [(one.context, one.name) for one in run.datasets] == [
        ("training", "synthetic 2021-01"),
        ("validation", "synthetic 2021-02"),
        ("test", "synthetic 2021-03"),
    ]
    assert run.metrics["test/rmse_minutes"] == 4.0


def test_bundle_of_a_run_is_a_model_of_mlflow_without_a_pickle(tmp_path: Path) -> None:
    store, bundle = FakeTracking(), small_bundle()
    run = store.runs[track_run(store, bundle)]
    for name in (*bundle.files, ML_MODEL):
        (tmp_path / name).write_bytes(run.files[f"bundle/{name}"])
    example = json.loads(run.files["bundle/input_example.json"])["inputs"]
    frame = pd.DataFrame(example["data"], columns=example["columns"])
    found = _load_pyfunc(str(tmp_path)).predict(frame)
    golden = json.loads(bundle.files[GOLDEN])[: len(frame)]
    assert found.minutes.tolist() == [round(one["duration_minutes"], 2) for one in golden]


def test_tracking_again_updates_the_same_run() -> None:
    store = FakeTracking()
    first = track_run(store, small_bundle(), {"report.html": b"old"})
    assert track_run(store, small_bundle(), {"report.html": b"new"}) == first
    assert len(store.runs) == 1
    assert store.runs[first].files["report.html"] == b"new"


@pytest.mark.parametrize("n_before", range(N_CALLS_OF_A_RUN))
def test_interrupted_run_is_completed(n_before: int) -> None:
    store, version = FakeTracking(script=[*[None] * n_before, GONE]), small_bundle().model_version
    sentence = rf"^MLflow at {URI} .*refused.*the bundle is saved; run `ridecast models sync {version}` when"
    with pytest.raises(TrackingError, match=sentence):
        track_run(store, small_bundle())
    run_id = track_run(store, small_bundle())
    assert list(store.runs) == [run_id]
    assert store.runs[run_id].has_ended


@pytest.mark.parametrize("name", ["../secret", "/etc/secret"])
def test_artifact_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(TrackingError, match="leads out of its folder"):
        track_run(FakeTracking(), small_bundle(), {name: b"x"})


def test_environment_that_does_not_decode_is_ignored() -> None:
    store = FakeTracking()
    track_run(store, small_bundle(), {ENVIRONMENT: b"{"})
    assert store.runs["run0"].has_ended


# The store ----------------------------------------------------------------------------------------------------------


def test_error_of_a_missing_mlflow_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrackingError, match=r"not installed: run `uv sync --inexact --extra tracking`"):
        track_run(open_store("sqlite:///nowhere.db"), small_bundle())


def test_password_is_not_shown() -> None:
    assert open_store("https://ada:secret@mlflow.example/path").uri == "https://mlflow.example/path"


@pytest.mark.parametrize("started_at", ["yesterday", "2026-11-29T10:00:00"])
def test_training_record_without_a_point_in_time_is_ignored(started_at: str) -> None:
    record = json.dumps({"started_at": started_at, "duration_s": 1.0}).encode()
    store = FakeTracking()
    run = store.runs[track_run(store, small_bundle(), {TRAINING_RECORD: record})]
    assert run.span_s == (None, None)
    assert run.files[TRAINING_RECORD] == record


def test_environment_variable_names_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    assert open_store().uri == URI
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert open_store().uri == f"sqlite:///{tmp_path}/build/mlflow/mlflow.db"
