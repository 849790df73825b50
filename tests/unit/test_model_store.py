"""The model store follows its channel, keeps the last good model and makes no unnecessary calls."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import IncompleteRead
from ssl import SSLError
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from botocore.parsers import ResponseParserError
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from lambda_function.aws.model_store import MAX_BYTES, N_MODELS, ModelStore, NoSuchObjectError
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key
from lambda_function.core.channel import channel_key
from lambda_function.errors import BundleError, PredictorError, StoreError
from tests.builders import small_bundle
from tests.fakes import BUCKET, FakeClock, FakeS3, damage_bundle, point_channel, publish_bundle
from tests.outcomes import DENIED, NO_ANSWER, SERVICE_DOWN, BodyLost, Meanwhile, S3Outcome
from tests.unit.test_channel import DAMAGED
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import Mover, rollback

REFRESH_S = 60.0
CHANNEL = ("get", channel_key("stable"))


class Followed:
    """A store that follows `stable`, and its bucket and clock."""

    def __init__(self, bundle: ExportedBundle | None = None, refresh_s: float = REFRESH_S) -> None:
        self.s3, self.clock = FakeS3(), FakeClock()
        if bundle:
            publish_bundle(self.s3, bundle)
        self.store = ModelStore(self.s3, BUCKET, "stable", refresh_s, self.clock)

    def refresh(self, *, after_s: float = REFRESH_S) -> str:
        """Refresh some time later without an error and return the version."""
        self.clock.sleep(after_s)
        refreshed = self.store.refresh()
        assert refreshed.error is None
        return refreshed.model.model_version

    def fails(self, *, after_s: float) -> bool:
        """Refresh some time later and return whether that failed."""
        self.clock.sleep(after_s)
        return self.store.refresh().error is not None

    def calls(self) -> list[tuple[str, str]]:
        """Return the calls since the last time."""
        calls = list(self.s3.calls)
        self.s3.calls.clear()
        return calls


@pytest.fixture
def old() -> ExportedBundle:
    return small_bundle()


@pytest.fixture
def new() -> ExportedBundle:
    return small_bundle(seed=2)


@pytest.fixture
def followed(old: ExportedBundle) -> Followed:
    """Return a store that has loaded the old model and made no calls since."""
    followed = Followed(old)
    followed.store.refresh()
    followed.calls()
    return followed


def test_cold_start_loads_what_the_channel_names(old: ExportedBundle) -> None:
    followed = Followed(old)
    followed.calls()
    refreshed = followed.store.refresh()
    assert refreshed.model.model_version == old.model_version
    files = [("get", bundle_key(old.model_version, file)) for file in (MANIFEST, FOREST, GOLDEN)]
    assert followed.calls() == [CHANNEL, *files]


def test_channel_is_not_read_again_before_it_is_due(followed: Followed) -> None:
    followed.refresh(after_s=REFRESH_S - 1)
    followed.refresh(after_s=0.9)
    assert followed.calls() == []
    followed.refresh(after_s=0.1)
    assert followed.calls() == [CHANNEL]


def test_unchanged_channel_keeps_the_same_model_object(followed: Followed) -> None:
    first = followed.store.refresh()
    followed.clock.sleep(REFRESH_S)
    again = followed.store.refresh()
    assert again.model is first.model
    assert not again.switched
    assert followed.calls() == [CHANNEL]
    assert followed.s3.n_unchanged == 1


def test_moved_channel_switches_the_model(followed: Followed, new: ExportedBundle) -> None:
    publish_bundle(followed.s3, new)
    followed.clock.sleep(REFRESH_S)
    refreshed = followed.store.refresh()
    assert refreshed.model.model_version == new.model_version
    assert refreshed.switched
    assert not followed.store.refresh().switched


def test_channel_written_anew_with_the_same_version_loads_nothing(followed: Followed, old: ExportedBundle) -> None:
    channel = msgspec.json.decode(followed.s3.objects[channel_key("stable")])
    point_channel(followed.s3, msgspec.json.encode({**channel, "moved_at": "2030-01-01T00:00:00+00:00"}))
    assert followed.refresh() == old.model_version
    assert followed.calls() == [CHANNEL]


def test_channel_moved_back_rolls_the_model_back(followed: Followed, old: ExportedBundle, new: ExportedBundle) -> None:
    publish_bundle(followed.s3, new)
    assert followed.refresh() == new.model_version
    publish_bundle(followed.s3, old)
    assert followed.refresh() == old.model_version


@pytest.mark.parametrize(
    "failure",
    [SERVICE_DOWN, DENIED, NO_ANSWER, BodyLost(NO_ANSWER)],
    ids=lambda failure: type(failure).__name__,
)
@pytest.mark.parametrize("n_good_calls", range(4))
def test_failing_refresh_keeps_the_last_good_model_and_is_reported(
    followed: Followed, old: ExportedBundle, new: ExportedBundle, failure: S3Outcome, n_good_calls: int
) -> None:
    # GIVEN a channel that has moved, and a read that fails: the channel's, or that of one of the bundle's files
    publish_bundle(followed.s3, new)
    followed.calls()
    followed.s3.script = [None] * n_good_calls + [failure]
    # WHEN the store refreshes
    followed.clock.sleep(REFRESH_S)
    refreshed = followed.store.refresh()
    # THEN the old model stays, with the error
    assert refreshed.model.model_version == old.model_version
    assert isinstance(refreshed.error, StoreError)
    assert not refreshed.switched
    # AND the next refresh is due as usual, and finds the new one
    followed.calls()
    assert followed.refresh(after_s=REFRESH_S / 2) == old.model_version
    assert followed.calls() == []
    assert followed.refresh(after_s=REFRESH_S / 2) == new.model_version


def test_failed_refresh_is_repeated_within_a_minute_until_one_succeeds(old: ExportedBundle) -> None:
    # GIVEN a store that refreshes once an hour, and a channel that can't be read any more
    followed = Followed(old, refresh_s=3600)
    followed.refresh(after_s=0)
    followed.s3.script = [SERVICE_DOWN] * 3
    assert followed.fails(after_s=3600)
    # WHEN it fails for two more minutes
    for _ in range(2):
        assert not followed.fails(after_s=59)
        assert followed.fails(after_s=1)
    # THEN the refresh after that finds it again, and the next is due in an hour
    followed.calls()
    assert followed.refresh(after_s=60) == old.model_version
    followed.refresh(after_s=3599)
    assert followed.calls() == [CHANNEL]
    followed.refresh(after_s=1)
    assert followed.calls() == [CHANNEL]


def test_failed_refresh_is_not_repeated_more_rarely_than_a_successful_one(old: ExportedBundle) -> None:
    followed = Followed(old, refresh_s=10)
    followed.refresh(after_s=0)
    followed.s3.script = [SERVICE_DOWN] * 2

    assert followed.fails(after_s=10)
    assert followed.fails(after_s=10)


@pytest.mark.parametrize("file", [MANIFEST, FOREST, GOLDEN])
def test_bundle_that_fails_a_check_keeps_the_last_good_model_until_it_is_repaired(
    followed: Followed, old: ExportedBundle, new: ExportedBundle, file: str
) -> None:
    publish_bundle(followed.s3, new)
    damage_bundle(followed.s3, new, file)
    for _ in range(2):
        followed.clock.sleep(REFRESH_S)
        refreshed = followed.store.refresh()
        assert refreshed.model.model_version == old.model_version
        assert isinstance(refreshed.error, BundleError)
        assert refreshed.error.file == file
    followed.s3.objects[bundle_key(new.model_version, file)] = new.files[file]
    assert followed.refresh() == new.model_version


@pytest.mark.parametrize("file", [MANIFEST, FOREST, GOLDEN])
def test_bundle_without_a_file_is_named_with_it(followed: Followed, new: ExportedBundle, file: str) -> None:
    publish_bundle(followed.s3, new)
    del followed.s3.objects[bundle_key(new.model_version, file)]
    followed.clock.sleep(REFRESH_S)
    error = followed.store.refresh().error
    assert str(error) == f"bundle {new.model_version}, {file}: is missing"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"stable",
        b"[]",
        b'{"model_version": "green-2021-01-000000000000"}',
        b"\xff",
        b'{"model_version": "../../x"}',
    ],
)
def test_error_of_a_missing_channel_names_its_key(followed: Followed, old: ExportedBundle, text: bytes) -> None:
    point_channel(followed.s3, text)
    followed.clock.sleep(REFRESH_S)
    refreshed = followed.store.refresh()
    assert refreshed.model.model_version == old.model_version
    assert str(refreshed.error).startswith(f"cannot use s3://{BUCKET}/channels/stable.json: ")


def test_channel_that_vanishes_keeps_the_last_good_model(followed: Followed, old: ExportedBundle) -> None:
    del followed.s3.objects[channel_key("stable")]
    followed.clock.sleep(REFRESH_S)
    refreshed = followed.store.refresh()
    assert refreshed.model.model_version == old.model_version
    assert str(refreshed.error) == f"cannot read s3://{BUCKET}/channels/stable.json: there is no such object"


def test_cold_start_without_a_channel_raises() -> None:
    with pytest.raises(NoSuchObjectError, match=r"channels/stable\.json: there is no such object"):
        Followed().store.refresh()


def test_cold_start_that_fails_is_tried_again_at_once(old: ExportedBundle) -> None:
    followed = Followed(old)
    followed.s3.script = [None, None, SERVICE_DOWN]
    with pytest.raises(StoreError, match=r"forest\.npz"):
        followed.store.refresh()
    assert followed.store.refresh().model.model_version == old.model_version


# Models by arrival time -----------------------------------------------------------------------------------------------

T0 = 1_700_000_000.0
"""When the channel moves, in seconds since the epoch; each segment begins 150 s later."""


def mover(at_s: float = T0) -> Mover:
    return Mover("ada", lambda: datetime.fromtimestamp(at_s, UTC))


class Segmented(Followed):
    """A store whose channel has a segment for each of several small bundles, an hour after each other."""

    def __init__(self, n_segments: int = 2) -> None:
        super().__init__()
        self.bundles = [small_bundle(seed) for seed in range(1, n_segments + 1)]
        self.wall = FakeClock(now_s=T0)
        self.store = ModelStore(self.s3, BUCKET, "stable", REFRESH_S, self.clock, wall=self.wall)
        for n, bundle in enumerate(self.bundles):
            publish_bundle(self.s3, bundle, mover=mover(T0 + 3600 * n))
        self.calls()

    def versions(self, oldest_s: float, newest_s: float | None = None) -> list[str]:
        """Return the versions that serve between two arrivals, newest first."""
        models = self.store.refresh([oldest_s, oldest_s if newest_s is None else newest_s]).models
        return [one.model.model_version for one in models]

    def loaded(self) -> list[int]:
        """Return which bundles were read since the last time, by their place."""
        keys = [bundle_key(bundle.model_version, FOREST) for bundle in self.bundles]
        return [keys.index(key) for _, key in self.calls() if key in keys]

    def start(self) -> int:
        """Start on the newest segment, refusing nothing; return the place of the bundle that serves."""
        refreshed = self.store.refresh()
        self.error = refreshed.error
        return [bundle.model_version for bundle in self.bundles].index(refreshed.model.model_version)


BEGINS_S = T0 + 3600 + 150
"""When the second segment begins."""


@pytest.mark.parametrize(
    ("oldest_s", "newest_s", "places"),
    [
        (BEGINS_S, BEGINS_S + 60, [1]),
        (BEGINS_S - 60, BEGINS_S - 0.001, [0]),
        (BEGINS_S - 0.001, BEGINS_S, [1, 0]),
        (0.0, 0.0, [0]),
    ],
)
def test_models_of_a_batch_are_those_of_its_arrivals(oldest_s: float, newest_s: float, places: list[int]) -> None:
    followed = Segmented()
    versions = [followed.bundles[place].model_version for place in places]
    assert followed.versions(oldest_s, newest_s) == versions


def test_newest_model_is_loaded_before_it_serves_and_an_older_one_when_it_is_needed() -> None:
    followed = Segmented()
    followed.versions(BEGINS_S - 1)
    assert followed.loaded() == [1, 0]
    followed.versions(BEGINS_S)
    assert followed.loaded() == []


def test_few_models_are_kept_and_the_least_recently_used_goes() -> None:
    followed = Segmented(N_MODELS + 2)
    middle_s = [T0 + 3600 * n + 200 for n in range(N_MODELS + 2)]
    for at_s in reversed(middle_s[:N_MODELS]):
        followed.versions(at_s)
    assert followed.loaded() == [N_MODELS + 1, *reversed(range(N_MODELS))]
    followed.versions(middle_s[0], middle_s[N_MODELS - 1])
    assert followed.loaded() == []
    followed.versions(middle_s[-1])
    assert followed.loaded() == [N_MODELS + 1]


def test_batch_whose_segments_have_more_models_in_turn_than_are_kept_loads_each_once() -> None:
    n = N_MODELS + 2
    followed = Segmented(n)
    for turn, bundle in enumerate(followed.bundles * 2, start=1):
        publish_bundle(followed.s3, bundle, mover=mover(T0 + 3600 * n * turn))
    followed.calls()
    ends_s = T0 + 3600 * n * (2 * n + 1)
    refreshed = followed.store.refresh([T0 + 3600 * hour for hour in range(n * (2 * n + 1))])
    assert len(refreshed.models) == 3 * n
    assert sorted(followed.loaded()) == list(range(n))
    assert len(followed.versions(ends_s)) == 1


def test_older_model_that_s3_refuses_is_an_error_and_not_another_model() -> None:
    followed = Segmented()
    followed.start()
    followed.s3.script = [SERVICE_DOWN]
    with pytest.raises(StoreError):
        followed.versions(BEGINS_S - 1)
    assert followed.versions(BEGINS_S - 1) == [followed.bundles[0].model_version]


def test_older_segment_with_a_damaged_bundle_is_served_by_the_next_that_loads_and_reported() -> None:
    followed = Segmented(3)
    damage_bundle(followed.s3, followed.bundles[1], FOREST)
    at_s = BEGINS_S + 1
    for _ in range(2):
        refreshed = followed.store.refresh([at_s])
        assert refreshed.model.model_version == followed.bundles[0].model_version
        assert isinstance(refreshed.error, BundleError)
    assert followed.loaded() == [2, 1, 1, 0]  # read twice, and then not again until the next look
    damage_bundle(followed.s3, followed.bundles[0], FOREST)
    other = Segmented(3)
    for place in (0, 1):
        damage_bundle(other.s3, other.bundles[place], FOREST)
    assert other.versions(at_s) == [other.bundles[2].model_version]


def test_damaged_bundle_is_tried_again_at_the_next_look() -> None:
    followed = Segmented()
    damage_bundle(followed.s3, followed.bundles[0], FOREST)
    assert followed.versions(BEGINS_S - 1) == [followed.bundles[1].model_version]
    key = bundle_key(followed.bundles[0].model_version, FOREST)
    followed.s3.objects[key] = followed.bundles[0].files[FOREST]
    followed.clock.sleep(REFRESH_S)
    assert followed.versions(BEGINS_S - 1) == [followed.bundles[0].model_version]


def test_bundle_that_is_read_badly_once_is_not_damaged() -> None:
    followed = Segmented()
    key = bundle_key(followed.bundles[1].model_version, FOREST)
    good = followed.s3.objects[key]
    followed.s3.objects[key] = good + b" "

    def repair() -> None:
        followed.s3.objects[key] = good

    followed.s3.script = [None, None, None, None, Meanwhile(repair)]  # the channel, three files, the manifest again
    assert followed.start() == 1
    assert followed.error is None


@pytest.mark.parametrize("file", [MANIFEST, FOREST, GOLDEN])
@pytest.mark.parametrize("is_missing", [False, True])
def test_cold_start_on_a_damaged_newest_bundle_serves_the_segment_before_until_it_is_repaired(
    file: str, is_missing: bool
) -> None:
    followed, key = Segmented(), bundle_key(small_bundle(2).model_version, file)
    good = followed.s3.objects.pop(key)
    if not is_missing:
        followed.s3.objects[key] = good + b" "
    assert followed.start() == 0
    assert isinstance(followed.error, BundleError)
    followed.s3.objects[key] = good
    followed.clock.sleep(REFRESH_S)
    assert followed.start() == 1
    assert followed.error is None


def test_cold_start_on_a_channel_with_a_damaged_segment_serves_the_others_until_it_is_repaired() -> None:
    followed = Segmented()
    good = followed.s3.objects[channel_key("stable")]
    damaged = msgspec.json.decode(good)
    damaged["segments"][0]["arms"] = []
    point_channel(followed.s3, msgspec.json.encode(damaged))
    assert followed.start() == 0
    assert isinstance(followed.error, StoreError)
    point_channel(followed.s3, good)
    followed.clock.sleep(REFRESH_S)
    assert followed.start() == 1
    assert followed.error is None


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: repr(data[:20]))
def test_cold_start_on_a_damaged_channel_is_one_sentence_with_the_remedy(data: bytes) -> None:
    followed = Segmented()
    point_channel(followed.s3, data)
    remedy = f"write it again from its history with `ridecast models restore --channel stable --bucket {BUCKET}`"
    with pytest.raises(StoreError, match=rf"stable\.json: the channel is damaged: .*: {re.escape(remedy)}\Z"):
        followed.start()


def test_damaged_channel_keeps_the_models_of_all_segments() -> None:
    followed = Segmented()
    followed.start()
    point_channel(followed.s3, b"{}")
    followed.clock.sleep(REFRESH_S)
    assert followed.versions(BEGINS_S - 1, BEGINS_S) == [bundle.model_version for bundle in reversed(followed.bundles)]


def test_channel_of_a_later_version_is_refused_even_at_a_cold_start() -> None:
    followed = Segmented()
    channel = msgspec.json.decode(followed.s3.objects[channel_key("stable")])
    channel["segments"][0]["calibration"] = {"w": []}
    del channel["segments_sha256"]  # of the segments as they were
    point_channel(followed.s3, msgspec.json.encode(channel))
    with pytest.raises(StoreError, match="cannot serve: deploy, or run, the version of ridecast that wrote it"):
        followed.start()


def test_rollback_takes_the_segments_place_from_its_beginning_at_the_next_look() -> None:
    followed = Segmented()
    assert followed.versions(BEGINS_S) == [followed.bundles[1].model_version]
    rollback(Bucket(followed.s3, BUCKET), "stable", followed.bundles[0].model_version, mover=mover(BEGINS_S + 60))
    followed.clock.sleep(REFRESH_S)
    assert followed.versions(BEGINS_S) == [followed.bundles[0].model_version]


# The age of the channel -----------------------------------------------------------------------------------------------


def test_channel_is_stale_when_its_last_good_look_is_older_than_the_activation_delay() -> None:
    followed = Segmented()
    followed.start()
    followed.s3.script = [SERVICE_DOWN] * 3
    stale = []
    for _ in range(3):
        followed.clock.sleep(60)
        followed.wall.sleep(60)
        refreshed = followed.store.refresh()
        stale.append((refreshed.channel_age_s, refreshed.is_stale))
    assert stale == [(60, False), (120, False), (180, True)]
    followed.clock.sleep(60)
    refreshed = followed.store.refresh()
    assert (refreshed.channel_age_s, refreshed.is_stale) == (0, False)


def test_age_of_a_channel_that_is_read_as_planned_is_no_more_than_a_refresh() -> None:
    followed = Segmented()
    followed.start()
    followed.clock.sleep(59)
    followed.wall.sleep(59)
    refreshed = followed.store.refresh()
    assert (refreshed.channel_age_s, refreshed.is_stale) == (59, False)


# Time and errors of a look --------------------------------------------------------------------------------------------


@dataclass
class SlowS3:
    """A bucket that takes its time, for an object or for each read of a body."""

    s3: FakeS3
    clock: FakeClock
    object_s: float = 0.0
    read_s: float = 0.0

    def get_object(self, **request: Any) -> Any:
        """Read an object, slowly."""
        self.clock.sleep(self.object_s)
        answer = self.s3.get_object(**request)
        return {**answer, "Body": self._trickle(answer["Body"])}

    def _trickle(self, body: Any) -> Any:
        def read(n_bytes: int) -> Any:
            self.clock.sleep(self.read_s)
            return body.read(n_bytes)

        return SimpleNamespace(read=read)


@pytest.mark.parametrize("is_warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize(("object_s", "read_s"), [(16.0, 0.0), (0.0, 2.0), (3.0, 1.0)])
def test_slow_s3_is_given_up_long_before_the_shortest_timeout(is_warm: bool, object_s: float, read_s: float) -> None:
    followed = Segmented()
    if is_warm:
        followed.start()
        publish_bundle(followed.s3, small_bundle(3), mover=mover(T0 + 7200))
        followed.clock.sleep(REFRESH_S)
    followed.store.s3 = SlowS3(followed.s3, followed.clock, object_s, read_s)
    begun_s = followed.clock()
    if is_warm:
        refreshed = followed.store.refresh()
        assert refreshed.model.model_version == small_bundle(2).model_version
        error: PredictorError | None = refreshed.error
    else:
        with pytest.raises(StoreError) as raised:
            followed.store.refresh()
        error = raised.value
    assert "S3 is too slow: 10 s are over" in str(error)
    assert followed.clock() - begun_s <= 10 + object_s + read_s


LOST = [
    ResponseParserError("Unable to parse response"),
    ProtocolError("Connection broken"),
    ReadTimeoutError(None, "https://s3", "timed out"),  # type: ignore[arg-type]
    IncompleteRead(b"half"),
    ConnectionResetError("reset"),
    SSLError("wrong version number"),
    ValueError("invalid header"),
    KeyError("ETag"),
]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("in_body", [False, True], ids=["answer", "body"])
@pytest.mark.parametrize("n_good_calls", [0, 2])
def test_unusual_error_at_a_look_keeps_the_model_in_place(error: Exception, in_body: bool, n_good_calls: int) -> None:
    followed = Segmented()
    followed.start()
    publish_bundle(followed.s3, small_bundle(3), mover=mover(T0 + 7200))
    followed.s3.script = [*[None] * n_good_calls, BodyLost(error) if in_body else error]
    followed.clock.sleep(REFRESH_S)
    refreshed = followed.store.refresh()
    assert refreshed.model.model_version == small_bundle(2).model_version
    assert isinstance(refreshed.error, StoreError)


def test_body_longer_than_its_length_says_is_not_read_into_memory() -> None:
    followed = Segmented()
    n_read = 0

    def endless(n_bytes: int) -> bytes:
        nonlocal n_read
        n_read += n_bytes
        return b" " * n_bytes

    followed.store.s3 = SimpleNamespace(get_object=lambda **_: {"Body": SimpleNamespace(read=endless), "ETag": '"x"'})
    with pytest.raises(StoreError, match=r"bytes; the limit is 524,288"):
        followed.start()
    assert n_read <= MAX_BYTES["channel"] + 4096


def test_cold_start_on_a_bad_bundle_raises(old: ExportedBundle) -> None:
    followed = Followed(old)
    damage_bundle(followed.s3, old, FOREST)
    with pytest.raises(BundleError, match=r"forest\.npz: has \d+ bytes of"):
        followed.store.refresh()
