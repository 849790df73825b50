"""`ridecast models promote`, `rollback` and `history`: a bucket's channels, moved and looked back at."""

from typing import Annotated

import typer

from infra.commands.aws import Aws, on_aws
from infra.commands.bucket import LOCAL_BUCKET, ModelBucket, open_bucket
from infra.commands.options import Channel, Json, Version, channel_name
from infra.commands.signing import TrustedKey, open_signer

AnyChannel = Annotated[str | None, typer.Option(help="This channel only.", callback=channel_name)]


@on_aws
def promote_command(
    aws: Aws,
    version: Version,
    channel: Channel = "stable",
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; into candidate only.")] = False,
    signing_key: TrustedKey = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Point a channel at a stored version that the gate let through, or that the channel has held before."""
    from infra.models.channel_view import show_move
    from infra.models.mirroring import follow
    from training.errors import bucket_address
    from training.publish import promote
    from training.registry.versions import resolve_version

    s3, name = open_bucket(bucket, aws)
    signer = open_signer(signing_key, aws)
    moved = promote(s3, name, channel, resolve_version(s3, name, version), force=force, signer=signer)
    follow(s3, name)
    show_move(moved, bucket_address(name), json_only=as_json)


@on_aws
def rollback_command(
    aws: Aws,
    channel: Channel = "stable",
    signing_key: TrustedKey = None,
    bucket: ModelBucket = LOCAL_BUCKET,
    as_json: Json = False,
) -> None:
    """Point a channel at the version that it held before. Twice is where it began."""
    from infra.models.channel_view import show_move
    from infra.models.mirroring import follow
    from training.errors import bucket_address
    from training.publish import rollback

    s3, name = open_bucket(bucket, aws)
    moved = rollback(s3, name, channel, signer=open_signer(signing_key, aws))
    follow(s3, name)
    show_move(moved, bucket_address(name), json_only=as_json)


@on_aws
def history_command(
    aws: Aws, channel: AnyChannel = None, bucket: ModelBucket = LOCAL_BUCKET, as_json: Json = False
) -> None:
    """List every move of the channels, the oldest first: when, from where to where, who, and why."""
    from infra.models.channel_view import show_history
    from training.errors import bucket_address
    from training.registry.history import channels_with_history, read_history
    from training.registry.versions import channels

    s3, name = open_bucket(bucket, aws)
    named = [channel] if channel else sorted({*channels(s3, name), *channels_with_history(s3, name)})
    lines = [line for one in named for line in read_history(s3, name, one)]
    show_history(sorted(lines, key=lambda line: line.moved_at), bucket_address(name), json_only=as_json)
