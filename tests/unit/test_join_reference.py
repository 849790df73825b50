"""The join equals thirty lines of plain Python, on random streams with reused ids."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import interval_bundle
from tests.builders_archive import ArchivedStreams, at_s
from tests.unit.test_join import join, rides
from training.monitoring.hours import FIRST, SECOND

IDS = st.integers(1, 3)
MINUTES = st.sampled_from(  # few, so that many are equal
    [-10.0, 0.0, 5.0, 10.0, 30.0, 59.0, 60.0, 100.0, 239.0, 240.0, 300.0, 2939.0, 2940.0]
)
HORIZON_MINUTES = {FIRST: 60 + 180, SECOND: 60 + 48 * 60}
RIDES = st.lists(st.tuples(IDS, MINUTES, st.booleans()), max_size=12)
OUTCOMES = st.lists(st.tuples(IDS, MINUTES, st.integers(0, 3)), max_size=12)  # of 0 minutes are bad


def expected(
    streams: ArchivedStreams, sent: list[Any], outcomes: list[Any], horizon_minute: int
) -> list[tuple[Any, ...]]:
    """Each ride of the hour: id, duration, whether it is contradicting, whether it was predicted."""
    events = [(at_s(minute), record.event_id, ride_id, minute, predicted)
              for record, (ride_id, minute, predicted) in zip(streams.rides, sent, strict=True)]  # fmt: skip
    found: dict[str, list[tuple[float, str, int]]] = {}
    for record, (ride_id, minute, duration) in zip(streams.outcomes, outcomes, strict=True):
        before = [one for one in events if one[2] == ride_id and one[3] <= minute and one[3] >= 0]
        if duration and 0 <= minute < horizon_minute and before:
            found.setdefault(max(before)[1], []).append((at_s(minute), record.event_id, duration))
    rows = []
    for _, event_id, _, minute, predicted in sorted(events):
        if 0 <= minute < 60:
            mine = sorted(found.get(event_id, []))
            durations = [duration for _, _, duration in mine]
            rows.append((event_id, durations[0] if mine else None, len(set(durations)) > 1, predicted))
    return rows


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sent=RIDES, outcomes=OUTCOMES, n_per_object=st.integers(1, 4), pass_number=st.sampled_from([FIRST, SECOND]))
def test_join_equals_the_plain_reference(
    sent: list[Any], outcomes: list[Any], n_per_object: int, pass_number: int
) -> None:
    streams = ArchivedStreams(interval_bundle().model)
    for ride_id, minute, is_predicted in sent:
        streams.ride(ride_id, minute, is_predicted=is_predicted)
    for ride_id, minute, duration in outcomes:
        streams.outcome(ride_id, minute, duration)
    bucket = streams.store(n_per_object)
    summary = join(bucket, pass_number)
    joined = [
        (one["event_id"], one["duration_minutes"], one["contradicting"], one["predicted_minutes"] is not None)
        for one in rides(bucket)
    ]
    assert joined == expected(streams, sent, outcomes, HORIZON_MINUTES[pass_number])
    assert summary.n_ride_events == len(joined)
    bad = [minute for _, minute, duration in outcomes if 0 <= minute < 60 and not duration]
    assert summary.n_outcomes_rejected == len(bad)
