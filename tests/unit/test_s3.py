"""The S3 stand-ins: the same cases on moto's S3, in memory and in a folder."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from infra.local.s3 import MemoryS3
from tests.fakes import BUCKET
from training.errors import UserError
from training.registry.folder_s3 import FolderS3

KEY = "channels/stable.json"
SLOW = pytest.param("moto", marks=pytest.mark.slow)  # half a second to import, tens of milliseconds a test


@pytest.fixture(params=["folder", "memory", SLOW])
def s3(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A bucket of each kind."""
    if request.param == "folder":
        yield FolderS3(tmp_path / "bucket")
    elif request.param == "memory":
        yield MemoryS3()
    else:
        with mock_aws():
            s3 = boto3.client("s3")
            s3.create_bucket(Bucket=BUCKET)
            yield s3


@pytest.fixture
def folder_s3(tmp_path: Path) -> FolderS3:
    """A folder that does not exist yet."""
    return FolderS3(tmp_path / "bucket")


def put(s3: Any, body: bytes = b"one", key: str = KEY, **condition: str) -> str:
    etag: str = s3.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType="application/json", **condition)["ETag"]
    return etag


def get(s3: Any, key: str = KEY, **condition: str) -> bytes:
    body: bytes = s3.get_object(Bucket=BUCKET, Key=key, **condition)["Body"].read()
    return body


def refused(action: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as raised:
        action()
    answer = raised.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


# The same everywhere ------------------------------------------------------------------------------------------------


def test_object_is_read_as_it_was_written_with_its_etag(s3: Any) -> None:
    etag = put(s3, b"\x00one\n")
    assert get(s3) == b"\x00one\n"
    assert s3.get_object(Bucket=BUCKET, Key=KEY)["ETag"] == etag
    assert put(s3, b"") != etag
    assert get(s3) == b""


def test_missing_object_is_404(s3: Any) -> None:
    assert refused(lambda: get(s3)) == (404, "NoSuchKey")


def test_unchanged_object_is_304(s3: Any) -> None:
    etag = put(s3)
    assert refused(lambda: get(s3, IfNoneMatch=etag))[0] == 304
    put(s3, b"two")
    assert get(s3, IfNoneMatch=etag) == b"two"


def test_write_on_condition_of_no_object_succeeds_once(s3: Any) -> None:
    put(s3, IfNoneMatch="*")
    assert refused(lambda: put(s3, b"two", IfNoneMatch="*")) == (412, "PreconditionFailed")
    assert get(s3) == b"one"


def test_write_on_condition_of_an_etag_succeeds_once(s3: Any) -> None:
    etag = put(s3)
    put(s3, b"two", IfMatch=etag)
    assert refused(lambda: put(s3, b"three", IfMatch=etag)) == (412, "PreconditionFailed")
    assert get(s3) == b"two"


def test_write_on_condition_of_an_etag_without_an_object_is_404(s3: Any) -> None:
    assert refused(lambda: put(s3, IfMatch='"0123"')) == (404, "NoSuchKey")
    assert refused(lambda: get(s3))[0] == 404


@pytest.mark.parametrize("key", ["a b+ü.json", "models/x/deep/er", ".hidden", "a..b", "%2e"])
def test_unusual_key_works(s3: Any, key: str) -> None:
    put(s3, b"it", key)
    assert get(s3, key) == b"it"


def test_empty_listing_has_no_contents(s3: Any) -> None:
    answer = s3.list_objects_v2(Bucket=BUCKET, Prefix="models/")
    assert "Contents" not in answer
    assert (answer["IsTruncated"], answer["KeyCount"]) == (False, 0)


def test_listing_has_a_prefix_pages_and_the_order_of_bytes(s3: Any) -> None:
    keys = ["a/1", "a/10", "a/2", "a-b", "a/é", "a/z", "b"]
    for key in keys:
        put(s3, key.encode(), key)
    request: dict[str, Any] = {"Bucket": BUCKET, "Prefix": "a/", "MaxKeys": 2}
    pages = [s3.list_objects_v2(**request)]
    while pages[-1]["IsTruncated"]:
        token = pages[-1]["NextContinuationToken"]
        pages.append(s3.list_objects_v2(**request, ContinuationToken=token))
    assert [[entry["Key"] for entry in page["Contents"]] for page in pages] == [
        ["a/1", "a/10"],
        ["a/2", "a/z"],
        ["a/é"],
    ]
    later = [s3.list_objects_v2(**request, StartAfter=key)["Contents"][0]["Key"] for key in ("a/10", "a/11", "0")]
    assert later == ["a/2", "a/2", "a/1"]
    assert [entry["Size"] for entry in pages[0]["Contents"]] == [3, 4]
    assert pages[0]["Contents"][0]["LastModified"].tzinfo is not None


# The folder's own ---------------------------------------------------------------------------------------------------


@given(key=st.text(max_size=40) | st.sampled_from(["../x", "/etc/x", "a/../../x", "a//b", "a/", "", ".folder_s3/lock"]))
def test_no_key_leaves_the_folder(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    outside = tmp_path_factory.mktemp("outside")
    s3 = FolderS3(outside / "bucket")
    try:
        put(s3, b"it", key)
    except (ClientError, UserError, UnicodeEncodeError):
        found = []
    else:
        found = [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
        assert get(s3, key) == b"it"
    assert found in ([], [key])
    assert [path.name for path in outside.iterdir()] in ([], ["bucket"])


@pytest.mark.parametrize("key", ["../x", "/x", "a/./b", ".folder_s3/lock", "", "a\0b"])
def test_key_that_is_not_possible_in_a_folder_is_refused_in_every_call(folder_s3: FolderS3, key: str) -> None:
    for action in (lambda: put(folder_s3, key=key), lambda: get(folder_s3, key)):
        assert refused(action) == (400, "KeyNotPossibleInAFolder")


def test_folder_has_only_objects_and_the_lock(folder_s3: FolderS3, tmp_path: Path) -> None:
    put(folder_s3)
    refused(lambda: put(folder_s3, IfNoneMatch="*"))
    files = sorted(path.relative_to(tmp_path / "bucket").as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [".folder_s3/lock", KEY]
    assert [entry["Key"] for entry in folder_s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [KEY]


def test_one_of_many_concurrent_writers_succeeds(folder_s3: FolderS3) -> None:
    def write(number: int) -> int | None:
        try:
            put(folder_s3, b"%d" % number, IfNoneMatch="*")
        except ClientError:
            return None
        return number

    with ThreadPoolExecutor(8) as threads:
        (winner,) = [won for won in threads.map(write, range(24)) if won is not None]
    assert get(folder_s3) == b"%d" % winner


def test_folder_is_not_an_object(folder_s3: FolderS3) -> None:
    put(folder_s3)
    assert refused(lambda: get(folder_s3, "channels")) == (404, "NoSuchKey")
    assert refused(lambda: get(folder_s3, f"{KEY}/x")) == (404, "NoSuchKey")
    with pytest.raises(UserError):
        put(folder_s3, key=f"{KEY}/x")


FILL_A_DISK = """
import resource, sys
from pathlib import Path
from training.errors import UserError
from training.registry.folder_s3 import FolderS3
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))  # a disk that takes a kilobyte a file
try:
    FolderS3(Path(sys.argv[1])).put_object(Bucket="b", Key="channels/stable.json", Body=b"x" * 100_000)
except UserError as error:
    print(error)
"""


def test_full_disk_is_a_user_error_and_keeps_the_old_object(folder_s3: FolderS3, tmp_path: Path) -> None:
    put(folder_s3)
    told = subprocess.run(  # noqa: S603 - our own code; in this process the limit would cut off pytest's own output
        [sys.executable, "-c", FILL_A_DISK, tmp_path / "bucket"], capture_output=True, text=True, check=True
    )
    assert re.match(r"cannot write channels/stable\.json in .*: make room", told.stdout)
    assert get(folder_s3) == b"one"
    assert [path.name for path in (tmp_path / "bucket" / ".folder_s3").iterdir()] == ["lock"]


def test_file_in_place_of_the_folder_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("")
    s3 = FolderS3(tmp_path / "bucket")
    with pytest.raises(UserError, match="in the bucket that is folder"):
        put(s3)
    with pytest.raises(UserError, match="cannot list"):
        s3.list_objects_v2(Bucket=BUCKET)
