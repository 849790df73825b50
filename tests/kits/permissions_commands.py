"""The commands that talk to an AWS, by the policy of the stack that each needs, and `ridecast` run under a role."""

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.cli.app import main
from infra.local.event_source.mapping import EventSourceMapping, polling
from lambda_function.aws.publisher import Publisher
from lambda_function.core.processor import process
from lambda_function.core.records import decode_records
from tests.kits.permissions import FIRST, Account

COMMANDS = {
    "ModelPublisherPolicy": (
        "models list --stack {stack}",
        "models sign {third} --bucket {bucket}",
        "models promote {second} --bucket {bucket}",
        "models rollback {first} --bucket {bucket}",
        "models history --bucket {bucket}",
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
        "models check --bucket {bucket}",
        "serve --port 0 --bucket {bucket}",
    ),
    "OperatorPolicy": (
        "smoke --stack {stack} --rides 3 --patience-s 20",
        "rides send --stream ride-events",
        "rides tail --stream ride-predictions --limit 1 --idle-s 0",
        "records list --bucket {bucket}",
        "records show {reject} --bucket {bucket}",
        "records redrive --dry-run --bucket {bucket}",
        "records redrive --bucket {bucket}",
        "records list --kind failure --bucket {bucket}",
        "records show {failure} --kind failure --bucket {bucket}",
        "records redrive --kind failure --bucket {bucket}",
        "aws sqs purge-queue --queue-url {queue}",
    ),
    "DoctorPolicy": ("doctor --stack {stack} --template {template}",),
}
"""Commands as a person types them, with names in braces, and AWS's own as in the runbook. Those that need most
permissions come first, so that a missing permission is found before the slow commands run."""

_STOP_WITHIN_S = 30


class Operator:
    """`ridecast` under a role, with every policy enforced.

    Args:
        account: Where it works.
        monkeypatch: Gives it its words and its credentials.
        capsys: Captures its output.
        names: The values for the braces in COMMANDS.
    """

    def __init__(
        self,
        account: Account,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        names: Mapping[str, object],
    ) -> None:
        self._account, self._monkeypatch, self._capsys, self._names = account, monkeypatch, capsys, names
        self._functions = account.clients(account.roles["PredictorRole"], "kinesis", "s3")

    def run(self, role_name: str, commands: tuple[str, ...]) -> None:
        """Runs commands; raises PermissionError with the first denied call."""
        for name, value in self._account.variables(role_name).items():
            self._monkeypatch.setenv(name, value)
        with self._account.aws.enforcing():
            for command in commands:
                self._run(shlex.split(command.format_map(self._names)))

    def _run(self, words: list[str]) -> None:
        code, said = self._end_of(words)
        if "AccessDenied" in said:
            raise PermissionError(said)
        # A judgement ends with 0 or 1: the gate measures time, which depends on the machine's load.
        is_judgement = words[0] == "doctor" or "--judge-only" in words
        assert not code or (code == 1 and is_judgement), (words, said)

    def _end_of(self, words: list[str]) -> tuple[object, str]:
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

    def _call(self, words: list[str]) -> tuple[object, str]:
        self._monkeypatch.setattr(sys, "argv", ["ridecast", *words, "--json"])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        return ended.value.code, said.out + said.err


def call_aws(service: str, operation: str, option: str, value: str) -> tuple[int, str]:
    """Does what AWS's own command line does with these words."""
    parameter = "".join(map(str.capitalize, option.strip("-").split("-")))
    session: Any = boto3.Session()  # boto3's own would keep the credentials of who came before
    try:
        getattr(session.client(service), operation.replace("-", "_"))(**{parameter: value})
    except ClientError as error:
        return 1, str(error)
    return 0, ""


def serve(words: list[str]) -> tuple[int, str]:
    """Runs `ridecast serve` in its own process, until it serves a model or reports what is missing."""
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
def function_running(account: Account, mine: Mapping[str, Any]) -> Iterator[None]:
    """Has rides predicted while the block lasts, by the model itself: what the function may do is another test's.

    Args:
        account: Where the streams are.
        mine: The function's clients.
    """
    output = Publisher(mine["kinesis"], "ride-predictions")

    def predict(event: dict[str, Any]) -> object:
        output.publish(process(decode_records(event), FIRST.model).entries, lambda: 10.0)
        return {"batchItemFailures": []}

    mapping = EventSourceMapping(account.mapping, mine["kinesis"], predict, s3=mine["s3"])
    with polling(mapping) as polls:
        yield
    polls.result()
