"""The loop's runs by their records: whether one goes on, waits for somebody, or was lost."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from infra.operate.doctor.facts import Finding, LoopFacts, StackFacts, good
from infra.operate.doctor.faults import found
from infra.operate.doctor.reading import Reading
from training.registry.bucket import Bucket
from training.workflows.loop.lease import read_lease
from training.workflows.loop.state import RunRecord, read_runs

GRACE = timedelta(hours=6)
"""A run goes on this long after its wait has ended, at the latest: the retries of a step take nearly four hours."""


def read(reading: Reading) -> dict[str, Any]:
    """Read the newest run and the lease; nothing of a stack without the loop."""
    if "Looper" not in reading.names or "bucket" in reading.missing:
        return {}
    bucket = Bucket(reading.client("s3"), reading.stack.outputs["BucketName"])
    return {"loop": reading.part("loop", None, partial(probe_loop, bucket, datetime.now(UTC)))}


def probe_loop(bucket: Bucket, now: datetime) -> LoopFacts:
    """Load the newest record of a run, and look who holds the lease.

    Raises:
        BucketError: S3 refused.
    """
    lease, runs = read_lease(bucket, now), read_runs(bucket, 1)
    return LoopFacts(now, runs[0] if runs else None, lease.run_id if lease else "")


def check_loop(facts: StackFacts) -> Iterator[Finding]:
    """Check the newest run."""
    loop = facts.loop
    if loop is None:
        return
    run = loop.run
    if run is None:
        yield good("loop", "it has not run yet")
    elif run.end:
        yield good("loop", f"run {run.run_id}: {run.end.outcome}. {run.end.text}")
    else:
        yield _check_running(run, loop, facts.name)


def _check_running(run: RunRecord, loop: LoopFacts, stack: str) -> Finding:
    if loop.holder != run.run_id:
        what = f"run {run.run_id} has not ended, and does not hold the lease"
        return found("loop-run-lost", what, run=run.run_id, stack=stack)
    waiting = run.waiting
    if waiting and loop.read_at > waiting.until + GRACE:
        what = f"run {run.run_id} waits for {waiting.what} since {waiting.until:%Y-%m-%d %H:%M} UTC"
        return found("loop-run-stuck", what, run=run.run_id, stack=stack)
    if waiting and waiting.callback_id and waiting.what.startswith("approval"):
        what = f"run {run.run_id} waits for {waiting.what} until {waiting.until:%Y-%m-%d %H:%M} UTC"
        return found("loop-waits-for-approval", what, run=run.run_id, stack=stack)
    does = f"waits for {waiting.what}" if waiting else "is at work"
    return good("loop", f"run {run.run_id} {does}")
