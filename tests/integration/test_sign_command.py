"""Signing and moving to signed versions only, from the command line and on moto's KMS."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from infra.cli.app import app
from infra.local.s3 import FolderS3
from lambda_function.aws.model_store import ModelStore
from tests.builders import small_bundle
from training.errors import BucketError
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.registry.versions import read_channels

FIRST, SECOND = (small_bundle(seed).model_version for seed in (1, 2))


@pytest.fixture
def key() -> Iterator[str]:
    """An account with a key that signs: its ARN."""
    with mock_aws():
        yield boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]


@pytest.fixture
def s3(tmp_path: Path) -> Any:
    """A folder for a bucket, with two versions; `stable` and `candidate` have held the second, and hold the first."""
    s3: Any = FolderS3(tmp_path)
    for bundle in (small_bundle(2), small_bundle(1)):
        store_bundle(Bucket(s3, "b"), bundle)
        for channel in ("stable", "candidate"):
            move_channel(Bucket(s3, "b"), channel, bundle.model_version, bundle.manifest_sha256)
    return s3


def ridecast(folder: Path, *words: str, key: str | None = None) -> Any:
    """Runs a command of `ridecast models` on the folder: what it ended as."""
    command = ["models", *words, "--bucket", f"file:{folder}", "--json"]
    return CliRunner().invoke(app, command, env={"RIDECAST_SIGNING_KEY": key})


def test_stored_version_is_signed_so_that_a_function_which_trusts_the_key_serves_it(
    tmp_path: Path, s3: Any, key: str
) -> None:
    for is_new in (True, False):
        ended = ridecast(tmp_path, "sign", "stable", "--signing-key", key)
        assert ended.exit_code == 0
        said = json.loads(ended.stdout.splitlines()[-1])
        assert said == {"model_version": FIRST, "signing_key": key, "signed_now": is_new}
    assert ModelStore(s3, "b", "stable", 60.0, signing_key=key).refresh().model.model_version == FIRST


@pytest.mark.parametrize(
    "words", [("promote", SECOND), ("promote", SECOND, "--channel", "candidate", "--force"), ("rollback",)]
)
def test_channel_is_moved_to_a_version_that_the_teams_key_has_signed_and_to_no_other(
    tmp_path: Path, s3: Any, key: str, words: tuple[str, ...]
) -> None:
    # GIVEN a key that the team has put into its environment, and a version from before there was one
    before = read_channels(Bucket(s3, "b"))
    # WHEN a channel is to be moved there, THEN the sentence says how to sign it
    refused = ridecast(tmp_path, *words, key=key).exception
    assert isinstance(refused, BucketError)
    assert read_channels(Bucket(s3, "b")) == before
    sign = shlex.split(str(refused).partition("`")[2].removesuffix("`"))
    assert sign[:2] == ["ridecast", "models"]
    # AND once that is done the channel moves
    assert ridecast(tmp_path, *sign[2:-2]).exit_code == 0
    moved = ridecast(tmp_path, *words, key=key)
    assert json.loads(moved.stdout.splitlines()[-1])["model_version"] == SECOND


def test_channel_is_moved_to_an_unsigned_version_where_there_is_no_key(tmp_path: Path, s3: Any) -> None:
    assert ridecast(tmp_path, "rollback").exit_code == 0
    assert read_channels(Bucket(s3, "b"))["stable"].model_version == SECOND


@pytest.mark.parametrize(
    "command", [["models", "publish"], ["models", "sign"], ["models", "promote"], ["models", "rollback"], ["train"]]
)
def test_commands_that_store_or_move_take_a_signing_key(command: list[str]) -> None:
    assert "--signing-key" in CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).stdout
