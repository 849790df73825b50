"""`ridecast up` as users run it: it keeps what it accepted, however it ends, and leaves no process behind."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.local.up.state import find_running
from infra.operate.joining import totals
from infra.operate.streams import StreamReader
from lambda_function.core.events import decode_prediction
from tests.builders import ride_event
from training.model.bundle import ExportedBundle, write_bundle
from training.monitoring.hours import hour_of_key
from training.monitoring.summary import FOLDER, load_summary
from training.registry.bucket import Bucket

_PATIENCE_S = 120.0  # the machine may be busy
_COMMAND = [sys.executable, "-m", "infra.cli.app", "up", "--port", "0", "--api-port", "0", "--json"]


class Up:
    """A process of `ridecast up`, ready."""

    def __init__(self, process: "subprocess.Popen[str]", facts: dict[str, Any]) -> None:
        self.process = process
        self.facts = facts
        self.kinesis, self.s3 = (self._client(name) for name in ("kinesis", "s3"))
        self.bucket = Bucket(self.s3, facts["bucket"])

    def _client(self, name: Any) -> Any:
        return boto3.client(name, endpoint_url=self.facts["endpoint_url"])

    def put_rides(self, numbers: range) -> list[str]:
        """Put ride events, and return their sequence numbers."""
        entries = [{"Data": json.dumps(ride_event(ride_id=n)), "PartitionKey": str(n)} for n in numbers]
        answer = self.kinesis.put_records(StreamName=self.facts["input_stream"], Records=entries)
        assert answer["FailedRecordCount"] == 0
        return [one["SequenceNumber"] for one in answer["Records"]]

    def put_outcomes(self, numbers: range) -> None:
        """Put the outcomes of rides."""
        entries = [
            {"Data": json.dumps({"ride_id": n, "outcome": {"ride_duration": 12.5}}), "PartitionKey": str(n)}
            for n in numbers
        ]
        self.kinesis.put_records(StreamName=self.facts["outcomes_stream"], Records=entries)

    def predictions(self, n: int) -> dict[str, bytes]:
        """Return the predictions on the output stream by their ids, once there are so many."""
        reader, found = StreamReader(self.kinesis, self.facts["output_stream"], "TRIM_HORIZON"), dict[str, bytes]()

        def has_all() -> bool:
            for record in reader.read_once():
                prediction_id = decode_prediction(record.data).prediction_id
                assert found.setdefault(prediction_id, record.data) == record.data
            return len(found) >= n

        wait_for(has_all)
        return found

    def labelled(self) -> tuple[int, int, int, int]:
        """Return how many rides are labelled, and what the audit found: lost, conflicting, skewed."""
        hours = filter(None, map(hour_of_key, self.bucket.keys(FOLDER)))
        joined = [summary for hour in hours if (summary := load_summary(self.bucket, hour))]
        found = totals(joined)
        return found["n_labelled"], found["n_lost"], found["n_conflicting"], found["n_skewed"]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "nothing new came"
        time.sleep(0.2)


@pytest.fixture
def build(tmp_path: Path, bundle: ExportedBundle) -> Path:
    write_bundle(bundle, tmp_path / "bundles")
    return tmp_path


@contextmanager
def up(build: Path) -> Iterator[Up]:
    environment = {**os.environ, "RIDECAST_BUILD": str(build), "AWS_PROFILE": "an-account", "AWS_ENDPOINT_URL": "no"}
    with (build / "errors").open("a") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own module
            _COMMAND, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, (build / "errors").read_text()
        yield Up(process, json.loads(line))
    finally:
        process.kill()
        process.communicate()


def is_unlocked(build: Path) -> bool:
    """Return whether no process holds the folder's lock: the server inherits it."""
    with (build / "local" / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_what_was_accepted_outlives_a_kill_and_ctrl_c_leaves_no_process(build: Path) -> None:
    with up(build) as first:
        before = first.put_rides(range(200))
        early = first.predictions(200)
        first.put_outcomes(range(200))
        before += first.put_rides(range(200, 500))  # accepted, and hardly begun
        first.process.kill()
    assert find_running(build / "local") is None

    with up(build) as second:
        assert second.facts["bucket"] == first.facts["bucket"]
        after = second.put_rides(range(500, 600))
        predictions = second.predictions(600)
        second.put_outcomes(range(200, 600))

        assert {id_.partition(":")[2] for id_ in predictions} == set(before + after)
        assert predictions.items() >= early.items()
        assert [*map(int, before + after)] == sorted({*map(int, before + after)})
        wait_for(lambda: second.labelled() == (600, 0, 0, 0))
        wait_for(lambda: any((build / "local" / "labelled").rglob("*.parquet")))
        wait_for(lambda: b'"n_judged":600' in (second.bucket.read("monitor/status.json") or (b"", b""))[1])

        second.kinesis.delete_stream(StreamName=second.facts["outcomes_stream"])
        second.put_rides(range(600, 610))
        second.predictions(610)
        wait_for(lambda: "ride-outcomes was deleted" in (build / "errors").read_text())

        again = subprocess.run(  # noqa: S603 - our own module
            _COMMAND, env={**os.environ, "RIDECAST_BUILD": str(build)}, capture_output=True, text=True, check=True
        )
        assert json.loads(again.stdout) == {
            **{name: value for name, value in second.facts.items() if name != "model_version"},
            "already_running": True,
        }

        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(_PATIENCE_S) == 0, (build / "errors").read_text()
        assert is_unlocked(build)
        assert find_running(build / "local") is None
