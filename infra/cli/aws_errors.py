"""Errors of AWS as one sentence that names the options which mend them."""

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnectionError

_PLACE = "--local is the stack of `ridecast up`"

_HINTS = {
    **dict.fromkeys(
        (
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ),
        f"log in again with `aws sso login` or `aws configure`, or give --profile; {_PLACE}",
    ),
    **dict.fromkeys(
        ("ResourceNotFoundException", "NoSuchBucket"),
        f"check the name, --stack, --region and --profile; {_PLACE}",
    ),
}
"""By error code: what to do about it."""


def aws_sentence(error: Exception) -> str:
    """Return an error of AWS with what to do about it, where that is known; any other as it is."""
    if isinstance(error, ClientError):
        hint = _HINTS.get(error.response["Error"]["Code"], "")
    elif isinstance(error, NoConnectionError | HTTPClientError):
        hint = f"check the network, --region and --endpoint-url; {_PLACE}"
    else:
        hint = ""
    return f"{str(error).rstrip('.')}: {hint}" if hint else str(error)
