"""Objects of the models' bucket: read, written under a condition, listed; an S3 that does not answer is one error."""

from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from training.errors import PublishError

_REFUSED = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT}


class Found(NamedTuple):
    """An object as it was when it was read; the ETag stands in its quotes."""

    body: bytes
    etag: str


class Listed(NamedTuple):
    """An object as a listing tells of it. `modified` is aware; None where the listing does not say."""

    key: str
    modified: datetime | None


def put_object(s3: Any, bucket: str, key: str, body: bytes, **condition: str) -> bool:
    """Stores an object; False where the condition does not hold, or S3 says that another write is under way.

    Raises:
        PublishError: S3 did not take it, or did not say so.
    """
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/octet-stream", **condition)
    except ClientError as error:
        vanished = _status(error) == HTTPStatus.NOT_FOUND and "IfMatch" in condition and not _is_no_bucket(error)
        if vanished or _status(error) in _REFUSED:
            return False
        raise PublishError(bucket, key, f"cannot be written: {error}") from error
    except BotoCoreError as error:
        raise PublishError(bucket, key, f"cannot be written: {error}") from error
    return True


def put_once(s3: Any, bucket: str, key: str, body: bytes) -> Found:
    """Stores an object for ever; one that is there already is left as it is, whatever it holds.

    Returns:
        What the bucket holds now.

    Raises:
        PublishError: S3 did not take it, or somebody else is writing it just now.
    """
    if put_object(s3, bucket, key, body, IfNoneMatch="*"):
        return Found(body, "")
    there = get_object(s3, bucket, key)
    if there is None:
        raise PublishError(bucket, key, "is being written by somebody else: try again")
    return there


def get_object(s3: Any, bucket: str, key: str) -> Found | None:
    """Reads an object; None where there is none.

    Raises:
        PublishError: S3 did not answer as needed, or there is no such bucket.
    """
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
        return Found(answer["Body"].read(), answer["ETag"])
    except ClientError as error:
        if _status(error) == HTTPStatus.NOT_FOUND and not _is_no_bucket(error):
            return None
        raise PublishError(bucket, key, f"cannot be read: {error}") from error
    except BotoCoreError as error:
        raise PublishError(bucket, key, f"cannot be read: {error}") from error


def list_objects(s3: Any, bucket: str, prefix: str) -> Iterator[Listed]:
    """Lists the objects below a prefix in S3's order, a page of a thousand at a time.

    Raises:
        PublishError: S3 did not answer as needed.
    """
    request = {"Bucket": bucket, "Prefix": prefix}
    while True:
        try:
            page = s3.list_objects_v2(**request)
        except (BotoCoreError, ClientError) as error:
            raise PublishError(bucket, prefix, f"cannot be listed: {error}") from error
        yield from (Listed(entry["Key"], entry.get("LastModified")) for entry in page.get("Contents", ()))
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _is_no_bucket(error: ClientError) -> bool:
    return bool(error.response["Error"]["Code"] == "NoSuchBucket")
