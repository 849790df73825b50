"""Ctrl-C and SIGTERM end a command at any moment: the right exit code, no traceback, and `--resume` goes on."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from infra.local.aws import LocalAws
from infra.local.runtime.invocable import invocable
from infra.local.stack import DeployedStack
from lambda_function.core.events import encode_reject
from tests.builders import FEBRUARY, SHARD_ID
from tests.builders_failed import reject_at
from tests.builders_tlc import row_at, write_month
from tests.fakes_lambda import EchoFunction
from tests.kits.streams import read_stream

pytestmark = pytest.mark.slow

N_RIDES = 300
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
_WITHIN_S = 60

AT_IMPORT = """
import os, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Interrupting())
from infra.cli.entry import main
main()
"""
START = "from infra.cli.entry import main; main()"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one month of rides."""
    start = datetime(2021, 2, 1)  # noqa: DTZ001 - New York's wall clock
    write_month(tmp_path, [row_at(start + timedelta(minutes=n), trip_distance=2.0) for n in range(N_RIDES)], FEBRUARY)
    monkeypatch.setenv("TLC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


def start(folder: Path, *words: object, code: str = START) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True)  # noqa: S603 - our own code


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=_WITHIN_S)
    return process.returncode, out, err


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _WITHIN_S
    while not is_true():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize(
    "module", ["typer", "infra.cli.train", "botocore.exceptions", "numpy", "training.data.load", "boto3"]
)
def test_signal_while_modules_are_imported_ends_quietly(folder: Path, module: str, number: int, code: int) -> None:
    words = ("rides", "send", "--endpoint-url", "http://127.0.0.1:9")
    found, out, err = ended(start(folder, *words, code=AT_IMPORT.format(module=module, number=int(number))))
    assert (found, out) == (code, ""), err
    assert "Traceback" not in err


@contextmanager
def stack_function(aws: LocalAws, stack: DeployedStack, function: EchoFunction) -> Iterator[None]:
    arn = f"arn:aws:lambda:us-east-1:123456789012:function:{stack.function.name}"
    with invocable(aws, arn, function):
        yield


def test_sending_ends_after_the_events_under_way_and_resume_sends_the_rest(
    folder: Path, aws: LocalAws, stack: DeployedStack
) -> None:
    kinesis = aws.client("kinesis")
    words = ("rides", "send", "--endpoint-url", aws.endpoint_url, "--stack", "ridecast", "--rate", 100)
    process = start(folder, *words)
    wait_until(lambda: len(read_stream(kinesis, stack.input_stream)) > 30)
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process)
    n_sent = len(read_stream(kinesis, stack.input_stream))
    assert (code, out) == (130, ""), err
    assert "Traceback" not in err
    assert f"interrupted: {n_sent} of {N_RIDES} events are sent to {stack.input_stream}" in err
    assert "the same command with --resume goes on" in err

    code, out, err = ended(start(folder, *words[:-2], "--resume", "--json"))
    assert (code, json.loads(out)["sent"]) == (0, N_RIDES), err
    rides = [json.loads(record.data)["ride_id"] for record in read_stream(kinesis, stack.input_stream)]
    assert rides == list(range(N_RIDES))
    assert "there is nothing to resume" in ended(start(folder, *words, "--resume"))[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_reading_ends_with_a_complete_json_object(
    folder: Path, aws: LocalAws, stack: DeployedStack, number: int
) -> None:
    words = ("rides", "tail", "--stream", stack.output_stream, "--endpoint-url", aws.endpoint_url, "--json")
    records = [{"Data": b"{}", "PartitionKey": "a"}] * 3
    aws.client("kinesis").put_records(StreamName=stack.output_stream, Records=records)
    with start(folder, *words) as process:
        assert process.stdout
        beginning = process.stdout.read(1)
        process.send_signal(number)
        found = json.loads(beginning + process.stdout.read())
    assert process.returncode == 0
    assert found["predictions"] == [{}] * found["read"]


def test_replay_and_redrive_end_at_once_and_go_on(folder: Path, aws: LocalAws, stack: DeployedStack) -> None:
    kinesis, function = aws.client("kinesis"), EchoFunction()
    if not read_stream(kinesis, stack.input_stream):
        kinesis.put_records(
            StreamName=stack.input_stream, Records=[{"Data": b"a", "PartitionKey": "a"} for _ in range(N_RIDES)]
        )
    where = ("--endpoint-url", aws.endpoint_url, "--stack", "ridecast")
    rejects = [encode_reject(reject_at(n)) for n in range(N_RIDES)]
    key = f"rejects/{stack.input_stream}/{SHARD_ID}/1.ndjson"
    aws.client("s3").put_object(Bucket=stack.bucket, Key=key, Body=b"\n".join(rejects))
    commands = [("rides", "replay", "--from", "1h"), ("records", "redrive")]
    with stack_function(aws, stack, function):
        for words, resumed in zip(commands, [("rides", "replay", "--resume"), ("records", "redrive")], strict=True):
            function.published.clear()
            process = start(folder, *words, *where, "--rate", 100)
            wait_until(lambda: len(function.published) > 20)
            process.send_signal(signal.SIGTERM)
            code, out, err = ended(process)
            assert (code, out) == (143, ""), err
            assert "interrupted: " in err
            assert "Traceback" not in err
            assert len(function.published) < N_RIDES
            code, out, err = ended(start(folder, *resumed, *where, "--json"))
            assert code == 0, err
            assert len(dict(function.published)) == N_RIDES
            assert len(function.published) <= N_RIDES + 100
