"""The loop's moves of channels. Each is made once by a run, and only if nobody else has moved the channel meanwhile.

What a run has done already it finds in the channel's history, by the name of its mover. The channel is read first, then
its history, and the move is conditional on the channel as it was read: so no move of anybody can lie between.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from training.registry.bucket import Bucket
from training.registry.channel_history import (
    StoredChannel,
    history_key_at,
    read_arrivals,
    read_channel,
    served_versions,
)
from training.registry.channels import Mover, promote, rollback
from training.registry.signing import Signer
from training.workflows.loop.options import CANDIDATE_CHANNEL

_CLOCK_DIFFERENCE = timedelta(hours=1)
"""More than the clocks of two machines that run a loop differ."""


class Place(NamedTuple):
    """A channel as a run wants it: it holds `model_version`, put there by the run itself.

    Attributes:
        before: The version that it holds until then; None if it is empty.
        since: When the run began: it has moved nothing before.
    """

    channel: str
    model_version: str
    before: str | None
    since: datetime


def put(
    bucket: Bucket, place: Place, mover: Mover, signer: Signer | None = None, activation_delay_s: float = 0.0
) -> str | None:
    """Let a channel serve a version, unless the run has done so already. Return why not, if somebody else moved it.

    It needs what `promote` needs; the channel `candidate` takes it without a verdict of its own.

    Raises:
        UserError: As `promote`. If somebody moved the channel just now, to try it again tells.
    """
    stored = read_channel(bucket, place.channel)
    if _has_put(bucket, place, mover) or place.before == place.model_version:
        return holds(bucket, place.channel, place.model_version)  # read anew: the history is newer than `stored`
    if stored.model_version != place.before or _is_split(stored):
        return _moved(stored)
    promote(
        bucket,
        stored,
        place.model_version,
        force=place.channel == CANDIDATE_CHANNEL,
        signer=signer,
        mover=mover,
        activation_delay_s=activation_delay_s,
    )
    return None


def take_back(bucket: Bucket, place: Place, mover: Mover, signer: Signer | None = None) -> str | None:
    """Roll a channel back to the version before, unless the run has done so. Return why not, as `put` does.

    Raises:
        UserError: As `rollback`.
    """
    stored = read_channel(bucket, place.channel)
    before = place.before or ""
    if _has_put(bucket, place._replace(model_version=before), mover):
        return holds(bucket, place.channel, before)
    if stored.model_version != place.model_version or _is_split(stored):
        return _moved(stored)
    rollback(bucket, stored, before, signer=signer, mover=mover)
    return None


def holds(bucket: Bucket, channel: str, model_version: str | None) -> str | None:
    """Return None if a version is a channel's newest one, and serves alone; else who has moved the channel."""
    stored = read_channel(bucket, channel)
    return None if stored.model_version == model_version and not _is_split(stored) else _moved(stored)


def has_served(bucket: Bucket, channel: str, model_version: str) -> bool:
    """Return whether a channel holds a version or has held it."""
    return model_version in served_versions(bucket, read_channel(bucket, channel))


def _has_put(bucket: Bucket, place: Place, mover: Mover) -> bool:
    after = history_key_at(place.channel, place.since - _CLOCK_DIFFERENCE)
    arrivals = read_arrivals(bucket, place.channel, place.model_version, after)
    return any(one.moved_by == mover.name for one in arrivals)


def _moved(stored: StoredChannel) -> str:
    state = stored.state
    if state is None:
        return f"{stored.channel} is empty"
    what = f"split {stored.channel}" if _is_split(stored) else f"moved {stored.channel} to {state.served_version}"
    return f"{state.moved_by or 'somebody'} has {what} at {state.moved_at}"


def _is_split(stored: StoredChannel) -> bool:
    return stored.state is not None and stored.state.segments[0].candidate is not None
