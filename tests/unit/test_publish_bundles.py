"""Bundles are stored once and for ever: file by file, the manifest last, and never over other bytes."""

import pytest

from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, bundle_key, load_bundle, sha256
from tests.builders import small_bundle, vouched
from tests.fakes import BUCKET, SERVICE_DOWN, AfterAccepting, FakeS3, Meanwhile, client_error, timed_out
from training.errors import BucketError
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle

FILES = (FOREST, GOLDEN, MANIFEST)
BUSY = client_error(409, "ConditionalRequestConflict")


def keys_of_bundle(seed: int = 1) -> dict[str, str]:
    return {file: bundle_key(small_bundle(seed).model_version, file) for file in FILES}


def test_bundle_is_stored_file_by_file_and_the_manifest_last() -> None:
    s3, keys = FakeS3(), keys_of_bundle()
    store_bundle(Bucket(s3, BUCKET), small_bundle())
    assert s3.calls == [("put", keys[FOREST]), ("put", keys[GOLDEN]), ("put", keys[MANIFEST])]
    assert s3.objects == {keys[file]: small_bundle().files[file] for file in FILES}


def test_every_file_that_the_manifest_lists_is_stored() -> None:
    files = vouched({**small_bundle().files, "evaluation.json": b"{}"})
    bundle = ExportedBundle(files, load_bundle(small_bundle().model_version, sha256(files[MANIFEST]), files))
    s3 = FakeS3()
    store_bundle(Bucket(s3, BUCKET), bundle)
    assert s3.objects == {bundle_key(bundle.model_version, name): data for name, data in files.items()}
    assert s3.calls[-1] == ("put", bundle_key(bundle.model_version, MANIFEST))


def test_bundle_that_is_there_already_is_left_as_it_is() -> None:
    s3 = FakeS3()
    store_bundle(Bucket(s3, BUCKET), small_bundle())
    before = dict(s3.objects)
    store_bundle(Bucket(s3, BUCKET), small_bundle())
    assert s3.objects == before


def test_half_stored_bundle_is_completed() -> None:
    s3 = FakeS3(script=[None, SERVICE_DOWN])
    with pytest.raises(BucketError, match=r"golden\.json cannot be written: .*ServiceUnavailable"):
        store_bundle(Bucket(s3, BUCKET), small_bundle())
    assert keys_of_bundle()[MANIFEST] not in s3.objects
    store_bundle(Bucket(s3, BUCKET), small_bundle())
    assert set(s3.objects) == set(keys_of_bundle().values())


@pytest.mark.parametrize("file", FILES)
def test_other_bytes_by_the_same_name_are_never_overwritten(file: str) -> None:
    key = keys_of_bundle()[file]
    s3 = FakeS3({key: b"something else"})
    with pytest.raises(BucketError, match=f"{key} holds other bytes already, and a bundle is never changed"):
        store_bundle(Bucket(s3, BUCKET), small_bundle())
    assert s3.objects[key] == b"something else"
    assert (keys_of_bundle()[MANIFEST] in s3.objects) == (file == MANIFEST)


def test_bundle_whose_storing_had_no_answer_is_stored_at_the_next_try() -> None:
    s3 = FakeS3(script=[AfterAccepting(timed_out())])
    with pytest.raises(BucketError, match="cannot be written"):
        store_bundle(Bucket(s3, BUCKET), small_bundle())
    store_bundle(Bucket(s3, BUCKET), small_bundle())
    assert set(s3.objects) == set(keys_of_bundle().values())


def test_bundle_that_somebody_else_is_storing_now_is_told_as_that() -> None:
    s3 = FakeS3(script=[BUSY])
    with pytest.raises(BucketError, match=r"forest\.npz is being written by somebody else"):
        store_bundle(Bucket(s3, BUCKET), small_bundle())


def test_bundle_that_somebody_else_has_just_stored_is_as_good() -> None:
    s3 = FakeS3()
    s3.script = [Meanwhile(lambda: store_bundle(Bucket(s3, BUCKET), small_bundle()))]
    store_bundle(Bucket(s3, BUCKET), small_bundle())
    assert set(s3.objects) == set(keys_of_bundle().values())
