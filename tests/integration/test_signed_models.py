"""Signed bundles with the clients that the function and training use, on moto's S3 and KMS."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from moto import mock_aws

from lambda_function.aws.clients import make_clients, make_kms_client
from lambda_function.aws.model_store import ModelStore
from lambda_function.errors import KmsError, SignatureError
from tests.builders import small_bundle
from tests.fakes import BUCKET
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.registry.signing import Signer, sign_stored


@dataclass(frozen=True, slots=True)
class Account:
    """An AWS account with a bucket and two keys."""

    s3: Any
    kms: Any
    key: str
    other_key: str

    def store(self, key: str | None = None) -> ModelStore:
        """A store of a cold start."""
        return ModelStore(make_clients()[0], BUCKET, "stable", 60.0, signing_key=key or self.key)

    def publish(self, key: str | None) -> None:
        """Store the small bundle and point the channel at it."""
        bundle, bucket = small_bundle(), Bucket(self.s3, BUCKET)
        store_bundle(bucket, bundle, Signer(self.kms, key) if key else None)
        move_channel(bucket, "stable", bundle.model_version, bundle.manifest_sha256)


@pytest.fixture
def account() -> Iterator[Account]:
    """A new account for each test."""
    with mock_aws():
        s3, kms = boto3.client("s3"), boto3.client("kms")
        s3.create_bucket(Bucket=BUCKET)
        keys = [kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256") for _ in range(2)]
        yield Account(s3, kms, *(key["KeyMetadata"]["Arn"] for key in keys))


@pytest.mark.parametrize("signed_by", [None, "other_key"])
def test_cold_start_refuses_a_version_without_the_keys_signature(account: Account, signed_by: str | None) -> None:
    account.publish(signed_by and getattr(account, signed_by))
    with pytest.raises(SignatureError):
        account.store().refresh()


def test_missing_key_is_not_taken_for_a_wrong_signature(account: Account) -> None:
    account.publish(account.key)
    gone = account.key[:-12] + "000000000000"
    with pytest.raises(KmsError, match=f"cannot verify with the KMS key {gone}: .*NotFoundException"):
        account.store(gone).refresh()


def test_stored_version_is_signed_later_by_the_alias_of_a_key(account: Account) -> None:
    account.publish(None)
    account.kms.create_alias(AliasName="alias/models", TargetKeyId=account.key)
    assert sign_stored(Bucket(account.s3, BUCKET), small_bundle().model_version, Signer(account.kms, "alias/models"))
    assert account.store().refresh().model.model_version == small_bundle().model_version


def test_kms_client_is_described_as_botocore_describes_it(account: Account) -> None:
    ours, theirs = make_kms_client("eu-central-1"), boto3.client("kms", region_name="eu-central-1")
    assert ours.meta.endpoint_url == theirs.meta.endpoint_url
    assert ours.meta.service_model.operation_names == theirs.meta.service_model.operation_names
