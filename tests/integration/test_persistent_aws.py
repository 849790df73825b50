"""A local AWS with a state file: a new server has what the old one has confirmed."""

from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.local.aws import LocalAws
from infra.operate.shards import list_shards
from training.errors import UserError

STREAM, BUCKET = "rides", "a-bucket"
PARTS = [b"x" * (5 << 20), b"y"]


def kill(aws: LocalAws) -> None:
    """End the server in the middle of its work."""
    aws.check()
    aws._process.kill()
    aws._process.wait()
    with pytest.raises(UserError, match="has ended"):
        aws.check()


def records(kinesis: Any) -> dict[str, list[tuple[str, bytes]]]:
    """Return number and data of the records of each shard."""
    found = {}
    for shard in list_shards(kinesis, STREAM):
        iterator = kinesis.get_shard_iterator(
            StreamName=STREAM, ShardId=shard.shard_id, ShardIteratorType="TRIM_HORIZON"
        )
        page = kinesis.get_records(ShardIterator=iterator["ShardIterator"])
        found[shard.shard_id] = [(one["SequenceNumber"], one["Data"]) for one in page["Records"]]
    return found


def objects(s3: Any) -> dict[str, tuple[bytes, str, str, dict[str, str]]]:
    """Return body, ETag, type and metadata of each object."""
    found = {}
    for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        answer = s3.get_object(Bucket=BUCKET, Key=one["Key"])
        found[one["Key"]] = (answer["Body"].read(), answer["ETag"], answer["ContentType"], answer["Metadata"])
    return found


def change_all(kinesis: Any, s3: Any) -> None:
    """Make every kind of change that is kept."""
    for number in range(20):
        kinesis.put_record(StreamName=STREAM, Data=b"%d" % number, PartitionKey=str(number))
    kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    entries = [{"Data": b"new", "PartitionKey": str(number)} for number in range(20)]
    kinesis.put_records(StreamName=STREAM, Records=entries)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=BUCKET, Key="a//../ü", Body=b"1", ContentType="text/csv", Metadata={"from": "here"})
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"old")
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"new")
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/a")
    for key in ("gone", "gone, too", "back"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"gone")
    s3.delete_object(Bucket=BUCKET, Key="gone")
    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "gone, too"}]})
    newest = s3.put_object(Bucket=BUCKET, Key="back", Body=b"for a moment")["VersionId"]
    s3.delete_object(Bucket=BUCKET, Key="back", VersionId=newest)
    upload = {"Bucket": BUCKET, "Key": "parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    tags = [s3.upload_part(**upload, PartNumber=n, Body=part)["ETag"] for n, part in enumerate(PARTS, 1)]
    listed = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": listed})


@pytest.mark.parametrize("header", [("Host", "example.com"), ("Origin", "https://example.com"), ("Host", "[")])
def test_a_page_of_another_site_gets_no_answer(aws: LocalAws, header: tuple[str, str]) -> None:
    with closing(HTTPConnection(urlsplit(aws.endpoint_url).netloc)) as connection:
        connection.request("GET", f"/{BUCKET}", headers=dict([header]))
        assert connection.getresponse().status == HTTPStatus.FORBIDDEN


def test_a_new_server_has_what_a_killed_one_has_confirmed(tmp_path: Path) -> None:
    before: list[Any] = []
    for _ in range(2):
        try:
            with LocalAws(state=tmp_path / "state.db") as aws:
                kinesis, s3 = aws.client("kinesis"), aws.client("s3")
                kinesis.create_stream(StreamName=STREAM, ShardCount=1)
                s3.create_bucket(Bucket=BUCKET)
                if not before:
                    change_all(kinesis, s3)
                    before = [records(kinesis), objects(s3)]
                    assert objects(s3)["back"][0] == b"gone"
                    assert objects(s3)["parts"][0] == b"".join(PARTS)
                else:
                    assert [records(kinesis), objects(s3)] == before
                    new = kinesis.put_record(StreamName=STREAM, Data=b"next", PartitionKey="1")["SequenceNumber"]
                    assert all(int(new) > int(number) for one in before[0].values() for number, _ in one)
                    kinesis.delete_stream(StreamName=STREAM)
                    kinesis.create_stream(StreamName=STREAM, ShardCount=1)
                    assert not any(records(kinesis).values())
                kill(aws)
        except UserError as error:
            assert "code -9" in str(error)  # noqa: PT017 - leaving the block reports the kill
