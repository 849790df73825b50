"""A fake KMS with keys that sign and verify as in AWS; moto differs (it takes a digest for a message)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from training.registry.folder_s3 import client_error

REGION = "eu-west-1"
KEY = f"arn:aws:kms:{REGION}:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER_KEY = KEY.replace("1234abcd", "4321abcd")

_DIGEST_BYTES = 32


@cache
def _private_key(key_arn: str) -> ec.EllipticCurvePrivateKey:
    """Make a key once."""
    return ec.generate_private_key(ec.SECP256R1())


def public_key(key_arn: str) -> ec.EllipticCurvePublicKey:
    """Return the public key as KMS does."""
    return _private_key(key_arn).public_key()


@dataclass(slots=True)
class FakeKms:
    """Two keys of spec ECC_NIST_P256.

    Attributes:
        script: Outcomes, one a call: None for a call that works, an exception is raised.
        calls: ("sign" or "verify", key) each.
    """

    script: list[Exception | None] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def sign(self, *, KeyId: str, Message: bytes, MessageType: str, SigningAlgorithm: str) -> dict[str, Any]:  # noqa: N803
        """Sign a digest."""
        key = self._begin("sign", KeyId, Message, MessageType, SigningAlgorithm)
        return {"KeyId": KeyId, "Signature": key.sign(Message, ec.ECDSA(utils.Prehashed(SHA256())))}

    def verify(
        self,
        *,
        KeyId: str,  # noqa: N803
        Message: bytes,  # noqa: N803
        MessageType: str,  # noqa: N803
        Signature: bytes,  # noqa: N803
        SigningAlgorithm: str,  # noqa: N803
    ) -> dict[str, Any]:
        """Verify a digest's signature; AWS answers a wrong one with an error."""
        key = self._begin("verify", KeyId, Message, MessageType, SigningAlgorithm)
        try:
            key.public_key().verify(Signature, Message, ec.ECDSA(utils.Prehashed(SHA256())))
        except InvalidSignature:
            raise client_error(400, "KMSInvalidSignatureException", "Verify") from None
        return {"KeyId": KeyId, "SignatureValid": True, "SigningAlgorithm": SigningAlgorithm}

    def of_region(self) -> Callable[[str], "FakeKms"]:
        """Return a function that makes a client of the keys' region: this one."""

        def make(region: str) -> FakeKms:
            assert region == REGION
            return self

        return make

    def _begin(
        self, operation: str, key_arn: str, message: bytes, message_type: str, algorithm: str
    ) -> ec.EllipticCurvePrivateKey:
        self.calls.append((operation, key_arn))
        outcome = self.script.pop(0) if self.script else None
        if outcome:
            raise outcome
        if key_arn not in {KEY, OTHER_KEY}:
            raise client_error(400, "NotFoundException", operation)
        if (message_type, algorithm, len(message)) != ("DIGEST", "ECDSA_SHA_256", _DIGEST_BYTES):
            raise client_error(400, "ValidationException", operation)
        return _private_key(key_arn)
