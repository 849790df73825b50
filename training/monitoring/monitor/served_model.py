"""The model that a channel serves now, and since when: that is the model whose days are monitored."""

from dataclasses import dataclass
from datetime import UTC, datetime

from lambda_function.core.channel import Channel
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a channel serves.

    Attributes:
        model_version: Without calibration.
        served_version: With it.
        since: When it took over from another model, aware. Its calibrations, and a rollback to it, change nothing. Of a
            channel that has had no other model, 1970.
        is_first: Whether the channel knows of no model before it.
    """

    model_version: str
    served_version: str
    since: datetime
    is_first: bool


def served_model(bucket: Bucket, channel: str, now: datetime) -> ServedModel | None:
    """Return the model of records that arrive now; None if the channel holds none.

    Raises:
        DamagedChannelError: The channel's object is not a channel.
        BucketError: S3 fails.
    """
    state = read_channel(bucket, channel).state
    return _served(state, now) if state else None


def _served(state: Channel, now: datetime) -> ServedModel:
    newest = state.segment_at(now.timestamp())
    older = state.segments[state.segments.index(newest) :]
    run = [newest]
    for segment in older[1:]:
        if segment.model_version != newest.model_version:
            break
        run.append(segment)
    since = datetime.fromtimestamp(run[-1].effective_from_s, UTC)
    return ServedModel(newest.model_version, newest.served_version, since, is_first=len(run) == len(older))
