"""`ridecast rejects` and `ridecast failures`: what a person sees, and one JSON object on the last line."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.cli.app import main
from infra.cli.records import show_object
from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import FailedObject, decode_rejects
from lambda_function.core.events import INVALID_FIELD, encode_reject
from tests.builders import SHARD_ID, STREAM, event_id
from tests.builders_failed import FAILURE_KEY, Account, failure, reject_at
from tests.fakes import BUCKET

pytestmark = pytest.mark.slow  # moto in process: half a second to import, tens of milliseconds a test

KEY = f"rejects/{STREAM}/{SHARD_ID}/1.ndjson"
BROKEN = f"rejects/{STREAM}/{SHARD_ID}/2.ndjson"


class Cli:
    """`ridecast` in this process, on a bucket and a stream in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("COLUMNS", "200")  # a narrow table breaks ids
        self._capsys = capsys
        self.s3: Any = boto3.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)
        self.kinesis: Any = boto3.client("kinesis")
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=1)

    def put(self, key: str, body: bytes) -> None:
        """Stores an object."""
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    def run(self, *arguments: str, code: int = 0) -> str:
        """Runs a command and returns its standard output, or error where it fails."""
        self._monkeypatch.setattr(sys, "argv", ["ridecast", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        written = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, written.err
        return written.err if code else written.out

    def __call__(self, *arguments: str) -> Any:
        """Runs a command on the bucket and returns its JSON."""
        *rest, last = self.run(*arguments, "--bucket", BUCKET, "--json").splitlines()
        assert rest == []
        return json.loads(last)

    def taken(self) -> list[tuple[str, bytes]]:
        """What the stream holds."""
        position = {"ShardId": SHARD_ID, "ShardIteratorType": "TRIM_HORIZON"}
        iterator = self.kinesis.get_shard_iterator(StreamName=STREAM, **position)["ShardIterator"]
        records = self.kinesis.get_records(ShardIterator=iterator)["Records"]
        return [(record["PartitionKey"], record["Data"]) for record in records]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """A bucket with three rejects, an object that is none, and a failure of two records."""
    with mock_aws():
        cli = Cli(monkeypatch, capsys)
        rejects = [reject_at(1, b"hello\x1b[31m"), reject_at(2, b"\xff\x00"), reject_at(3, b"{}", INVALID_FIELD)]
        cli.put(KEY, b"\n".join(map(encode_reject, rejects)))
        cli.put(BROKEN, b"{")
        cli.put(FAILURE_KEY, failure(b"a", b"b"))
        yield cli


def test_list_shows_counts_the_newest_and_what_cannot_be_read(cli: Cli) -> None:
    written = cli.run("rejects", "list", "--bucket", BUCKET)
    *shown, last = written.splitlines()
    text = "\n".join(shown)
    for part in (INVALID_FIELD, "not_json", SHARD_ID, "2021-01-05 08:15:03Z", event_id(3), f"not readable: {BROKEN}"):
        assert part in text
    assert json.loads(last)["records"] == 3
    assert list(json.loads(last)["unreadable"]) == [BROKEN]


@pytest.mark.parametrize(
    ("options", "n_records"),
    [
        ("--reason not_json", 2),
        ("--since 2021-01-05T08:15:02Z", 2),
        ("--until 2021-01-05T08:15:02Z", 1),
        ("--since 2021-01-05T08:15:02Z --until 2021-01-05T08:15:03Z", 1),
        ("--since 2h", 0),
        ("--shard 0", 3),
        ("--shard 1", 0),
        ("--stream ride-events", 3),
        ("--stream other-events", 0),
    ],
)
def test_list_counts_what_is_selected(cli: Cli, options: str, n_records: int) -> None:
    assert cli("rejects", "list", *options.split())["records"] == n_records


def test_list_has_a_line_for_each_of_the_newest_or_for_all(cli: Cli) -> None:
    cli.put(KEY, b"\n".join(encode_reject(reject_at(n)) for n in range(7)))
    assert [line["id"] for line in cli("rejects", "list")["newest"]] == [event_id(n) for n in (6, 5, 4, 3, 2)]
    assert len(cli("rejects", "list", "--all")["newest"]) == 7


def test_list_tells_what_is_redriven_and_pending_hides_it(cli: Cli) -> None:
    cli("rejects", "redrive", event_id(2))
    assert (cli("rejects", "list")["records"], cli("rejects", "list")["redriven"]) == (3, 1)
    pending = cli("rejects", "list", "--pending")
    assert (pending["records"], pending["redriven"]) == (2, 0)
    assert "redriven  " in cli.run("rejects", "list", "--bucket", BUCKET)


def test_failures_are_listed_by_condition_a_line_a_batch(cli: Cli) -> None:
    found = cli("failures", "list", "--condition", "RetryAttemptsExhausted", "--stream", STREAM, "--shard", "0")
    assert (found["records"], found["objects"]) == (2, 1)
    assert [line["id"] for line in found["newest"]] == [FAILURE_KEY]
    assert "2 records" in cli.run("failures", "list", "--bucket", BUCKET)


@pytest.mark.parametrize(
    ("position", "encoding", "data"), [(1, "utf-8", "hello\x1b[31m"), (2, "hex", "ff00"), (3, "utf-8", "{}")]
)
def test_show_tells_all_of_a_reject(cli: Cli, position: int, encoding: str, data: str) -> None:
    found = cli("rejects", "show", event_id(position))
    assert (found["id"], found["encoding"], found["data"]) == (event_id(position), encoding, data)
    assert (found["state"], found["key"], found["partition_key"]) == ("pending", KEY, "1")


def test_terminal_is_not_given_control_characters(cli: Cli) -> None:
    *shown, last = cli.run("rejects", "show", event_id(1), "--bucket", BUCKET).splitlines()
    assert "\x1b" not in "\n".join(shown)
    assert r"hello\x1b[31m" in "\n".join(shown)
    assert json.loads(last)["data"] == "hello\x1b[31m"


def test_show_tells_of_a_failure_and_of_one_record_of_it(cli: Cli) -> None:
    found = cli("failures", "show", FAILURE_KEY[-8:])
    assert (found["key"], found["records"]) == (FAILURE_KEY, [event_id(0), event_id(1)])
    assert found["reasons"] == ["RetryAttemptsExhausted"]
    assert event_id(1) in cli.run("failures", "show", FAILURE_KEY, "--bucket", BUCKET)
    assert cli("failures", "show", event_id(1))["data"] == "b"


def test_text_in_brackets_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = decode_rejects(KEY, encode_reject(reject_at(0, b"[red]text[/red] [/]")))
    show_object(found, Marks(Account().bucket()), json_only=False)
    assert "[red]text[/red] [/]" in capsys.readouterr().out


def test_object_without_a_readable_record_is_shown_with_its_problem(capsys: pytest.CaptureFixture[str]) -> None:
    show_object(FailedObject("x", problem="is none"), Marks(Account().bucket()), json_only=True)
    assert json.loads(capsys.readouterr().out)["problem"] == "is none"


def test_redrive_sends_marks_and_does_it_once(cli: Cli) -> None:
    dry = cli("rejects", "redrive", "--dry-run", "--reason", "not_json")
    assert (dry["selected"], dry["to_redrive"], dry["redriven"], dry["dry_run"]) == (2, 2, 0, True)
    assert cli.taken() == []
    done = cli("rejects", "redrive", "--reason", "not_json")
    assert (done["redriven"], done["by_stream"], list(done["unreadable"])) == (2, {STREAM: 2}, [BROKEN])
    assert cli.taken() == [("1", b"hello\x1b[31m"), ("1", b"\xff\x00")]
    again = cli("rejects", "redrive")
    assert (again["selected"], again["redriven"], again["redriven_before"]) == (3, 1, 2)


def test_redrive_of_a_failure_sends_its_batch(cli: Cli) -> None:
    assert "2 to ride-events" in cli.run("failures", "redrive", FAILURE_KEY, "--bucket", BUCKET)
    assert [data for _, data in cli.taken()] == [b"a", b"b"]


def test_redrive_goes_to_another_stream_where_told(cli: Cli) -> None:
    cli.kinesis.create_stream(StreamName="repaired", ShardCount=1)
    assert cli("failures", "redrive", "--to", "repaired")["by_stream"] == {"repaired": 2}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (f"rejects show {event_id(9)} --bucket {BUCKET}", "names no single one of the rejects"),
        (f"rejects show ndjson --bucket {BUCKET}", "2 keys end in it, give more of the key"),
        (f"failures show nothing --bucket {BUCKET}", "`list` shows all"),
        (f"rejects list --bucket {BUCKET} --since yesterday", "'yesterday' is no time: write it as"),
        (f"rejects list --bucket {BUCKET} --since 999999w", "'--since'"),
        ("rejects list --bucket no-such-bucket", "NoSuchBucket"),
        ("failures redrive", "Missing option '--bucket'"),
        (f"failures redrive --bucket {BUCKET} --to nowhere", "stream nowhere accepted 0 records"),
    ],
)
def test_mistake_is_one_sentence(cli: Cli, arguments: str, sentence: str) -> None:
    (line,) = [line for line in cli.run(*arguments.split(), code=2).splitlines() if line.strip()]
    assert line.startswith("ridecast: ")
    assert sentence in line


def test_interrupted_redrive_says_how_to_go_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    def client(*arguments: Any, **options: Any) -> Any:
        made = session_client(*arguments, **options)
        if arguments[1] == "kinesis":
            made.meta.events.register("before-call.kinesis.PutRecords", interrupt)
        return made

    session_client = boto3.Session.client
    with monkeypatch.context() as patch:
        patch.setattr(boto3.Session, "client", client)
        written = cli.run("rejects", "redrive", "--bucket", BUCKET, code=130)
    assert "ridecast: interrupted after 0 records: run it again to go on" in written
    done = cli("rejects", "redrive")
    assert (done["redriven"], done["perhaps_repeated"]) == (3, 3)
