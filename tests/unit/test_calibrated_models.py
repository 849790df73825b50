"""The model store serves calibrated segments; a damaged calibration counts as a damaged model."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from lambda_function.aws.model_store import MAX_BYTES, N_CALIBRATED, ModelStore
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key
from lambda_function.core.channel import Segment, channel_key, decode_channel, encode_channel
from lambda_function.errors import BundleError, CalibrationError, StoreError
from tests.builders import small_bundle
from tests.builders_calibrations import SOME, calibrate, calibration_bytes, calibration_of, key_of, reference_of
from tests.fakes import BUCKET, FakeClock, FakeS3, damage_bundle, point_channel, publish_bundle
from tests.outcomes import DENIED, SERVICE_DOWN, Meanwhile
from training.registry.bucket import Bucket
from training.registry.channels import Mover, stop_calibration

REFRESH_S = 60.0
CHANNEL = ("get", channel_key("stable"))
T0 = 1_700_000_000.0
HOURS = ("2026-11-29T05", "2026-11-30T05", "2026-12-01T05")
VERSION = small_bundle().model_version
SERVED = [VERSION, *(f"{VERSION}+{hour}" for hour in HOURS)]


def mover(at_s: float) -> Mover:
    return Mover("ada", lambda: datetime.fromtimestamp(at_s, UTC))


class Calibrated:
    """A store whose channel has the small bundle, and a calibration of it in each of the hours after the first."""

    def __init__(self, n_calibrations: int = 2, hours: tuple[str, ...] = HOURS) -> None:
        self.s3, self.clock = FakeS3(), FakeClock()
        publish_bundle(self.s3, small_bundle(), mover=mover(T0))
        self.bucket = Bucket(self.s3, BUCKET, n_threads=1)
        for n in range(n_calibrations):
            calibrate(self.bucket, as_of=hours[n], mover=mover(self.begins_s(n + 1) - 150))
        self.calls()
        self.new_store()

    def new_store(self) -> None:
        """Start anew."""
        self.store = ModelStore(self.s3, BUCKET, "stable", REFRESH_S, self.clock, wall=FakeClock(now_s=T0))

    def begins_s(self, n: int) -> float:
        """Return when the n-th segment begins, from 0."""
        return T0 + 3600 * n + 150

    def served(self, n: int) -> str:
        """Return the version that serves in the n-th segment, without an error."""
        refreshed = self.store.refresh([self.begins_s(n) + 1])
        assert refreshed.error is None
        return refreshed.model.served_version

    def calls(self) -> list[tuple[str, str]]:
        """Return the calls since the last time."""
        calls = list(self.s3.calls)
        self.s3.calls.clear()
        return calls


def test_each_segment_has_its_calibration_and_the_first_has_none() -> None:
    followed = Calibrated()
    assert [followed.served(n) for n in range(3)] == SERVED[:3]
    models = followed.store.refresh([followed.begins_s(n) + 1 for n in range(3)]).models
    assert [one.model.served_version for one in models] == SERVED[2::-1]
    assert len({id(one.model.forest) for one in models}) == 1


def test_cold_start_reads_the_bundle_and_the_newest_calibration() -> None:
    followed = Calibrated()
    followed.store.refresh()
    files = [("get", bundle_key(VERSION, file)) for file in (MANIFEST, FOREST, GOLDEN)]
    assert followed.calls() == [CHANNEL, *files, ("get", key_of(as_of=HOURS[1]))]


def test_new_calibration_is_read_before_it_serves_and_the_bundle_is_not_read_again() -> None:
    followed = Calibrated()
    followed.store.refresh()
    calibrate(followed.bucket, as_of=HOURS[2], mover=mover(followed.begins_s(3) - 150))
    followed.calls()
    followed.clock.sleep(REFRESH_S)
    assert followed.store.refresh([followed.begins_s(2) + 1]).model.served_version == SERVED[2]
    assert followed.calls() == [CHANNEL, ("get", key_of(as_of=HOURS[2]))]
    refreshed = followed.store.refresh([followed.begins_s(3) + 1])
    assert (refreshed.model.served_version, refreshed.switched) == (SERVED[3], True)
    assert followed.calls() == []


def test_least_recently_used_calibration_goes_and_its_model_stays() -> None:
    n = N_CALIBRATED + 1
    hours = tuple(f"2026-11-{day:02d}T05" for day in range(1, n + 1))
    followed = Calibrated(n, hours)
    followed.store.refresh()
    for place in range(1, n):
        followed.served(place)
    followed.calls()
    followed.served(2)
    assert followed.calls() == []
    followed.served(n)  # the first that was loaded, and was not used since
    assert followed.calls() == [("get", key_of(as_of=hours[n - 1]))]


def test_stopped_calibration_acts_at_the_next_look_on_records_that_come_again() -> None:
    followed = Calibrated()
    assert followed.served(2) == SERVED[2]
    stop_calibration(followed.bucket, "stable", mover(followed.begins_s(2) + 60))
    followed.clock.sleep(REFRESH_S)
    assert [followed.served(n) for n in range(3)] == [SERVED[0], SERVED[1], SERVED[0]]


# Damage ---------------------------------------------------------------------------------------------------------------


def damaged(data: bytes) -> Callable[[FakeS3, str], object]:
    return lambda s3, key: s3.objects.update({key: data})


GOOD = calibration_of(as_of=HOURS[1])
DAMAGES = {
    "missing": lambda s3, key: s3.objects.pop(key),
    "empty": damaged(b""),
    "cut short": damaged(calibration_bytes(GOOD)[:-20]),
    "one byte more": damaged(calibration_bytes(GOOD) + b" "),
    "of another hour": damaged(calibration_bytes(calibration_of(as_of=HOURS[0]))),
    "of another model": damaged(calibration_bytes(calibration_of(small_bundle(2).model, HOURS[1]))),
    "too large": damaged(calibration_bytes(GOOD) + b" " * MAX_BYTES["calibration"]),
}
REFERRED = {
    "another format": calibration_bytes(calibration_of(as_of=HOURS[1], format=2)),
    "nine weights": calibration_bytes(calibration_of(as_of=HOURS[1], weights=SOME[1:])),
    "infinite weight": calibration_bytes(GOOD).replace(b"-0.5", b"1e999"),
    "not a number": calibration_bytes(GOOD).replace(b"-0.5", b"NaN"),
    "scale 3.1": calibration_bytes(calibration_of(as_of=HOURS[1], interval_scale=3.1)),
    "of another hour": calibration_bytes(calibration_of(as_of=HOURS[0])),
    "of another model": calibration_bytes(calibration_of(small_bundle(2).model, HOURS[1])),
}
"""Objects whose digest the channel does have."""


def check_damaged(followed: Calibrated) -> None:
    """Check that the calibration before serves in place of the newest, and is reported with key and remedy."""
    for _ in range(2):
        refreshed = followed.store.refresh([followed.begins_s(2) + 1])
        assert refreshed.model.served_version == SERVED[1]
        assert isinstance(refreshed.error, CalibrationError)
        assert key_of(as_of=HOURS[1]) in str(refreshed.error)


@pytest.mark.parametrize("damage", DAMAGES)
def test_cold_start_on_a_damaged_calibration_serves_the_segment_before_until_it_is_repaired(damage: str) -> None:
    followed, key = Calibrated(), key_of(as_of=HOURS[1])
    good = followed.s3.objects[key]
    DAMAGES[damage](followed.s3, key)
    check_damaged(followed)
    assert followed.calls().count(("get", key)) == 2  # read twice, and then not again until the next look
    followed.s3.objects[key] = good
    followed.clock.sleep(REFRESH_S)
    assert followed.served(2) == SERVED[2]


@pytest.mark.parametrize("data", REFERRED.values(), ids=REFERRED)
def test_calibration_that_must_not_serve_does_not_although_the_channel_names_its_digest(data: bytes) -> None:
    followed, key = Calibrated(), key_of(as_of=HOURS[1])
    channel = decode_channel(followed.s3.objects[channel_key("stable")])
    newest = Segment(channel.segments[0].effective_from, channel.segments[0].arms, reference_of(data, HOURS[1]))
    channel = msgspec.structs.replace(channel, segments=(newest, *channel.segments[1:]))
    point_channel(followed.s3, encode_channel(channel))
    followed.s3.objects[key] = data
    check_damaged(followed)


def test_running_function_keeps_its_models_while_the_newest_calibration_is_damaged() -> None:
    followed = Calibrated()
    followed.store.refresh()
    calibrate(followed.bucket, as_of=HOURS[2], mover=mover(followed.begins_s(3) - 150))
    del followed.s3.objects[key_of(as_of=HOURS[2])]
    followed.clock.sleep(REFRESH_S)
    refreshed = followed.store.refresh([followed.begins_s(3) + 1])
    assert refreshed.model.served_version == SERVED[2]
    assert isinstance(refreshed.error, CalibrationError)


def test_damaged_model_is_damaged_with_every_calibration() -> None:
    followed = Calibrated()
    damage_bundle(followed.s3, small_bundle(), FOREST)
    with pytest.raises(BundleError, match=r"forest\.npz"):
        followed.store.refresh()


@pytest.mark.parametrize("failure", [SERVICE_DOWN, DENIED], ids=["down", "denied"])
def test_calibration_that_s3_refuses_is_an_error_and_not_another_version(failure: Exception) -> None:
    followed = Calibrated()
    followed.store.refresh()
    followed.s3.script = [failure]
    with pytest.raises(StoreError):
        followed.store.refresh([followed.begins_s(1) + 1])
    assert followed.served(1) == SERVED[1]


def test_calibration_that_is_read_badly_once_is_not_damaged() -> None:
    followed, key = Calibrated(), key_of(as_of=HOURS[1])
    good = followed.s3.objects[key]
    followed.s3.objects[key] = good + b" "
    repair = Meanwhile(lambda: followed.s3.objects.update({key: good}))
    followed.s3.script = [*[None] * 5, repair]  # channel, three files, the calibration, and the calibration again
    assert followed.store.refresh().model.served_version == SERVED[2]
