"""Rejects: built from a record and what is wrong with it, stored as one S3 object a batch."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.errors import RejectError, StoreError
from lambda_function.events import Reject, encode_reject
from lambda_function.records import KinesisRecord

PREFIX = "rejects"
_MAX_DETAIL_CHARACTERS = 500  # a path can be as long as the producer's own field names


class PutObject(Protocol):
    """What of an S3 client is needed here."""

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> Any:  # noqa: N803
        """Stores one object."""


def build_reject(record: KinesisRecord, error: RejectError) -> Reject:
    """Builds the reject of a record, or sub-record, that failed with `error`; it keeps all that the record held."""
    return Reject(
        reason=error.reason,
        detail=_encodable(error.detail[:_MAX_DETAIL_CHARACTERS]),
        shard_id=record.shard_id,
        sequence_number=record.envelope.sequence_number,
        arrival_time=datetime.fromtimestamp(record.envelope.arrival_time_s, UTC).isoformat(),
        partition_key=_encodable(record.envelope.partition_key),
        data=base64.b64encode(record.envelope.data).decode("ascii"),
        sub_record=record.index,
    )


def _encodable(text: str) -> str:
    """Escapes lone surrogates, which JSON's escapes can bring in and UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()


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
