"""`ridecast models`: what a bucket holds of models, and moving its channels. Other files add commands to this group."""

from typing import Annotated

import typer

from infra.cli_bucket import LOCAL_BUCKET, EndpointUrl, ModelBucket, Profile, Region, open_bucket
from infra.cli_options import Json, channel_name

models = typer.Typer(no_args_is_help=True, help="Model bundles in a bucket, and the channels that point at them.")

Version = Annotated[str, typer.Argument(help="A version, the beginning of one, or a channel that points at it.")]
Channel = Annotated[str, typer.Option(help="Which channel.", callback=channel_name)]
AnyChannel = Annotated[str | None, typer.Option(help="This channel only.", callback=channel_name)]


@models.command("list")
def list_command(
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """List the versions: what they learnt from, how far they are off, which channels point at them."""
    from infra.model_facts import list_models
    from infra.model_view import show_models
    from training.errors import bucket_address

    s3, name = open_bucket(bucket, endpoint_url, profile, region)
    show_models(list_models(s3, name), bucket_address(name), json_only=as_json)


@models.command("show")
def show_command(
    version: Version,
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Show one version: months, errors, slices, parameters, files, the gate's verdicts, channels."""
    from infra.model_facts import tell
    from infra.model_view import show_model
    from training.registry import resolve_version

    s3, name = open_bucket(bucket, endpoint_url, profile, region)
    show_model(tell(s3, name, resolve_version(s3, name, version)), json_only=as_json)


@models.command("compare")
def compare_command(
    a: Version,
    b: Version,
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Put two versions side by side: months, parameters, errors, and the slices that differ most."""
    from infra.model_facts import compare, tell
    from infra.model_view import show_comparison
    from training.registry import resolve_version

    s3, name = open_bucket(bucket, endpoint_url, profile, region)
    told = [tell(s3, name, resolve_version(s3, name, one)) for one in (a, b)]
    show_comparison(compare(*told), json_only=as_json)


@models.command("promote")
def promote_command(
    version: Version,
    channel: Channel = "stable",
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; into candidate only.")] = False,
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Point a channel at a stored version that the gate let through, or that the channel has held before."""
    from infra.mirroring import follow
    from infra.model_view import show_move
    from training.errors import bucket_address
    from training.publish import promote
    from training.registry import resolve_version

    s3, name = open_bucket(bucket, endpoint_url, profile, region)
    moved = promote(s3, name, channel, resolve_version(s3, name, version), force=force)
    follow(s3, name)
    show_move(moved, bucket_address(name), json_only=as_json)


@models.command("rollback")
def rollback_command(
    channel: Channel = "stable",
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Point a channel at the version that it held before. Twice is where it began."""
    from infra.mirroring import follow
    from infra.model_view import show_move
    from training.errors import bucket_address
    from training.publish import rollback

    s3, name = open_bucket(bucket, endpoint_url, profile, region)
    moved = rollback(s3, name, channel)
    follow(s3, name)
    show_move(moved, bucket_address(name), json_only=as_json)


@models.command("history")
def history_command(
    channel: AnyChannel = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """List every move of the channels, the oldest first: when, from where to where, who, and why."""
    from infra.model_view import show_history
    from training.errors import bucket_address
    from training.history import channels_with_history, read_history
    from training.registry import channels

    s3, name = open_bucket(bucket, endpoint_url, profile, region)
    named = [channel] if channel else sorted({*channels(s3, name), *channels_with_history(s3, name)})
    lines = [line for one in named for line in read_history(s3, name, one)]
    show_history(sorted(lines, key=lambda line: line.moved_at), bucket_address(name), json_only=as_json)


@models.command("reproduce")
def reproduce_command(
    version: Version,
    bucket: ModelBucket = LOCAL_BUCKET,
    endpoint_url: EndpointUrl = None,
    profile: Profile = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Train a version again from its manifest, and say identical or what differs (then with exit code 1)."""
    from infra.console import ConsoleDisplay, error_console
    from infra.model_view import show_reproduction
    from training.registry import read_stored, resolve_version
    from training.reproduce import reproduce, train_as_before

    s3, name = open_bucket(bucket, endpoint_url, profile, region)
    stored = read_stored(s3, name, resolve_version(s3, name, version))
    with ConsoleDisplay(error_console()).live() as display:
        found = reproduce(stored, train_as_before(display.step))
    show_reproduction(found, json_only=as_json)
    if not found.is_identical:
        raise typer.Exit(1)
