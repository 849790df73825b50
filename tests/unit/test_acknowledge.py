"""Acknowledging an alarm: what is stored, and what is refused."""

from datetime import UTC, date, datetime

import pytest

from tests.builders_labelled import labelled_bucket
from training.errors import BucketError, UserError
from training.monitoring.monitor.acknowledge import acknowledge, acknowledged_days
from training.monitoring.monitor.status import STATUS_KEY, GroupStatus, MonitorStatus, encode_status
from training.registry.bucket import Bucket
from training.registry.channels import Mover

VERSION = "green-2023-03-abcdef123456"


def ada(day: int = 5) -> Mover:
    return Mover("ada", lambda: datetime(2026, 8, day, 12, tzinfo=UTC))


def bucket_in_alarm(last_day: date | None = date(2026, 8, 3)) -> Bucket:
    groups = (GroupStatus(group="data", state="alarm"), GroupStatus(group="performance", state="ok"))
    status = MonitorStatus(
        written_at="2026-08-04T12:00:00+00:00",
        channel="stable",
        model_version=VERSION,
        last_day=last_day,
        n_days=3,
        groups=groups,
    )
    return labelled_bucket({STATUS_KEY: encode_status(status)})


def test_an_acknowledgement_is_of_the_last_monitored_day() -> None:
    bucket = bucket_in_alarm()
    made = acknowledge(bucket, "data", ada())
    assert (made.day, made.acknowledged_by, made.acknowledged_at) == (
        date(2026, 8, 3),
        "ada",
        "2026-08-05T12:00:00+00:00",
    )
    last = date(2026, 8, 3)
    assert acknowledged_days(bucket, VERSION, last) == {"data": [last]}
    assert acknowledged_days(bucket, "green-2023-04-abcdef123456", last) == {}


def test_the_first_of_a_day_stays() -> None:
    bucket = bucket_in_alarm()
    first = acknowledge(bucket, "data", ada(5))
    assert acknowledge(bucket, "data", ada(6)) == first


def test_damaged_acknowledgement_is_named_with_the_remedy() -> None:
    bucket = bucket_in_alarm()
    bucket.write(f"monitor/acknowledged/{VERSION}/data-2026-08-03.json", b"{")
    with pytest.raises(BucketError, match=r"data-2026-08-03.json is damaged .*: delete it and repeat this"):
        acknowledge(bucket, "data", ada())


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        ("performance", "performance has no alarm: its state is ok"),
        ("distance", "'distance' is no group of quantities: name one of data and performance"),
    ],
)
def test_what_is_not_in_alarm_cannot_be_acknowledged(group: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        acknowledge(bucket_in_alarm(), group, ada())


@pytest.mark.parametrize("bucket", [labelled_bucket({}), bucket_in_alarm(None)], ids=["no status", "no day"])
def test_before_a_day_was_judged_there_is_nothing_to_acknowledge(bucket: Bucket) -> None:
    with pytest.raises(UserError, match="monitoring has judged no day yet"):
        acknowledge(bucket, "data", ada())


def test_other_objects_are_no_acknowledgements() -> None:
    bucket = labelled_bucket(
        {
            f"monitor/acknowledged/{VERSION}/{name}": b""
            for name in ("", "data.json", "data-x.json", "data-2026-02-30.json")
        }
    )
    assert acknowledged_days(bucket, VERSION, date(2026, 8, 3)) == {}


def test_days_to_come_are_not_acknowledged_yet() -> None:
    bucket = labelled_bucket({f"monitor/acknowledged/{VERSION}/data-9999-12-30.json": b""})
    assert acknowledged_days(bucket, VERSION, date(2026, 8, 3)) == {}
    assert acknowledged_days(bucket, VERSION, None) == {}
