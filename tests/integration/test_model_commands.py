"""`ridecast models` in two processes at once, with a bucket of S3, and training again to the same bytes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.local.aws import LocalAws
from lambda_function.core.bundle import MANIFEST
from tests.builders import FEBRUARY, JANUARY, SMALL_PARAMETERS, small_bundle, vouched
from tests.builders_channels import gate
from tests.kits.cli import Cli
from training.data.load import synthetic_months
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channel_history import read_history
from training.registry.channels import move_channel, store_bundle
from training.registry.folder_s3 import FolderS3
from training.workflows.pipeline import train

FIRST, SECOND, THIRD = (small_bundle(seed).model_version for seed in (1, 2, 3))

# A process that promotes. Between reading the channel and moving it, it waits for a line on standard input.
_PROMOTER = """
import sys
from pathlib import Path
from training.registry.folder_s3 import FolderS3
from training.errors import BucketError
from training.registry.bucket import Bucket
from training.registry.channels import promote

class Waiting(FolderS3):
    def get_object(self, **request):
        answer = super().get_object(**request)
        if request["Key"] == "channels/stable.json":
            print("read", flush=True)
            sys.stdin.readline()
        return answer

try:
    print("now", promote(Bucket(Waiting(Path(sys.argv[1])), "b"), "stable", sys.argv[2]).now.model_version)
except BucketError as error:
    print("refused", error)
"""


def fill(s3: Any, bucket: str) -> None:
    """Store three versions: `stable` points at the first, and the others passed the gate against it."""
    for seed in (1, 2, 3):
        store_bundle(Bucket(s3, bucket), small_bundle(seed))
    move_channel(Bucket(s3, bucket), "stable", FIRST, small_bundle().manifest_sha256)
    gate(Bucket(s3, bucket), 2, against=1)
    gate(Bucket(s3, bucket), 3, against=1)


def test_of_two_processes_that_promote_at_once_one_moves_and_the_other_is_refused(tmp_path: Path) -> None:
    # GIVEN two processes that have read the channel and may move it
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
        assert process.stdout.readline() == "read\n"
    # WHEN both continue
    for process in processes:
        assert process.stdin
        process.stdin.write("\n" * 10)
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].splitlines()[-1] for process in processes]
    # THEN one has moved it, and the other's error has the version and the person
    (won,), (refused,) = ([line for line in said if line.startswith(word)] for word in ("now", "refused"))
    winner = won.removeprefix("now ")
    assert {winner} < {SECOND, THIRD}
    assert f"was moved to {winner} meanwhile by " in refused
    history = read_history(Bucket(s3, "b"), "stable")
    assert [line.model_version for line in history] == [FIRST, winner]


def test_channel_is_promoted_and_rolled_back_in_a_bucket_of_s3(cli: Cli, aws: LocalAws) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="rides")
    fill(s3, "rides")
    where = ("--bucket", "s3://rides")
    assert len(cli("models", "list", *where)["versions"]) == 3
    assert cli("models", "promote", SECOND, *where)["model_version"] == SECOND
    assert f"it was gated against {FIRST}" in cli.refuses("models", "promote", THIRD, *where)
    assert cli("models", "rollback", FIRST, *where)["model_version"] == FIRST
    assert [move["why"] for move in cli("models", "history", *where)["moves"]] == ["publish", "promote", "rollback"]


def test_missing_bucket_is_one_sentence(cli: Cli) -> None:
    for words in (("list",), ("history",), ("promote", FIRST), ("rollback", FIRST)):
        sentence = cli.refuses("models", *words, "--bucket", "nowhere")
        assert sentence.startswith("ridecast: s3://nowhere/")
        assert "NoSuchBucket" in sentence


@pytest.fixture(scope="module")
def trained() -> ExportedBundle:
    """A bundle trained on generated months."""
    load = synthetic_months(2000)
    return train("green", load([JANUARY]), load([FEBRUARY]), SMALL_PARAMETERS).bundle


def test_version_is_trained_again_to_the_byte(cli: Cli, trained: ExportedBundle, tmp_path: Path) -> None:
    bucket = f"file:{tmp_path}"
    store_bundle(Bucket(FolderS3(tmp_path), bucket), trained)
    found = cli("models", "reproduce", trained.model_version, "--bucket", bucket)
    assert (found["identical"], found["again_version"]) == (True, trained.model_version)
    assert found["differences"] == []


def test_difference_is_listed_and_ends_with_1(cli: Cli, trained: ExportedBundle, tmp_path: Path) -> None:
    # GIVEN a version whose manifest names other software
    manifest = trained.model.manifest
    files = vouched(trained.files, software={**manifest.software, "numpy": "1.0"})
    folder = tmp_path / "models" / trained.model_version
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    # WHEN it is trained again
    found = cli("models", "reproduce", trained.model_version, "--bucket", f"file:{tmp_path}", code=1)
    # THEN only the software differs
    assert found["identical"] is False
    assert [one["fact"] for one in found["differences"]] == ["software.numpy"]
    assert found["differences"][0]["stored"] == "1.0"
    assert sorted(files) == sorted([*manifest.files, MANIFEST])
