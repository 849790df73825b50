"""Objects of the models' bucket: read, written under a condition, listed; an S3 that does not answer is one error."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.errors import StoreError
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


# MERGED FROM infra/bucket.py
# A bucket seen from outside of the function: keys by prefix, objects a few at a time, writes that lose no race.
N_THREADS = 8
"""Requests under way at once: below the ten connections that a boto3 client keeps."""

_LOST_RACE = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}

T = TypeVar("T")
R = TypeVar("R")


class StoredObject(NamedTuple):
    """An object as it was when it was read."""

    key: str
    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket behind a boto3 S3 client. Every method raises `StoreError` where S3 does not answer as needed.

    Attributes:
        n_threads: Requests under way at once; 1 for one after the other, in this thread.
    """

    s3: Any
    name: str
    n_threads: int = N_THREADS

    def keys(self, prefix: str) -> Iterator[str]:
        """Lists the keys below a prefix in S3's order, a page of a thousand at a time."""
        request: dict[str, str] = {"Bucket": self.name, "Prefix": prefix}
        while True:
            try:
                page = self.s3.list_objects_v2(**request)
            except (BotoCoreError, ClientError) as error:
                raise StoreError("list", self.name, prefix, str(error)) from error
            yield from (entry["Key"] for entry in page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, key: str) -> StoredObject | None:
        """Reads an object; None where there is none."""
        try:
            answer = self.s3.get_object(Bucket=self.name, Key=key)
            return StoredObject(key, answer["Body"].read(), answer["ETag"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise StoreError("read", self.name, key, str(error)) from error
        except BotoCoreError as error:
            raise StoreError("read", self.name, key, str(error)) from error

    def read_all(self, keys: Iterable[str]) -> Iterator[StoredObject]:
        """Reads objects in order, a few ahead; one that has vanished since it was listed is left out."""
        return (stored for stored in self.each(self.read, keys) if stored is not None)

    def replace(self, key: str, body: bytes, etag: str | None) -> str | None:
        """Writes an object if nobody else has since it was read.

        A write whose answer got lost is sent again by the client, and then refused because of itself: so a refusal
        counts only if the object does not hold `body`. Two writers must therefore never write the same bytes.

        Args:
            key: Its key.
            body: What to write.
            etag: As it was read; None where there was none.

        Returns:
            The new ETag; None where somebody else was faster.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            answer = self.s3.put_object(
                Bucket=self.name, Key=key, Body=body, ContentType="application/json", **condition
            )
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in _LOST_RACE or _is_no_bucket(error):
                raise StoreError("write", self.name, key, str(error)) from error
            there = self.read(key)
            return there.etag if there and there.body == body else None
        except BotoCoreError as error:
            raise StoreError("write", self.name, key, str(error)) from error
        new_etag: str = answer["ETag"]
        return new_etag

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Calls a function for each item, a few at a time, and yields its results in order."""
        if self.n_threads == 1:
            yield from map(function, items)
            return
        ahead: deque[Future[R]] = deque()
        with ThreadPoolExecutor(self.n_threads) as pool:
            try:
                for item in items:
                    ahead.append(pool.submit(function, item))
                    if len(ahead) > self.n_threads:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()
