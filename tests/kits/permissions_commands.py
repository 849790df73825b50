"""Commands that use an AWS, by the policy of the stack that each needs, and `ridecast` under a role."""

import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.local.event_source.mapping import EventSourceMapping, polling
from infra.local.runtime.invocable import invocable
from lambda_function.aws.publisher import Publisher
from lambda_function.core.processor import process
from lambda_function.core.records import decode_records
from tests.fakes_lambda import EchoFunction
from tests.kits.cli import Cli
from tests.kits.permissions import SERVED, Account

COMMANDS = {
    "ModelPublisherPolicy": (
        "models list --stack {stack}",
        "models sign {third} --bucket {bucket}",
        "models promote {second} --bucket {bucket}",
        "models rollback {first} --bucket {bucket}",
        "models restore --channel lost --bucket {bucket}",
        "models history --bucket {bucket}",
        "models calibrate --off --bucket {bucket}",
        "models calibrate --resume --bucket {bucket}",
        "models show stable --bucket {bucket}",
        "models compare {first} {second} --bucket {bucket}",
        "models release {second} --judge-only --channel trial --test 2021-03 --bucket {bucket}",
        "models release {bundles}/{third} --channel candidate --force --test 2021-03 --bucket {bucket}",
        (
            "train --synthetic 500 --allow rows --set max_iter=5 --test 2021-03 --no-report --no-track"
            " --channel candidate --force --output {bundles} --bucket {bucket}"
        ),
        "models reproduce candidate --bucket {bucket}",
        "report candidate --bundles {bundles} --bucket {bucket}",
        "models sync --all --bundles {bundles} --bucket {bucket}",
        "experiments start --candidate {second} --name trial --bucket {bucket}",
        "experiments status trial --bucket {bucket}",
        "experiments stop trial --bucket {bucket}",
        "models check --bucket {bucket}",
        "serve --port 0 --bucket {bucket}",
        "invoke {event} --bucket {bucket}",
    ),
    "OperatorPolicy": (
        "smoke --stack {stack} --rides 3 --patience-s 60",
        "rides send --stream ride-events",
        "outcomes send --stream ride-outcomes",
        "rides tail --stream ride-predictions --limit 1 --idle-s 0",
        "rides replay --from 1h --stack {stack}",
        "records redrive --dry-run --stack {stack}",
        "records list --stack {stack}",
        "records show {reject} --bucket {bucket}",
        "records redrive --stack {stack}",
        "records list --kind failure --bucket {bucket}",
        "records show {failure} --kind failure --bucket {bucket}",
        "records redrive --kind failure --function {alias} --archiver {archiver} --bucket {bucket}",
        "monitor acknowledge data --stack {stack}",
        "monitor acknowledge data --json --stack {stack}",  # a second person gets what the first has stored
        "aws cloudwatch set-alarm-state --alarm-name {unresolved} --state-value OK --state-reason redriven",
        "aws sqs purge-queue --queue-url {queue}",
        "loop start --stack {stack}",
        "loop status --stack {stack}",
        "loop approve {run} --stack {stack}",
        "loop stop {run} --stack {stack}",
        "aws sqs purge-queue --queue-url {loop_queue}",
    ),
    "JudgePolicy": (
        "outcomes join --from 2021-01-05T08 --to 2021-01-05T09 --stack {stack}",
        "outcomes audit --from 2021-01-05T08 --to 2021-01-05T09 --show conflicting --stack {stack}",
    ),
    "ForgetPolicy": ("outcomes forget anna --yes --stack {stack}",),
    "DoctorPolicy": (
        "doctor --stack {stack} --template {template}",
        "monitor status --stack {stack}",
        "monitor report --out monitor.html --stack {stack}",
        "experiments status --stack {stack}",
        "loop status {run} --stack {stack}",
        "loop status --stack {stack}",
    ),
}
"""Commands as a person types them, with names in braces, and AWS's own from the runbook, in an order that works."""

TOGETHER = ("ModelPublisherPolicy", "JudgePolicy")
"""Two policies that a person has who calibrates by hand: it reads rides, and moves a channel."""

COMMANDS_OF_BOTH = ("models calibrate --from {day} --to {day} --resume --bucket {bucket}",)

_STOP_WITHIN_S = 60


class Operator:
    """`ridecast` under a role, with every policy enforced. `names` are the values for the braces in COMMANDS."""

    def __init__(
        self,
        account: Account,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        names: Mapping[str, object],
    ) -> None:
        self._account, self._monkeypatch, self._names = account, monkeypatch, names
        self._cli = Cli(monkeypatch, capsys, "--json")
        self._functions = account.clients(account.roles["PredictorRole"], "kinesis", "s3")

    def run(self, role_name: str, commands: Iterable[str]) -> None:
        """Run commands; raise PermissionError at the first denied call."""
        for name, value in self._account.variables(role_name).items():
            self._monkeypatch.setenv(name, value)
        account = self._account
        with (
            invocable(account.aws, account.function_arn, EchoFunction()),
            invocable(account.aws, account.archiver_arn, EchoFunction()),
            account.aws.enforcing(),
        ):
            for command in commands:
                self._run(shlex.split(command.format_map(self._names)))

    def _run(self, words: list[str]) -> None:
        code, said = self._end_of(words)
        if "AccessDenied" in said:
            raise PermissionError(said)
        # A check ends with 0 or 1: the gate measures time, which depends on the machine's load.
        is_check = words[0] == "doctor" or "--judge-only" in words
        is_check |= words[:2] in (["outcomes", "audit"], ["monitor", "status"])
        assert not code or (code == 1 and is_check), (words, said)

    def _end_of(self, words: list[str]) -> tuple[int, str]:
        match words[0]:
            case "aws":
                return call_aws(*words[1:])
            case "serve":
                return serve(words)
            case "smoke":
                with function_running(self._account, self._functions):
                    return self._call(words)
            case _:
                return self._call(words)

    def _call(self, words: list[str]) -> tuple[int, str]:
        code, out, err = self._cli.ended(*words)
        return code, out + err


def call_aws(service: str, operation: str, *options: str) -> tuple[int, str]:
    """Do what AWS's own command line does with these words; return the exit code and the error."""
    names = ("".join(map(str.capitalize, name.strip("-").split("-"))) for name in options[::2])
    parameters = dict(zip(names, options[1::2], strict=True))
    session: Any = boto3.Session()  # boto3's default session would keep earlier credentials
    try:
        getattr(session.client(service), operation.replace("-", "_"))(**parameters)
    except ClientError as error:
        return 1, str(error)
    return 0, ""


def serve(words: list[str]) -> tuple[int, str]:
    """Run `ridecast serve` in its own process until its first message; return the exit code and the message."""
    command = [sys.executable, "-c", "from infra.cli.app import main; main()", *words]
    with subprocess.Popen(  # noqa: S603 - our own code, words from this file
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr
        said = process.stderr.readline()
        process.terminate()
        process.wait(_STOP_WITHIN_S)
    return (0, said) if ", model " in said else (1, said)


@contextmanager
def function_running(account: Account, clients: Mapping[str, Any]) -> Iterator[None]:
    """Predict rides while the block lasts, with the function's clients; other tests are about its permissions."""
    output = Publisher(clients["kinesis"], "ride-predictions")

    def predict(event: dict[str, Any]) -> object:
        output.publish(process(decode_records(event), SERVED).entries, lambda: 10.0)
        return {"batchItemFailures": []}

    mapping = EventSourceMapping(account.mapping, clients["kinesis"], predict, s3=clients["s3"])
    with polling(mapping) as polls:
        yield
    polls.result()
