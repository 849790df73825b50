"""What the monitor has written: whether it gets through, whether it sounds, and the state of the calibration."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from infra.operate.doctor.facts import Finding, MonitorFacts, StackFacts, good
from infra.operate.doctor.faults import found
from infra.operate.doctor.reading import Reading
from training.monitoring.monitor.status import STATUS_KEY, DamagedStatusError, MonitorStatus, load_status
from training.registry.bucket import Bucket

MAX_AGE_S = 3600.0
"""The monitor runs every quarter of an hour: an older status is of four runs that did not get through."""

_FAULT_OF_GROUP = {"data": "data-changed", "performance": "performance-changed"}
_S_PER_MINUTE = 60


def read(reading: Reading) -> dict[str, Any]:
    """Read the monitor's status; nothing of a stack that is older than the monitor."""
    if "Monitor" not in reading.names or "bucket" in reading.missing:
        return {}
    bucket = Bucket(reading.client("s3"), reading.stack.outputs["BucketName"])
    return {"monitor": reading.part("monitor", None, partial(probe_status, bucket, datetime.now(UTC)))}


def probe_status(bucket: Bucket, now: datetime) -> MonitorFacts:
    """Load the status and compute its age.

    Raises:
        BucketError: S3 refused, or the status is of a newer version of this program.
    """
    try:
        status = load_status(bucket)
    except DamagedStatusError as error:
        return MonitorFacts(problem=str(error))
    age_s = (now - datetime.fromisoformat(status.written_at)).total_seconds() if status else 0.0
    return MonitorFacts(status, age_s)


def check_monitor(facts: StackFacts) -> Iterator[Finding]:
    """Check the status: its age, the state of each group, and the calibration."""
    monitor = facts.monitor
    if monitor is None:
        return
    if monitor.problem:
        yield found("status-damaged", monitor.problem)
    elif monitor.status is None:
        yield good("monitor", f"{STATUS_KEY} is not there yet: the monitor writes it when it first runs")
    else:
        yield from _check_status(monitor.status, monitor.age_s, facts.name)


def _check_status(status: MonitorStatus, age_s: float, stack: str) -> Iterator[Finding]:
    if age_s > MAX_AGE_S:
        yield found("status-old", f"{STATUS_KEY} was written {age_s / _S_PER_MINUTE:,.0f} minutes ago")
    for group in status.groups:
        if group.state == "alarm" and group.group in _FAULT_OF_GROUP:
            yield found(_FAULT_OF_GROUP[group.group], group.text, stack=stack)
    unknown = [group.group for group in status.groups if group.state == "unknown"]
    if unknown and status.n_days:
        what = f"{' and '.join(unknown)} can't be judged: {'; '.join(status.missing) or 'no reason is given'}"
        yield found("not-monitored", what, stack=stack)
    if not unknown and all(group.state == "ok" for group in status.groups):
        yield good("monitor", f"no alarm on {status.served_version}, {status.n_days} days with figures")
    elif unknown and not status.n_days:
        yield good("monitor", f"no day of {status.served_version} is complete yet")
    if status.calibration.state == "frozen":
        why = status.calibration.frozen_reason or status.calibration.text
        yield found("calibration-frozen", why, stack=stack)
    else:
        yield good("calibration", f"{status.calibration.state}: {status.calibration.text}")
