"""Models in S3: a channel names a version, a version is a bundle; the last good one is kept and refreshed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.errors import PredictorError, StoreError
from lambda_function.model import (
    FOREST,
    GOLDEN,
    MANIFEST,
    Channel,
    ModelBundle,
    bundle_key,
    channel_key,
    decode_channel,
    load_bundle,
)


class GetObject(Protocol):
    """What of an S3 client is needed here."""

    def get_object(self, *, Bucket: str, Key: str, **conditions: str) -> Any:  # noqa: N803
        """Reads one object; with `IfNoneMatch` an unchanged one answers 304."""


class NoSuchObjectError(StoreError):
    """The bucket has no object by that key."""

    def __init__(self, bucket: str, key: str) -> None:
        super().__init__("read", bucket, key, "there is no such object")


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The model to use for a batch, and why it is not a newer one where a refresh failed."""

    model: ModelBundle
    switched: bool = False
    error: PredictorError | None = None


@dataclass(slots=True)
class ModelStore:
    """Follows one channel. `clock` is monotonic seconds."""

    s3: GetObject
    bucket: str
    channel: str
    refresh_s: float
    clock: Callable[[], float] = time.monotonic
    _model: ModelBundle | None = field(default=None, init=False)
    _etag: str = field(default="", init=False)
    _looked_at_s: float = field(default=0.0, init=False)

    def refresh(self) -> Refreshed:
        """Returns the model to use now; looks at the channel where that is due. Call it between two batches.

        Raises:
            PredictorError: There is no model yet (a cold start) and none could be loaded.
        """
        current = self._model
        if current is None:
            return Refreshed(self._follow(None), switched=True)
        if self.clock() - self._looked_at_s < self.refresh_s:
            return Refreshed(current)
        try:
            model = self._follow(current)
        except PredictorError as error:
            return Refreshed(current, error=error)
        return Refreshed(model, switched=model is not current)

    def _follow(self, current: ModelBundle | None) -> ModelBundle:
        """Returns the model that the channel names: `current` where that is still the one."""
        self._looked_at_s = self.clock()
        found = self._read_channel(self._etag)
        if found is None:  # unchanged, which only a store that has a model can be told
            assert current is not None  # noqa: S101
            return current
        channel, etag = found
        if current is None or channel.model_version != current.model_version:
            current = self._load(channel)
        self._model, self._etag = current, etag  # only now: a bundle that failed is tried again at the next look
        return current

    def _read_channel(self, etag: str) -> tuple[Channel, str] | None:
        """Reads the channel and its ETag; None where it is unchanged since `etag`."""
        key = channel_key(self.channel)
        answer = self._get(key, IfNoneMatch=etag) if etag else self._get(key)
        if answer is None:
            return None
        data, new_etag = answer
        try:
            return decode_channel(data), new_etag
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreError("use", self.bucket, key, str(error)) from error

    def _load(self, channel: Channel) -> ModelBundle:
        version = channel.model_version
        files = {}
        for file in (MANIFEST, FOREST, GOLDEN):
            try:
                answer = self._get(bundle_key(version, file))
            except NoSuchObjectError:
                continue  # load_bundle names what is missing
            if answer is not None:
                files[file] = answer[0]
        return load_bundle(version, channel.manifest_sha256, files)

    def _get(self, key: str, **conditions: str) -> tuple[bytes, str] | None:
        """Reads an object and its ETag; None where a condition says that it is unchanged."""
        try:
            answer = self.s3.get_object(Bucket=self.bucket, Key=key, **conditions)
            return answer["Body"].read(), answer["ETag"]
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == HTTPStatus.NOT_MODIFIED:
                return None
            if status == HTTPStatus.NOT_FOUND:
                raise NoSuchObjectError(self.bucket, key) from error
            raise StoreError("read", self.bucket, key, str(error)) from error
        except BotoCoreError as error:
            raise StoreError("read", self.bucket, key, str(error)) from error
