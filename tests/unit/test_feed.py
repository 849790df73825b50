"""The feed of `ridecast up`: each ride once, its outcome when it ends, at any speed and from any time on."""

from itertools import pairwise

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from infra.local.up.feed import BEFORE_S, Feed, Timetable
from lambda_function.core.outcomes import decode_outcome
from lambda_function.core.records import Entry
from tests.builders import small_rides
from tests.fakes import FakeKinesis

N = 50


def timetable() -> Timetable:
    return Timetable("green-2021-01", small_rides().head(N))


def ids(entries: list[Entry]) -> list[str]:
    return [msgspec.json.decode(data)["ride_id"] for _, data in entries]


@given(st.lists(st.floats(0.0, 1.0), max_size=6))
def test_each_ride_and_each_outcome_is_sent_once_and_in_order_whatever_the_steps(shares: list[float]) -> None:
    table = timetable()
    times = [BEFORE_S, *sorted(share * table.end_s for share in shares), table.end_s]
    rides = [one for after, until in pairwise(times) for one in ids(table.rides(after, until))]
    outcomes = [one for after, until in pairwise(times) for one in ids(table.outcomes(after, until))]

    assert rides == [f"green-2021-01-{n}" for n in range(N)]
    assert sorted(outcomes) == sorted(rides)
    ends = small_rides().head(N)
    end_s = ends.pickup_time.astype("M8[s]").astype(np.int64) + 60 * ends.duration_minutes
    assert [end_s[int(one.rpartition("-")[2])] for one in outcomes] == sorted(end_s)


def test_an_outcome_comes_when_its_ride_ends_and_tells_how_long_it_took() -> None:
    table, rides = timetable(), small_rides().head(N)
    duration_s = 60 * float(rides.duration_minutes[0])
    assert "green-2021-01-0" not in ids(table.outcomes(BEFORE_S, duration_s - 1))
    entries = dict(zip(ids(found := table.outcomes(BEFORE_S, duration_s)), found, strict=True))
    _, data = entries["green-2021-01-0"]
    assert decode_outcome(data).ride_duration == rides.duration_minutes[0]
    assert table.minutes("green-2021-01-0") == rides.duration_minutes[0]
    assert [table.minutes(one) for one in (256, "green-2021-01-x", "green-2021-01-50", "green-2022-01-1")] == [None] * 4


def test_a_feed_sends_what_is_due_and_measures_the_predictions() -> None:
    table = timetable()
    kinesis = FakeKinesis(stream_name="ride-events")
    kinesis.other_names = {"ride-outcomes"}
    streams = ("ride-events", "ride-outcomes", "ride-predictions")
    feed = Feed(timetable=table, speed=60.0, kinesis=kinesis, streams=streams, at_s=BEFORE_S, save=lambda _: None)

    feed.send(table.end_s - BEFORE_S)

    assert feed.is_done
    assert (feed.n_rides, feed.n_outcomes) == (N, N)
    minutes = float(small_rides().duration_minutes[0])
    prediction = {"ride_duration": minutes + 3, "ride_id": "green-2021-01-0"}
    line = {"model": "m", "version": "v", "prediction": prediction, "prediction_id": "a:1"}
    feed.measure([msgspec.json.encode(line)])
    assert "sent 50 rides" in feed.figures()
    assert "RMSE 3.00 min" in feed.figures()
