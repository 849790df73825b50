"""Signatures of stored bundles: stored before the version is visible, once, and over another key's only on request."""

import pytest

from lambda_function.aws.signature import SIGNATURE
from lambda_function.core.bundle import FOREST, MANIFEST, bundle_key
from lambda_function.errors import BundleError, KmsError
from tests.builders_channels import new_bucket
from tests.fakes import damage_bundle
from tests.fakes_kms import KEY, OTHER_KEY, FakeKms
from tests.outcomes import DENIED, SERVICE_DOWN, Meanwhile, S3Outcome
from training.errors import BucketError, NoSuchVersionError, UserError
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle
from training.registry.signing import Signer, sign_stored
from training.registry.versions import read_stored, stored_versions


@pytest.fixture
def bucket() -> Bucket:
    return new_bucket()


@pytest.fixture
def kms() -> FakeKms:
    return FakeKms()


def signature_key(bundle: ExportedBundle) -> str:
    return bundle_key(bundle.model_version, SIGNATURE)


def is_signed(bucket: Bucket, bundle: ExportedBundle, key: str = KEY) -> bool:
    signature = bucket.s3.objects[signature_key(bundle)]
    return Signer(FakeKms(), key).has_signed(bundle.model_version, bundle.files[MANIFEST], signature)


def test_signature_is_stored_before_the_version_is_visible(
    bucket: Bucket, kms: FakeKms, bundle: ExportedBundle
) -> None:
    store_bundle(bucket, bundle, Signer(kms, KEY))
    written = [key.rpartition("/")[2] for operation, key in bucket.s3.calls if operation == "put"]
    assert written[-2:] == [SIGNATURE, MANIFEST]
    assert is_signed(bucket, bundle)
    stored = read_stored(bucket, bundle.model_version)
    assert (stored.files, stored.manifest_sha256) == (bundle.files, bundle.manifest_sha256)


@pytest.mark.parametrize("failure", [DENIED, SERVICE_DOWN], ids=["denied", "down"])
def test_bundle_that_cannot_be_signed_never_becomes_visible(
    bucket: Bucket, bundle: ExportedBundle, failure: Exception
) -> None:
    with pytest.raises(UserError, match=f"cannot sign with the KMS key {KEY}: "):
        store_bundle(bucket, bundle, Signer(FakeKms([failure]), KEY))
    assert stored_versions(bucket) == ()
    store_bundle(bucket, bundle, Signer(FakeKms(), KEY))
    assert is_signed(bucket, bundle)


def test_version_whose_signature_is_not_stored_is_invisible(
    bucket: Bucket, kms: FakeKms, bundle: ExportedBundle
) -> None:
    n_reads_and_writes = len(bundle.model.manifest.files) + 1
    script: list[S3Outcome] = [None] * n_reads_and_writes
    bucket.s3.script = [*script, DENIED]
    with pytest.raises(BucketError, match=r"manifest\.sig cannot be written"):
        store_bundle(bucket, bundle, Signer(kms, KEY))
    assert stored_versions(bucket) == ()


def test_bundle_stored_twice_keeps_its_first_signature(bucket: Bucket, kms: FakeKms, bundle: ExportedBundle) -> None:
    store_bundle(bucket, bundle, Signer(kms, KEY))
    before = dict(bucket.s3.objects)
    store_bundle(bucket, bundle, Signer(kms, KEY))
    assert bucket.s3.objects == before
    assert [operation for operation, _ in kms.calls] == ["sign", "verify"]


def test_stored_version_can_be_signed_later(bucket: Bucket, kms: FakeKms, bundle: ExportedBundle) -> None:
    store_bundle(bucket, bundle)
    before = dict(bucket.s3.objects)
    assert signature_key(bundle) not in before
    assert sign_stored(bucket, bundle.model_version, Signer(kms, KEY))
    assert is_signed(bucket, bundle)
    assert bucket.s3.objects == {**before, signature_key(bundle): bucket.s3.objects[signature_key(bundle)]}
    assert not sign_stored(bucket, bundle.model_version, Signer(kms, KEY))


def test_signature_of_another_key_is_replaced_only_on_request(
    bucket: Bucket, kms: FakeKms, bundle: ExportedBundle
) -> None:
    store_bundle(bucket, bundle, Signer(kms, OTHER_KEY))
    for again in (
        lambda: store_bundle(bucket, bundle, Signer(kms, KEY)),
        lambda: sign_stored(bucket, bundle.model_version, Signer(kms, KEY)),
    ):
        with pytest.raises(BucketError, match=rf"manifest\.sig is not by {KEY}: check which .* --replace`$"):
            again()
    assert is_signed(bucket, bundle, OTHER_KEY)
    assert sign_stored(bucket, bundle.model_version, Signer(kms, KEY), replace=True)
    assert is_signed(bucket, bundle)


def test_two_signers_at_the_same_time_leave_one_valid_signature(
    bucket: Bucket, kms: FakeKms, bundle: ExportedBundle
) -> None:
    store_bundle(bucket, bundle)

    def somebody_else() -> None:
        sign_stored(bucket, bundle.model_version, Signer(FakeKms(), KEY))

    copy = new_bucket(dict(bucket.s3.objects))
    sign_stored(copy, bundle.model_version, Signer(kms, KEY))
    n_reads = [operation for operation, _ in copy.s3.calls].index("put")
    bucket.s3.script = [*([None] * n_reads), Meanwhile(somebody_else)]  # after all reads, before the write
    with pytest.raises(BucketError, match="is being written by somebody else: try again"):
        sign_stored(bucket, bundle.model_version, Signer(kms, KEY))
    assert is_signed(bucket, bundle)


def test_signature_that_kms_does_not_check_stays(bucket: Bucket, bundle: ExportedBundle) -> None:
    store_bundle(bucket, bundle, Signer(FakeKms(), OTHER_KEY))
    before = dict(bucket.s3.objects)
    with pytest.raises(KmsError):
        sign_stored(bucket, bundle.model_version, Signer(FakeKms([SERVICE_DOWN]), KEY), replace=True)
    assert bucket.s3.objects == before


def test_damaged_or_missing_version_is_not_signed(bucket: Bucket, kms: FakeKms, bundle: ExportedBundle) -> None:
    with pytest.raises(NoSuchVersionError):
        sign_stored(bucket, bundle.model_version, Signer(kms, KEY))
    store_bundle(bucket, bundle)
    damage_bundle(bucket.s3, bundle, FOREST)
    with pytest.raises(BundleError):
        sign_stored(bucket, bundle.model_version, Signer(kms, KEY))
    assert kms.calls == []
    assert signature_key(bundle) not in bucket.s3.objects
