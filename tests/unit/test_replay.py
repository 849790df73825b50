"""A replay sends every ride once and in order; its ledger counts the results in any order."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.demo.replay import MALFORMED, Ledger, Replay
from lambda_function.core.events import Reject, decode_ride_event, encode_predictions, encode_reject, partition_key
from lambda_function.errors import RejectError
from tests.builders import small_rides
from training.data.rides import Rides


def rides_with_miles(*miles: float) -> Rides:
    rides = small_rides().head(len(miles))
    return replace(rides, columns=replace(rides.columns, trip_distance_miles=np.array(miles)))


def ride_ids(replay: Replay) -> list[int | str]:
    return [decode_ride_event(data).ride_id for key, data in replay.entries() if not key.startswith("malformed")]


def prediction(ride_id: int | str, minutes: float, *, copy: int = 0, version: str = "v1") -> bytes:
    return encode_predictions(version, [minutes], [ride_id], [f"shardId-000000000000:{ride_id}{copy}"])[0]


def reject(key: str, *, copy: int = 0) -> bytes:
    return encode_reject(Reject("not_json", "", "shardId-0", str(copy), "2021-02-01T00:00:00", key, "")) + b"\n"


def ledger_of(n_rides: int, n_malformed: int = 0) -> Ledger:
    return Ledger(Replay(small_rides().head(n_rides), n_malformed))


# -- the replay


def test_every_entry_is_a_ride_event_with_the_rides_values_or_a_malformed_one() -> None:
    replay = Replay.of(small_rides(), 1000)
    columns = replay.rides.columns
    events = [decode_ride_event(data) for key, data in replay.entries() if not key.startswith("malformed")]

    assert [event.ride.pickup_zone for event in events] == columns.pickup_zone.tolist()
    assert [event.ride.dropoff_zone for event in events] == columns.dropoff_zone.tolist()
    assert [event.ride.trip_distance for event in events] == columns.trip_distance_miles.tolist()
    assert [event.ride.pickup_datetime for event in events] == replay.rides.pickup_time.astype(str).tolist()
    assert [event.ride_id for event in events] == list(range(len(replay.rides)))


def test_rides_are_spread_over_all_rides_in_order_of_pickup() -> None:
    replay = Replay.of(small_rides(), 100)
    gaps = np.diff(np.flatnonzero(np.isin(small_rides().pickup_time, replay.rides.pickup_time)))

    assert len(replay) == 100
    assert replay.rides.pickup_time[[0, -1]].tolist() == small_rides().pickup_time[[0, -1]].tolist()
    assert (np.diff(replay.rides.pickup_time) > np.timedelta64(0, "s")).all()
    assert gaps.max() <= 2 * len(small_rides()) / 100


def test_no_more_rides_than_there_are() -> None:
    replay = Replay.of(small_rides(), 1_000_000)
    assert len(replay.rides) == len(small_rides()) == len(set(ride_ids(replay)))


@given(n_rides=st.integers(1, 60), n_malformed=st.integers(0, len(MALFORMED)))
def test_all_malformed_events_are_sent_spread_among_the_rides(n_rides: int, n_malformed: int) -> None:
    replay = Replay(small_rides().head(n_rides), n_malformed)
    entries = replay.entries()
    places = [place for place, (key, _) in enumerate(entries) if key.startswith("malformed")]

    assert len(entries) == len(replay) == n_rides + n_malformed
    assert [entries[place][1] for place in places] == list(MALFORMED[:n_malformed])
    assert len({entries[place][0] for place in places}) == n_malformed
    assert ride_ids(replay) == list(range(n_rides))
    share = len(entries) / max(n_malformed, 1)
    assert all(abs(place - (kind + 0.5) * share) <= 1.5 for kind, place in enumerate(places))


def test_small_replay_has_few_or_no_malformed_events() -> None:
    assert Replay.of(small_rides(), 99).n_malformed == 0
    assert Replay.of(small_rides(), 300).n_malformed == 3
    assert Replay.of(small_rides(), 2000).n_malformed == len(MALFORMED)


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed_event_is_a_reject(data: bytes) -> None:
    with pytest.raises(RejectError):
        decode_ride_event(data)


def test_missing_and_negative_distances_become_0() -> None:
    replay = Replay(rides_with_miles(float("nan"), -3.66, 0.0, 3.66, float("inf")), 0)
    # TLC has no infinite distance: one would be ours, and must not hide.
    with pytest.raises(ValueError, match="finite"):
        replay.entries()
    replay = Replay(rides_with_miles(float("nan"), -3.66, 0.0, 3.66), 0)
    assert [decode_ride_event(data).ride.trip_distance for _, data in replay.entries()] == [0.0, 0.0, 0.0, 3.66]


# -- the ledger


@st.composite
def endings(draw: st.DrawFn) -> tuple[int, int, list[list[str]]]:
    """Rides, malformed events, and batches of keys of what arrives, in any order and repeated: "3" is ride 3's.

    A key that ends with "!" is a reject's.
    """
    n_rides = draw(st.integers(1, 30))
    n_malformed = draw(st.integers(0, len(MALFORMED)))
    rejected = draw(st.sets(st.integers(0, n_rides - 1), max_size=3))
    arriving = [f"{ride}!" if ride in rejected else str(ride) for ride in range(n_rides)]
    arriving += [f"malformed-{kind}!" for kind in range(n_malformed)]
    return n_rides, n_malformed, draw(st.lists(st.lists(st.sampled_from(arriving), max_size=12), max_size=12))


@given(endings())
def test_ledger_adds_up_for_any_arrivals_in_any_order(ended: tuple[int, int, list[list[str]]]) -> None:
    n_rides, n_malformed, batches = ended
    ledger = ledger_of(n_rides, n_malformed)
    arrived: list[str] = []
    for batch in batches:
        predicted = [int(key) for key in batch if not key.endswith("!")]
        ledger.add_predictions(prediction(ride, 5.0) for ride in predicted)
        ledger.add_rejects(b"".join(reject(key[:-1]) for key in batch if key.endswith("!")))
        arrived += batch

        rides = sorted({int(key) for key in arrived if not key.endswith("!")})
        assert ledger.n_predicted == len(rides)
        assert ledger.n_rejected == len({key for key in arrived if key.endswith("!")})
        assert ledger.n_predicted + ledger.n_rejected + ledger.n_lost == n_rides + n_malformed
        assert ledger.n_lost >= 0
        assert ledger.n_repeated == sum(not key.endswith("!") for key in arrived) - len(rides)


@pytest.mark.parametrize("copy", [0, 1], ids=["redelivered", "sent twice by its producer"])
def test_repeated_prediction_is_counted_apart(copy: int) -> None:
    ledger = ledger_of(3)
    ledger.add_predictions([prediction(0, 5.0), prediction(2, 30.0)])
    ledger.add_predictions([prediction(2, 59.0, copy=copy, version="v2"), prediction(2, 59.0, copy=copy)])
    assert (ledger.n_predicted, ledger.n_repeated, ledger.n_lost) == (2, 2, 1)


def test_malformed_event_that_was_sent_twice_counts_once() -> None:
    ledger = ledger_of(2, n_malformed=1)
    ledger.add_predictions([prediction(0, 5.0)])
    ledger.add_rejects(reject("malformed-0") + reject("malformed-0", copy=1))
    assert (ledger.n_rejected, ledger.n_lost) == (1, 1)


def test_ride_that_is_predicted_and_rejected_makes_the_count_negative() -> None:
    ledger = ledger_of(1)
    ledger.add_predictions([prediction(0, 5.0)])
    ledger.add_rejects(reject(partition_key(0)))
    assert ledger.n_lost == -1


@pytest.mark.parametrize(("data", "error"), [(prediction(3, 5.0), IndexError), (b"{}", msgspec.DecodeError)])
def test_prediction_of_another_producers_ride_or_other_bytes_are_an_error(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        ledger_of(3).add_predictions([data])
