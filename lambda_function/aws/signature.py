"""Signed bundles: what is signed, and the check that the trusted key has signed a manifest.

The signature covers the SHA-256 of the manifest's bytes; the manifest holds the digests of all other files. KMS does
the verification: the package needs no cryptography, the private key never leaves KMS, and disabling the key stops
every bundle.
"""

import hashlib
import re
from typing import Any

from botocore.exceptions import ClientError

from lambda_function.aws.clients import NO_USABLE_ANSWER
from lambda_function.errors import KmsError, SignatureError

SIGNATURE = "manifest.sig"
"""The file beside the manifest, in DER: the form that KMS returns and `openssl dgst -sha256 -verify` reads."""

ALGORITHM = "ECDSA_SHA_256"
"""The only algorithm, of a key of spec ECC_NIST_P256: an attacker cannot choose a weaker one."""

MAX_SIGNATURE_BYTES = 72
"""Two numbers of 32 bytes in DER."""

KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):\d{12}:key/[A-Za-z0-9-]+")
"""A key, not an alias: an alias can be pointed at another key."""

_NOT_BY_THIS_KEY = "KMSInvalidSignatureException"


def signed_message(manifest: bytes) -> dict[str, Any]:
    """Return the message arguments of KMS's Sign and Verify for a manifest."""
    return {"Message": hashlib.sha256(manifest).digest(), "MessageType": "DIGEST", "SigningAlgorithm": ALGORITHM}


def check_signature(kms: Any, key_arn: str, model_version: str, manifest: bytes, signature: bytes | None) -> None:
    """Check that a manifest is signed with a key. Call it before anything is read from the manifest.

    Args:
        kms: A KMS client of the key's region.
        key_arn: The trusted key.
        model_version: For the error.
        manifest: The manifest's bytes.
        signature: The contents of the signature file; None if there is none.

    Raises:
        SignatureError: It is not signed, or not by this key.
        KmsError: KMS refused or did not answer.
    """
    if not signature:
        raise SignatureError(model_version, SIGNATURE, f"is missing: sign the bundle with {key_arn}")
    if len(signature) > MAX_SIGNATURE_BYTES or not _is_by(kms, key_arn, manifest, signature):
        raise SignatureError(model_version, SIGNATURE, f"is no signature of this manifest by {key_arn}")


def _is_by(kms: Any, key_arn: str, manifest: bytes, signature: bytes) -> bool:
    try:
        answer = kms.verify(KeyId=key_arn, Signature=signature, **signed_message(manifest))
        return answer["SignatureValid"] is True
    except ClientError as error:
        if error.response["Error"]["Code"] == _NOT_BY_THIS_KEY:
            return False
        raise KmsError("verify", key_arn, str(error)) from error
    except NO_USABLE_ANSWER as error:
        raise KmsError("verify", key_arn, str(error)) from error
