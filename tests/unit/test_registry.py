"""What a bucket holds of models: versions are whole or not there, papers may change, names lead to one version."""

import json

import pytest

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key, load_bundle, sha256
from lambda_function.errors import BundleError
from tests.builders import small_bundle, vouched
from tests.builders_kept import ListingS3
from tests.fakes import BUCKET, SERVICE_DOWN, publish_bundle
from training.errors import BucketError, NoSuchVersionError
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle
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


def with_evaluation() -> ExportedBundle:
    """The small bundle with a third file, which the function has no need of."""
    files = vouched({**small_bundle().files, "evaluation.json": b'{"a": 1}'})
    return ExportedBundle(files, load_bundle(FIRST, sha256(files[MANIFEST]), files))


@pytest.fixture
def s3() -> ListingS3:
    """A bucket with two versions; `stable` points at the first. It lists three keys a page."""
    s3 = ListingS3(keys_per_page=3)
    publish_bundle(s3, small_bundle())
    store_bundle(Bucket(s3, BUCKET), small_bundle(2))
    return s3


def test_version_is_there_when_its_manifest_is(s3: ListingS3) -> None:
    assert stored_versions(Bucket(s3, BUCKET)) == tuple(sorted([FIRST, SECOND]))
    del s3.objects[bundle_key(SECOND, MANIFEST)]
    s3.objects["models/notes.txt"] = b""
    assert stored_versions(Bucket(s3, BUCKET)) == (FIRST,)


def test_stored_bundle_is_read_as_it_was_exported() -> None:
    s3, bundle = ListingS3(), with_evaluation()
    store_bundle(Bucket(s3, BUCKET), bundle)
    read = read_stored(Bucket(s3, BUCKET), FIRST)
    assert read.files == bundle.files
    assert (read.model_version, read.manifest_sha256) == (FIRST, bundle.manifest_sha256)
    assert read_manifest(Bucket(s3, BUCKET), FIRST) == bundle.model.manifest


@pytest.mark.parametrize("file", [FOREST, GOLDEN, "evaluation.json"])
@pytest.mark.parametrize("is_missing", [False, True])
def test_bundle_with_a_file_wrong_is_not_read(file: str, is_missing: bool) -> None:
    s3 = ListingS3()
    store_bundle(Bucket(s3, BUCKET), with_evaluation())
    key = bundle_key(FIRST, file)
    s3.objects[key] = s3.objects[key].swapcase()
    if is_missing:
        del s3.objects[key]
    with pytest.raises(BundleError, match=rf"{file}: {'is missing' if is_missing else 'has other bytes'}"):
        read_stored(Bucket(s3, BUCKET), FIRST)


def test_manifest_that_does_not_decode_is_told() -> None:
    s3 = ListingS3({bundle_key(FIRST, MANIFEST): b"{"})
    with pytest.raises(BundleError, match=r"manifest\.json: does not decode"):
        read_stored(Bucket(s3, BUCKET), FIRST)


# Names --------------------------------------------------------------------------------------------------------------


def test_version_is_named_by_itself_its_beginning_or_a_channel(s3: ListingS3) -> None:
    for name, version in ((FIRST, FIRST), (SECOND[:-1], SECOND), ("stable", FIRST)):
        assert resolve_version(Bucket(s3, BUCKET), name) == version


def test_beginning_of_several_versions_names_them(s3: ListingS3) -> None:
    with pytest.raises(NoSuchVersionError, match="give more of the one") as raised:
        resolve_version(Bucket(s3, BUCKET), BEGINNING)
    assert raised.value.versions == tuple(sorted([FIRST, SECOND]))


def test_unknown_name_is_told_with_what_there_is(s3: ListingS3) -> None:
    with pytest.raises(NoSuchVersionError, match="no version and no channel 'candidate'; there is green-") as raised:
        resolve_version(Bucket(s3, BUCKET), "candidate")
    assert set(raised.value.versions) == {FIRST, SECOND}
    assert str(raised.value).startswith(f"s3://{BUCKET}/models holds")


def test_bucket_without_versions_says_what_to_do() -> None:
    with pytest.raises(NoSuchVersionError, match="holds no version yet, 'stable' neither: train one"):
        resolve_version(Bucket(ListingS3(), BUCKET), "stable")


def test_of_many_versions_the_last_few_are_named() -> None:
    error = NoSuchVersionError("file:build/bucket", "x", [f"{BEGINNING}{n:012d}" for n in range(8)])
    assert str(error).startswith(
        "file:build/bucket/models holds no version and no channel 'x'; there is 3 older ones, "
    )
    assert str(error).count(BEGINNING) == 5


def test_channels_are_read_by_name(s3: ListingS3) -> None:
    publish_bundle(s3, small_bundle(2), "candidate")
    assert {name: state.model_version for name, state in read_channels(Bucket(s3, BUCKET)).items()} == {
        "candidate": SECOND,
        "stable": FIRST,
    }


# Papers -------------------------------------------------------------------------------------------------------------


def test_paper_may_be_written_again(s3: ListingS3) -> None:
    assert read_file(Bucket(s3, BUCKET), FIRST, "report.html") is None
    for text in (b"first", b"second"):
        put_artifact(Bucket(s3, BUCKET), FIRST, "report.html", text)
    assert read_file(Bucket(s3, BUCKET), FIRST, "report.html") == b"second"
    assert list_artifacts(Bucket(s3, BUCKET), small_bundle().model.manifest) == ("report.html",)
    read_stored(Bucket(s3, BUCKET), FIRST)


@pytest.mark.parametrize("file", [FOREST, MANIFEST])
def test_file_of_the_bundle_is_no_paper(s3: ListingS3, file: str) -> None:
    before = dict(s3.objects)
    with pytest.raises(BucketError, match="is a file of the bundle, and a bundle is never changed"):
        put_artifact(Bucket(s3, BUCKET), FIRST, file, b"")
    assert s3.objects == before


def test_verdict_is_read_from_whatever_more_the_gate_has_written(s3: ListingS3) -> None:
    verdict = {"model_version": FIRST, "against": None, "channel": "stable", "passed": True}
    put_artifact(
        Bucket(s3, BUCKET), FIRST, "gate-stable.json", json.dumps({**verdict, "rules": [1], "new": {}}).encode()
    )
    assert read_verdict(Bucket(s3, BUCKET), FIRST, "stable") == Verdict(FIRST, None, "stable", passed=True)
    assert read_verdict(Bucket(s3, BUCKET), FIRST, "candidate") is None


@pytest.mark.parametrize("text", [b"", b"\xff", b'{"passed": true}'])
def test_verdict_that_is_none_is_told(s3: ListingS3, text: bytes) -> None:
    put_artifact(Bucket(s3, BUCKET), FIRST, "gate-stable.json", text)
    with pytest.raises(BucketError, match=r"gate-stable\.json holds no verdict: .*; gate the version again"):
        read_verdict(Bucket(s3, BUCKET), FIRST, "stable")


@pytest.mark.parametrize("other", [{"model_version": SECOND}, {"channel": "candidate"}])
def test_verdict_on_something_else_does_not_count(s3: ListingS3, other: dict[str, str]) -> None:
    verdict = {"model_version": FIRST, "against": None, "channel": "stable", "passed": True, **other}
    put_artifact(Bucket(s3, BUCKET), FIRST, "gate-stable.json", json.dumps(verdict).encode())
    with pytest.raises(BucketError, match=r"is about .*: gate the version again"):
        read_verdict(Bucket(s3, BUCKET), FIRST, "stable")


def test_listing_that_fails_is_told() -> None:
    with pytest.raises(BucketError, match=r"models/ cannot be listed: .*ServiceUnavailable"):
        stored_versions(Bucket(ListingS3(script=[SERVICE_DOWN]), BUCKET))
