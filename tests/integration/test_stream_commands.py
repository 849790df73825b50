"""Commands against an AWS: send rides, release and replace a model meanwhile, and read the predictions."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.local.aws import LocalAws
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.in_process import running_in_process
from infra.local.stack import DeployedStack
from lambda_function.core.events import DURATION_DECIMALS
from lambda_function.core.features import feature_matrix
from tests.builders import FEBRUARY, small_bundle
from tests.builders_tlc import row_at, write_month
from tests.kits.cli import Cli
from training.data.load import load_rides
from training.model.bundle import ExportedBundle, write_bundle

pytestmark = pytest.mark.slow

N_RIDES = 500
BATCH_SIZE = 100
STACK_PARAMETERS = {"BatchSize": BATCH_SIZE, "BatchWindowSeconds": 0, "ModelChannel": "candidate"}
FORCED = ("--channel", "candidate", "--test", "2021-03", "--force")
_ALWAYS_S = "1e-9"  # reads the channel before each batch


class Function(NamedTuple):
    """The function behind its mapping; tests call it step by step."""

    mapping: EventSourceMapping

    def handle(self, n_rides: int) -> None:
        """Poll until this many rides are done in all."""
        while self.mapping.stats.n_done < n_rides:
            self.mapping.poll_once()
        assert self.mapping.stats.n_done == n_rides


@contextmanager
def running(aws: LocalAws, stack: DeployedStack, log: Path) -> Iterator[Function]:
    with running_in_process(stack.function.with_variables(MODEL_REFRESH_S=_ALWAYS_S), log) as runtime:
        yield Function(EventSourceMapping(stack.mapping, aws.client("kinesis"), runtime))


@pytest.fixture
def cli(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line, with one local month of rides."""
    start = datetime(2021, 2, 1)  # noqa: DTZ001 - New York's wall clock
    rows = [
        row_at(start + timedelta(minutes=n), pickup_zone=n % 200 + 1, dropoff_zone=n % 77 + 1, trip_distance=n / 50)
        for n in range(N_RIDES + 10)
    ]
    write_month(tmp_path, rows, FEBRUARY)
    monkeypatch.setenv("TLC_DATA_DIR", str(tmp_path))
    return cli


def release_model(cli: Cli, bundle: ExportedBundle, bucket: str, folder: Path) -> Any:
    """Release a model that serves at once. One of twenty trees needs force, which only `candidate` takes."""
    at_once = ("--activation-delay", "0")
    return cli("models", "release", write_bundle(bundle, folder), "--bucket", bucket, *FORCED, *at_once)


def expected_minutes(bundle: ExportedBundle, folder: Path) -> list[float]:
    columns = load_rides("green", [FEBRUARY], data_dir=folder).head(N_RIDES).columns
    minutes: list[float] = bundle.model.predict(feature_matrix(columns)).round(DURATION_DECIMALS).tolist()
    return minutes


def test_rides_go_in_and_each_prediction_carries_the_version_that_made_it(
    cli: Cli, aws: LocalAws, stack: DeployedStack, tmp_path: Path
) -> None:
    first, second = small_bundle(seed=1), small_bundle(seed=2)
    released = release_model(cli, first, stack.bucket, tmp_path)
    assert (released["channel"], released["model_version"]) == ("candidate", first.model_version)

    def send() -> None:
        sent = cli("rides", "send", "--stream", stack.input_stream, "--rides", N_RIDES, "--rate", 5000)
        assert sent == {"stream": stack.input_stream, "sent": N_RIDES}

    with running(aws, stack, tmp_path / "function.log") as function:
        send()
        function.handle(2 * BATCH_SIZE)
        moved = release_model(cli, second, stack.bucket, tmp_path)
        assert (moved["model_version"], moved["previous"]) == (second.model_version, first.model_version)
        send()
        function.handle(2 * N_RIDES)
    assert (function.mapping.stats.n_failures, function.mapping.stats.n_redelivered) == (0, 0)

    tail = ("rides", "tail", "--stream", stack.output_stream)
    found = cli(*tail, "--from", "TRIM_HORIZON", "--limit", 2 * N_RIDES)
    assert (found["stream"], found["read"]) == (stack.output_stream, 2 * N_RIDES)
    predictions = found["predictions"]
    assert [one["prediction"]["ride_id"] for one in predictions] == 2 * list(range(N_RIDES))
    assert len({one["prediction_id"] for one in predictions}) == 2 * N_RIDES
    # The rides that arrived before the release keep the first version, although most were processed after it.
    versions = [one["version"] for one in predictions]
    assert versions == [first.model_version] * N_RIDES + [second.model_version] * N_RIDES
    minutes = [expected_minutes(bundle, tmp_path) for bundle in (first, second)]
    durations = [one["prediction"]["ride_duration"] for one in predictions]
    assert durations == minutes[0] + minutes[1]
    assert minutes[0] != minutes[1]

    # Nothing else has come out, and there is no more.
    assert cli(*tail, "--from", "LATEST", "--idle-s", 0)["read"] == 0
    lines = cli.run(*tail, "--idle-s", 0.3).splitlines()
    assert [json.loads(line) for line in lines] == predictions


def test_bundle_is_released_from_within_its_folder(
    cli: Cli, stack: DeployedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = small_bundle()
    monkeypatch.chdir(write_bundle(bundle, tmp_path))
    released = cli("models", "release", ".", "--bucket", "file:bucket", *FORCED)
    assert (released["channel"], released["model_version"]) == ("candidate", bundle.model_version)
    assert released["previous"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("rides tail --stream no-such-stream", "Stream no-such-stream under account 123456789012 not found"),
        ("rides send --stream no-such-stream", "stream no-such-stream accepted 0 records .* check that it exists"),
    ],
)
def test_missing_stream_is_one_sentence(cli: Cli, arguments: str, sentence: str) -> None:
    assert re.search(sentence, cli.refuses(*arguments.split()))


def test_missing_bucket_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    path = write_bundle(small_bundle(), tmp_path)
    code, _, err = cli.ended("models", "release", path, "--bucket", "no-such-bucket", *FORCED)
    assert code == 2
    assert re.match("ridecast: s3://no-such-bucket/channels/.* cannot be read: .*NoSuchBucket", err.splitlines()[-1])
