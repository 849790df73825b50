"""Store the rejects of a batch as one S3 object."""

from collections.abc import Sequence
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.core.events import Reject, encode_reject
from lambda_function.errors import StoreError

PREFIX = "rejects"


class PutObject(Protocol):
    """The part of an S3 client that storing uses."""

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> Any:  # noqa: N803
        """Store one object."""


def reject_key(stream: str, first: Reject) -> str:
    """Return the key of a batch's rejects. It names the first reject, so a repeat overwrites itself.

    It does not name the batch's first record: a batch that comes again may start at another record, and the same reject
    would then be stored under two keys.
    """
    return f"{PREFIX}/{stream}/{first.shard_id}/{first.sequence_number}.ndjson"


def store_rejects(s3: PutObject, bucket: str, key: str, rejects: Sequence[Reject]) -> None:
    """Store a batch's rejects as one object, one line per reject.

    Raises:
        StoreError: S3 did not confirm the object; the records must come again.
    """
    body = b"".join(encode_reject(reject) + b"\n" for reject in rejects)
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/x-ndjson")
    except (BotoCoreError, ClientError) as error:
        raise StoreError("store", bucket, key, str(error)) from error
