"""Which hours are due for a join, and how hours are written."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders_archive import HOUR, ArchivedStreams
from tests.unit.test_join import join
from training.errors import UserError
from training.monitoring.hours import (
    FIRST,
    SECOND,
    Due,
    Hour,
    Joined,
    due_hours,
    horizon,
    hour_of_key,
    hours_between,
    look_back,
)
from training.monitoring.join.join import hours_due
from training.monitoring.join.options import JoinOptions

MINUTE = timedelta(minutes=1)


def due(now: datetime, joined: dict[Hour, Joined] | None = None, first: Hour | None = HOUR) -> list[Due]:
    return due_hours(first, joined or {}, now, outcome_delay_minutes=120)


def test_hour_is_due_at_its_horizon() -> None:
    end = horizon(HOUR, 120)
    assert end == HOUR.end + timedelta(hours=3)
    assert due(end - MINUTE) == []
    assert due(end) == [Due(HOUR, FIRST)]


def test_joined_hour_is_due_once_more_when_the_hours_of_two_days_are_joined() -> None:
    last = HOUR + 48
    later = horizon(last, 120)
    joined = {hour: Joined(FIRST, 0) for hour in hours_between(HOUR, later)}
    assert last.start < horizon(HOUR, 120, SECOND) <= last.end
    assert due(later - MINUTE, joined) == []
    assert due(later, joined) == [Due(HOUR, SECOND)]
    assert due(later, {**joined, HOUR: Joined(SECOND, 5)}) == []


def test_hour_with_rides_that_wait_is_due_again_at_each_run() -> None:
    assert due(horizon(HOUR, 120), {HOUR: Joined(FIRST, 1)}) == [Due(HOUR, FIRST)]
    assert due(horizon(HOUR, 120), {HOUR: Joined(FIRST, 0)}) == []


def test_hour_that_was_joined_early_is_due_at_its_horizon() -> None:
    assert due(horizon(HOUR, 120), {HOUR: Joined(0, 0)}) == [Due(HOUR, FIRST)]


def test_newest_hour_is_due_first_so_that_one_that_cannot_be_joined_delays_no_later_one() -> None:
    found = due(horizon(HOUR + 50, 120))
    assert found == [*(Due(HOUR + n, FIRST) for n in range(50, 2, -1)), *(Due(HOUR + n, SECOND) for n in (2, 1, 0))]


def test_hours_are_due_from_the_first_of_the_archive() -> None:
    assert due(horizon(HOUR + 2, 120)) == [Due(HOUR + n, FIRST) for n in (2, 1, 0)]
    assert due(horizon(HOUR + 2, 120), first=None) == []


def test_hours_before_the_look_back_are_not_due() -> None:
    now = HOUR.start + timedelta(hours=80)
    assert due(now)[-1] == Due(look_back(now, 120), SECOND)


@pytest.mark.parametrize("delay_minutes", [0, 120, 1440])
def test_second_pass_is_due_for_a_day_whatever_the_delay(delay_minutes: int) -> None:
    first = horizon(HOUR + 48, delay_minutes)
    for now in (first, first + timedelta(hours=23)):
        assert Due(HOUR, SECOND) in due_hours(HOUR, {HOUR: Joined(FIRST, 0)}, now, delay_minutes)


@given(st.integers(1_700_000_000, 1_900_000_000).map(lambda time_s: datetime.fromtimestamp(time_s, UTC)))
def test_hour_is_read_from_its_text_and_its_keys(time: datetime) -> None:
    hour = Hour.of(time)
    assert hour.start <= time < hour.end
    assert Hour.of(time.timestamp()) == Hour.parse(str(hour)) == hour
    assert hour_of_key(f"archive/rides/{hour.partition}/x.ndjson.gz") == hour


@pytest.mark.parametrize("text", ["", "2026-08-01", "2026-08-01T24", "2026-08-01T09:00", "yesterday"])
def test_text_of_another_form_is_no_hour(text: str) -> None:
    with pytest.raises(UserError, match="no hour"):
        Hour.parse(text)
    assert hour_of_key(f"archive/{text}") is None


def test_hours_due_follow_from_the_bucket() -> None:
    streams = ArchivedStreams()
    streams.ride(1, 5)
    streams.ride(2, 65, is_predicted=False)
    bucket = streams.store()
    bucket.s3.put_object(Bucket="b", Key="archive/rides/", Body=b"")  # a folder, as a console makes it
    now = horizon(HOUR + 1, 120)
    assert hours_due(bucket, now, JoinOptions()) == [Due(HOUR + 1, FIRST), Due(HOUR, FIRST)]
    join(bucket)
    assert hours_due(bucket, now, JoinOptions()) == [Due(HOUR + 1, FIRST)]
    assert hours_due(ArchivedStreams().store(), now, JoinOptions()) == []
