"""`ridecast models` beyond one process and one bucket: two who promote at once, S3 itself, the same bytes again."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.cli.app import main
from infra.local.aws import LocalAws
from infra.local.s3 import FolderS3
from lambda_function.core.bundle import MANIFEST
from tests.builders import FEBRUARY, JANUARY, SMALL_PARAMETERS, small_bundle, vouched
from training.data.load import synthetic_months
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channel_history import read_history
from training.registry.channels import move_channel, store_bundle
from training.registry.versions import put_artifact
from training.workflows.pipeline import train

FIRST, SECOND, THIRD = (small_bundle(seed).model_version for seed in (1, 2, 3))

# A process that promotes, and stops between its look at the channel and its move until it is told to go on.
_PROMOTER = """
import sys
from pathlib import Path
from infra.local.s3 import FolderS3
from training.errors import BucketError
from training.registry.channels import promote

class Waiting(FolderS3):
    def get_object(self, **request):
        answer = super().get_object(**request)
        if request["Key"] == "channels/stable.json":
            print("looked", flush=True)
            sys.stdin.readline()
        return answer

try:
    print("now", promote(Waiting(Path(sys.argv[1])), "b", "stable", sys.argv[2]).now.model_version)
except BucketError as error:
    print("told", error)
"""


def gate(s3: Any, bucket: str, version: str, against: str) -> None:
    verdict = {"model_version": version, "against": against, "channel": "stable", "passed": True}
    put_artifact(Bucket(s3, bucket), version, "gate-stable.json", json.dumps(verdict).encode())


def fill(s3: Any, bucket: str) -> None:
    """Stores three versions: the first serves, and the others may follow it."""
    for seed in (1, 2, 3):
        store_bundle(Bucket(s3, bucket), small_bundle(seed))
    move_channel(Bucket(s3, bucket), "stable", FIRST, small_bundle().manifest_sha256)
    gate(s3, bucket, SECOND, against=FIRST)
    gate(s3, bucket, THIRD, against=FIRST)


def test_of_two_processes_that_promote_at_once_one_wins_and_the_other_is_told_who(tmp_path: Path) -> None:
    # GIVEN two processes that have looked at the channel, and found that they may move it
    s3 = FolderS3(tmp_path)
    fill(s3, "b")
    processes = [
        subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-c", _PROMOTER, str(tmp_path), version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for version in (SECOND, THIRD)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "looked\n"
    # WHEN both go on at once
    for process in processes:
        assert process.stdin
        process.stdin.write("\n" * 10)
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].splitlines()[-1] for process in processes]
    # THEN one has moved it, and the other is told where to, and by whom
    (won,), (told,) = ([line for line in said if line.startswith(word)] for word in ("now", "told"))
    winner = won.removeprefix("now ")
    assert {winner} < {SECOND, THIRD}
    assert f"was moved to {winner} meanwhile by " in told
    history = read_history(Bucket(s3, "b"), "stable")
    assert [line.model_version for line in history] == [FIRST, winner]


class Cli:
    """`ridecast models` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object, code: int = 0) -> Any:
        """Runs a command and returns its JSON, or its sentence where it must fail."""
        self._monkeypatch.setattr(sys, "argv", ["ridecast", "models", *map(str, arguments), "--json"])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        written = self._capsys.readouterr()
        assert (ended.value.code or 0) == code, written.err
        return written.err if code == 2 else json.loads(written.out)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line."""
    return Cli(monkeypatch, capsys)


def test_channel_is_promoted_and_rolled_back_in_a_bucket_of_s3(
    cli: Cli, aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="rides")
    fill(s3, "rides")
    where = ("--bucket", "s3://rides", "--endpoint-url", aws.endpoint_url)
    assert len(cli("list", *where)["versions"]) == 3
    assert cli("promote", SECOND, *where)["model_version"] == SECOND
    assert f"for it was gated against {FIRST}" in cli("promote", THIRD, *where, code=2)
    assert cli("rollback", *where)["model_version"] == FIRST
    moves = cli("history", *where)["moves"]
    assert [(move["model_version"], move["why"]) for move in moves] == [
        (FIRST, "publish"),
        (SECOND, "promote"),
        (FIRST, "rollback"),
    ]


def test_bucket_that_is_not_there_is_one_sentence(cli: Cli, aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for command in (("list",), ("history",), ("promote", FIRST), ("rollback",)):
        said = cli(*command, "--bucket", "nowhere", "--endpoint-url", aws.endpoint_url, code=2)
        assert said.startswith("ridecast: s3://nowhere/")
        assert "NoSuchBucket" in said


@pytest.fixture(scope="module")
def trained() -> ExportedBundle:
    """A bundle trained on made-up months as runs make them up."""
    load = synthetic_months(2000)
    return train("green", load([JANUARY]), load([FEBRUARY]), SMALL_PARAMETERS).bundle


def test_version_is_trained_again_to_the_byte(cli: Cli, trained: ExportedBundle, tmp_path: Path) -> None:
    bucket = f"file:{tmp_path}"
    store_bundle(Bucket(FolderS3(tmp_path), bucket), trained)
    found = cli("reproduce", trained.model_version, "--bucket", bucket)
    assert (found["identical"], found["again_version"]) == (True, trained.model_version)
    assert found["differences"] == []


def test_what_differs_is_said_and_ends_with_1(cli: Cli, trained: ExportedBundle, tmp_path: Path) -> None:
    # GIVEN a version whose manifest says that other software made it
    manifest = trained.model.manifest
    files = vouched(trained.files, software={**manifest.software, "numpy": "1.0"})
    folder = tmp_path / "models" / trained.model_version
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    # WHEN it is trained again
    found = cli("reproduce", trained.model_version, "--bucket", f"file:{tmp_path}", code=1)
    # THEN that is what differs, and nothing else
    assert found["identical"] is False
    assert [one["fact"] for one in found["differences"]] == ["software.numpy"]
    assert found["differences"][0]["stored"] == "1.0"
    assert sorted(files) == sorted([*manifest.files, MANIFEST])
