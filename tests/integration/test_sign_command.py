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
from lambda_function.aws.model_store import ModelStore
from tests.builders import small_bundle
from training.errors import BucketError
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.registry.folder_s3 import FolderS3
from training.registry.versions import read_channels

FIRST, SECOND = (small_bundle(seed).model_version for seed in (1, 2))


@pytest.fixture
def key() -> Iterator[str]:
    """The ARN of a signing key."""
    with mock_aws():
        yield boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]


@pytest.fixture
def s3(tmp_path: Path) -> Any:
    """A folder as a bucket with two versions: `stable` and `candidate` have held the second, and hold the first."""
    s3: Any = FolderS3(tmp_path)
    for bundle in (small_bundle(2), small_bundle(1)):
        store_bundle(Bucket(s3, "b"), bundle)
        for channel in ("stable", "candidate"):
            move_channel(Bucket(s3, "b"), channel, bundle.model_version, bundle.manifest_sha256)
    return s3


def ridecast(folder: Path, *words: str, key: str | None = None) -> Any:
    """Run a command of `ridecast models` on the folder and return its result."""
    command = ["models", *words, "--bucket", f"file:{folder}", "--json"]
    return CliRunner().invoke(app, command, env={"RIDECAST_SIGNING_KEY": key})


def test_stored_version_is_signed_so_that_a_function_which_trusts_the_key_serves_it(
    tmp_path: Path, s3: Any, key: str
) -> None:
    for is_new in (True, False):
        ended = ridecast(tmp_path, "sign", "stable", "--signing-key", key)
        assert ended.exit_code == 0
        said = json.loads(ended.stdout)
        assert said == {"model_version": FIRST, "signing_key": key, "signed_now": is_new}
    assert ModelStore(s3, "b", "stable", 60.0, signing_key=key).refresh().model.model_version == FIRST


@pytest.mark.parametrize(
    "words", [("promote", SECOND), ("promote", SECOND, "--channel", "candidate", "--force"), ("rollback", SECOND)]
)
def test_channel_is_moved_to_a_version_that_the_teams_key_has_signed_and_to_no_other(
    tmp_path: Path, s3: Any, key: str, words: tuple[str, ...]
) -> None:
    # GIVEN a key in the environment, and a version that was stored without a signature
    before = read_channels(Bucket(s3, "b"))
    # WHEN a channel is moved to it, THEN the error has the command that signs it
    refused = ridecast(tmp_path, *words, key=key).exception
    assert isinstance(refused, BucketError)
    assert read_channels(Bucket(s3, "b")) == before
    sign = shlex.split(str(refused).partition("`")[2].removesuffix("`"))
    assert sign[:2] == ["ridecast", "models"]
    # AND after that command the channel moves
    assert ridecast(tmp_path, *sign[2:-2]).exit_code == 0
    moved = ridecast(tmp_path, *words, key=key)
    assert json.loads(moved.stdout)["model_version"] == SECOND


def test_channel_is_moved_to_an_unsigned_version_where_there_is_no_key(tmp_path: Path, s3: Any) -> None:
    assert ridecast(tmp_path, "rollback", SECOND).exit_code == 0
    assert read_channels(Bucket(s3, "b"))["stable"].model_version == SECOND
