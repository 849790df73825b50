"""`ridecast models sign`, and the option that has other commands sign what they store."""

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli_bucket import LOCAL_BUCKET, EndpointUrl, ModelBucket, Profile, Region, aws_client, open_bucket
from infra.cli_models import Version
from infra.cli_options import Json

if TYPE_CHECKING:
    from training.signing import Signer

_HELP = "KMS key that signs what is stored: its ARN, or another of its names. [default: no signature]"
SigningKey = Annotated[str | None, typer.Option("--signing-key", envvar="RIDECAST_SIGNING_KEY", help=_HELP)]


def open_signer(
    key: str | None, endpoint_url: str | None = None, profile: str | None = None, region: str | None = None
) -> "Signer | None":
    """Returns what signs with a key, in the key's own region where its ARN says it; None without a key."""
    from lambda_function.signature import KEY_ARN
    from training.signing import Signer

    if not key:
        return None
    arn = KEY_ARN.fullmatch(key)
    return Signer(aws_client("kms", endpoint_url, profile, arn["region"] if arn else region), key)


def sign_command(
    version: Version,
    signing_key: Annotated[
        str, typer.Option("--signing-key", envvar="RIDECAST_SIGNING_KEY", help="KMS key: its ARN, or another name.")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="In the place of another key's signature.")] = False,
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Sign a stored version, after checking it as the function would: for those from before there was a key."""
    from infra.console import show_result
    from training.errors import bucket_address
    from training.registry import resolve_version
    from training.signing import sign_stored

    signer = open_signer(signing_key, endpoint_url, profile, region)
    assert signer is not None  # noqa: S101 - the option has no default
    s3, name = open_bucket(bucket, endpoint_url, profile, region)
    found = resolve_version(s3, name, version)
    is_new = sign_stored(s3, name, found, signer, replace=replace)
    rows = {"model version": found, "key": signing_key, "signed": "now" if is_new else "it was already"}
    result = {"model_version": found, "signing_key": signing_key, "signed_now": is_new}
    show_result(bucket_address(name), rows, result, json_only=as_json)
