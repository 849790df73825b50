"""The archive function and the join work under their roles, and need every part of them."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.in_process import InProcessRuntime, load_handler
from infra.local.stack import Stack
from lambda_function.core.events import NOT_JSON, encode_reject
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES, build_reject
from lambda_function.errors import RejectError, StoreError
from tests.builders import SHARD_ID
from tests.builders_archive import HOUR, ArchivedStreams, predictions_of
from tests.builders_failed import failure
from tests.kits.permissions import SECOND, SERVED, Account, cuts
from training.errors import BucketError, UserError
from training.monitoring.hours import Hour
from training.monitoring.join.join import labelled_key
from training.monitoring.summary import summary_key

STREAMS = ("ride-events", "ride-predictions", "ride-outcomes")
FAILURE = f"aws/lambda/6f5e/{SHARD_ID}/2026/08/01/2026-08-01T20.15.00-0b1c"
BAD_OUTCOME = b"no outcome of a ride"  # no other test of the account sends these bytes
ERRORS = (PermissionError, ClientError, StoreError, BucketError, UserError)


# The archive ----------------------------------------------------------------------------------------------------------


def run_archiver(account: Account, role_name: str, log: Path) -> None:
    """Make all calls of the archive function and of its mappings under one role; raise an error if access is denied."""
    for stream in STREAMS:
        account.aws.client("kinesis").put_record(StreamName=stream, PartitionKey="1", Data=b"any bytes")
    mine = account.clients(role_name, "kinesis", "s3", "logs")
    variables = {**account.function_variables("Archiver"), **account.variables(role_name)}
    parameters = {"ArchiveWindowSeconds": 0, **account.streams}
    mappings = Stack(parameters=parameters).event_source_mappings(account.names, "Archiver")
    assert len(mappings) == len(STREAMS)
    with account.aws.enforcing(), load_handler("lambda_function.archive.lambda_handler", variables, log) as handler:
        runtime = InProcessRuntime(handler, 60, 512, "archiver")
        for config in mappings.values():
            mapping = EventSourceMapping(config, mine["kinesis"], runtime, s3=mine["s3"])
            while mapping.poll_once():
                pass
            if mapping.stats.last_error:
                raise PermissionError(mapping.stats.last_error)
            mine["kinesis"].describe_stream(StreamName=config.stream_name)  # Lambda's call
        mine["s3"].put_object(Bucket=account.bucket, Key="aws/lambda/m/shard/f", Body=b"{}")  # Lambda's calls
        mine["s3"].list_objects_v2(Bucket=account.bucket, MaxKeys=1)
        account.write_logs(mine["logs"], "ArchiverLogs")


def test_archive_function_does_its_work_under_its_role_and_needs_every_part_of_it(
    account: Account, tmp_path: Path
) -> None:
    account.take_asked(account.roles["ArchiverRole"])
    run_archiver(account, account.roles["ArchiverRole"], tmp_path / "function.log")

    for kind in (RIDES, PREDICTIONS, OUTCOMES):
        listed = account.aws.client("s3").list_objects_v2(Bucket=account.bucket, Prefix=f"archive/{kind}/")
        assert listed["KeyCount"] > 0, kind
    assert account.parts_without_use("ArchiverRole") == []


@pytest.mark.parametrize("cut", cuts("ArchiverRole")[:1], ids=str)
def test_archive_function_shows_that_a_part_of_its_role_is_missing(account: Account, tmp_path: Path, cut: Any) -> None:
    role = account.role_without("ArchiverRole", cut)

    with pytest.raises(ERRORS, match="AccessDenied"):
        run_archiver(account, role, tmp_path / "function.log")


# The join -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archived(account: Account) -> Hour:
    """An hour with a ride of two predictions, a bad outcome, and rides with a reject, in a failed batch, and lost."""
    streams = ArchivedStreams(SERVED)
    streams.ride(1, 0)
    for one in predictions_of(streams.rides, SECOND.model):  # in conflict, unless the history says otherwise
        streams.add_prediction(one.envelope.data, 1)
    streams.outcome(1, 20)
    streams.outcome(data=BAD_OUTCOME, minute=30)
    for number in range(2, 5):
        streams.ride(number, number, is_predicted=False)
    stored: Any = streams.store().s3
    s3 = account.aws.client("s3")
    for key in stored.objects:
        s3.put_object(Bucket=account.bucket, Key=key, Body=stored.get_object(Bucket="b", Key=key)["Body"].read())
    rejected, failed = streams.rides[1], streams.rides[2]
    reject = build_reject(rejected, RejectError(NOT_JSON, "no ride"))
    reject_key = f"rejects/ride-events/{SHARD_ID}/{rejected.envelope.sequence_number}-0123456789abcdef.ndjson"
    s3.put_object(Bucket=account.bucket, Key=reject_key, Body=encode_reject(reject) + b"\n")
    batch = json.loads(failure(b"a"))
    last = failed.envelope.sequence_number
    batch["KinesisBatchInfo"] |= {"startSequenceNumber": last, "endSequenceNumber": last}
    s3.put_object(Bucket=account.bucket, Key=FAILURE, Body=json.dumps(batch).encode())
    return HOUR


def run_joiner(account: Account, role_name: str, log: Path, hour: Hour) -> None:
    """Make all calls of the join of an hour under one role; raise an error if access is denied."""
    s3 = account.aws.client("s3")
    for one in s3.list_objects_v2(Bucket=account.bucket, Prefix="late/").get("Contents", ()):
        s3.delete_object(Bucket=account.bucket, Key=one["Key"])  # so that it is written again
    mine = account.clients(role_name, "logs")
    variables = {**account.function_variables("Joiner"), **account.variables(role_name)}
    with account.aws.enforcing(), load_handler("training.functions.join.lambda_handler", variables, log) as handler:
        runtime = InProcessRuntime(handler, 900, 3008, "joiner")
        runtime({"hours": [str(hour)]})
        account.write_logs(mine["logs"], "JoinerLogs")


def test_join_does_its_work_under_its_role_and_needs_every_part_of_it(
    account: Account, archived: Hour, tmp_path: Path
) -> None:
    account.take_asked(account.roles["JoinerRole"])
    run_joiner(account, account.roles["JoinerRole"], tmp_path / "function.log", archived)

    assert account.parts_without_use("JoinerRole") == []
    s3 = account.aws.client("s3")
    summary = json.loads(s3.get_object(Bucket=account.bucket, Key=summary_key(archived))["Body"].read())
    names = ("n_ride_events", "n_labelled", "n_rejected", "n_failed", "n_lost", "n_conflicting", "n_outcomes_rejected")
    assert {name: summary[name] for name in names} == {**dict.fromkeys(names, 1), "n_ride_events": 4}
    assert s3.head_object(Bucket=account.bucket, Key=labelled_key(archived))
    listed = s3.list_objects_v2(Bucket=account.bucket, Prefix="rejects/ride-outcomes/")["Contents"]
    stored = [s3.get_object(Bucket=account.bucket, Key=one["Key"])["Body"].read() for one in listed]
    assert sum(base64.b64encode(BAD_OUTCOME) in body for body in stored) == 1


@pytest.mark.parametrize("cut", cuts("JoinerRole")[:1], ids=str)
def test_join_shows_that_a_part_of_its_role_is_missing(
    account: Account, archived: Hour, tmp_path: Path, cut: Any
) -> None:
    role = account.role_without("JoinerRole", cut)

    with pytest.raises(ERRORS, match="AccessDenied"):
        run_joiner(account, role, tmp_path / "function.log", archived)
