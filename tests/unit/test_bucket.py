"""The S3 wrapper: pages, a missing object or bucket, and writes under a condition with lost answers."""

import pytest

from infra.local.s3 import client_error
from tests.builders_channels import new_bucket
from tests.fakes import BUCKET, DENIED, SERVICE_DOWN, AfterAccepting, FakeS3, S3Outcome, timed_out
from training.errors import BucketError
from training.registry.bucket import Bucket

REFUSED = client_error(412, "PreconditionFailed")
BUSY = client_error(409, "ConditionalRequestConflict")
NO_BUCKET = client_error(404, "NoSuchBucket")


@pytest.mark.parametrize("n_threads", [1, 3])
def test_objects_are_listed_page_by_page_and_read_in_order(n_threads: int) -> None:
    keys = [f"rejects/{position:05d}" for position in range(250)]
    bucket = Bucket(FakeS3({key: key.encode() for key in keys}, keys_per_page=100), BUCKET, n_threads)
    listed = list(bucket.keys("rejects/"))
    assert listed == keys
    assert bucket.s3.calls == [("list", "rejects/")] * 3
    assert [(stored.key, stored.body) for stored in bucket.read_all(listed)] == [(key, key.encode()) for key in keys]


def test_missing_object_is_none() -> None:
    assert new_bucket().read("x") is None
    assert list(new_bucket().read_all(["x"])) == []


@pytest.mark.parametrize("failure", [NO_BUCKET, DENIED, SERVICE_DOWN, timed_out()], ids=str)
def test_missing_bucket_or_failure_of_s3_is_an_error(failure: Exception) -> None:
    def bucket() -> Bucket:
        return new_bucket(script=[failure])

    for call, problem in (
        (lambda: list(bucket().keys("x")), "listed"),
        (lambda: bucket().read("x"), "read"),
        (lambda: bucket().write("x", b""), "written"),
        (lambda: bucket().write_once("x", b""), "written"),
        (lambda: bucket().replace("x", b"", None), "written"),
        (lambda: bucket().replace("x", b"", '"1"'), "written"),
    ):
        with pytest.raises(BucketError, match=f"s3://{BUCKET}/x cannot be {problem}: "):
            call()


def test_object_is_replaced_only_under_the_etag_that_was_read() -> None:
    bucket = new_bucket()
    etag = bucket.replace("x", b"first", None)
    assert etag
    assert bucket.replace("x", b"other", None) is None
    assert bucket.replace("x", b"second", etag)
    assert bucket.replace("x", b"third", etag) is None
    assert bucket.replace("gone", b"x", etag) is None
    assert bucket.s3.objects == {"x": b"second"}


@pytest.mark.parametrize("etag", [None, "read"])
def test_write_that_the_client_resent_is_not_lost(etag: str | None) -> None:
    bucket = new_bucket()
    if etag:
        etag = bucket.replace("x", b"first", None)
    bucket.s3.script = [AfterAccepting(REFUSED)]
    new_etag = bucket.replace("x", b"second", etag)
    assert bucket.read("x") == ("x", b"second", new_etag)


@pytest.mark.parametrize("outcome", [None, AfterAccepting(REFUSED)], ids=["stored", "resent"])
def test_object_written_once_stays(outcome: S3Outcome) -> None:
    bucket = new_bucket(script=[outcome])
    assert bucket.write_once("x", b"first") == b"first"
    assert bucket.write_once("x", b"second") == b"first"
    assert bucket.s3.objects == {"x": b"first"}


@pytest.mark.parametrize("method", ["write", "write_once"])
def test_concurrent_write_is_an_error(method: str) -> None:
    with pytest.raises(BucketError, match="x is being written by somebody else: try again"):
        getattr(new_bucket(script=[BUSY]), method)("x", b"")
