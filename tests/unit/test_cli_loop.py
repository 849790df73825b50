"""`ridecast loop` on a bucket in a folder; the stack's part with a recorded Lambda client."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.builders_loop import FakeWorkers, World, collected, loop_bucket, trained, versions
from tests.fakes_lambda import FakeLambda
from tests.kits.cli import Cli
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import this_mover
from training.registry.folder_s3 import FolderS3
from training.workflows.loop.options import LoopOptions

CHAMPION, CANDIDATE = versions()
ALIAS = "arn:aws:lambda:eu-central-1:123456789012:function:ridecast-Looper:live"


class Loop(Cli):
    """`ridecast loop` on a folder with a champion and labelled days, in a folder of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        super().__init__(monkeypatch, capsys, "--bucket", f"file:{folder / 'bucket'}")
        self.bucket = Bucket(FolderS3(folder / "bucket"), "folder")
        self.folder = folder
        monkeypatch.chdir(folder)

    def ended(self, *words: object) -> tuple[int, str, str]:
        """Run a command of the group."""
        return super().ended("loop", *words)

    def world(self, **options: object) -> World:
        """Return the loop's world on this bucket."""
        for key, body in loop_bucket().s3.objects.items():
            path = self.folder / "bucket" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        world = World(bucket=self.bucket, **options)  # type: ignore[arg-type]
        self._monkeypatch.setattr("infra.cli.loop._now", world.clock)
        return world


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Loop:
    return Loop(monkeypatch, capsys, tmp_path)


def test_status_without_runs_names_the_next_step(cli: Loop) -> None:
    assert "`ridecast loop start`" in cli.run("status")
    assert cli("status") == {"runs": [], "lease": None}


def test_status_shows_runs_their_reasons_and_the_lease(cli: Loop) -> None:
    world = cli.world()
    assert world.resume() is None
    shown = " ".join(cli.run("status").split())
    assert "r1 2026-11-29 20:00" in shown
    assert "waiting the next look at the experiment" in shown
    steps = [step["name"] for step in cli("status", "r1")["steps"]]
    assert steps == ["decide", "collect", "collected", "train", "trained", "gate", "candidate"]
    assert f"passed the gate against {CHAMPION}" in " ".join(cli.run("status", "r1").split())


def test_refusal_is_shown_with_its_reason_and_exits_with_1(cli: Loop) -> None:
    started = cli("start", code=1)
    assert started["end"]["outcome"] == "refused"
    assert started["end"]["text"] in " ".join(cli.run("status").split())


def test_start_runs_here_until_the_run_waits_and_goes_on_with_it_at_the_next_call(
    cli: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.world()
    monkeypatch.setattr("infra.local.loop.collect", lambda _bucket, request, _step: collected(request))
    monkeypatch.setattr("infra.local.loop.retrain", lambda *_: trained())
    begun = cli("start", "--reason", "new zones")
    assert (begun["reason"], begun["end"], begun["waiting"]["what"]) == (
        "new zones",
        None,
        "the next look at the experiment",
    )
    assert "again from" in cli.run("start")
    assert cli("start")["run_id"] == begun["run_id"]
    assert len(cli("status")["runs"]) == 1


def test_stop_ends_a_run_and_frees_the_lease(cli: Loop) -> None:
    world = cli.world()
    assert world.resume() is None
    assert cli("stop", "r1", "--reason", "new prices")["end"]["outcome"] == "stopped"
    assert cli("status")["lease"] is None
    assert world.run()["outcome"] == "stopped"
    assert read_channel(cli.bucket, "stable").model_version == CHAMPION


def test_unknown_runs_and_unasked_questions_are_refused_with_the_next_step(cli: Loop) -> None:
    assert "there is no run r9" in cli.refuses("status", "r9")
    assert "there is no run r9" in cli.refuses("stop", "r9")
    world = cli.world(workers=FakeWorkers())
    assert world.resume() is None
    assert "run r1 does not wait for approval: `ridecast loop status r1`" in cli.refuses("approve", "r1")


def test_person_is_named_in_the_record(cli: Loop) -> None:
    assert cli.world().resume() is None
    assert this_mover().name in cli("stop", "r1")["end"]["text"]


class StackClient:
    """CloudFormation and Lambda of a stack; it records what Lambda was asked for.

    Args:
        outputs: The stack's outputs.
        error: Lambda raises it.
    """

    def __init__(self, outputs: dict[str, str], error: Exception | None = None, **parameters: str) -> None:
        self.calls: list[dict[str, Any]] = []
        self._outputs, self._parameters, self._error = outputs, parameters, error

    meta = FakeLambda.meta

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        """Describe the stack."""
        outputs = [{"OutputKey": key, "OutputValue": value} for key, value in self._outputs.items()]
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in self._parameters.items()]
        stack = {"StackStatus": "CREATE_COMPLETE", "Outputs": outputs, "Parameters": given}
        return {"Stacks": [{"StackName": StackName, **stack}]}

    def invoke(self, **request: Any) -> None:
        """Record an invocation."""
        self._called(request)

    def send_durable_execution_callback_success(self, **request: Any) -> None:
        """Record an answer."""
        self._called(request)

    def _called(self, request: dict[str, Any]) -> None:
        self.calls.append(request)
        if self._error:
            raise self._error


def stack(monkeypatch: pytest.MonkeyPatch, client: StackClient) -> StackClient:
    """Let boto3 give this client for every service."""
    monkeypatch.setattr(boto3.Session, "client", lambda *_, **__: client)
    return client


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Call")


def test_start_on_a_stack_invokes_the_alias_by_the_runs_id(cli: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    client = stack(monkeypatch, StackClient({"LooperAliasArn": ALIAS}))
    started = cli("start", "--reason", "new zones", "--stack", "rc")
    (call,) = client.calls
    run_id = started["run_id"]
    assert (call["FunctionName"], call["InvocationType"]) == (ALIAS, "Event")
    assert call["DurableExecutionName"] == run_id
    assert json.loads(call["Payload"]) == {"trigger": "manual", "id": run_id, "reason": "new zones"}
    assert started["next"] == f"follow it with `ridecast loop status {run_id} --stack rc`"
    assert not (cli.folder / "build").exists()


def test_stack_without_a_loop_is_refused_with_the_parameter_that_turns_it_on(
    cli: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = stack(monkeypatch, StackClient({"BucketName": "b"}))
    assert "stack rc has no loop: deploy it with LoopMode=on" in cli.refuses("start", "--stack", "rc")
    assert client.calls == []


def test_options_that_the_stacks_function_would_not_see_are_refused(cli: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    client = stack(monkeypatch, StackClient({"LooperAliasArn": ALIAS}, LoopApproval="auto", ModelChannel="blue"))
    assert "deploy the stack with LoopApproval=manual" in cli.refuses("start", "--ask", "--stack", "rc")
    assert "keeps the channel blue" in cli.refuses("start", "--channel", "green", "--stack", "rc")
    assert client.calls == []


def waiting_for_approval(cli: Loop) -> World:
    """A run that some other process runs, and that asks for approval."""
    world = cli.world(options=LoopOptions(approval="manual"))
    while world.resume() is None and not (world.record.waiting and world.record.waiting.callback_id):
        world.pass_time()
    return world


def test_approval_on_a_stack_answers_the_runs_callback(cli: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    world = waiting_for_approval(cli)
    assert world.record.waiting
    client = stack(monkeypatch, StackClient({"LooperAliasArn": ALIAS}))
    for is_approved, decline in ((True, ()), (False, ("--decline",))):
        answered = cli("approve", "r1", "--reason", "looked", "--stack", "rc", *decline)
        assert client.calls[-1]["CallbackId"] == world.record.waiting.callback_id
        answer = {"approved": is_approved, "by": this_mover().name, "reason": "looked"}
        assert json.loads(client.calls[-1]["Result"]) == answer
        assert answered.items() >= {"candidate": CANDIDATE, **answer}.items()


def test_approval_that_reaches_no_run_is_refused_with_the_next_step(cli: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting_for_approval(cli)
    stack(monkeypatch, StackClient({}, refused("CallbackTimeoutException")))
    assert "run r1 no longer waits for approval" in cli.refuses("approve", "r1", "--stack", "rc")
    stack(monkeypatch, StackClient({}, refused("ServiceException")))
    said = cli.refuses("approve", "r1", "--stack", "rc")
    assert "Lambda did not take the answer" in said
    assert said.endswith("try again")
    client = stack(monkeypatch, StackClient({}))
    assert "call the command in the project, and on the machine, in which the run was started" in cli.refuses(
        "approve", "r1"
    )
    assert client.calls == []


def test_run_that_began_with_ask_asks_although_a_later_call_does_not_say_so(cli: Loop) -> None:
    world = cli.world(options=LoopOptions(approval="manual"))
    assert world.resume() is None
    world.options = LoopOptions()
    for _ in range(15):
        world.pass_time()
        if world.resume() or (world.record.waiting and world.record.waiting.callback_id):
            break
    assert world.record.waiting, "it was promoted without approval"
    assert world.record.waiting.what.startswith(f"approval of {CANDIDATE}")
    assert read_channel(cli.bucket, "stable").model_version == CHAMPION
