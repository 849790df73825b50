"""A function that trusts a key serves only versions signed by it; without a key it reads no signature."""

from typing import Any

import msgspec
import pytest
from botocore.exceptions import EndpointConnectionError
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.aws.model_store import MAX_BYTES, ModelStore, Refreshed
from lambda_function.aws.signature import MAX_SIGNATURE_BYTES, SIGNATURE, check_signature
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key, sha256
from lambda_function.errors import BundleError, KmsError, SignatureError, StoreError
from tests.builders import small_bundle
from tests.fakes import BUCKET, FakeClock, FakeS3, publish_bundle
from tests.fakes_kms import KEY, OTHER_KEY, FakeKms, public_key
from tests.outcomes import DENIED, SERVICE_DOWN
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.registry.folder_s3 import client_error
from training.registry.signing import Signer

REFRESH_S = 60.0
VERSION = "green-2021-01-3f2a9c1d0b7e"
MANIFEST_BYTES = b'{"format": 1, "model_version": "green-2021-01-3f2a9c1d0b7e"}\n'


def old() -> ExportedBundle:
    return small_bundle()


def new() -> ExportedBundle:
    return small_bundle(seed=2)


class Signed:
    """A store that trusts KEY and follows `stable`, with its bucket and KMS."""

    def __init__(self, key: str = KEY) -> None:
        self.s3, self.kms, self.clock = FakeS3(), FakeKms(), FakeClock()
        self.bucket = Bucket(self.s3, BUCKET)
        self.store = ModelStore(
            self.s3, BUCKET, "stable", REFRESH_S, self.clock, signing_key=key, make_kms=self.kms.of_region()
        )

    def publish(self, bundle: ExportedBundle, key: str | None = KEY) -> None:
        """Store a bundle, signed or not, and move the channel to it."""
        store_bundle(self.bucket, bundle, Signer(FakeKms(), key) if key else None)
        move_channel(self.bucket, "stable", bundle.model_version, bundle.manifest_sha256)
        self.s3.calls.clear()

    def refresh(self) -> Refreshed:
        """Refresh when it is due."""
        self.clock.sleep(REFRESH_S)
        return self.store.refresh()


@pytest.fixture
def signed() -> Signed:
    """A store that has loaded a signed bundle."""
    signed = Signed()
    signed.publish(old())
    assert signed.store.refresh().model.model_version == old().model_version
    signed.kms.calls.clear()
    return signed


def signature_by(key: str, manifest: bytes = MANIFEST_BYTES) -> bytes:
    return Signer(FakeKms(), key).sign(manifest)


SIGNATURE_BYTES = signature_by(KEY)


def test_signed_bundle_is_served_after_one_call_of_kms() -> None:
    signed = Signed()
    signed.publish(old())
    for _ in range(3):
        assert signed.refresh().model.model_version == old().model_version
    assert signed.kms.calls == [("verify", KEY)]


def test_signature_is_checked_before_other_files_are_read() -> None:
    signed = Signed()
    signed.publish(old(), key=None)
    with pytest.raises(SignatureError):
        signed.store.refresh()
    read = [key.rpartition("/")[2] for _, key in signed.s3.calls]
    assert set(read) == {"stable.json", MANIFEST, SIGNATURE}


def test_without_a_key_no_signature_is_read_and_no_client_made() -> None:
    signed = Signed(key="")
    signed.publish(old())
    assert signed.refresh().model.model_version == old().model_version
    assert signed.kms.calls == []
    assert [key.rpartition("/")[2] for _, key in signed.s3.calls] == ["stable.json", MANIFEST, FOREST, GOLDEN]


@pytest.mark.parametrize("key", [None, OTHER_KEY], ids=["unsigned", "another key's"])
def test_cold_start_on_a_bundle_without_the_keys_signature_fails(key: str | None) -> None:
    signed = Signed()
    signed.publish(old(), key)
    with pytest.raises(
        SignatureError, match=rf"bundle {old().model_version}, manifest\.sig: is (missing|no signature).* {KEY}"
    ):
        signed.store.refresh()


@pytest.mark.parametrize("key", [None, OTHER_KEY], ids=["unsigned", "another key's"])
def test_warm_function_keeps_the_last_good_model_until_the_new_one_is_signed(signed: Signed, key: str | None) -> None:
    signed.publish(new(), key)
    for _ in range(2):
        refreshed = signed.refresh()
        assert refreshed.model.model_version == old().model_version
        assert isinstance(refreshed.error, SignatureError)
    signed.s3.objects[bundle_key(new().model_version, SIGNATURE)] = signature_by(KEY, new().files[MANIFEST])
    assert signed.refresh().model.model_version == new().model_version


def test_signature_of_another_version_by_the_same_key_is_refused(signed: Signed) -> None:
    signed.publish(new(), key=None)
    signed.s3.objects[bundle_key(new().model_version, SIGNATURE)] = signature_by(KEY, MANIFEST_BYTES)
    assert isinstance(signed.refresh().error, SignatureError)


def test_manifest_forged_together_with_its_channel_is_refused(signed: Signed) -> None:
    """A writer of both the bundle and the channel satisfies every digest, but has no key."""
    forged = msgspec.json.encode({**msgspec.json.decode(new().files[MANIFEST]), "metrics": {"rmse": 0}})
    signed.publish(new())
    signed.s3.objects[bundle_key(new().model_version, MANIFEST)] = forged
    move_channel(signed.bucket, "stable", old().model_version, old().manifest_sha256)
    move_channel(signed.bucket, "stable", new().model_version, sha256(forged))
    assert isinstance(signed.refresh().error, SignatureError)


@pytest.mark.parametrize(
    "failure",
    [SERVICE_DOWN, DENIED, client_error(400, "DisabledException"), EndpointConnectionError(endpoint_url="https://kms")],
    ids=["down", "denied", "disabled", "unreachable"],
)
def test_failing_kms_keeps_the_last_good_model_and_is_called_again(signed: Signed, failure: Exception) -> None:
    signed.publish(new())
    signed.kms.script = [failure]
    refreshed = signed.refresh()
    assert refreshed.model.model_version == old().model_version
    assert isinstance(refreshed.error, KmsError)
    assert str(refreshed.error).startswith(f"cannot verify with the KMS key {KEY}: ")
    assert signed.refresh().model.model_version == new().model_version


def test_missing_manifest_is_reported_as_missing() -> None:
    signed = Signed()
    signed.publish(old())
    del signed.s3.objects[bundle_key(old().model_version, MANIFEST)]
    with pytest.raises(BundleError, match=r"manifest\.json: is missing"):
        signed.store.refresh()
    assert signed.kms.calls == []


def test_signature_verifies_with_the_public_key_in_any_tool() -> None:
    """As `openssl dgst -sha256 -verify key.pem -signature manifest.sig manifest.json` does."""
    public_key(KEY).verify(SIGNATURE_BYTES, MANIFEST_BYTES, ECDSA(SHA256()))


@given(place=st.integers(0, len(MANIFEST_BYTES) - 1), bits=st.integers(1, 255))
def test_any_changed_byte_of_the_manifest_is_refused(place: int, bits: int) -> None:
    with pytest.raises(SignatureError):
        check_signature(FakeKms(), KEY, VERSION, changed(MANIFEST_BYTES, place, bits), SIGNATURE_BYTES)


@given(place=st.integers(0, len(SIGNATURE_BYTES) - 1), bits=st.integers(1, 255))
def test_any_changed_byte_of_the_signature_is_refused(place: int, bits: int) -> None:
    with pytest.raises(SignatureError):
        check_signature(FakeKms(), KEY, VERSION, MANIFEST_BYTES, changed(SIGNATURE_BYTES, place, bits))


@given(st.binary(max_size=2 * MAX_SIGNATURE_BYTES))
def test_other_bytes_are_refused(signature: bytes) -> None:
    with pytest.raises(SignatureError):
        check_signature(FakeKms(), KEY, VERSION, MANIFEST_BYTES, signature)


def test_too_long_signature_is_not_sent_to_kms() -> None:
    kms = FakeKms()
    with pytest.raises(SignatureError):
        check_signature(kms, KEY, VERSION, MANIFEST_BYTES, bytes(MAX_SIGNATURE_BYTES + 1))
    assert kms.calls == []


def test_invalid_field_in_the_answer_is_refused_with_any_status() -> None:
    """Moto answers so."""

    class Unsure(FakeKms):
        def verify(self, **_: object) -> dict[str, object]:
            return {"SignatureValid": False}

    with pytest.raises(SignatureError):
        check_signature(Unsure(), KEY, VERSION, MANIFEST_BYTES, SIGNATURE_BYTES)


@pytest.mark.parametrize("file", [MANIFEST, FOREST, GOLDEN])
def test_too_large_object_is_not_read(file: str) -> None:
    s3 = SizedS3(bundle_key(old().model_version, file), MAX_BYTES[file] + 1)
    publish_bundle(s3, old())
    store = ModelStore(s3, BUCKET, "stable", REFRESH_S, FakeClock())
    with pytest.raises(
        StoreError, match=rf"cannot use s3://{BUCKET}/models/{old().model_version}/{file}: it has [\d,]+ bytes"
    ):
        store.refresh()


class SizedS3(FakeS3):
    """A bucket that states too large a size for one object."""

    def __init__(self, key: str, n_bytes: int) -> None:
        super().__init__()
        self.large_key, self.n_bytes = key, n_bytes

    def get_object(self, *, Bucket: str, Key: str, **conditions: Any) -> dict[str, Any]:  # noqa: N803
        """Read an object."""
        answer = super().get_object(Bucket=Bucket, Key=Key, **conditions)
        return {**answer, "ContentLength": self.n_bytes} if self.large_key == Key else answer


def changed(data: bytes, place: int, bits: int) -> bytes:
    """Data with one byte changed."""
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]
