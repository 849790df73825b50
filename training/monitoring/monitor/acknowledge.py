"""Acknowledge an alarm: somebody knows of the change, and wants to hear of the next one.

An acknowledgement is an object of its own, written once: `monitor/acknowledged/<model version>/<group>-<day>.json`. At
the end of its day the alarm ends, and the evidence of its group begins at 0 again.
"""

import re
from datetime import date

import msgspec

from training.errors import BucketError, UserError
from training.monitoring.monitor.status import load_status
from training.registry.bucket import Bucket
from training.registry.channels import Mover

FOLDER = "monitor/acknowledged/"
_NAME = re.compile(r"(?P<group>[a-z]+)-(?P<day>\d{4}-\d\d-\d\d)\.json")


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """Who acknowledged which alarm, and when.

    Attributes:
        day: The last monitored day at that time, with whose end the alarm ends.
        acknowledged_at: ISO 8601 in UTC.
    """

    model_version: str
    group: str
    day: date
    acknowledged_by: str
    acknowledged_at: str


_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Acknowledgement).decode


def acknowledge(bucket: Bucket, group: str, mover: Mover) -> Acknowledgement:
    """Acknowledge the alarm of a group, and return what is stored: an earlier acknowledgement of the same day stays.

    The next run of the monitor takes it up.

    Raises:
        UserError: There is no alarm of the group.
        BucketError: S3 fails.
    """
    status = load_status(bucket)
    groups = {one.group: one for one in status.groups} if status else {}
    if status is None or status.model_version is None or status.last_day is None or not groups:
        raise UserError("monitoring has judged no day yet, so there is no alarm", "look at `ridecast monitor status`")
    if group not in groups:
        raise UserError(f"{group!r} is no group of quantities", f"name one of {' and '.join(sorted(groups))}")
    if groups[group].state != "alarm":
        raise UserError(f"{group} has no alarm: its state is {groups[group].state}", "there is nothing to acknowledge")
    made = Acknowledgement(
        model_version=status.model_version,
        group=group,
        day=status.last_day,
        acknowledged_by=mover.name,
        acknowledged_at=mover.clock().isoformat(timespec="seconds"),
    )
    key = f"{FOLDER}{made.model_version}/{group}-{made.day}.json"
    try:
        return _decode(bucket.write_once(key, _encode(made) + b"\n"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = f"is damaged ({error}), and acknowledges the alarm all the same: delete it and repeat this"
        raise BucketError(bucket.name, key, problem) from error


def acknowledged_days(bucket: Bucket, model_version: str, last: date | None) -> dict[str, list[date]]:
    """Return the days at whose end an alarm was acknowledged, by group, from the keys alone.

    Those after `last`, the last monitored day, do not count yet: nobody acknowledges an alarm before it sounds.
    """
    prefix = f"{FOLDER}{model_version}/"
    found: dict[str, list[date]] = {}
    for key in bucket.keys(prefix):
        parsed = _NAME.fullmatch(key.removeprefix(prefix))
        day = _day(parsed["day"]) if parsed else None
        if parsed and day and last and day <= last:
            found.setdefault(parsed["group"], []).append(day)
    return found


def _day(text: str) -> date | None:
    """Return a day as it is written in a key; None if the calendar has no such day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
