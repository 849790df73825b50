"""A split through the whole stream path: producer, stream, function, archive, join and audit, with two arms."""

from collections import Counter
from math import sqrt

import pytest

from lambda_function.core.channel import Channel
from lambda_function.core.events import decode_prediction
from lambda_function.core.kpl import pack
from tests.builders import ride_bytes, small_bundle
from tests.builders_channels import gate, version
from tests.kits.audited_hour import AuditedHour
from training.monitoring.labelled_hour import read_labelled_hour
from training.registry.channel_history import read_channel
from training.registry.channels import store_bundle

N_RIDES = 600
CHAMPION, CANDIDATE = version(1), version(2)


def split_hour(output_format: str = "json") -> AuditedHour:
    """An hour whose channel is split from 151 s on: 30% of the rides, and from 302 s on 60%."""
    hour = AuditedHour(output_format=output_format, batch_size=100, n_shards=2)
    models = hour.simulation.models
    store_bundle(models, small_bundle(2))
    gate(models, 2, against=1)
    hour.send(*rides(10, first=5000))
    for share, first in ((0.3, 0), (0.6, N_RIDES)):
        hour.simulation.split(CANDIDATE, share, "one")
        hour.simulation.clock.sleep(151.0)
        singles = rides(N_RIDES - 100, first)
        hour.send(*singles, *(one.data for one in pack([("a", data) for data in rides(100, first + 500)], n_groups=4)))
    return hour


def rides(n: int, first: int = 0) -> list[bytes]:
    return [
        ride_bytes(number, trip_distance=1 + number % 7, pickup_datetime=None) for number in range(first, first + n)
    ]


def channel_of(hour: AuditedHour) -> Channel:
    state = read_channel(hour.simulation.models, "stable").state
    assert state is not None
    return state


def served(hour: AuditedHour) -> dict[int, list[str]]:
    """Return the versions of each ride's predictions, in the order of the stream of each shard."""
    found: dict[int, list[str]] = {}
    for prediction in map(decode_prediction, hour.predictions()):
        found.setdefault(int(prediction.prediction.ride_id), []).append(prediction.version)
    return found


@pytest.mark.parametrize("output_format", ["json", "kpl"])
def test_each_ride_is_predicted_by_the_arm_of_its_bucket_and_keeps_it_when_it_comes_again(output_format: str) -> None:
    hour = split_hour(output_format)
    before = served(hour)
    segments = [channel_of(hour).segments[place] for place in (2, 1, 0)]  # alone, 30%, 60%
    for segment, some in zip(segments, (range(5000, 5010), range(N_RIDES), range(N_RIDES, 2 * N_RIDES)), strict=True):
        assert [before[number] for number in some] == [[segment.served_version_of(number)] for number in some]
    # THEN the shares are within chance, of four standard deviations
    for share, first in ((0.3, 0), (0.6, N_RIDES)):
        n = sum(before[number] == [CANDIDATE] for number in range(first, first + N_RIDES))
        assert n == pytest.approx(share * N_RIDES, abs=4 * sqrt(N_RIDES * share * (1 - share)))
    # WHEN all records come again after the split has ended
    bytes_before = Counter(hour.predictions())
    hour.simulation.end_split()
    hour.simulation.clock.sleep(151.0)
    hour.replay(hour.records())
    assert Counter(hour.predictions()) == Counter({one: 2 * n for one, n in bytes_before.items()})
    # THEN the audit finds nothing, and the labelled rides have each ride's version
    for first in range(0, len(before), 400):
        hour.send_outcomes(dict.fromkeys(sorted(before)[first : first + 400], 9.0))
    summary = hour.audited()
    assert (summary.n_lost, summary.n_conflicting, summary.n_skewed, summary.n_unrecomputed) == (0, 0, 0, 0)
    assert summary.n_recomputed == summary.n_labelled == len(before)
    by_version = {one: summary.by_version[one].n for one in (CHAMPION, CANDIDATE)}
    assert by_version == Counter(one for ones in before.values() for one in ones)


def test_rides_of_a_candidate_that_was_taken_out_come_again_by_the_champion_without_a_conflict() -> None:
    hour = split_hour()
    before = served(hour)
    hour.simulation.roll_back(CHAMPION)
    hour.simulation.clock.sleep(61.0)
    hour.replay(hour.records())
    assert served(hour) == {number: [*versions, CHAMPION] for number, versions in before.items()}
    summary = hour.audited()
    assert (summary.n_lost, summary.n_conflicting, summary.n_skewed) == (0, 0, 0)
    # AND the champion's prediction stands for each ride
    labelled = read_labelled_hour(hour.simulation.models, hour.hour)
    assert labelled is not None
    assert labelled.versions == (CHAMPION,)
