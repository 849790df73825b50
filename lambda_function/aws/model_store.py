"""Models in S3: a channel names a version, a version is a bundle; the last good one is kept and refreshed."""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.aws.clients import make_kms_client
from lambda_function.core.bundle import (
    FOREST,
    GOLDEN,
    MANIFEST,
    Channel,
    ModelBundle,
    bundle_key,
    channel_key,
    decode_channel,
    load_bundle,
)
from lambda_function.errors import KmsError, PredictorError, SignatureError, StoreError

# MERGED FROM lambda_function/signature.py
# Signed bundles: what is signed, and the check that a manifest's signature is by the one key that is trusted.
# Signed is the SHA-256 of the manifest's bytes; the manifest holds the digests of all other files. KMS itself verifies:
# the package needs no cryptography, the private key is nowhere but in KMS, and disabling the key stops every bundle.
SIGNATURE = "manifest.sig"
"""The file beside the manifest: DER, as KMS gives it and `openssl dgst -sha256 -verify` takes it."""

ALGORITHM = "ECDSA_SHA_256"
"""The only one: a key of spec ECC_NIST_P256. What an attacker cannot choose he cannot weaken."""

MAX_SIGNATURE_BYTES = 72
"""Two numbers of 32 bytes in DER."""

KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):\d{12}:key/[A-Za-z0-9-]+")
"""A key itself: an alias can be pointed at another key by whoever may do that."""

_NOT_BY_THIS_KEY = "KMSInvalidSignatureException"


class Verify(Protocol):
    """What of a KMS client is needed here."""

    def verify(
        self,
        *,
        KeyId: str,  # noqa: N803
        Message: bytes,  # noqa: N803
        MessageType: str,  # noqa: N803
        Signature: bytes,  # noqa: N803
        SigningAlgorithm: str,  # noqa: N803
    ) -> Any:
        """Verifies a signature; a wrong one is an error, not an answer."""


def signed_message(manifest: bytes) -> dict[str, Any]:
    """Returns what KMS's Sign and Verify are told of a manifest."""
    return {"Message": hashlib.sha256(manifest).digest(), "MessageType": "DIGEST", "SigningAlgorithm": ALGORITHM}


def check_signature(kms: Verify, key_arn: str, model_version: str, manifest: bytes, signature: bytes | None) -> None:
    """Checks that a manifest is signed with a key. To be asked before anything is read from the manifest.

    Args:
        kms: A KMS client of the key's region.
        key_arn: The key trusted.
        model_version: For the error.
        manifest: The manifest's bytes.
        signature: The signature's file; None where there is none.

    Raises:
        SignatureError: It is not signed, or not by this key.
        KmsError: KMS did not say.
    """
    if not signature:
        raise SignatureError(model_version, SIGNATURE, f"is missing: sign the bundle with {key_arn}")
    if len(signature) > MAX_SIGNATURE_BYTES or not _is_by(kms, key_arn, manifest, signature):
        raise SignatureError(model_version, SIGNATURE, f"is no signature of this manifest by {key_arn}")


def _is_by(kms: Verify, key_arn: str, manifest: bytes, signature: bytes) -> bool:
    try:
        answer = kms.verify(KeyId=key_arn, Signature=signature, **signed_message(manifest))
    except ClientError as error:
        if error.response["Error"]["Code"] == _NOT_BY_THIS_KEY:
            return False
        raise KmsError("verify", key_arn, str(error)) from error
    except BotoCoreError as error:
        raise KmsError("verify", key_arn, str(error)) from error
    return answer["SignatureValid"] is True


MAX_BYTES = {
    "channel": 1 << 16,
    MANIFEST: 1 << 20,
    SIGNATURE: 1 << 10,
    FOREST: 1 << 24,
    GOLDEN: 1 << 22,
}
"""What is read of an object at most: fifty times the largest that training makes. The function's memory is no more
than a larger one could fill, and a channel must not be able to kill the functions that follow it."""

FAILED_LOOK_S = 60.0
"""Seconds after a look that failed in which the next one is due, however rarely the channel is looked at otherwise:
RefreshFailuresAlarm counts minutes, and must be able to sound within a canary of five."""


class GetObject(Protocol):
    """What of an S3 client is needed here."""

    def get_object(self, *, Bucket: str, Key: str, **conditions: str) -> Any:  # noqa: N803
        """Reads one object; with `IfNoneMatch` an unchanged one answers 304."""


class NoSuchObjectError(StoreError):
    """The bucket has no object by that key."""

    def __init__(self, bucket: str, key: str, what_now: str = "") -> None:
        super().__init__("read", bucket, key, f"there is no such object{what_now}")


class NoModelYetError(NoSuchObjectError):
    """A function that starts finds no channel: a stack has none until its first model is published."""

    def __init__(self, bucket: str, key: str) -> None:
        publish = f"`ridecast models publish build/bundles/<version> --bucket {bucket}`"
        what_now = f": train a first model with `ridecast train`, and publish it with {publish}; rides wait until then"
        super().__init__(bucket, key, what_now)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The model to use for a batch, and why it is not a newer one where a refresh failed."""

    model: ModelBundle
    switched: bool = False
    error: PredictorError | None = None


@dataclass(slots=True)
class ModelStore:
    """Follows one channel.

    Attributes:
        refresh_s: Seconds between two looks at the channel; after one that failed, FAILED_LOOK_S at most.
        clock: Monotonic seconds.
        signing_key: ARN of the KMS key that bundles must be signed with; "" where they need not be.
        make_kms: Makes a KMS client of a region. Asked only to load a bundle that must be signed: a cold start without
            signatures does not pay for it, and no connection of it grows old or is frozen into a snapshot.
    """

    s3: GetObject
    bucket: str
    channel: str
    refresh_s: float
    clock: Callable[[], float] = time.monotonic
    signing_key: str = ""
    make_kms: Callable[[str], Verify] = make_kms_client
    _model: ModelBundle | None = field(default=None, init=False)
    _etag: str = field(default="", init=False)
    _due_s: float = field(default=0.0, init=False)

    def refresh(self) -> Refreshed:
        """Returns the model to use now; looks at the channel where that is due. Call it between two batches.

        Raises:
            PredictorError: There is no model yet (a cold start) and none could be loaded.
        """
        current = self._model
        now_s = self.clock()
        if current is not None and now_s < self._due_s:
            return Refreshed(current)
        self._due_s = now_s + min(self.refresh_s, FAILED_LOOK_S)  # until this look has gone well
        try:
            model = self._follow(current)
        except PredictorError as error:
            if current is None:
                raise
            return Refreshed(current, error=error)
        self._due_s = now_s + self.refresh_s
        return Refreshed(model, switched=model is not current)

    def _follow(self, current: ModelBundle | None) -> ModelBundle:
        """Returns the model that the channel names: `current` where that is still the one."""
        found = self._read_channel(self._etag)
        if found is None:  # unchanged, which only a store that has a model can be told
            assert current is not None  # noqa: S101
            return current
        channel, etag = found
        if current is None or channel.model_version != current.model_version:
            current = self._load(channel)
        self._model, self._etag = current, etag  # only now: a bundle that failed is tried again at the next look
        return current

    def _read_channel(self, etag: str) -> tuple[Channel, str] | None:
        """Reads the channel and its ETag; None where it is unchanged since `etag`."""
        key = channel_key(self.channel)
        conditions = {"IfNoneMatch": etag} if etag else {}
        try:
            answer = self._get(key, MAX_BYTES["channel"], **conditions)
        except NoSuchObjectError as error:
            if etag:  # it has been there
                raise
            raise NoModelYetError(self.bucket, key) from error
        if answer is None:
            return None
        data, new_etag = answer
        try:
            return decode_channel(data), new_etag
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StoreError("use", self.bucket, key, str(error)) from error

    def _load(self, channel: Channel) -> ModelBundle:
        version = channel.model_version
        files = self._files(version, MANIFEST)
        if self.signing_key and MANIFEST in files:  # before anything is made of it, or of what it vouches for
            self._check_signature(version, files[MANIFEST])
        return load_bundle(version, channel.manifest_sha256, {**files, **self._files(version, FOREST, GOLDEN)})

    def _check_signature(self, version: str, manifest: bytes) -> None:
        signature = self._files(version, SIGNATURE).get(SIGNATURE)
        key = KEY_ARN.fullmatch(self.signing_key)
        assert key is not None  # noqa: S101 - as Settings has checked
        check_signature(self.make_kms(key["region"]), self.signing_key, version, manifest, signature)

    def _files(self, version: str, *names: str) -> dict[str, bytes]:
        """Reads files of a bundle, without those that are missing: whoever checks them names what is."""
        files = {}
        for name in names:
            try:
                answer = self._get(bundle_key(version, name), MAX_BYTES[name])
            except NoSuchObjectError:
                continue
            if answer is not None:
                files[name] = answer[0]
        return files

    def _get(self, key: str, max_bytes: int, **conditions: str) -> tuple[bytes, str] | None:
        """Reads an object and its ETag; None where a condition says that it is unchanged."""
        try:
            answer = self.s3.get_object(Bucket=self.bucket, Key=key, **conditions)
            n_bytes = answer.get("ContentLength", 0)
            if n_bytes > max_bytes:
                raise StoreError("use", self.bucket, key, f"it has {n_bytes:,} bytes, where {max_bytes:,} are taken")
            return answer["Body"].read(), answer["ETag"]
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == HTTPStatus.NOT_MODIFIED:
                return None
            if status == HTTPStatus.NOT_FOUND:
                raise NoSuchObjectError(self.bucket, key) from error
            raise StoreError("read", self.bucket, key, str(error)) from error
        except BotoCoreError as error:
            raise StoreError("read", self.bucket, key, str(error)) from error
