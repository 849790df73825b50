"""`ridecast models sign`: a version from before there was a key, on moto's KMS."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from infra.cli import app
from infra.local.folder_s3 import FolderS3
from lambda_function.model_store import ModelStore
from tests.builders import small_bundle
from training.publish import move_channel, store_bundle


def test_stored_version_is_signed_so_that_a_function_which_trusts_the_key_serves_it(tmp_path: Path) -> None:
    with mock_aws():
        bundle = small_bundle()
        s3: Any = FolderS3(tmp_path)
        store_bundle(s3, "b", bundle)
        move_channel(s3, "b", "stable", bundle.model_version, bundle.manifest_sha256)
        key = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
        command = ["models", "sign", "stable", "--signing-key", key, "--bucket", f"file:{tmp_path}", "--json"]
        for is_new in (True, False):
            ended = CliRunner().invoke(app, command, catch_exceptions=False)
            assert ended.exit_code == 0
            said = json.loads(ended.stdout.splitlines()[-1])
            assert said == {"model_version": bundle.model_version, "signing_key": key, "signed_now": is_new}
        assert (
            ModelStore(s3, "b", "stable", 60.0, signing_key=key).refresh().model.model_version == bundle.model_version
        )


@pytest.mark.parametrize("command", [["models", "publish"], ["models", "sign"], ["train"]])
def test_commands_that_store_take_a_signing_key(command: list[str]) -> None:
    assert "--signing-key" in CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).stdout
