"""The commands against an AWS: rides in, a model published and replaced while they flow, predictions out."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from infra.cli.app import main
from infra.local.aws import LocalAws
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.in_process import InProcessRuntime, load_handler
from infra.local.stack import DeployedStack, deploy
from lambda_function.core.features import feature_matrix
from lambda_function.core.processor import DURATION_DECIMALS
from tests.builders import FEBRUARY, small_bundle
from tests.builders_tlc import row_at, write_month
from training.data.load import load_rides
from training.model.bundle import ExportedBundle, write_bundle

pytestmark = pytest.mark.slow

N_RIDES = 500
BATCH_SIZE = 100
FORCED = ("--channel", "candidate", "--test", "2021-03", "--force")
_ALWAYS_LOOKS_S = "1e-9"  # at the channel, before each batch


class Cli:
    """`ridecast` on a local AWS, in this process."""

    def __init__(self, aws: LocalAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._aws = aws
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object, code: int = 0) -> list[str]:
        """Runs a command, expects its exit code, and returns the lines of its standard output, or else error."""
        words = ["ridecast", *map(str, arguments), "--endpoint-url", self._aws.endpoint_url, "--json"]
        self._monkeypatch.setattr(sys, "argv", words)
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        written = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, written.err
        return (written.err if code else written.out).splitlines()


class Function(NamedTuple):
    """The function behind its mapping, to be driven by hand."""

    mapping: EventSourceMapping

    def handle(self, n_rides: int) -> None:
        """Hands batches over until so many rides are done in all."""
        while self.mapping.stats.n_done < n_rides:
            self.mapping.poll_once()
        assert self.mapping.stats.n_done == n_rides


@contextmanager
def running(aws: LocalAws, stack: DeployedStack, log: Path) -> Iterator[Function]:
    environment = {**stack.environment, **aws.environment, "MODEL_REFRESH_S": _ALWAYS_LOOKS_S}
    with load_handler(stack.handler, environment, log) as handler:
        runtime = InProcessRuntime(handler, stack.timeout_s, stack.memory_mb, stack.function_name)
        yield Function(EventSourceMapping(stack.mapping, aws.client("kinesis"), runtime))


@pytest.fixture(scope="module")
def stack(aws: LocalAws) -> DeployedStack:
    return deploy(
        aws.client, parameters={"BatchSize": BATCH_SIZE, "BatchWindowSeconds": 0, "ModelChannel": "candidate"}
    )


@pytest.fixture
def cli(aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line, with one month of rides at hand."""
    start = datetime(2021, 2, 1)  # noqa: DTZ001 - New York's wall clock
    rows = [
        row_at(start + timedelta(minutes=n), pickup_zone=n % 200 + 1, dropoff_zone=n % 77 + 1, trip_distance=n / 50)
        for n in range(N_RIDES + 10)
    ]
    write_month(tmp_path, rows, FEBRUARY)
    monkeypatch.setenv("TLC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return Cli(aws, monkeypatch, capsys)


def publish_model(cli: Cli, bundle: ExportedBundle, bucket: str, folder: Path) -> Any:
    """Publishes as `ridecast` does; a model of twenty trees needs force, and only `candidate` takes it."""
    path = write_bundle(bundle, folder)
    (line,) = cli("models", "publish", path, "--bucket", bucket, *FORCED)
    return json.loads(line)


def expected_minutes(bundle: ExportedBundle, folder: Path) -> list[float]:
    columns = load_rides("green", [FEBRUARY], data_dir=folder).head(N_RIDES).columns
    minutes: list[float] = bundle.model.predict(feature_matrix(columns)).round(DURATION_DECIMALS).tolist()
    return minutes


def test_rides_go_in_and_each_prediction_carries_the_version_that_made_it(
    cli: Cli, aws: LocalAws, stack: DeployedStack, tmp_path: Path
) -> None:
    first, second = small_bundle(seed=1), small_bundle(seed=2)
    published = publish_model(cli, first, stack.bucket, tmp_path)
    assert (published["channel"], published["model_version"]) == ("candidate", first.model_version)

    (line,) = cli("publish", "--stream", stack.input_stream, "--rides", N_RIDES, "--rate", 5000)
    assert json.loads(line) == {"stream": stack.input_stream, "published": N_RIDES}

    with running(aws, stack, tmp_path / "function.log") as function:
        function.handle(2 * BATCH_SIZE)
        moved = publish_model(cli, second, stack.bucket, tmp_path)
        assert (moved["model_version"], moved["previous"]) == (second.model_version, first.model_version)
        function.handle(N_RIDES)
    assert (function.mapping.stats.n_failures, function.mapping.stats.n_redelivered) == (0, 0)

    *lines, last = cli("tail", "--stream", stack.output_stream, "--from", "TRIM_HORIZON", "--limit", N_RIDES)
    assert json.loads(last) == {"stream": stack.output_stream, "read": N_RIDES}
    predictions = [json.loads(line) for line in lines]
    assert [one["prediction"]["ride_id"] for one in predictions] == list(range(N_RIDES))
    assert len({one["prediction_id"] for one in predictions}) == N_RIDES
    versions = [one["version"] for one in predictions]
    assert versions == [first.model_version] * 200 + [second.model_version] * 300
    minutes = [expected_minutes(bundle, tmp_path) for bundle in (first, second)]
    durations = [one["prediction"]["ride_duration"] for one in predictions]
    assert durations == minutes[0][:200] + minutes[1][200:]
    assert durations != minutes[0]

    # Nothing else has come out, and there is no more.
    (last,) = cli("tail", "--stream", stack.output_stream, "--from", "LATEST", "--idle-s", 0)
    assert json.loads(last)["read"] == 0
    *lines, last = cli("tail", "--stream", stack.output_stream, "--idle-s", 0.3)
    assert json.loads(last)["read"] == len(lines) == N_RIDES


def test_bundle_is_published_from_within_its_folder_to_another_channel(
    cli: Cli, stack: DeployedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = small_bundle()
    monkeypatch.chdir(write_bundle(bundle, tmp_path))
    (line,) = cli("models", "publish", ".", "--bucket", "file:bucket", *FORCED)
    published = json.loads(line)
    assert published["channel"] == "candidate"
    assert published["model_version"] == bundle.model_version
    assert published["previous"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("tail --stream no-such-stream", "Stream no-such-stream under account 123456789012 not found"),
        ("publish --stream no-such-stream", "stream no-such-stream accepted 0 records .* check that it exists"),
    ],
)
def test_stream_that_is_not_there_is_told_at_once(cli: Cli, arguments: str, sentence: str) -> None:
    (line,) = [line for line in cli(*arguments.split(), code=2) if line.strip()]
    assert re.match(f"ridecast: .*{sentence}", line)


def test_bucket_that_is_not_there_is_one_sentence(cli: Cli, tmp_path: Path) -> None:
    path = write_bundle(small_bundle(), tmp_path)
    *_, line = cli("models", "publish", path, "--bucket", "no-such-bucket", *FORCED, code=2)
    assert re.match("ridecast: s3://no-such-bucket/channels/.* cannot be read: .*NoSuchBucket", line)
