"""The two serving functions work under their roles, and need every part of them."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.http import http_event
from infra.local.runtime.in_process import InProcessRuntime, load_handler
from lambda_function.aws.model_store import ModelStore, NoModelYetError
from lambda_function.aws.rejects import RejectStore
from lambda_function.core.events import NOT_JSON
from lambda_function.core.records import build_reject
from lambda_function.errors import RejectError, StoreError
from tests.builders import STREAM, kinesis_records, ride_bytes
from tests.fakes import BUCKET, FakeS3
from tests.kits.permissions import Account, Cut, cuts
from tests.kits.streams import read_stream
from tests.outcomes import SERVICE_DOWN

N_RIDES = 40
FAILURE = {"requestContext": {"condition": "RetryAttemptsExhausted"}, "version": "1.0"}
DENIED = r"AccessDenied|not all records are published"


def run_function(account: Account, role_name: str, log: Path) -> None:
    """Make all calls of the function and of its mapping under one role; raise an error if access is denied."""
    kinesis = account.aws.client("kinesis")
    for number in range(N_RIDES):
        data = ride_bytes(number) if number % 10 else b"no ride"
        kinesis.put_record(StreamName="ride-events", PartitionKey=str(number), Data=data)
    mine = account.clients(role_name, "kinesis", "s3", "logs", "sqs")
    variables = {**account.function_variables("Predictor"), **account.variables(role_name)}
    before, queued_before = _n_predictions(account), _n_queued(account)
    with account.aws.enforcing(), load_handler("lambda_function.handler.lambda_handler", variables, log) as handler:
        runtime = InProcessRuntime(handler, 60, 1769, "predictor")
        mapping = EventSourceMapping(account.mapping, mine["kinesis"], _raising(runtime), s3=mine["s3"])
        while mapping.poll_once():
            pass
        lambdas_calls_for_the_stream(account, mine)
        calls_for_any_function(account, mine, "PredictorLogs")
        if mapping.stats.last_error:
            raise PermissionError(mapping.stats.last_error)
        reject_that_the_bucket_refuses(account, mine)
    if (n_queued := _n_queued(account) - queued_before) > 1:
        raise PermissionError("AccessDenied: the bucket takes no rejects, and they are in the queue")
    assert n_queued == 1
    assert _n_predictions(account) > before


def _n_predictions(account: Account) -> int:
    return len(read_stream(account.aws.client("kinesis"), "ride-predictions"))


def _n_queued(account: Account) -> int:
    sqs = account.aws.client("sqs")
    answer = sqs.get_queue_attributes(
        QueueUrl=account.outputs["RejectsQueueUrl"], AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def _raising(runtime: InProcessRuntime) -> Callable[[dict[str, Any]], object]:
    def invoke(event: dict[str, Any]) -> object:
        response: Any = runtime(event)
        if response["batchItemFailures"]:
            raise PermissionError("not all records are published and stored")
        return response

    return invoke


def lambdas_calls_for_the_stream(account: Account, mine: Mapping[str, Any]) -> None:
    """Make Lambda's calls with the stream function's role that the local mapping does not make."""
    mine["kinesis"].describe_stream(StreamName="ride-events")
    mine["s3"].put_object(Bucket=account.bucket, Key="aws/lambda/m/shard/f", Body=json.dumps(FAILURE))


def reject_that_the_bucket_refuses(account: Account, mine: Mapping[str, Any]) -> None:
    """Store a reject as the function does while its bucket refuses."""
    (record,) = kinesis_records(b"no ride")
    store = RejectStore(FakeS3(script=[SERVICE_DOWN]), BUCKET, account.outputs["RejectsQueueUrl"], lambda: mine["sqs"])
    store.store(STREAM, [build_reject(record, RejectError(NOT_JSON, "no ride"))], lambda: 10.0)


def calls_for_any_function(account: Account, mine: Mapping[str, Any], log_group: str) -> None:
    """Write the log, and load a model from a missing channel: the answer must be 404, not 403."""
    account.write_logs(mine["logs"], log_group)
    with suppress(NoModelYetError):
        ModelStore(mine["s3"], account.bucket, "none", 60.0).refresh()


def ask_api(account: Account, role_name: str, log: Path) -> None:
    """Request a prediction from the API under a role; raise an error if access is denied."""
    mine = account.clients(role_name, "s3", "logs")
    variables = {**account.function_variables("ApiFunction"), **account.variables(role_name)}
    event = http_event("POST", "/predictions", {"content-type": "application/json"}, ride_bytes(1), 1.0)
    with account.aws.enforcing(), load_handler("lambda_function.api.lambda_handler", variables, log) as handler:
        answer: Any = InProcessRuntime(handler, 30, 512, "api")(event)
        calls_for_any_function(account, mine, "ApiFunctionLogs")
    if answer["statusCode"] != HTTPStatus.OK:
        raise PermissionError(f"{answer['statusCode']}, and the log says: {log.read_text()}")


def test_function_does_its_work_under_its_role_and_needs_every_part_of_it(account: Account, tmp_path: Path) -> None:
    account.take_asked(account.roles["PredictorRole"])
    run_function(account, account.roles["PredictorRole"], tmp_path / "function.log")

    rejects = account.aws.client("s3").list_objects_v2(Bucket=account.bucket, Prefix="rejects/")
    assert rejects["KeyCount"] > 0
    assert account.parts_without_use("PredictorRole") == []


@pytest.mark.parametrize("cut", cuts("PredictorRole")[::6], ids=str)
def test_function_shows_that_a_part_of_its_role_is_missing(account: Account, tmp_path: Path, cut: Cut) -> None:
    role = account.role_without("PredictorRole", cut)

    with pytest.raises((PermissionError, ClientError, StoreError), match=DENIED):
        run_function(account, role, tmp_path / "function.log")


def test_api_answers_under_its_role_and_needs_every_part_of_it(account: Account, tmp_path: Path) -> None:
    account.take_asked(account.roles["ApiFunctionRole"])
    ask_api(account, account.roles["ApiFunctionRole"], tmp_path / "function.log")

    assert account.parts_without_use("ApiFunctionRole") == []


@pytest.mark.parametrize("cut", cuts("ApiFunctionRole")[:1], ids=str)
def test_api_shows_that_a_part_of_its_role_is_missing(account: Account, tmp_path: Path, cut: Cut) -> None:
    role = account.role_without("ApiFunctionRole", cut)

    with pytest.raises((PermissionError, ClientError, StoreError), match=DENIED):
        ask_api(account, role, tmp_path / "function.log")
