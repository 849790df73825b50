"""`doctor` loads the channel's model as the function does, and names what is damaged with its remedy."""

from pathlib import Path

import pytest

from infra.operate.doctor.facts import Finding
from infra.operate.doctor.model import check_model
from lambda_function.aws.settings import ServingSettings
from lambda_function.core.bundle import FOREST
from tests.builders import small_bundle
from tests.builders_calibrations import AS_OF, calibrate, key_of
from tests.fakes import BUCKET, FakeS3, damage_bundle, point_channel, publish_bundle
from tests.kits.cli import Cli
from tests.outcomes import DENIED
from tests.unit.test_channel import DAMAGED
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle


@pytest.fixture
def s3() -> FakeS3:
    """A bucket whose channel has two segments."""
    s3 = FakeS3()
    for seed in (1, 2):
        publish_bundle(s3, small_bundle(seed))
    return s3


def check(s3: FakeS3) -> Finding:
    return check_model(lambda _: s3, ServingSettings(bucket=BUCKET, model_channel="stable"), BUCKET)


def test_model_that_loads_is_good(s3: FakeS3) -> None:
    assert small_bundle(2).model_version in check(s3).what


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: repr(data)[:20])
def test_damaged_channel_is_bad_and_can_be_restored(s3: FakeS3, data: bytes) -> None:
    point_channel(s3, data)
    found = check(s3)
    assert "the channel is damaged: " in found.what
    assert f"`ridecast models restore --channel stable --bucket {BUCKET}`" in found.remedy


def test_channel_that_never_held_a_model_gets_a_first_one() -> None:
    assert "train a first one" in check(FakeS3()).remedy


def test_lost_channel_is_restored_and_not_begun_anew() -> None:
    s3 = FakeS3()
    bucket = Bucket(s3, BUCKET)
    store_bundle(bucket, small_bundle())
    move_channel(bucket, "stable", small_bundle().model_version, small_bundle().manifest_sha256)
    del s3.objects["channels/stable.json"]
    found = check(s3)
    assert "is gone, and has a history" in found.what
    assert f"`ridecast models restore --channel stable --bucket {BUCKET}`" in found.remedy


def test_damaged_newest_model_is_bad_although_the_one_before_loads(s3: FakeS3) -> None:
    damage_bundle(s3, small_bundle(2), FOREST)
    found = check(s3)
    assert small_bundle(2).model_version in found.what
    assert "`ridecast models rollback VERSION" in found.remedy


def test_calibrated_model_is_named_as_it_serves_and_a_damaged_calibration_can_be_stopped(s3: FakeS3) -> None:
    calibrate(Bucket(s3, BUCKET), seed=2)
    assert f"holds {small_bundle(2).model_version}+{AS_OF}, and it loads" in check(s3).what
    s3.objects[key_of(2)] = b"{}"
    found = check(s3)
    assert key_of(2) in found.what
    assert f"a function that starts serves {small_bundle(2).model_version} in its place" in found.what
    assert f"`ridecast models calibrate --off --channel stable --bucket {BUCKET}`" in found.remedy


def test_model_that_may_not_be_read_is_not_called_damaged(s3: FakeS3) -> None:
    s3.script = [DENIED]
    assert "restore" not in check(s3).remedy


def test_serve_refuses_a_damaged_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    channels = tmp_path / "channels"
    channels.mkdir()
    (channels / "stable.json").write_bytes(b"null")
    said = Cli(monkeypatch, capsys).refuses("serve", "--bucket", f"file:{tmp_path}", "--port", "0")
    assert f"`ridecast models restore --channel stable --bucket file:{tmp_path}`" in said
