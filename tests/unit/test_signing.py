"""Signing what is stored: before it is visible, once, and never over another key's signature by accident."""

from pathlib import Path

import pytest

from infra.local.folder_bucket import FolderS3
from lambda_function.aws.signature import SIGNATURE
from lambda_function.core.bundle import FOREST, MANIFEST, bundle_key
from lambda_function.errors import BundleError, KmsError
from tests.builders import small_bundle
from tests.fakes import BUCKET, DENIED, SERVICE_DOWN, FakeS3, Meanwhile, S3Outcome, spoil_bundle
from tests.fakes_kms import KEY, OTHER_KEY, FakeKms
from training.errors import BucketError, NoSuchVersionError, UserError
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle
from training.registry.signing import Signer, sign_stored
from training.registry.versions import read_stored


@pytest.fixture
def s3() -> FakeS3:
    return FakeS3()


@pytest.fixture
def kms() -> FakeKms:
    return FakeKms()


def signature_key(bundle: ExportedBundle) -> str:
    return bundle_key(bundle.model_version, SIGNATURE)


def is_signed(s3: FakeS3, bundle: ExportedBundle, key: str = KEY) -> bool:
    signature = s3.objects[signature_key(bundle)]
    return Signer(FakeKms(), key).has_signed(bundle.model_version, bundle.files[MANIFEST], signature)


def test_signature_is_there_before_the_version_is_visible(s3: FakeS3, kms: FakeKms, bundle: ExportedBundle) -> None:
    store_bundle(Bucket(s3, BUCKET), bundle, Signer(kms, KEY))
    written = [key.rpartition("/")[2] for operation, key in s3.calls if operation == "put"]
    assert written[-2:] == [SIGNATURE, MANIFEST]
    assert is_signed(s3, bundle)


@pytest.mark.parametrize("failure", [DENIED, SERVICE_DOWN], ids=["denied", "down"])
def test_bundle_that_cannot_be_signed_never_becomes_visible(
    s3: FakeS3, bundle: ExportedBundle, failure: Exception
) -> None:
    with pytest.raises(UserError, match=f"cannot sign with the KMS key {KEY}: "):
        store_bundle(Bucket(s3, BUCKET), bundle, Signer(FakeKms([failure]), KEY))
    assert stored_versions_of(s3) == ()
    store_bundle(Bucket(s3, BUCKET), bundle, Signer(FakeKms(), KEY))
    assert is_signed(s3, bundle)


def test_signature_that_the_bucket_does_not_take_keeps_the_version_invisible(
    s3: FakeS3, kms: FakeKms, bundle: ExportedBundle
) -> None:
    n_reads_and_writes = len(bundle.model.manifest.files) + 1
    script: list[S3Outcome] = [None] * n_reads_and_writes
    s3.script = [*script, DENIED]
    with pytest.raises(BucketError, match=r"manifest\.sig cannot be written"):
        store_bundle(Bucket(s3, BUCKET), bundle, Signer(kms, KEY))
    assert stored_versions_of(s3) == ()


def test_bundle_stored_twice_keeps_its_first_signature(s3: FakeS3, kms: FakeKms, bundle: ExportedBundle) -> None:
    store_bundle(Bucket(s3, BUCKET), bundle, Signer(kms, KEY))
    before = dict(s3.objects)
    store_bundle(Bucket(s3, BUCKET), bundle, Signer(kms, KEY))
    assert s3.objects == before
    assert [operation for operation, _ in kms.calls] == ["sign", "verify"]


def test_bundle_stored_without_a_signer_has_no_signature(s3: FakeS3, bundle: ExportedBundle) -> None:
    store_bundle(Bucket(s3, BUCKET), bundle)
    assert signature_key(bundle) not in s3.objects


def test_version_stored_before_there_was_a_key_is_signed_later(
    s3: FakeS3, kms: FakeKms, bundle: ExportedBundle
) -> None:
    store_bundle(Bucket(s3, BUCKET), bundle)
    before = dict(s3.objects)
    assert sign_stored(Bucket(s3, BUCKET), bundle.model_version, Signer(kms, KEY))
    assert is_signed(s3, bundle)
    assert s3.objects == {**before, signature_key(bundle): s3.objects[signature_key(bundle)]}
    assert not sign_stored(Bucket(s3, BUCKET), bundle.model_version, Signer(kms, KEY))


def test_signature_of_another_key_is_replaced_only_when_that_is_asked_for(
    s3: FakeS3, kms: FakeKms, bundle: ExportedBundle
) -> None:
    store_bundle(Bucket(s3, BUCKET), bundle, Signer(kms, OTHER_KEY))
    for again in (
        lambda: store_bundle(Bucket(s3, BUCKET), bundle, Signer(kms, KEY)),
        lambda: sign_stored(Bucket(s3, BUCKET), bundle.model_version, Signer(kms, KEY)),
    ):
        with pytest.raises(BucketError, match=rf"manifest\.sig is not by {KEY}: check which .* --replace`$"):
            again()
    assert is_signed(s3, bundle, OTHER_KEY)
    assert sign_stored(Bucket(s3, BUCKET), bundle.model_version, Signer(kms, KEY), replace=True)
    assert is_signed(s3, bundle)


def test_two_who_sign_at_once_leave_one_good_signature(s3: FakeS3, kms: FakeKms, bundle: ExportedBundle) -> None:
    store_bundle(Bucket(s3, BUCKET), bundle)

    def somebody_else() -> None:
        sign_stored(Bucket(s3, BUCKET), bundle.model_version, Signer(FakeKms(), KEY))

    s3.calls.clear()
    sign_stored(Bucket(FakeS3(dict(s3.objects), calls=s3.calls), BUCKET), bundle.model_version, Signer(kms, KEY))
    n_reads = [operation for operation, _ in s3.calls].index("put")
    s3.script = [*([None] * n_reads), Meanwhile(somebody_else)]  # after all reads, before the write
    with pytest.raises(BucketError, match="is being written by somebody else: try again"):
        sign_stored(Bucket(s3, BUCKET), bundle.model_version, Signer(kms, KEY))
    assert is_signed(s3, bundle)


def test_kms_that_does_not_say_whose_signature_is_there_leaves_it(s3: FakeS3, bundle: ExportedBundle) -> None:
    store_bundle(Bucket(s3, BUCKET), bundle, Signer(FakeKms(), OTHER_KEY))
    before = dict(s3.objects)
    with pytest.raises(KmsError):
        sign_stored(Bucket(s3, BUCKET), bundle.model_version, Signer(FakeKms([SERVICE_DOWN]), KEY), replace=True)
    assert s3.objects == before


def test_version_that_would_not_serve_is_not_signed(s3: FakeS3, kms: FakeKms, bundle: ExportedBundle) -> None:
    store_bundle(Bucket(s3, BUCKET), bundle)
    spoil_bundle(s3, bundle, FOREST)
    with pytest.raises(BundleError):
        sign_stored(Bucket(s3, BUCKET), bundle.model_version, Signer(kms, KEY))
    assert kms.calls == []
    assert signature_key(bundle) not in s3.objects


def test_version_that_is_not_there_cannot_be_signed(kms: FakeKms, tmp_path: Path) -> None:
    with pytest.raises(NoSuchVersionError):
        sign_stored(Bucket(FolderS3(tmp_path), BUCKET), "green-2021-01-000000000000", Signer(kms, KEY))
    assert kms.calls == []


def test_signature_changes_neither_the_version_nor_what_people_read(s3: FakeS3, kms: FakeKms) -> None:
    bundle = small_bundle()
    store_bundle(Bucket(s3, BUCKET), bundle, Signer(kms, KEY))
    stored = read_stored(Bucket(s3, BUCKET), bundle.model_version)
    assert stored.files == bundle.files
    assert stored.manifest_sha256 == bundle.manifest_sha256


def stored_versions_of(s3: FakeS3) -> tuple[str, ...]:
    """The versions that anybody can see: those with a manifest."""
    return tuple(key.split("/")[1] for key in s3.keys("models/") if key.endswith(f"/{MANIFEST}"))
