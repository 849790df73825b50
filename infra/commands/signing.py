"""`ridecast models sign`, and the option that has other commands sign what they store or look who has signed it."""

from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.bucket import LOCAL_BUCKET, ModelBucket, open_bucket
from infra.commands.options import Json, Version

if TYPE_CHECKING:
    from training.registry.signing import Signer

_NAME = "--signing-key"
_VARIABLE = "RIDECAST_SIGNING_KEY"
"""One for every command: a team sets it once, and what it publishes, promotes or rolls back to is signed."""

_SIGNS = "KMS key that signs what is stored: its ARN, or another of its names. (default: no signature)"
_TRUSTED = "KMS key of the function: refuse a version that it has not signed. (default: nobody looks)"

SigningKey = Annotated[str | None, typer.Option(_NAME, envvar=_VARIABLE, help=_SIGNS)]
TrustedKey = Annotated[str | None, typer.Option(_NAME, envvar=_VARIABLE, help=_TRUSTED)]


def open_signer(key: str | None, aws: Aws) -> "Signer | None":
    """Returns what signs with a key, in the key's own region where its ARN says it; None without a key."""
    from lambda_function.signature import KEY_ARN
    from training.registry.signing import Signer

    if not key:
        return None
    arn = KEY_ARN.fullmatch(key)
    return Signer(aws.client("kms", arn["region"] if arn else None), key)


@on_aws
def sign_command(
    aws: Aws,
    version: Version,
    signing_key: Annotated[str, typer.Option(_NAME, envvar=_VARIABLE, help="KMS key: its ARN, or another name.")],
    replace: Annotated[bool, typer.Option("--replace", help="In the place of another key's signature.")] = False,
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Sign a stored version, after checking it as the function would: for those from before there was a key."""
    from infra.console import show_result
    from training.errors import bucket_address
    from training.registry.signing import sign_stored
    from training.registry.versions import resolve_version

    signer = open_signer(signing_key, aws)
    assert signer is not None  # noqa: S101 - the option has no default
    s3, name = open_bucket(bucket, aws)
    found = resolve_version(s3, name, version)
    is_new = sign_stored(s3, name, found, signer, replace=replace)
    rows = {"model version": found, "key": signing_key, "signed": "now" if is_new else "it was already"}
    result = {"model_version": found, "signing_key": signing_key, "signed_now": is_new}
    show_result(bucket_address(name), rows, result, json_only=as_json)
