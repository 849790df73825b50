"""Signatures beside stored bundles: laid there before a version becomes visible, so that no function finds one without.

A signature is no file of the bundle: it can be added later, or replaced where a key is, and the version stays the same.
"""

import shlex
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.aws.signature import SIGNATURE, check_signature, signed_message
from lambda_function.core.bundle import MANIFEST, bundle_key
from lambda_function.errors import SignatureError
from training.errors import PublishError, SigningError
from training.model.bundle import ExportedBundle
from training.registry.bucket import get_object, put_object
from training.registry.versions import read_stored


@dataclass(frozen=True, slots=True)
class Signer:
    """A key of KMS that signs manifests.

    Attributes:
        kms: boto3's client, in the key's region.
        key: The key's ARN, or another of its names.
    """

    kms: Any
    key: str

    def sign(self, manifest: bytes) -> bytes:
        """Signs a manifest; twice gives two signatures, both of them good.

        Raises:
            SigningError: KMS did not.
        """
        try:
            answer = self.kms.sign(KeyId=self.key, **signed_message(manifest))
        except (BotoCoreError, ClientError) as error:
            raise SigningError(self.key, str(error)) from error
        return bytes(answer["Signature"])

    def has_signed(self, model_version: str, manifest: bytes, signature: bytes) -> bool:
        """Says whether a manifest's signature is by this key.

        Raises:
            KmsError: KMS did not say.
        """
        try:
            check_signature(self.kms, self.key, model_version, manifest, signature)
        except SignatureError:
            return False
        return True


def store_signature(
    s3: Any, bucket: str, model_version: str, manifest: bytes, signer: Signer, *, replace: bool = False
) -> bool:
    """Signs a manifest and stores the signature where it belongs; one by this key that is there already stays.

    Args:
        s3: boto3's client, or what looks like it.
        bucket: Its bucket.
        model_version: What the manifest is of.
        manifest: The manifest's bytes.
        signer: Who signs.
        replace: Put it in the place of another key's.

    Returns:
        Whether it was signed now.

    Raises:
        PublishError: There is a signature, and it is not by this key; or S3 did not answer as needed.
        SigningError: KMS did not sign.
        KmsError: KMS did not say whose signature is there.
    """
    key = bundle_key(model_version, SIGNATURE)
    found = get_object(s3, bucket, key)
    if found and signer.has_signed(model_version, manifest, found.body):
        return False
    if found and not replace:
        raise _not_by(bucket, model_version, signer)
    condition = {"IfMatch": found.etag} if found else {"IfNoneMatch": "*"}
    if not put_object(s3, bucket, key, signer.sign(manifest), **condition):
        raise PublishError(bucket, key, "is being written by somebody else: try again")
    return True


def sign_stored(s3: Any, bucket: str, model_version: str, signer: Signer, *, replace: bool = False) -> bool:
    """Signs a version that is stored already: from before there was a key, or before there was this one.

    Nobody signs what would not serve; and what is signed are the very bytes that were checked.

    Returns:
        Whether it was signed now: not where it had been, with this key.

    Raises:
        NoSuchVersionError: It is not there.
        BundleError: Something about it is wrong: which file, and what.
        PublishError: As `store_signature`.
        SigningError: Likewise.
        KmsError: Likewise.
    """
    manifest = read_stored(s3, bucket, model_version).files[MANIFEST]
    return store_signature(s3, bucket, model_version, manifest, signer, replace=replace)


def check_signed(s3: Any, bucket: str, bundle: ExportedBundle, signer: Signer) -> None:
    """Checks that a stored version is signed with a key, as a function that trusts it will: before it comes to that.

    Raises:
        PublishError: It is not signed, or not by this key; or S3 did not answer as needed.
        KmsError: KMS did not say.
    """
    version, key = bundle.model_version, bundle_key(bundle.model_version, SIGNATURE)
    found = get_object(s3, bucket, key)
    if found is None:
        remedy = f"run `{_sign_command(bucket, version, signer)}`"
        raise PublishError(bucket, key, f"is missing, and functions that trust {signer.key} take no other: {remedy}")
    if not signer.has_signed(version, bundle.files[MANIFEST], found.body):
        raise _not_by(bucket, version, signer)


def _not_by(bucket: str, model_version: str, signer: Signer) -> PublishError:
    remedy = f"look whose it is, then run `{_sign_command(bucket, model_version, signer)} --replace`"
    return PublishError(bucket, bundle_key(model_version, SIGNATURE), f"is not by {signer.key}: {remedy}")


def _sign_command(bucket: str, model_version: str, signer: Signer) -> str:
    words = ["ridecast", "models", "sign", model_version, "--signing-key", signer.key, "--bucket", bucket]
    return shlex.join(words)
