"""What cannot be read is refused in words: the last good model stays, neighbours are read, a redrive stops in time."""

import pytest

from infra.operate.redrive.marks import PREFIX as MARKS
from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import decode_failure, decode_rejects
from lambda_function.aws.model_store import ModelStore
from lambda_function.core.bundle import GOLDEN, MANIFEST, channel_key, load_bundle, sha256
from lambda_function.errors import BundleError, StoreError
from tests.builders import small_bundle, vouched
from tests.fakes import BUCKET, FakeClock, FakeS3, point_channel, publish_bundle
from tests.fuzz.targets import FAILURE, REJECT_LINES
from training.errors import BucketError
from training.registry.bucket import Bucket

pytestmark = pytest.mark.slow


def test_channel_nested_without_an_end_keeps_the_last_good_model() -> None:
    s3, clock = FakeS3(), FakeClock()
    publish_bundle(s3, small_bundle())
    store = ModelStore(s3, BUCKET, "stable", 60.0, clock)
    good = store.refresh().model
    channel = s3.objects[channel_key("stable")]
    for hostile in (
        b"[" * 30_000,
        b'{"a":' * 10_000,
        channel[:-1] + b',"more":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    ):
        point_channel(s3, hostile)
        clock.sleep(60.0)
        refreshed = store.refresh()
        assert refreshed.model is good
        assert isinstance(refreshed.error, StoreError)


HOSTILE_FAILURES: dict[str, tuple[bytes, bytes]] = {
    "nested": (b'"approximateInvokeCount":3', b'"approximateInvokeCount":' + b"[" * 50_000),
    "a time beyond any calendar": (b"1609834500.25", b"1e300"),
    "a time that is below all": (b"1609834500.25", b"-1e15"),
}


@pytest.mark.parametrize(("old", "new"), HOSTILE_FAILURES.values(), ids=HOSTILE_FAILURES)
def test_failed_batch_that_cannot_be_read_is_reported(old: bytes, new: bytes) -> None:
    assert old in FAILURE
    found = decode_failure("aws/lambda/mapping/shardId-000000000000/x", FAILURE.replace(old, new))
    assert found.records == ()
    assert found.problem.startswith("is no failed invocation: ")


def test_deeply_nested_reject_is_reported_and_the_others_stay() -> None:
    good = REJECT_LINES[0]
    found = decode_rejects("rejects/s/shardId-000000000000/0.ndjson", b'{"x":' + b"[" * 50_000 + b"\n" + good)
    assert len(found.records) == 1
    assert found.problem.startswith("line 1: ")


def test_at_most_ten_problems_of_an_object_are_reported() -> None:
    found = decode_rejects("rejects/s/shardId-000000000000/0.ndjson", b"x\n" * 50_000)
    assert found.problem.count(";") == 10
    assert found.problem.endswith("and 49,990 lines more")


def test_mark_nested_without_an_end_stops_the_redrive_in_words() -> None:
    key = f"{MARKS}rejects/x"
    with pytest.raises(BucketError, match="holds no mark"):
        Marks(Bucket(FakeS3({key: b'{"x":' + b"[" * 50_000}), BUCKET, n_threads=1)).load([key])


def test_golden_rides_nested_without_an_end_are_refused() -> None:
    golden = b'[{"event":' + b"[" * 300_000 + b"]" * 300_000 + b',"duration_minutes":1}]'
    files = vouched({**small_bundle().files, GOLDEN: golden})
    with pytest.raises(BundleError, match=r"golden\.json: does not decode"):
        load_bundle(small_bundle().model_version, sha256(files[MANIFEST]), files)
