"""Sign stored bundles. The signature is stored before its version becomes visible: no function finds a version without.

A signature is not a file of the bundle: it can be added later, or replaced by another key's, and the version stays the
same.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.aws.signature import KEY_ARN, SIGNATURE, check_signature, signed_message
from lambda_function.core.bundle import MANIFEST, bundle_key
from lambda_function.errors import SignatureError
from training.errors import BucketError, UserError
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.versions import read_file, read_stored


@dataclass(frozen=True, slots=True)
class Signer:
    """A KMS key that signs manifests."""

    kms: Any  # a boto3 client, in the key's region
    key: str  # its ARN, or another of its names

    def sign(self, manifest: bytes) -> bytes:
        """Sign a manifest; a second call gives another signature, and both are valid.

        Raises:
            UserError: KMS did not sign.
        """
        try:
            answer = self.kms.sign(KeyId=self.key, **signed_message(manifest))
        except (BotoCoreError, ClientError) as error:
            raise UserError(f"cannot sign with the KMS key {self.key}", str(error)) from error
        return bytes(answer["Signature"])

    def has_signed(self, model_version: str, manifest: bytes, signature: bytes) -> bool:
        """Return whether a manifest's signature is by this key.

        Raises:
            KmsError: KMS did not check it.
        """
        try:
            check_signature(self.kms, self.key, model_version, manifest, signature)
        except SignatureError:
            return False
        return True


def signer_of(key_arn: str, make_kms: Callable[[str], Any]) -> Signer | None:
    """Return the signer of a function's settings; None if its models need no signature.

    Args:
        key_arn: ARN of the KMS key, or "".
        make_kms: Makes a KMS client of a region.
    """
    key = KEY_ARN.fullmatch(key_arn)
    return Signer(make_kms(key["region"]), key_arn) if key else None


def store_signature(
    bucket: Bucket, model_version: str, manifest: bytes, signer: Signer, *, replace: bool = False
) -> bool:
    """Sign a manifest, store the signature, and return whether it was signed now.

    A signature by the same key stays. One by another key is an error, unless `replace` is true.

    Raises:
        BucketError: There is a signature by another key.
        UserError: KMS did not sign.
        KmsError: KMS did not check the signature that is there.
    """
    key = bundle_key(model_version, SIGNATURE)
    stored = bucket.read(key)
    if stored and signer.has_signed(model_version, manifest, stored.body):
        return False
    if stored and not replace:
        raise _signed_by_another(bucket, model_version, signer)
    if bucket.replace(key, signer.sign(manifest), stored.etag if stored else None) is None:
        raise BucketError(bucket.name, key, "is being written by somebody else: try again")
    return True


def sign_stored(bucket: Bucket, model_version: str, signer: Signer, *, replace: bool = False) -> bool:
    """Check a stored version as the function would, and sign exactly the manifest that was checked.

    Returns:
        Whether it was signed now; False if this key had signed it before.

    Raises:
        NoSuchVersionError: The bucket holds no such version.
        BundleError: A file is missing or wrong.
        UserError: As `store_signature`.
        KmsError: As `store_signature`.
    """
    manifest = read_stored(bucket, model_version).files[MANIFEST]
    return store_signature(bucket, model_version, manifest, signer, replace=replace)


def check_signed(bucket: Bucket, bundle: ExportedBundle, signer: Signer) -> None:
    """Check that a stored version is signed by a key, as a function that trusts this key will do.

    Raises:
        BucketError: It has no signature, or one by another key.
        KmsError: KMS did not check it.
    """
    version = bundle.model_version
    signature = read_file(bucket, version, SIGNATURE)
    if signature is None:
        remedy = f"run `{_sign_command(bucket, version, signer)}`"
        problem = f"is missing, and functions that trust {signer.key} take no version without: {remedy}"
        raise BucketError(bucket.name, bundle_key(version, SIGNATURE), problem)
    if not signer.has_signed(version, bundle.files[MANIFEST], signature):
        raise _signed_by_another(bucket, version, signer)


def _signed_by_another(bucket: Bucket, model_version: str, signer: Signer) -> BucketError:
    remedy = f"check which key signed it, then run `{_sign_command(bucket, model_version, signer)} --replace`"
    return BucketError(bucket.name, bundle_key(model_version, SIGNATURE), f"is not by {signer.key}: {remedy}")


def _sign_command(bucket: Bucket, model_version: str, signer: Signer) -> str:
    words = ["ridecast", "models", "sign", model_version, "--signing-key", signer.key, "--bucket", bucket.name]
    return shlex.join(words)
