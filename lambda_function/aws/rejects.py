"""Rejects: built from a record and what is wrong with it, stored as one S3 object a batch."""

from collections.abc import Sequence
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.core.events import Reject, encode_reject
from lambda_function.errors import StoreError

PREFIX = "rejects"


class PutObject(Protocol):
    """What of an S3 client is needed here."""

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> Any:  # noqa: N803
        """Stores one object."""


def reject_key(stream: str, first: Reject) -> str:
    """Returns the key of a batch's rejects: it names the first of them, so that a repeat overwrites itself.

    Not the batch's first record: what comes again may be cut elsewhere, and a reject would stand under two keys.
    """
    return f"{PREFIX}/{stream}/{first.shard_id}/{first.sequence_number}.ndjson"


def store_rejects(s3: PutObject, bucket: str, key: str, rejects: Sequence[Reject]) -> None:
    """Stores a batch's rejects as one object, a line each.

    Raises:
        StoreError: S3 did not take it; the records must come again.
    """
    body = b"".join(encode_reject(reject) + b"\n" for reject in rejects)
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/x-ndjson")
    except (BotoCoreError, ClientError) as error:
        raise StoreError("store", bucket, key, str(error)) from error
