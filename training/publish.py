"""Bundles into the bucket, channels onto bundles. Nothing else moves a channel; rolling back is moving it back."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.model import FOREST, GOLDEN, MANIFEST, Channel, bundle_key, channel_key, decode_channel
from training.errors import ChannelMovedError, PublishError
from training.export import ExportedBundle


def store_bundle(s3: Any, bucket: str, bundle: ExportedBundle) -> None:
    """Stores a bundle once and for ever; one that is there already is left as it is.

    The manifest comes last: a version is visible when, and only when, it is whole.

    Raises:
        PublishError: S3 did not take it, or holds another bundle by this name.
    """
    for name in (FOREST, GOLDEN, MANIFEST):
        key = bundle_key(bundle.model_version, name)
        if _put(s3, bucket, key, bundle.files[name], IfNoneMatch="*"):
            continue
        there = _get(s3, bucket, key)
        if there is None:
            raise PublishError(bucket, key, "is being written by somebody else: try again")
        if there[0] != bundle.files[name]:
            raise PublishError(bucket, key, "holds other bytes already, and a bundle is never changed")


def move_channel(s3: Any, bucket: str, channel: str, model_version: str, manifest_sha256: str) -> Channel:
    """Points a channel at a stored version, if it still points where it did when we looked.

    Returns:
        The channel as it is now: `previous` is the version before. One that points there already is left as it is,
        or there would be no way back.

    Raises:
        ChannelMovedError: Somebody else moved it first.
        PublishError: S3 did not answer as needed.
    """
    key = channel_key(channel)
    before = _get(s3, bucket, key)
    old = _decode(bucket, key, before[0]) if before else None
    if old and (old.model_version, old.manifest_sha256) == (model_version, manifest_sha256):
        return old
    moved = Channel(model_version, manifest_sha256, old.model_version if old else None, datetime.now(UTC).isoformat())
    condition = {"IfMatch": before[1]} if before else {"IfNoneMatch": "*"}
    if not _put(s3, bucket, key, msgspec.json.encode(moved), **condition):
        now = _get(s3, bucket, key)
        raise ChannelMovedError(bucket, key, _decode(bucket, key, now[0]).model_version if now else "nothing")
    return moved


def _decode(bucket: str, key: str, data: bytes) -> Channel:
    try:
        return decode_channel(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PublishError(bucket, key, f"holds no channel: {error}") from error


def _put(s3: Any, bucket: str, key: str, body: bytes, **condition: str) -> bool:
    """Stores an object; False where the condition does not hold."""
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/octet-stream", **condition)
    except ClientError as error:
        vanished = _status(error) == HTTPStatus.NOT_FOUND and "IfMatch" in condition
        if vanished or _status(error) in {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT}:
            return False
        raise PublishError(bucket, key, f"cannot be written: {error}") from error
    except BotoCoreError as error:
        raise PublishError(bucket, key, f"cannot be written: {error}") from error
    return True


def _get(s3: Any, bucket: str, key: str) -> tuple[bytes, str] | None:
    """Returns an object's bytes and ETag; None where there is none."""
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(), answer["ETag"]
    except ClientError as error:
        if _status(error) == HTTPStatus.NOT_FOUND:
            return None
        raise PublishError(bucket, key, f"cannot be read: {error}") from error
    except BotoCoreError as error:
        raise PublishError(bucket, key, f"cannot be read: {error}") from error


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
