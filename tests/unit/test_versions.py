"""Versions in a bucket: stored once, complete or invisible; artifacts may change; a name means one version.

And the wrapper of S3: pages, a missing object or bucket, and writes under a condition with lost answers.
"""

import json
from typing import Any

import pytest
from botocore.parsers import ResponseParserError
from urllib3.exceptions import ProtocolError

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key, load_bundle, sha256
from lambda_function.errors import BundleError
from tests.builders import small_bundle, vouched
from tests.builders_channels import new_bucket
from tests.fakes import BUCKET, FakeS3, publish_bundle
from tests.outcomes import DENIED, NO_ANSWER, SERVICE_DOWN, AnswerLost, BodyLost, Meanwhile, S3Outcome
from training.errors import BucketError, NoSuchVersionError
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle
from training.registry.folder_s3 import client_error
from training.registry.versions import (
    Verdict,
    list_artifacts,
    put_artifact,
    read_channels,
    read_file,
    read_manifest,
    read_stored,
    read_verdict,
    resolve_version,
    stored_versions,
)

FIRST, SECOND = small_bundle().model_version, small_bundle(2).model_version
BEGINNING = "green-2021-01-"
KEYS = {file: bundle_key(FIRST, file) for file in (FOREST, GOLDEN, MANIFEST)}
BUSY = client_error(409, "ConditionalRequestConflict")


def with_evaluation() -> ExportedBundle:
    """The small bundle with a third file, which the function does not need."""
    files = vouched({**small_bundle().files, "evaluation.json": b'{"a": 1}'})
    return ExportedBundle(files, load_bundle(FIRST, sha256(files[MANIFEST]), files))


@pytest.fixture
def bucket() -> Bucket:
    """A bucket with two versions; `stable` points at the first. It lists three keys a page."""
    bucket = new_bucket(keys_per_page=3)
    publish_bundle(bucket.s3, small_bundle())
    store_bundle(bucket, small_bundle(2))
    return bucket


# Store --------------------------------------------------------------------------------------------------------------


def test_bundle_is_stored_once_file_by_file_with_the_manifest_last() -> None:
    bucket = new_bucket()
    store_bundle(bucket, small_bundle())
    assert bucket.s3.calls == [("put", KEYS[FOREST]), ("put", KEYS[GOLDEN]), ("put", KEYS[MANIFEST])]
    stored = {KEYS[file]: small_bundle().files[file] for file in KEYS}
    assert bucket.s3.objects == stored
    store_bundle(bucket, small_bundle())
    assert bucket.s3.objects == stored


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ([None, SERVICE_DOWN], r"golden\.json cannot be written: .*ServiceUnavailable"),
        ([AnswerLost()], "cannot be written"),
        ([BUSY], r"forest\.npz is being written by somebody else"),
    ],
    ids=["half stored", "answer lost", "concurrent write"],
)
def test_storing_that_failed_is_completed_at_the_next_try(script: list[Exception | None], problem: str) -> None:
    bucket = new_bucket(script=script)
    with pytest.raises(BucketError, match=problem):
        store_bundle(bucket, small_bundle())
    assert KEYS[MANIFEST] not in bucket.s3.objects
    store_bundle(bucket, small_bundle())
    assert set(bucket.s3.objects) == set(KEYS.values())


@pytest.mark.parametrize("file", KEYS)
def test_other_bytes_under_the_same_key_are_never_overwritten(file: str) -> None:
    bucket = new_bucket({KEYS[file]: b"something else"})
    with pytest.raises(BucketError, match=f"{KEYS[file]} holds other bytes already, and a bundle is never changed"):
        store_bundle(bucket, small_bundle())
    assert bucket.s3.objects[KEYS[file]] == b"something else"
    assert (KEYS[MANIFEST] in bucket.s3.objects) == (file == MANIFEST)


def test_two_writers_of_the_same_bundle_both_succeed() -> None:
    bucket = new_bucket()
    bucket.s3.script = [Meanwhile(lambda: store_bundle(bucket, small_bundle()))]
    store_bundle(bucket, small_bundle())
    assert set(bucket.s3.objects) == set(KEYS.values())


# Read ---------------------------------------------------------------------------------------------------------------


def test_version_exists_when_its_manifest_does(bucket: Bucket) -> None:
    assert stored_versions(bucket) == tuple(sorted([FIRST, SECOND]))
    del bucket.s3.objects[bundle_key(SECOND, MANIFEST)]
    bucket.s3.objects["models/notes.txt"] = b""
    assert stored_versions(bucket) == (FIRST,)


def test_every_file_of_the_manifest_is_stored_and_read() -> None:
    bucket, bundle = new_bucket(), with_evaluation()
    store_bundle(bucket, bundle)
    read = read_stored(bucket, FIRST)
    assert read.files == bundle.files
    assert (read.model_version, read.manifest_sha256) == (FIRST, bundle.manifest_sha256)
    assert read_manifest(bucket, FIRST) == bundle.model.manifest


@pytest.mark.parametrize("file", [FOREST, GOLDEN, "evaluation.json"])
@pytest.mark.parametrize("is_missing", [False, True])
def test_bundle_with_a_wrong_or_missing_file_is_an_error(file: str, is_missing: bool) -> None:
    bucket = new_bucket()
    store_bundle(bucket, with_evaluation())
    key = bundle_key(FIRST, file)
    bucket.s3.objects[key] = bucket.s3.objects[key].swapcase()
    if is_missing:
        del bucket.s3.objects[key]
    with pytest.raises(BundleError, match=rf"{file}: {'is missing' if is_missing else 'has other bytes'}"):
        read_stored(bucket, FIRST)


# Names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "version"), [(FIRST, FIRST), (SECOND[:-1], SECOND), ("stable", FIRST)])
def test_name_is_a_version_its_beginning_or_a_channel(bucket: Bucket, name: str, version: str) -> None:
    assert resolve_version(bucket, name) == version


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (BEGINNING, f"holds several versions .*{min(FIRST, SECOND)}, {max(FIRST, SECOND)}; give more"),
        ("candidate", f"^s3://{BUCKET}/models holds no version and no channel 'candidate'; there is {BEGINNING}"),
    ],
)
def test_name_of_none_or_several_is_an_error_with_the_versions(bucket: Bucket, name: str, problem: str) -> None:
    with pytest.raises(NoSuchVersionError, match=problem):
        resolve_version(bucket, name)


def test_bucket_without_versions_is_an_error_with_a_remedy() -> None:
    with pytest.raises(NoSuchVersionError, match=r"holds no version yet, .*: train one"):
        resolve_version(new_bucket(), "stable")


def test_channels_are_read_by_name(bucket: Bucket) -> None:
    publish_bundle(bucket.s3, small_bundle(2), "candidate")
    assert {name: state.model_version for name, state in read_channels(bucket).items()} == {
        "candidate": SECOND,
        "stable": FIRST,
    }


# Artifacts ----------------------------------------------------------------------------------------------------------


def test_artifact_may_be_written_again(bucket: Bucket) -> None:
    assert read_file(bucket, FIRST, "report.html") is None
    for text in (b"first", b"second"):
        put_artifact(bucket, FIRST, "report.html", text)
    assert read_file(bucket, FIRST, "report.html") == b"second"
    assert list_artifacts(bucket, small_bundle().model.manifest) == ("report.html",)
    read_stored(bucket, FIRST)


@pytest.mark.parametrize("file", [FOREST, MANIFEST])
def test_file_of_the_bundle_is_not_an_artifact(bucket: Bucket, file: str) -> None:
    before = dict(bucket.s3.objects)
    with pytest.raises(BucketError, match="is a file of the bundle, and a bundle is never changed"):
        put_artifact(bucket, FIRST, file, b"")
    assert bucket.s3.objects == before


VERDICT = {"model_version": FIRST, "against": None, "channel": "stable", "passed": True}


def test_verdict_is_read_from_the_gates_longer_report(bucket: Bucket) -> None:
    put_artifact(bucket, FIRST, "gate-stable.json", json.dumps({**VERDICT, "rules": [1], "new": {}}).encode())
    assert read_verdict(bucket, FIRST, "stable") == Verdict(FIRST, None, "stable", passed=True)
    assert read_verdict(bucket, FIRST, "candidate") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", r"gate-stable\.json holds no verdict: .*; gate the version again"),
        (b"\xff", "holds no verdict"),
        (b'{"passed": true}', "holds no verdict"),
        (json.dumps({**VERDICT, "model_version": SECOND}).encode(), "is about .*: gate the version again"),
        (json.dumps({**VERDICT, "channel": "candidate"}).encode(), "is about .*: gate the version again"),
    ],
)
def test_damaged_verdict_or_one_on_something_else_is_an_error(bucket: Bucket, text: bytes, problem: str) -> None:
    put_artifact(bucket, FIRST, "gate-stable.json", text)
    with pytest.raises(BucketError, match=problem):
        read_verdict(bucket, FIRST, "stable")


# The bucket -----------------------------------------------------------------------------------------------------------

REFUSED = client_error(412, "PreconditionFailed")
NO_BUCKET = client_error(404, "NoSuchBucket")


@pytest.mark.parametrize("n_threads", [1, 3])
def test_objects_are_listed_page_by_page_and_read_in_order(n_threads: int) -> None:
    keys = [f"rejects/{position:05d}" for position in range(250)]
    bucket = Bucket(FakeS3({key: key.encode() for key in keys}, keys_per_page=100), BUCKET, n_threads)
    listed = list(bucket.keys("rejects/"))
    assert listed == keys
    assert bucket.s3.calls == [("list", "rejects/")] * 3
    read = [(stored.key, stored.body) for stored in bucket.read_all([*listed, "missing"])]
    assert read == [(key, key.encode()) for key in keys]
    assert bucket.read("missing") is None


@pytest.mark.parametrize("failure", [NO_BUCKET, DENIED, SERVICE_DOWN, NO_ANSWER], ids=str)
def test_missing_bucket_or_failure_of_s3_is_an_error(failure: Exception) -> None:
    def bucket() -> Bucket:
        return new_bucket(script=[failure])

    for call, problem in (
        (lambda: list(bucket().keys("x")), "listed"),
        (lambda: bucket().read("x"), "read"),
        (lambda: bucket().write("x", b""), "read"),
        (lambda: new_bucket(script=[None, failure]).write("x", b""), "written"),
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
    bucket.s3.script = [BUSY]
    assert bucket.replace("new", b"x", None) is None
    assert bucket.s3.objects == {"x": b"second"}


@pytest.mark.parametrize("error", [KeyError("ETag"), ResponseParserError("half"), ProtocolError("reset")], ids=repr)
def test_answer_that_is_cut_off_is_an_error_of_the_bucket(error: Exception) -> None:
    bucket = new_bucket({"x": b"first"}, [error, *[BodyLost(error)] * 3, error, error])
    for attempt in (bucket.read, bucket.read, lambda key: list(bucket.keys(key)), lambda key: bucket.write(key, b"")):
        with pytest.raises(BucketError, match="x cannot be"):
            attempt("x")


def test_body_that_is_cut_off_is_read_again() -> None:
    cut = BodyLost(ProtocolError("reset"))
    stored = new_bucket({"x": b"first"}, [cut, cut]).read("x")
    assert stored
    assert stored.body == b"first"


@pytest.mark.parametrize("etag", [None, "read"])
def test_write_that_the_client_resent_is_not_lost(etag: str | None) -> None:
    bucket = new_bucket()
    if etag:
        etag = bucket.replace("x", b"first", None)
    bucket.s3.script = [AnswerLost(REFUSED)]
    new_etag = bucket.replace("x", b"second", etag)
    stored = bucket.read("x")
    assert stored
    assert (stored.body, stored.etag) == (b"second", new_etag)


@pytest.mark.parametrize("outcome", [None, AnswerLost(REFUSED)], ids=["stored", "resent"])
def test_object_written_once_stays(outcome: S3Outcome) -> None:
    bucket = new_bucket(script=[outcome])
    assert bucket.write_once("x", b"first") == b"first"
    assert bucket.write_once("x", b"second") == b"first"
    assert bucket.s3.objects == {"x": b"first"}


@pytest.mark.parametrize(("method", "script"), [("write", [None, BUSY]), ("write_once", [BUSY])])
def test_concurrent_write_of_an_object_is_an_error(method: str, script: list[S3Outcome]) -> None:
    with pytest.raises(BucketError, match="x is being written by somebody else: try again"):
        getattr(new_bucket(script=script), method)("x", b"")


class ConditionalS3(FakeS3):
    """A bucket whose policy refuses unconditional writes."""

    def put_object(self, **request: Any) -> dict[str, Any]:
        """Store an object under a condition."""
        if not request.keys() & {"IfMatch", "IfNoneMatch"}:
            raise DENIED
        return super().put_object(**request)


def test_every_write_is_conditional() -> None:
    bucket = Bucket(ConditionalS3(), BUCKET, n_threads=1)
    for body in (b"first", b"second"):
        bucket.write("models/v/report.html", body)
        bucket.write_once("models/v/forest.npz", b"arrays")
        assert bucket.replace(f"channels/{body.decode()}.json", body, None)

    assert bucket.s3.objects["models/v/report.html"] == b"second"
