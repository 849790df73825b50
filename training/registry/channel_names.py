"""Names of channels: a mistyped one must not become a new channel."""

from collections.abc import Iterable

from training.errors import UserError, bucket_address, did_you_mean
from training.registry.bucket import Bucket
from training.registry.channel_history import LostChannelError, channels_with_history, is_lost, read_channel
from training.registry.versions import read_channels

USUAL = ("stable", "candidate")
"""Channels that a first model may create without being asked: the served one, and that of models the gate refused."""


def check_channel(bucket: Bucket, channel: str, *, create: bool, also: Iterable[str] = ()) -> None:
    """Refuse a channel that a bucket does not have, unless it may be created.

    Args:
        bucket: The bucket.
        channel: The channel that a model is for.
        create: Whether a new channel is wanted.
        also: More names that need no asking, such as the channel that a stack serves.

    Raises:
        UserError: There is no such channel; with names like it.
    """
    if create or channel in {*USUAL, *also} or read_channel(bucket, channel).state:
        return
    there = sorted({*read_channels(bucket), *channels_with_history(bucket), *USUAL, *also})
    if channel in there:  # lost: a move says how to restore it
        return
    problem = f"{bucket_address(bucket.name)} has no channel {channel}"
    raise UserError(problem, f"{did_you_mean(channel, there) or _listed(there)} --create makes a new channel")


def check_holds_model(bucket: Bucket, channel: str) -> None:
    """Refuse a channel without a model.

    Raises:
        UserError: It holds none, or is damaged or lost.
    """
    stored = read_channel(bucket, channel)
    if is_lost(bucket, stored):
        raise LostChannelError(bucket, channel)
    if stored.state is None:
        hint = did_you_mean(channel, read_channels(bucket)) or "release one with `ridecast models release`"
        raise UserError(f"channel {channel} of {bucket_address(bucket.name)} holds no model", hint)


def _listed(names: Iterable[str]) -> str:
    return f"there is {', '.join(names)};"
