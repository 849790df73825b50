"""A bucket seen from outside of the function: keys by prefix, objects a few at a time, writes that lose no race."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.errors import StoreError

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


def _is_no_bucket(error: ClientError) -> bool:
    return bool(error.response["Error"]["Code"] == "NoSuchBucket")
