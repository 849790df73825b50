"""`ridecast models list`, `show`, `compare` and `reproduce`: what a bucket holds of models."""

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.bucket import LOCAL_BUCKET, ModelBucket, open_bucket
from infra.commands.options import Json, Version


@on_aws
def list_command(aws: Aws, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False) -> None:
    """List the versions: what they learnt from, how far they are off, which channels point at them."""
    from infra.models.facts import list_models
    from infra.models.view import show_models
    from training.errors import bucket_address

    s3, name = open_bucket(bucket, aws)
    show_models(list_models(s3, name), bucket_address(name), json_only=as_json)


@on_aws
def show_command(aws: Aws, version: Version, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False) -> None:
    """Show one version: months, errors, slices, parameters, files, the gate's verdicts, channels."""
    from infra.models.facts import tell
    from infra.models.view import show_model
    from training.registry.versions import resolve_version

    s3, name = open_bucket(bucket, aws)
    show_model(tell(s3, name, resolve_version(s3, name, version)), json_only=as_json)


@on_aws
def compare_command(
    aws: Aws, a: Version, b: Version, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False
) -> None:
    """Put two versions side by side: months, parameters, errors, and the slices that differ most."""
    from infra.models.comparison_view import show_comparison
    from infra.models.facts import compare, tell
    from training.registry.versions import resolve_version

    s3, name = open_bucket(bucket, aws)
    told = [tell(s3, name, resolve_version(s3, name, one)) for one in (a, b)]
    show_comparison(compare(*told), json_only=as_json)


@on_aws
def reproduce_command(aws: Aws, version: Version, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False) -> None:
    """Train a version again from its manifest, and say identical or what differs (then with exit code 1)."""
    from infra.console import ConsoleDisplay, error_console
    from infra.models.comparison_view import show_reproduction
    from training.registry.versions import read_stored, resolve_version
    from training.reproduce import reproduce, train_as_before

    s3, name = open_bucket(bucket, aws)
    stored = read_stored(s3, name, resolve_version(s3, name, version))
    with ConsoleDisplay(error_console()).live() as display:
        found = reproduce(stored, train_as_before(display.step))
    show_reproduction(found, json_only=as_json)
    if not found.is_identical:
        raise typer.Exit(1)
