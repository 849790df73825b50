"""Every command that uses an AWS works under a policy of the stack, and its commands need every part of the policy."""

import io
import json
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from infra.cli.app import app
from infra.local.aws import ACCOUNT_ID, REGION
from infra.local.moto.durable import callback_id
from infra.stack.template import TEMPLATE
from lambda_function.aws.signature import SIGNATURE
from lambda_function.core.bundle import bundle_key
from lambda_function.core.calibration import calibration_key
from lambda_function.core.channel import BEGINNING, Arm, Channel, Segment, channel_key
from lambda_function.core.events import encode_reject
from lambda_function.core.processor import process
from tests.builders import FEBRUARY, SHARD_ID, kinesis_records, ride_bytes, sequence_number
from tests.builders_archived import archived
from tests.builders_failed import FAILURE_KEY, failure, queue_rejects, reject_at
from tests.builders_status import monitor_status
from tests.builders_tlc import row_at, write_month
from tests.kits.bootstrap import DEV, bootstrap_resources, document, resolved
from tests.kits.permissions import FIRST, POLICIES, SECOND, SERVED, THIRD, Account, cuts
from tests.kits.permissions_commands import COMMANDS, COMMANDS_OF_BOTH, TOGETHER, Operator
from training.experiments.start import ExperimentOptions, start_experiment
from training.model.bundle import write_bundle
from training.monitoring.calibration.tick import encode_state, first_state
from training.monitoring.hours import Hour
from training.monitoring.monitor.status import STATUS_KEY, GroupStatus, encode_status
from training.registry.bucket import Bucket
from training.registry.channel_history import history_key
from training.registry.channels import Mover
from training.workflows.loop.comparison import experiment_names
from training.workflows.loop.lease import hold_lease
from training.workflows.loop.state import RunRecord, Waiting, change_run

REJECT = f"{SHARD_ID}:{sequence_number(0)}"
REJECT_KEY = f"rejects/ride-events/{SHARD_ID}/{sequence_number(0)}.ndjson"
RUN = "r1"
SMOKE_TEST = tuple(one for one in COMMANDS["OperatorPolicy"] if one.startswith("smoke"))
AWS_OPTIONS = {"--bucket", "--endpoint-url", "--profile", "--region", "--stack"}


@pytest.fixture(scope="module")
def day(account: Account) -> date:
    """A day of labelled rides."""
    return account.store_labelled_day()


@pytest.fixture
def operator(
    account: Account, day: date, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operator:
    """`ridecast` in its own folder, with an account that has work for every command."""
    store_work(account)
    start = datetime(2021, 2, 1)  # noqa: DTZ001 - New York's wall clock
    write_month(tmp_path, [row_at(start + timedelta(minutes=number)) for number in range(5)], FEBRUARY)
    write_bundle(THIRD, tmp_path)
    event = tmp_path / "event.json"
    event.write_bytes(ride_bytes(1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RIDECAST_SIGNING_KEY", account.signing_key)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    names = {
        "alias": account.outputs["FunctionAliasArn"],
        "archiver": account.outputs["ArchiverName"],
        "bucket": account.bucket,
        "bundles": tmp_path,
        "day": day,
        "event": event,
        "failure": FAILURE_KEY,
        "loop_queue": account.outputs["LoopFailuresUrl"],
        "run": RUN,
        "first": FIRST.model_version,
        "queue": account.outputs["GivenUpBatchesUrl"],
        "unresolved": account.names["UnresolvedBatchesAlarm"],
        "reject": REJECT,
        "second": SECOND.model_version,
        "stack": account.stack.name,
        "template": TEMPLATE,
        "third": THIRD.model_version,
    }
    return Operator(account, monkeypatch, capsys, names)


def store_work(account: Account) -> None:
    """Store a reject, a failed batch, a reject in the queue, an unsigned model, an old channel and a lost one."""
    s3 = account.aws.client("s3")
    account.delete_old_versions()  # else each deletion of a ride would read the versions of all earlier ones
    account.serve_calibrated()
    segment = Segment(BEGINNING, (Arm(FIRST.model_version, FIRST.manifest_sha256),))
    channel = Channel(segments=(segment,), moved_at="2021-01-01T00:00:00+00:00")
    s3.put_object(Bucket=account.bucket, Key=history_key("lost", channel), Body=msgspec.json.encode(channel))
    s3.delete_object(Bucket=account.bucket, Key=channel_key("lost"))
    s3.put_object(Bucket=account.bucket, Key=REJECT_KEY, Body=encode_reject(reject_at(0)) + b"\n")
    for _ in range(2):  # an older version, too
        s3.put_object(Bucket=account.bucket, Key=FAILURE_KEY, Body=failure(ride_bytes(1), ride_bytes(2)))
    failed = failure(ride_bytes(1), ride_bytes(2), function=account.outputs["ArchiverName"])
    s3.put_object(Bucket=account.bucket, Key=f"{FAILURE_KEY}-archiver", Body=failed)
    sqs, queue = account.aws.client("sqs"), account.outputs["RejectsQueueUrl"]
    queued = queue_rejects(sqs, queue, reject_at(2))
    s3.delete_object(Bucket=account.bucket, Key=queued)
    late = [one["Key"] for one in s3.list_objects_v2(Bucket=account.bucket, Prefix="late/").get("Contents", ())]
    status = monitor_status(model_version=FIRST.model_version, groups=(GroupStatus(group="data", state="alarm"),))
    s3.put_object(Bucket=account.bucket, Key=STATUS_KEY, Body=encode_status(status))
    for done in (
        f"monitor/acknowledged/{FIRST.model_version}/data-{status.last_day}.json",
        f"redriven/{REJECT_KEY}",
        f"redriven/{FAILURE_KEY}",
        f"redriven/{FAILURE_KEY}-archiver",
        bundle_key(THIRD.model_version, SIGNATURE),
        *late,
    ):
        s3.delete_object(Bucket=account.bucket, Key=done)
    store_rides(account)
    store_calibration(account)
    store_run(account)


def store_run(account: Account) -> None:
    """Store a run of the loop that waits for approval, with its lease and its experiment; and no other experiment."""
    bucket, now = Bucket(account.aws.client("s3"), account.bucket), datetime.now(UTC)
    for key in (*bucket.keys("experiments/"), *bucket.keys("loop/")):
        bucket.s3.delete_object(Bucket=account.bucket, Key=key)
    asked = callback_id(f"{account.arn('Looper')}:1/durable-execution/{RUN}/e1", "approve")
    waiting = Waiting(what="approval of the candidate", until=now + timedelta(days=1), callback_id=asked)
    run = RunRecord(run_id=RUN, channel="stable", trigger="manual", reason="", started_at=now, waiting=waiting)
    change_run(bucket, RUN, lambda _: run)
    hold_lease(bucket, RUN, now)
    options = ExperimentOptions(name=experiment_names(RUN)[0], candidates=(SECOND.model_version,))
    start_experiment(bucket, options, Mover("loop", lambda: now))


def store_calibration(account: Account) -> None:
    """Store what the first model has learned until now."""
    now = Hour.of(datetime.now(UTC))
    before = first_state(FIRST.model_version, now + -24)
    learned = msgspec.structs.replace(before, as_of=str(now), learned_at=str(now))
    key = calibration_key(FIRST.model_version, learned.as_of)
    account.aws.client("s3").put_object(Bucket=account.bucket, Key=key, Body=encode_state(learned))


def store_rides(account: Account) -> None:
    """Store an archived hour: a reject, a ride of a failed batch, anna's with two predictions; and more."""
    s3, rides = account.aws.client("s3"), [b"no ride", ride_bytes(1), ride_bytes("anna")]
    records = kinesis_records(*rides)
    predictions = [process(records, model).entries[1][1] for model in (SERVED, SECOND.model)]
    served = Channel(
        segments=(Segment(BEGINNING, (Arm(FIRST.model_version, FIRST.manifest_sha256),)),),
        moved_at="2021-02-01T00:00:00+00:00",
    )
    s3.put_object(Bucket=account.bucket, Key=history_key("stable", served), Body=msgspec.json.encode(served))
    for kind, datas in (("rides", rides), ("predictions", predictions), ("outcomes", [b"no outcome"])):
        key, body = archived(kind, *datas)
        s3.put_object(Bucket=account.bucket, Key=key, Body=body)
    _, body = archived("rides", *rides)
    s3.put_object(Bucket=account.bucket, Key="late/outcomes/dt=2021-01-04/hh=08/0.ndjson.gz", Body=body)
    key, body = archived("rides", *rides[:2])  # a deletion of anna's ride stored it, and was interrupted
    s3.put_object(Bucket=account.bucket, Key=key, Body=body)
    parquet = io.BytesIO()
    pq.write_table(pa.table({"ride_id": ["anna", "bert"]}), parquet)
    s3.put_object(Bucket=account.bucket, Key="labelled/dt=2021-01-04/hh=08/rides.parquet", Body=parquet.getvalue())
    rejects = b"".join(encode_reject(one) + b"\n" for one in (reject_at(8), reject_at(9, b'{"ride_id": "anna"}')))
    s3.put_object(
        Bucket=account.bucket, Key=f"rejects/ride-events/{SHARD_ID}/{sequence_number(8)}.ndjson", Body=rejects
    )


@pytest.mark.parametrize("policy", COMMANDS)
def test_commands_do_their_work_under_their_policy_and_need_every_part_of_it(
    account: Account, operator: Operator, policy: str
) -> None:
    account.take_asked(policy)
    operator.run(policy, COMMANDS[policy])

    assert account.parts_without_use(policy) == []


@pytest.mark.parametrize("policy", COMMANDS)
def test_commands_end_with_an_error_where_a_part_of_their_policy_is_missing(
    account: Account, operator: Operator, policy: str
) -> None:
    role = account.role_without(policy, cuts(policy)[0])

    with pytest.raises(PermissionError):
        operator.run(role, COMMANDS[policy])


def test_calibrating_by_hand_needs_the_policies_that_read_rides_and_move_channels(
    account: Account, operator: Operator
) -> None:
    both = account.make_role("-".join(TOGETHER), account.documents(*TOGETHER))

    operator.run(both, COMMANDS_OF_BOTH)
    for policy in TOGETHER:
        with pytest.raises(PermissionError):
            operator.run(account.roles[policy], COMMANDS_OF_BOTH)


@pytest.mark.parametrize("environment", ["dev", "prod"])
def test_smoke_test_works_under_the_deploying_role_of_the_stacks_environment(
    account: Account, operator: Operator, environment: str
) -> None:
    # GIVEN the role that deploys to an environment, and a stack whose key has the tag environment=dev
    values = {**DEV, "StackName": account.stack.name, "EnvironmentName": environment}
    values |= {"AWS::Region": REGION, "AWS::AccountId": ACCOUNT_ID}
    policy = resolved(document(bootstrap_resources(**account.streams)["DeployRole"]), {**values, **account.streams})
    iam, role = account.aws.client("iam"), f"deploys-{environment}"
    iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
    iam.put_role_policy(RoleName=role, PolicyName="deploy", PolicyDocument=json.dumps(policy))

    with nullcontext() if environment == "dev" else pytest.raises(PermissionError, match="GetObject"):
        operator.run(role, SMOKE_TEST)


def test_every_command_that_uses_an_aws_is_run_under_a_policy() -> None:
    users = {name for name, options in commands(typer.main.get_command(app)) if AWS_OPTIONS & options}
    run = {command for listed in COMMANDS.values() for command in listed}

    assert users
    assert {name for name in users if not any(f"{command} ".startswith(f"{name} ") for command in run)} == set()
    assert COMMANDS.keys() == set(POLICIES)


def commands(command: Any, name: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield the name of each command and its options."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name, {option for parameter in command.params for option in parameter.opts}
        return
    for word, one in below.items():
        yield from commands(one, f"{name} {word}".strip())
