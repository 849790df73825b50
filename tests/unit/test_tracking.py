"""A run for each version, made and completed from its bundle alone, whatever becomes of MLflow meanwhile."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.errors import BundleError
from tests.builders import small_bundle
from tests.fakes_tracking import GONE, LEGAL_NAME, URI, FakeTracking
from training.errors import TrackingError, TrackingUnavailableError
from training.evaluation.slices import slicings
from training.model.bundle import ExportedBundle
from training.model.results import (
    EVALUATION,
    ArrivalResult,
    Evaluation,
    Measured,
    MonthsResult,
    SliceResult,
    encode_evaluation,
)
from training.tracking.mlflow_store import open_store
from training.tracking.runs import (
    ENVIRONMENT,
    MODEL_VERSION,
    Environment,
    decode_environment,
    describe_environment,
    encode_environment,
    metric_name,
    run_facts,
    track_run,
)

COMMIT = "0ac80f1" * 5 + "0ac80"
TRAINED_IN = Environment(
    git_commit=COMMIT, git_dirty=True, uv_lock_sha256="ab" * 32, python="3.13.0", platform="Linux", packages={"a": "1"}
)
N_CALLS_OF_A_RUN = 5


def measured(rmse_minutes: float = 5.0) -> Measured:
    return Measured(n_rides=100, rmse_minutes=rmse_minutes, mae_minutes=3.5, bias_minutes=-0.25)


def months_result(*slices: tuple[str, str], coverage: float | None = None) -> MonthsResult:
    return MonthsResult(
        months=("2021-02",),
        model=measured(),
        baseline=measured(7.5),
        coverage=coverage,
        width_minutes=None if coverage is None else 9.0,
        slices=tuple(SliceResult(by, name, measured(4.0), measured(8.0)) for by, name in slices),
    )


def evaluated(evaluation: Evaluation) -> ExportedBundle:
    bundle = small_bundle()
    return replace(bundle, files={**bundle.files, EVALUATION: encode_evaluation(evaluation)})


def metrics_of(evaluation: Evaluation) -> dict[str, float]:
    return dict(run_facts(evaluated(evaluation), None).metrics)


# Facts --------------------------------------------------------------------------------------------------------------


def test_parameters_say_what_the_model_is_made_of() -> None:
    parameters = run_facts(small_bundle(), None).parameters
    data = small_bundle().model.manifest.data[0]
    assert parameters["service"] == "green"
    assert (parameters["train_months"], parameters["validate_months"]) == ("2021-01", "2021-02")
    assert parameters["parameters/max_iter"] == "20"
    assert parameters["software/numpy"] == np.__version__
    assert data.sha256 in parameters[metric_name("data", data.file)]
    assert all(LEGAL_NAME.fullmatch(name) for name in parameters)


def test_metrics_are_those_of_the_evaluation_by_months_and_slice() -> None:
    late = ArrivalResult("5 minutes late", measured(6.0))
    metrics = metrics_of(
        Evaluation(
            validate=months_result(("hour", "08"), coverage=0.8), test=months_result(), without_pickup_time=(late,)
        )
    )
    assert metrics["validate/rmse_minutes"] == 5.0
    assert metrics["validate/baseline_rmse_minutes"] == 7.5
    assert metrics["validate/n_rides"] == 100
    assert (metrics["validate/coverage"], metrics["validate/width_minutes"]) == (0.8, 9.0)
    assert metrics["validate/hour/rmse_minutes.08"] == 4.0
    assert metrics["validate/hour/baseline_mae_minutes.08"] == 3.5
    assert metrics["test/bias_minutes"] == -0.25
    assert metrics["without_pickup_time/rmse_minutes.5 minutes late"] == 6.0
    assert "test/coverage" not in metrics


def test_every_slice_of_the_report_has_metrics_of_its_own() -> None:
    every = [(cut.by, name) for cut in slicings(np.zeros((266, 266), np.bool_)) for name in cut.names]
    metrics = metrics_of(Evaluation(validate=months_result(*every)))
    names = [name for name in metrics if re.fullmatch(r"validate/[^/]+/rmse_minutes\..+", name)]
    assert len(names) == len(every)


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=3))
def test_names_are_legal_whatever_slices_are_called(slices: list[tuple[str, str]]) -> None:
    names = metrics_of(Evaluation(validate=months_result(*slices)))
    assert all(LEGAL_NAME.fullmatch(name) for name in names)


def test_bundle_without_an_evaluation_has_the_metrics_of_its_manifest() -> None:
    metrics = run_facts(small_bundle(), None).metrics
    assert metrics["validate/rmse_minutes"] == 5.0
    assert metrics["bundle/n_bytes"] == sum(map(len, small_bundle().files.values()))


def test_evaluation_that_does_not_decode_is_told() -> None:
    bundle = small_bundle()
    broken = replace(bundle, files={**bundle.files, EVALUATION: b'{"validate": 1}'})
    with pytest.raises(BundleError, match=r"evaluation\.json"):
        run_facts(broken, None)


def test_tags_name_the_commit_that_trained_only_where_it_is_known() -> None:
    tags = run_facts(small_bundle(), TRAINED_IN).tags
    assert tags["mlflow.source.git.commit"] == COMMIT
    assert tags["ridecast.git_dirty"] == "True"
    assert tags["ridecast.uv_lock_sha256"] == "ab" * 32
    assert "mlflow.source.git.commit" not in run_facts(small_bundle(), None).tags


# Environment --------------------------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    command = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgsign=false",
        *words,
    ]
    return subprocess.run(  # noqa: S603 - git, with words of tests
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_environment_tells_commit_lock_and_changes_of_a_checkout(tmp_path: Path) -> None:
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


def test_package_inside_somebody_elses_repository_has_no_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=theirs")
    (tmp_path / "site-packages").mkdir()
    told = describe_environment(tmp_path / "site-packages")
    assert (told.git_commit, told.git_dirty, told.uv_lock_sha256) == (None, None, None)


def test_environment_paper_decodes_to_what_was_encoded() -> None:
    assert decode_environment(encode_environment(TRAINED_IN)) == TRAINED_IN


# Runs ---------------------------------------------------------------------------------------------------------------


def test_run_holds_facts_files_and_papers(tmp_path: Path) -> None:
    store, bundle = FakeTracking(), evaluated(Evaluation(validate=months_result()))
    (tmp_path / "by_hour.png").write_bytes(b"png")
    papers: dict[str, Path | bytes] = {
        "report.html": b"<p>",
        "plots/by_hour.png": tmp_path / "by_hour.png",
        ENVIRONMENT: encode_environment(TRAINED_IN),
    }
    run = store.runs[track_run(store, bundle, papers)]
    assert (run.experiment, run.name, run.has_ended) == ("ridecast-green", bundle.model_version, True)
    assert run.tags[MODEL_VERSION] == bundle.model_version
    assert run.tags["mlflow.source.git.commit"] == COMMIT
    assert run.metrics["validate/rmse_minutes"] == 5.0
    assert run.files == {
        **{f"bundle/{name}": data for name, data in bundle.files.items()},
        "report.html": b"<p>",
        "plots/by_hour.png": b"png",
        ENVIRONMENT: papers[ENVIRONMENT],
    }


def test_tracking_once_more_is_the_same_run() -> None:
    store = FakeTracking()
    first = track_run(store, small_bundle(), {"report.html": b"old"})
    assert track_run(store, small_bundle(), {"report.html": b"new"}) == first
    assert len(store.runs) == 1
    assert store.runs[first].files["report.html"] == b"new"


def test_slices_cost_no_calls() -> None:
    store = FakeTracking()
    track_run(store, evaluated(Evaluation(validate=months_result(*(("hour", str(n)) for n in range(200))))))
    assert store.n_calls == N_CALLS_OF_A_RUN


@pytest.mark.parametrize("n_before", range(N_CALLS_OF_A_RUN))
def test_run_that_broke_off_is_completed(n_before: int) -> None:
    store, version = FakeTracking(script=[*[None] * n_before, GONE]), small_bundle().model_version
    sentence = rf"^MLflow at {URI} .*refused.*the bundle is saved; run `ridecast models track {version}` when"
    with pytest.raises(TrackingError, match=sentence):
        track_run(store, small_bundle())
    run_id = track_run(store, small_bundle())
    assert list(store.runs) == [run_id]
    assert store.runs[run_id].has_ended


@pytest.mark.parametrize("name", ["../secret", "/etc/secret"])
def test_paper_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(TrackingError, match="leads out of its folder"):
        track_run(FakeTracking(), small_bundle(), {name: b"x"})


def test_paper_that_is_gone_is_told_and_not_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"was not given the files .*plot\.png"):
        track_run(FakeTracking(), small_bundle(), {"plot.png": tmp_path / "plot.png"})


def test_environment_that_is_none_does_not_keep_a_run_from_being_tracked() -> None:
    store = FakeTracking()
    track_run(store, small_bundle(), {ENVIRONMENT: b"{"})
    assert store.runs["run0"].has_ended


# Where MLflow is ----------------------------------------------------------------------------------------------------


def test_one_file_alone_imports_mlflow() -> None:
    root = Path(__file__).parents[2]
    imports = re.compile(r"^\s*(import|from) mlflow\b", re.MULTILINE)
    sources = (path for part in ("infra", "lambda_function", "training") for path in (root / part).rglob("*.py"))
    importing = [path.name for path in sources if imports.search(path.read_text())]
    assert importing == ["mlflow_store.py"]


def test_missing_mlflow_is_told_with_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrackingUnavailableError, match=r"not installed: run `uv sync --inexact --extra tracking`"):
        track_run(open_store("sqlite:///nowhere.db"), small_bundle())


def test_password_is_not_shown() -> None:
    assert open_store("https://ada:secret@mlflow.example/path").uri == "https://mlflow.example/path"


def test_environment_says_where_mlflow_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    assert open_store().uri == URI
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert open_store().uri == f"sqlite:///{tmp_path}/build/mlflow/mlflow.db"
