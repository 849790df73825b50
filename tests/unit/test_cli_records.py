"""`ridecast records`: tables and JSON of rejects and failed batches, and their redrive."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.cli.records import show_object
from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import FailedObject
from lambda_function.core.events import INVALID_FIELD, encode_reject
from tests.builders import SHARD_ID, STREAM, event_id
from tests.builders_failed import ARCHIVER, FAILURE_KEY, Account, failure, queue_rejects, reject_at
from tests.fakes import BUCKET
from tests.fakes_lambda import EchoFunction, FakeLambda
from tests.kits.cli import Cli

pytestmark = pytest.mark.slow  # moto in process: half a second to import, tens of milliseconds a test

KEY = f"rejects/{STREAM}/{SHARD_ID}/1.ndjson"
FAILURES = ("--kind", "failure")
FUNCTION = ("--function", "predictor:live")
BROKEN = f"rejects/{STREAM}/{SHARD_ID}/2.ndjson"


class Records(Cli):
    """`ridecast records` on a bucket in memory and a function in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(monkeypatch, capsys, "--bucket", BUCKET)
        self.s3: Any = boto3.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)
        self.function = EchoFunction()
        self.client = FakeLambda(self.function)
        session_client: Any = boto3.Session.client

        def client(session: boto3.Session, service: str, *arguments: Any, **options: Any) -> Any:
            return self.client if service == "lambda" else session_client(session, service, *arguments, **options)

        monkeypatch.setattr(boto3.Session, "client", client)

    def ended(self, *words: object) -> tuple[int, str, str]:
        """Run a command of the group."""
        return super().ended("records", *words)

    def put(self, key: str, body: bytes) -> None:
        """Store an object."""
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Records]:
    """A bucket with three rejects, an object that is none, and a failed batch of two records."""
    with mock_aws():
        cli = Records(monkeypatch, capsys)
        rejects = [reject_at(1, b"hello\x1b[31m"), reject_at(2, b"\xff\x00"), reject_at(3, b"{}", INVALID_FIELD)]
        cli.put(KEY, b"\n".join(map(encode_reject, rejects)))
        cli.put(BROKEN, b"{")
        cli.put(FAILURE_KEY, failure(b"a", b"b"))
        yield cli


def test_list_shows_counts_the_newest_and_what_cannot_be_read(cli: Records) -> None:
    text = cli.run("list")
    for part in (INVALID_FIELD, "not_json", SHARD_ID, "2021-01-05 08:15:03Z", event_id(3), f"not readable: {BROKEN}"):
        assert part in text
    found = cli("list")
    assert (found["records"], list(found["unreadable"])) == (3, [BROKEN])


def test_stack_gives_the_bucket_and_an_explicit_bucket_wins(cli: Records) -> None:
    template = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"BucketName": {"Value": BUCKET}},
    }
    boto3.client("cloudformation").create_stack(StackName="rides", TemplateBody=json.dumps(template))
    cli.options = ("--stack", "rides")
    assert cli("list")["records"] == 3
    assert "NoSuchBucket" in cli.refuses("list", "--bucket", "no-such-bucket")
    cli.options = ("--stack", "no-such-stack")
    assert "cannot describe stack no-such-stack" in cli.refuses("list")


def test_rejects_in_the_queue_are_listed_and_moved_but_not_by_a_dry_run(cli: Records) -> None:
    sqs: Any = boto3.client("sqs")
    url = sqs.create_queue(QueueName="rejects")["QueueUrl"]
    queued = queue_rejects(sqs, url, reject_at(7))
    assert "the rejects queue was not read: give --stack, --local or --queue" in cli.run("list")
    assert cli("list")["queue"] is None
    dry = cli("redrive", "--dry-run", "--queue", url)
    assert (dry["to_redrive"], dry["queue"]) == (4, {"moved": 0, "waiting": 1, "problems": {}})
    assert "moved from the rejects queue into the bucket: 1 objects" in cli.run("list", "--queue", url)
    assert cli("show", event_id(7))["key"] == queued
    assert cli("list", "--queue", url)["queue"] == {"moved": 0, "waiting": 0, "problems": {}}


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
def test_list_counts_what_is_selected(cli: Records, options: str, n_records: int) -> None:
    assert cli("list", *options.split())["records"] == n_records


def test_list_has_a_line_for_each_of_the_newest_or_for_all(cli: Records) -> None:
    cli.put(KEY, b"\n".join(encode_reject(reject_at(n)) for n in range(7)))
    assert [line["id"] for line in cli("list")["newest"]] == [event_id(n) for n in (6, 5, 4, 3, 2)]
    assert len(cli("list", "--all")["newest"]) == 7


def test_list_counts_redriven_records_and_pending_leaves_them_out(cli: Records) -> None:
    cli("redrive", event_id(2), *FUNCTION)
    assert (cli("list")["records"], cli("list")["redriven"]) == (3, 1)
    pending = cli("list", "--pending")
    assert (pending["records"], pending["redriven"]) == (2, 0)
    assert "redriven  " in cli.run("list")


def test_failures_are_listed_by_condition_one_line_per_batch(cli: Records) -> None:
    found = cli("list", *FAILURES, "--condition", "RetryAttemptsExhausted", "--stream", STREAM, "--shard", "0")
    assert (found["records"], found["objects"]) == (2, 1)
    assert [line["id"] for line in found["newest"]] == [FAILURE_KEY]
    assert "2 records" in cli.run("list", *FAILURES)


@pytest.mark.parametrize(
    ("position", "encoding", "data"), [(1, "utf-8", "hello\x1b[31m"), (2, "hex", "ff00"), (3, "utf-8", "{}")]
)
def test_show_has_all_facts_of_a_reject(cli: Records, position: int, encoding: str, data: str) -> None:
    found = cli("show", event_id(position))
    assert (found["id"], found["encoding"], found["data"]) == (event_id(position), encoding, data)
    assert (found["state"], found["key"], found["partition_key"]) == ("pending", KEY, "1")


def test_control_characters_are_escaped_for_people(cli: Records) -> None:
    text = cli.run("show", event_id(1))
    assert "\x1b" not in text
    assert r"hello\x1b[31m" in text


def test_show_has_a_batch_and_one_record_of_it(cli: Records) -> None:
    found = cli("show", *FAILURES, FAILURE_KEY[-8:])
    assert (found["key"], found["records"]) == (FAILURE_KEY, [event_id(0), event_id(1)])
    assert found["reasons"] == ["RetryAttemptsExhausted"]
    assert event_id(1) in cli.run("show", *FAILURES, FAILURE_KEY)
    assert cli("show", *FAILURES, event_id(1))["data"] == "b"


def test_object_without_a_readable_record_is_shown_with_its_problem(capsys: pytest.CaptureFixture[str]) -> None:
    show_object(FailedObject("x", problem="is none"), Marks(Account().bucket()), as_json=True)
    assert json.loads(capsys.readouterr().out)["problem"] == "is none"


def test_redrive_brings_and_marks_once(cli: Records) -> None:
    dry = cli("redrive", "--dry-run", "--reason", "not_json")
    assert (dry["selected"], dry["to_redrive"], dry["redriven"], dry["dry_run"]) == (2, 2, 0, True)
    assert cli.function.published == []
    done = cli("redrive", "--reason", "not_json", *FUNCTION)
    assert (done["redriven"], done["by_stream"], list(done["unreadable"])) == (2, {STREAM: 2}, [BROKEN])
    assert cli.function.published == [(event_id(1), b"hello\x1b[31m"), (event_id(2), b"\xff\x00")]
    again = cli("redrive", *FUNCTION)
    assert (again["selected"], again["redriven"], again["redriven_before"]) == (3, 1, 2)
    assert set(cli.client.names) == {"predictor:live"}


def test_redrive_of_a_failure_brings_its_batch(cli: Records) -> None:
    assert "2 of ride-events" in cli.run("redrive", *FAILURES, FAILURE_KEY, *FUNCTION)
    assert cli.function.published == [(event_id(0), b"a"), (event_id(1), b"b")]


def test_each_function_gets_the_batches_that_it_failed_on_also_of_the_same_records(cli: Records) -> None:
    cli.put(f"{FAILURE_KEY}-archiver", failure(b"a", b"b", function=ARCHIVER))
    assert {(one["function"], one["records"]) for one in cli("list", *FAILURES)["groups"]} == {
        ("predictor", 2),
        (ARCHIVER, 2),
    }
    done = cli("redrive", *FAILURES, *FUNCTION, "--archiver", ARCHIVER)
    assert (done["selected"], done["redriven"], cli.client.names) == (4, 4, ["predictor:live", ARCHIVER])
    assert cli.function.published == 2 * [(event_id(0), b"a"), (event_id(1), b"b")]
    assert done["to_join"] == ["2021-01-05T05", "2021-01-05T09"]
    again = cli("redrive", *FAILURES, *FUNCTION, "--archiver", ARCHIVER)
    assert (again["redriven"], again["redriven_before"], again["to_join"]) == (0, 4, [])


def test_batches_of_the_archive_function_are_not_given_to_another_one(cli: Records) -> None:
    cli.put(FAILURE_KEY, failure(b"a", function=ARCHIVER))
    assert "no archive function is named" in cli.refuses("redrive", *FAILURES, *FUNCTION)
    assert cli.function.published == []
    assert "ridecast outcomes join --from 2021-01-05T05" in cli.run("redrive", *FAILURES, "--archiver", ARCHIVER)


def test_rejected_outcomes_are_listed_with_their_reason_and_go_to_the_archive_function(cli: Records) -> None:
    cli.put(f"rejects/ride-outcomes/{SHARD_ID}/1.ndjson", encode_reject(reject_at(9, b'{"outcome": 1}', INVALID_FIELD)))
    (group,) = cli("list", "--stream", "ride-outcomes")["groups"]
    assert (group["reason"], group["records"]) == (INVALID_FIELD, 1)
    done = cli("redrive", "--stream", "ride-outcomes", "--archiver", ARCHIVER)
    assert (done["by_stream"], cli.client.names) == ({"ride-outcomes": 1}, [ARCHIVER])
    assert cli.client.events[0]["Records"][0]["eventSourceARN"].endswith(":stream/ride-outcomes")


def test_redrive_counts_what_is_rejected_again_and_leaves_it_pending(cli: Records) -> None:
    cli.function.rejects = {event_id(1)}
    assert cli("redrive", *FUNCTION)["rejected_again"] == 1
    assert [line["id"] for line in cli("list", "--pending")["newest"]] == [event_id(1)]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (f"show {event_id(9)}", "names no single one of the rejects"),
        ("show ndjson", "2 keys end in it, give more of the key"),
        ("show nothing --kind failure", "`list` shows all"),
        ("list --since yesterday", "'yesterday' is no time: write it as"),
        ("list --since 999999w", "'--since'"),
        ("list --since 1h --until 2h", "is not before --until"),
        ("redrive --since 9999-01-01", "9999-01-01T00:00:00Z is not before now"),
        ("redrive", "no function is named: give --stack, --local, or --function NAME:ALIAS"),
    ],
)
def test_mistake_is_one_sentence(cli: Records, arguments: str, sentence: str) -> None:
    assert sentence in cli.refuses(*arguments.split())


def test_interrupted_redrive_can_be_continued(cli: Records) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    cli.client = FakeLambda(interrupt)
    code, _, err = cli.ended("redrive", *FUNCTION)
    assert code == 130
    assert "ridecast: interrupted: 0 records are redriven; the same command goes on" in err
    cli.client = FakeLambda(cli.function)
    done = cli("redrive", *FUNCTION)
    assert (done["redriven"], done["perhaps_repeated"]) == (3, 3)
