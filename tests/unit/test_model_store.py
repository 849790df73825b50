"""The model store follows its channel, keeps the last good model and makes no unnecessary calls."""

import msgspec
import pytest

from lambda_function.aws.model_store import ModelStore, NoSuchObjectError
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key
from lambda_function.core.channel import channel_key
from lambda_function.errors import BundleError, StoreError
from tests.builders import small_bundle
from tests.fakes import BUCKET, FakeClock, FakeS3, damage_bundle, point_channel, publish_bundle
from tests.outcomes import DENIED, NO_ANSWER, SERVICE_DOWN, BodyLost, S3Outcome
from training.model.bundle import ExportedBundle

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


def test_cold_start_on_a_bad_bundle_raises(old: ExportedBundle) -> None:
    followed = Followed(old)
    damage_bundle(followed.s3, old, FOREST)
    with pytest.raises(BundleError, match=r"forest\.npz: has \d+ bytes of"):
        followed.store.refresh()
