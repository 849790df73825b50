"""`loop/runs/<run id>.json`: what a run of the loop has done, step by step, and how it ended.

A step is done once it is in this record. A step that is called again returns what the record has.
"""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from training.errors import BucketError, UserError
from training.registry.bucket import Bucket

RUNS = "loop/runs/"

Trigger = Literal["schedule", "alarm", "manual"]
"""What started a run."""

Outcome = Literal["promoted", "rolled back", "kept", "rejected", "refused", "yielded", "stopped", "failed"]
"""How a run ended.

`promoted`: the candidate serves, and the watch found nothing against it. `rolled back`: it served, and the predecessor
serves again. `kept`: the verdict or a person kept the champion. `rejected`: the gate or the data contract refused the
candidate. `refused`: the run did not begin. `yielded`: somebody else moved the channel or holds the lease. `stopped`: a
person ended it. `failed`: a step failed at every attempt, or a worker failed or did not answer.
"""

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""An aware time: one without an offset is damage, and can't be compared with others."""

_RUN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
WATCH = "-watch"
"""Ends the name of a run's second experiment. So a run's id doesn't end so: it would share experiments with another."""

DAMAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON of ours."""

_N_TRIES = 5
_N_RECENT = 50


class End(msgspec.Struct, frozen=True):
    """How a run ends, and why, in one sentence."""

    outcome: Outcome
    text: str


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A step that is done.

    Attributes:
        at: When, aware.
        outcome: One word or a few, as in "go" or "wait".
        text: What happened and why, in one sentence.
        facts: Values that later steps use.
        end: How the run ends here; None if it goes on.
    """

    name: str
    at: Moment
    outcome: str
    text: str
    facts: dict[str, Any] = {}
    end: End | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What a run waits for.

    Attributes:
        what: As in "the trainer's answer".
        until: When it goes on without.
        callback_id: By which an answer reaches the run; None if it only waits for a time.
    """

    what: str
    until: Moment
    callback_id: str | None = None


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the loop.

    Attributes:
        started_at: When its first step was done; `ended_at` when its last one was.
        waiting: What it waits for; None if a step is under way or it has ended.
        end: None while it goes on.
    """

    format: int = 1
    run_id: str
    channel: str
    trigger: Trigger
    reason: str
    started_at: Moment
    steps: tuple[StepRecord, ...] = ()
    waiting: Waiting | None = None
    ended_at: Moment | None = None
    end: End | None = None

    def step(self, name: str) -> StepRecord | None:
        """Return a step that is done; None if it is not."""
        return next((one for one in self.steps if one.name == name), None)

    @property
    def champion(self) -> str | None:
        """The version in the channel when the run began; None if it was refused."""
        return self._fact("decide", "champion")

    @property
    def candidate(self) -> str | None:
        """The version that the run trained; None before."""
        return self._fact("trained", "model_version")

    @property
    def has_worked(self) -> bool:
        """Whether the run ended after it had begun: one that was refused or has failed delays no other."""
        return self.end is not None and self.end.outcome not in {"refused", "failed"}

    def _fact(self, step: str, name: str) -> str | None:
        done = self.step(step)
        return done.facts.get(name) if done else None


_decode = msgspec.json.Decoder(RunRecord).decode


def check_run_id(run_id: str) -> None:
    """Check that a run id can be part of keys and names.

    Raises:
        UserError: It can't.
    """
    if not _RUN_ID.fullmatch(run_id) or run_id.endswith(WATCH):
        hint = f"use 1 to 64 lower-case letters, digits, '-' and '_', and not {WATCH} at the end"
        raise UserError(f"{run_id!r} is no id of a run", hint)


def run_key(run_id: str) -> str:
    """Return the key of a run's record.

    >>> run_key("20261129-194000")
    'loop/runs/20261129-194000.json'
    """
    return f"{RUNS}{run_id}.json"


def read_run(bucket: Bucket, run_id: str) -> RunRecord | None:
    """Read a run's record; None if there is no such run.

    Raises:
        BucketError: S3 fails, or the object is no record.
    """
    check_run_id(run_id)
    return _read(bucket, run_id)[0]


def read_runs(bucket: Bucket, n_most: int = _N_RECENT) -> tuple[RunRecord, ...]:
    """Read the runs, the newest first: of those written last, at most `n_most`. A damaged record is left out."""
    return _read_some(bucket, _keys(bucket)[:n_most])


def last_run(bucket: Bucket, is_wanted: Callable[[RunRecord], bool]) -> RunRecord | None:
    """Return the newest run that is wanted, however many others were written since; None if there is none.

    A storm of alarms leaves a hundred runs that were refused.
    """
    keys = _keys(bucket)
    for start in range(0, len(keys), _N_RECENT):
        some = _read_some(bucket, keys[start : start + _N_RECENT])
        if found := next(filter(is_wanted, some), None):
            return found
    return None


def _keys(bucket: Bucket) -> list[str]:
    """List the keys of the runs' records, the one that was written last first."""
    listed = [(one.modified.timestamp() if one.modified else 0.0, one.key) for one in bucket.list_objects(RUNS)]
    return [key for _, key in sorted(listed, reverse=True)]


def _read_some(bucket: Bucket, keys: Iterable[str]) -> tuple[RunRecord, ...]:
    found = []
    for stored in bucket.read_all(keys):
        try:
            found.append(_decode(stored.body))
        except DAMAGE:
            continue
    return tuple(sorted(found, key=lambda run: (run.started_at, run.run_id), reverse=True))


def change_run(bucket: Bucket, run_id: str, change: Callable[[RunRecord | None], RunRecord]) -> RunRecord:
    """Change a run's record, whoever else changes it at the same time, and return the record as it is then.

    Args:
        bucket: Holds the record.
        run_id: The run's.
        change: Returns the new record for the present one, which is None if there is none. It may be called again.

    Raises:
        BucketError: S3 fails, the object is no record, or others write it all the time.
    """
    for _ in range(_N_TRIES):
        old, etag = _read(bucket, run_id)
        new = change(old)
        if new == old or bucket.replace(run_key(run_id), _encode(new), etag):
            return new
    raise BucketError(bucket.name, run_key(run_id), "is being written by somebody else: try again")


def _read(bucket: Bucket, run_id: str) -> tuple[RunRecord | None, str | None]:
    stored = bucket.read(run_key(run_id))
    if stored is None:
        return None, None
    try:
        return _decode(stored.body), stored.etag
    except DAMAGE as error:
        raise BucketError(bucket.name, run_key(run_id), f"is no record of a run ({error}): remove it") from error


def _encode(record: RunRecord) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
