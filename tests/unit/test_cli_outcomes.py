"""`ridecast outcomes`: outcomes are sent and match their rides, and a ride is forgotten."""

import gzip
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.cli.resume import ResumeFile
from infra.cli.sending import SendState
from tests.builders import ride_bytes
from tests.builders_archived import archived
from tests.builders_failed import FAILURE_KEY, failure
from tests.fakes import BUCKET
from tests.kits.cli import Cli
from tests.kits.streams import read_stream

pytestmark = pytest.mark.slow  # moto in process: half a second to import, tens of milliseconds a test

MADE_UP = ("--synthetic", 60, "--months", "2021-02,2021-03", "--rides", 100)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    """The command line in its own folder, with both streams."""
    monkeypatch.chdir(tmp_path)
    with mock_aws():
        for name in ("ride-events", "ride-outcomes"):
            boto3.client("kinesis").create_stream(StreamName=name, ShardCount=1)
        yield Cli(monkeypatch, capsys)


def sent_to(stream: str) -> list[Any]:
    return [json.loads(record.data) for record in read_stream(boto3.client("kinesis"), stream)]


def test_both_commands_number_the_same_rides_in_the_same_way(cli: Cli) -> None:
    assert cli("rides", "send", *MADE_UP) == {"stream": "ride-events", "sent": 100}
    assert cli("outcomes", "send", *MADE_UP)["sent"] == 100
    rides, outcomes = sent_to("ride-events"), sent_to("ride-outcomes")
    assert [ride["ride_id"] for ride in rides] == list(range(100))
    assert {outcome["ride_id"] for outcome in outcomes} == set(range(100))


def test_share_leaves_out_rides_and_says_how_many(cli: Cli) -> None:
    answer = cli("outcomes", "send", *MADE_UP, "--share", 0.8)
    outcomes = sent_to("ride-outcomes")
    assert answer == {"stream": "ride-outcomes", "sent": len(outcomes), "without_outcome": 100 - len(outcomes)}
    assert 60 < len(outcomes) < 95


def test_resume_sends_the_rest_of_the_same_outcomes(cli: Cli) -> None:
    cli("outcomes", "send", *MADE_UP, "--share", 0.8)
    whole = sent_to("ride-outcomes")
    state = SendState("ride-outcomes", "green", "2021-02,2021-03", 100, n_sent=20, synthetic=60, share=0.8)
    ResumeFile("outcomes send").store(state)
    assert cli("outcomes", "send", "--resume")["sent"] == len(whole)
    assert sent_to("ride-outcomes") == whole + whole[20:]


def test_delay_waits_before_the_first_outcome_and_an_interruption_in_it_can_be_resumed(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", interrupt)  # stands for Ctrl-C: what waits is interrupted
        code, _, err = cli.ended("outcomes", "send", *MADE_UP, "--delay", 600)
    assert (code, sent_to("ride-outcomes")) == (130, [])
    assert "0 of 100 outcomes are sent to ride-outcomes; the same command with --resume goes on" in err
    state = ResumeFile("outcomes send").load(SendState, None)
    assert state.not_before_s > 0
    ResumeFile("outcomes send").store(SendState("ride-outcomes", "green", "2021-02", 100, synthetic=60))
    assert cli("outcomes", "send", "--resume")["sent"] == 60


def stored_rides(*, is_versioned: bool) -> Any:
    """A bucket of AWS with two rides in the archive, written twice."""
    s3: Any = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    if is_versioned:
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    key, body = archived("rides", ride_bytes("anna"), ride_bytes("bert"))
    for _ in range(2):
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    return s3


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        """Return that somebody can be asked."""
        return True


@pytest.mark.parametrize("is_versioned", [True, False])
def test_forgotten_ride_is_in_no_version_of_the_bucket(cli: Cli, is_versioned: bool) -> None:
    s3 = stored_rides(is_versioned=is_versioned)
    where = ("anna", "--bucket", BUCKET)
    dry = cli("outcomes", "forget", *where, "--dry-run")
    assert (dry["objects"], dry["records"], dry["old_versions"]) == (1, {"archive/rides": 1}, int(is_versioned))
    assert "1 of archive/rides" in cli.run("outcomes", "forget", *where, "--yes", "--from", "2021-01-05T08:59")
    (left,) = s3.list_object_versions(Bucket=BUCKET)["Versions"]
    assert gzip.decompress(s3.get_object(Bucket=BUCKET, Key=left["Key"])["Body"].read()).count(b"\n") == 1
    assert cli("outcomes", "forget", *where, "--yes")["objects"] == 0


def test_forgetting_asks_and_ends_with_1_if_something_is_left_to_do(cli: Cli) -> None:
    s3 = stored_rides(is_versioned=False)
    where = ("outcomes", "forget", "anna", "--bucket", BUCKET)
    assert "'--yes'" in cli.refuses(*where)
    assert "no bucket is named" in cli.refuses("outcomes", "forget", "anna", "--yes")
    s3.put_object(Bucket=BUCKET, Key=FAILURE_KEY, Body=failure(ride_bytes("anna")))
    assert cli(*where, "--yes", code=1)["failed_batches"] == [FAILURE_KEY]
    assert "redrive the failed batches, delete them" in cli.run(*where, "--yes", code=1)


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_ride_stays_unless_the_answer_is_yes(cli: Cli, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    stored_rides(is_versioned=False)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    code, out, err = cli.ended("outcomes", "forget", "anna", "--bucket", BUCKET)
    assert (code, out, err.splitlines()[-1].endswith("ridecast: nothing is deleted")) == (1, "", True)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert cli("outcomes", "forget", "anna", "--bucket", BUCKET)["records"] == {"archive/rides": 1}
