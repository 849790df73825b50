"""`--local`: commands use the stack that `ridecast up` runs, and nothing of the user's AWS configuration."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.cli.options import Aws
from infra.local.up.state import RunningStack, write_running
from tests.kits.cli import Cli
from training.errors import UserError


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(monkeypatch, capsys)


@pytest.fixture
def running(cli: Cli, tmp_path: Path) -> Iterator[RunningStack]:
    """A local stack that runs, as far as its file and its port say."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stack = RunningStack(
            pid=os.getpid(),
            endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            api_url="http://127.0.0.1:8080",
            stack="ridecast",
            bucket="ridecast-bucket",
            input_stream="ride-events",
            output_stream="ride-predictions",
            outcomes_stream="ride-outcomes",
            started_at="2026-11-30T00:00:00+00:00",
        )
        folder = tmp_path / "build/local"
        folder.mkdir(parents=True)
        write_running(folder, stack)
        yield stack


COMMANDS = (
    "doctor", "smoke", "rides send", "rides tail", "records list", "outcomes send", "outcomes audit", "models list",
    "monitor status", "experiments status", "loop status", "train", "report stable", "serve",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_command_says_how_to_start_the_local_stack(cli: Cli, command: str) -> None:
    assert cli.refuses(*command.split(), "--local") == "ridecast: no local stack runs: start one with `ridecast up`"


@pytest.mark.parametrize("option", ["--stack other", "--endpoint-url http://x", "--profile me", "--region eu-west-1"])
def test_local_stack_is_refused_beside_another_place(cli: Cli, running: RunningStack, option: str) -> None:
    sentence = cli.refuses("doctor", "--local", *option.split())
    assert f"'{option.split(maxsplit=1)[0]}': cannot be used with --local" in sentence


def test_client_of_the_local_stack_ignores_the_users_configuration(
    running: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile work]\nregion = eu-west-1\nendpoint_url = https://example.com\n")
    users = {
        "AWS_PROFILE": "work",
        "AWS_CONFIG_FILE": str(config),
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_KINESIS": "https://example.com",
        "HTTP_PROXY": "http://example.com",
    }
    for name, value in users.items():
        monkeypatch.setenv(name, value)

    aws = Aws(local=True).found()
    client = aws.client("kinesis")

    credentials = client._request_signer._credentials
    assert (aws.stack, aws.deployed) == ("ridecast", None)
    assert (client.meta.endpoint_url, client.meta.region_name) == (running.endpoint_url, "us-east-1")
    assert (credentials.access_key, credentials.token) == ("local", None)
    assert client.meta.config.proxies == {}


def test_place_that_no_option_and_no_configuration_names_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(UserError, match=r"no AWS region is named: give --local .*, or give --region or --profile"):
        Aws().client("kinesis")

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match=r"credentials are not complete .*: give --local"):
        Aws().client("kinesis")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(UserError, match=r"there are no AWS credentials: give --local .*--profile"):
        Aws().client("kinesis")
