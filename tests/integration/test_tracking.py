"""Tracking with MLflow itself: a local database, a server that is killed during a run, and broken servers."""

import http.server
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from infra.cli.tracking import check_command, sync_command
from tests.builders import FEBRUARY, small_bundle
from tests.builders_report import evaluation, months_result
from training.data.months import Month
from training.data.synthetic import synthetic_rides
from training.errors import TrackingError, UserError
from training.inference.load import LoadedModel
from training.model.results import EVALUATION, encode_evaluation
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.registry.folder_s3 import FolderS3
from training.tracking.environment import ENVIRONMENT, describe_environment, encode_environment
from training.tracking.facts import SLICES
from training.tracking.mirror import registered_model
from training.tracking.mlflow_store import LOCAL_FOLDER, TRACKING_URI, MlflowStore, open_store
from training.tracking.runs import track_run
from training.tracking.store import RunFacts
from training.tracking.training_record import TRAINING_RECORD
from training.workflows.record import record_training

BUCKET = "file:bucket"
MARCH = Month(2021, 3)

app = typer.Typer()
app.command("check")(check_command)
app.command("sync")(sync_command)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database without runs, made once, because its fifty migrations are slow on a slow disk."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowStore(f"sqlite:///{path}").read_registry("none")
    return path


@pytest.fixture
def home(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with a bucket of two versions and a channel, and with an empty MLflow database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TRACKING_URI, raising=False)
    LOCAL_FOLDER.mkdir(parents=True)
    shutil.copy(empty_database, LOCAL_FOLDER / "mlflow.db")
    bucket = Bucket(FolderS3(Path("bucket")), BUCKET)
    for seed in (1, 2):
        store_bundle(bucket, small_bundle(seed))
    move_channel(bucket, "stable", small_bundle().model_version, small_bundle().manifest_sha256)
    return tmp_path


def ridecast(*words: str) -> tuple[int, dict[str, Any]]:
    """Run a command on the bucket; return its exit code and its JSON. It must write nothing else."""
    done = CliRunner().invoke(app, [*words, "--bucket", BUCKET, "--json"])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.stderr.strip() == ""
    assert len(done.stdout.splitlines()) == 1
    return done.exit_code, json.loads(done.stdout)


def run_states(store: MlflowStore) -> list[str]:
    return sorted(run.info.status for run in store._client.search_runs(["1"]))


def no_differences(uri: str) -> dict[str, Any]:
    """Return what `models check` prints; the registered model of a relative folder depends on the working directory."""
    return {"bucket": BUCKET, "uri": uri, "registered_model": registered_model(BUCKET), "differences": []}


# A local database ---------------------------------------------------------------------------------------------------


def test_bucket_is_mirrored_in_a_local_database(home: Path) -> None:
    # GIVEN a bucket that is not in MLflow
    code, found = ridecast("check")
    assert (code, len(found["differences"])) == (1, 3)
    # WHEN it is synchronised, twice
    assert ridecast("sync", "--all")[0] == 0
    code, found = ridecast("sync", "--all")
    # THEN each version has one run and one number, and the alias points where the channel points
    assert (code, [one["registered"] for one in found["tracked"]], found["aliases"]) == (
        0,
        [1, 2],
        {"stable": small_bundle().model_version},
    )
    assert ridecast("check") == (0, no_differences(f"sqlite:///{home}/build/mlflow/mlflow.db"))
    assert run_states(open_store()) == ["FINISHED"] * 2
    # AND a change of the registry by somebody else is found
    open_store()._client.delete_registered_model_alias(registered_model(BUCKET), "stable")
    code, found = ridecast("check")
    assert (code, len(found["differences"])) == (1, 1)


@pytest.mark.usefixtures("home")
def test_run_in_the_database_has_facts_and_files() -> None:
    bundle, store = small_bundle(), open_store()
    artifacts = {"report.html": b"<p>", ENVIRONMENT: encode_environment(describe_environment())}
    run_id = track_run(store, bundle, artifacts)
    run = store._client.get_run(run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", bundle.model_version)
    assert run.data.metrics["validate/rmse_minutes"] == 5.0
    assert run.data.params["parameters/max_iter"] == "20"
    stored = Path("build/mlflow/artifacts/ridecast-green") / run_id / "artifacts"
    assert (stored / "bundle" / "manifest.json").read_bytes() == bundle.files["manifest.json"]
    assert (stored / "report.html").read_bytes() == b"<p>"


@pytest.mark.usefixtures("home")
def test_two_thousand_metrics_of_a_run_are_all_there() -> None:
    store = open_store()
    run_id = store.begin_run("many", "many", {})
    facts = RunFacts({}, {f"validate/hour/rmse_minutes.{number}": float(number) for number in range(2000)}, {})
    store.log(run_id, facts)
    store.log(run_id, facts)
    assert store._client.get_run(run_id).data.metrics == facts.metrics
    assert len(store._client.get_metric_history(run_id, "validate/hour/rmse_minutes.7")) == 1


OFFLINE = """
import os, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        os.write(2, f"{event} {arguments}".encode())
        os._exit(1)  # in any thread
sys.addaudithook(refuse)
import infra.cli.tracking, training.tracking.mirror
assert "mlflow" not in sys.modules, "imported before it is needed"
from tests.builders import small_bundle
from training.tracking.mlflow_store import open_store
from training.tracking.runs import track_run
track_run(open_store(), small_bundle())
"""


def test_local_tracking_makes_no_connection_and_prints_nothing(tmp_path: Path) -> None:
    quiet = {
        name: value for name, value in os.environ.items() if not name.startswith(("CI", "PYTEST", "GITHUB", "MLFLOW"))
    }
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", OFFLINE]
    done = subprocess.run(  # noqa: S603 - this Python, with words of this file
        command, env={**quiet, "PYTHONPATH": root}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "build/mlflow/mlflow.db").is_file()


def test_database_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TRACKING_URI, raising=False)
    Path("build").write_text("in the way")
    with pytest.raises(TrackingError, match=r"^MLflow at sqlite:.*(exists|Not a directory).*the bundle is saved"):
        track_run(open_store(), small_bundle())


def test_pages_of_a_run_find_the_library_that_they_need() -> None:
    # An older graphene than 3 installs, imports nothing of today's graphql-core, and leaves `make mlflow` blank.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        schema = import_module("mlflow.server.graphql.graphql_schema_extensions")
    assert schema.schema


# Models of MLflow ---------------------------------------------------------------------------------------------------


def loaded(uri: str) -> Any:
    """Return what `mlflow.pyfunc.load_model` gives, from the store in the current folder."""
    mlflow = import_module("mlflow")
    mlflow.set_tracking_uri(open_store()._uri)
    return import_module("mlflow.pyfunc").load_model(uri)


FRAME = pd.DataFrame(
    {
        "lpep_pickup_datetime": pd.to_datetime(["2021-01-05T08:15:00", "2021-01-09T23:59:00", "2021-01-05T03:00:00"]),
        "PULocationID": [130, 74, 41],
        "DOLocationID": [205, 75, 42],
        "trip_distance": [3.66, 0.0, 1.5],
        "tip_amount": [1.0, 2.0, 3.0],
    }
)


@pytest.mark.usefixtures("home")
def test_registered_alias_predicts_a_frame_as_the_function_does() -> None:
    ridecast("sync", "--all")
    expected = LoadedModel(small_bundle().model).predict(FRAME)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        model = loaded(f"models:/{registered_model(BUCKET)}@stable")
        assert model.predict(FRAME).equals(expected)
        for kind in ("float64", "Int64", "category", "str"):
            assert model.predict(FRAME.astype({"PULocationID": kind, "DOLocationID": kind})).equals(expected)
        wrong = FRAME.assign(PULocationID=[130, 999, 41])
        with pytest.raises(UserError, match="row 1, whose PULocationID is 999"):
            model.predict(wrong)
        assert model.predict(wrong, params={"errors": "coerce"}).minutes.isna().tolist() == [False, True, False]
        assert model.predict(model.input_example).minutes.notna().all()
    assert list(model.metadata.signature.outputs.input_names()) == list(expected.columns)


@pytest.mark.usefixtures("home")
def test_run_shows_its_time_its_datasets_and_its_table() -> None:
    store, result = open_store(), months_result()
    bundle = replace(small_bundle(), files={**small_bundle().files, EVALUATION: encode_evaluation(evaluation())})
    started_at = datetime(2026, 11, 29, 10, tzinfo=UTC)
    record = record_training(started_at, synthetic_rides(FEBRUARY, 100, 1), synthetic_rides(MARCH, 100, 1), result)
    for _ in range(2):  # a second log adds nothing
        run_id = track_run(store, bundle, {TRAINING_RECORD: record})
    run = store._client.get_run(run_id)
    assert run.info.start_time == started_at.timestamp() * 1000
    assert run.info.end_time > run.info.start_time
    assert [(one.tags[0].value, one.dataset.name) for one in run.inputs.dataset_inputs] == [
        ("training", "synthetic 2021-01"),
        ("validation", "synthetic 2021-02"),
        ("test", "synthetic 2021-03"),
    ]
    mlflow = import_module("mlflow")
    mlflow.set_tracking_uri(store._uri)
    mlflow.set_experiment("ridecast-green")
    table = mlflow.load_table(SLICES, [run_id])
    assert table[table.by == "all"].rmse_minutes.tolist() == [4.0, 4.0]


FIRST_RUN = """
import sys
from training.tracking.mlflow_store import open_store
sys.stdin.read()  # until all are ready
store = open_store()
store.end_run(store.begin_run("ridecast-green", sys.argv[1], {}))
"""


def test_first_runs_at_once_are_all_stored(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop(TRACKING_URI, None)
    processes = [
        subprocess.Popen(  # noqa: S603 - this Python, with words of this file
            [sys.executable, "-c", FIRST_RUN, name], cwd=tmp_path, env=environment, stdin=subprocess.PIPE
        )
        for name in ("one", "other")
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait() for process in processes] == [0, 0]
    store = open_store(f"sqlite:///{tmp_path}/build/mlflow/mlflow.db")
    found = {store.find_run("ridecast-green", "mlflow.runName", name) for name in ("one", "other")}
    assert len(found - {None}) == 2


class OvertakenStore(MlflowStore):
    """A store whose experiment somebody else creates just before it does."""

    def _make_experiment(self, experiment: str) -> str:
        MlflowStore(self._uri)._make_experiment(experiment)
        return super()._make_experiment(experiment)


@pytest.mark.usefixtures("home")
def test_experiment_that_somebody_else_has_just_created_takes_the_run() -> None:
    store = OvertakenStore(open_store()._uri)
    run_id = store.begin_run("ridecast-green", "one", {"tag": "1"})
    assert store.find_run("ridecast-green", "tag", "1") == run_id


# Broken servers -----------------------------------------------------------------------------------------------------


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Yield the address of a web server that gives this answer to every request."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def silent() -> Iterator[str]:
    """Yield the address of a port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def refusing() -> Iterator[str]:
    """Yield the address of a port that refuses connections: it is bound, so no other process can listen on it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (refusing, "refused"),
        (silent, "timed out"),
        (lambda: answering(500, b"{}"), "500"),
        (lambda: answering(403, b"no"), "403"),
        (lambda: answering(200, b"<html>welcome"), "JSON"),
        (lambda: answering(200, b"{}"), ""),
    ],
    ids=["refuses", "hangs", "fails", "forbids", "is no MLflow", "answers nothing"],
)
def test_error_of_a_broken_server_is_one_sentence(
    server: Callable[[], Any], why: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    version = small_bundle().model_version
    with server() as uri, pytest.raises(TrackingError) as raised:
        track_run(open_store(uri.replace("//", "//ada:secret@")), small_bundle())
    sentence = str(raised.value)
    assert sentence.startswith(f"MLflow at {uri} failed (")
    assert sentence.endswith(f"the bundle is saved; run `ridecast models sync {version}` when it is back")
    assert why in sentence
    assert "secret" not in sentence
    assert "\n" not in sentence
    assert capfd.readouterr() == ("", "")


def test_defaults_for_a_server_that_does_not_answer_are_at_most_20_seconds() -> None:
    with refusing() as uri, pytest.raises(TrackingError):
        track_run(open_store(uri), small_bundle())  # sets MLflow's variables
    assert (
        float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) * (1 + int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]))
        <= 20
    )


# A server -----------------------------------------------------------------------------------------------------------


class Server:
    """`mlflow server` in its own processes. The port may be taken before the server binds it; then it takes another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        while not self._start():
            self._process.wait()

    def _start(self) -> bool:
        """Start the server on a free port; return whether it answers, or False if it ended because of the port."""
        folder = self._folder
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = int(found.getsockname()[1])
        self.uri = f"http://127.0.0.1:{port}"
        self._log = folder / "server.log"
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"),
        ]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this Python, with words of this file
                command, stdout=log, stderr=log, env={**os.environ, **quiet}, start_new_session=True
            )
        while self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                threading.Event().wait(0.1)
            else:
                return True
        output = self._log.read_text()
        assert "address already in use" in output.lower(), output
        return False

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class DyingStore(MlflowStore):
    """A store whose server is killed before it stores the run's files."""

    server: Server

    def put_files(self, run_id: str, folder: Path) -> None:
        """Kill the server, then store the files."""
        self.server.kill()
        super().put_files(run_id, folder)


def test_run_that_a_killed_server_interrupted_is_completed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a server that has one version and is killed while it gets another
    shutil.copytree(home / LOCAL_FOLDER, home / "server")
    version = small_bundle(2).model_version
    server = Server(home / "server")
    try:
        monkeypatch.setenv(TRACKING_URI, server.uri)
        assert ridecast("sync", small_bundle(1).model_version)[1]["tracked"][0]["registered"] == 1
        dying = DyingStore(server.uri)
        dying.server = server
        with pytest.raises(
            TrackingError, match=rf"\(.*Connection (refused|reset by peer)\): the bundle is saved.*{version}`"
        ):
            track_run(dying, small_bundle(2))
        # WHEN it is back, on whatever port, and the version is synchronised again
        server = Server(home / "server")
        monkeypatch.setenv(TRACKING_URI, server.uri)
        assert run_states(open_store()) == ["FINISHED", "RUNNING"]
        assert ridecast("sync", version)[1]["tracked"][0]["registered"] == 2
        # THEN the same run is complete, and registry and bucket have no differences
        assert run_states(open_store()) == ["FINISHED"] * 2
        assert len(list((home / "server" / "artifacts").rglob("manifest.json"))) == 2
        assert ridecast("check") == (0, no_differences(server.uri))
    finally:
        server.kill()


def test_database_of_another_version_of_mlflow_names_the_upgrade(tmp_path: Path, empty_database: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_database, path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'older'")

    sentence = f"MLflow at sqlite:///{path} has a schema of another version .*: back it up, then run `mlflow db upgrade"
    with pytest.raises(TrackingError, match=sentence):
        MlflowStore(f"sqlite:///{path}").read_registry("none")
