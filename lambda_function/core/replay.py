"""A replay: a caller brings original records again, so that their predictions come with the ids that they have.

An invocation with ``"ridecast": {"replay": true}`` beside its ``Records`` is a replay. Only a caller that may invoke
the function can write that: see `rehearsal.py`. The function handles it as a batch of the stream, and publishes
everything again. A sub-record may come by itself, with its index in ``eventID``. The answer is the partial batch
response, and names the records that are rejected again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lambda_function.core.events import Reject
from lambda_function.core.records import KinesisRecord

REPLAY_FIELD = "ridecast"
"""Beside `Records` in the invocation, and beside `batchItemFailures` in the answer."""


def is_replay(event: Mapping[str, Any]) -> bool:
    """Return whether an invocation is a replay."""
    mark = event.get(REPLAY_FIELD)
    return isinstance(mark, dict) and mark.get("replay") is True


def replay_event(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Build the invocation from records of one shard, in order and in Lambda's format."""
    return {"Records": list(records), REPLAY_FIELD: {"replay": True}}


def replay_result(records: Iterable[KinesisRecord], rejects: Iterable[Reject]) -> dict[str, Any]:
    """Return what the answer to a replay holds beside the partial batch response: the records that are rejects.

    A reject of a sub-record counts only if the sub-record came by itself.
    """
    rejected = {reject.event_id for reject in rejects}
    return {REPLAY_FIELD: {"rejected": [record.event_id for record in records if record.event_id in rejected]}}
