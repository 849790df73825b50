"""Models in S3: a channel names a version, a version is a bundle; the last good one is kept and refreshed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from lambda_function.aws.clients import make_kms_client
from lambda_function.aws.signature import KEY_ARN, SIGNATURE, check_signature
from lambda_function.core.bundle import (
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
from lambda_function.errors import PredictorError, StoreError

MAX_BYTES = {
    "channel": 1 << 16,
    MANIFEST: 1 << 20,
    SIGNATURE: 1 << 10,
    FOREST: 1 << 24,
    GOLDEN: 1 << 22,
}
"""The most bytes read of an object: fifty times the largest that training makes. A larger object could fill the
function's memory, and a channel must not be able to kill the functions that follow it."""

FAILED_REFRESH_S = 60.0
"""After a failed refresh, the next one is due within these seconds, even if the refresh interval is longer:
RefreshFailuresAlarm counts minutes and must be able to sound within a canary of five minutes."""


class GetObject(Protocol):
    """The part of an S3 client that the store uses."""

    def get_object(self, *, Bucket: str, Key: str, **conditions: str) -> Any:  # noqa: N803
        """Read one object; with `IfNoneMatch`, an unchanged one gives status 304."""


class NoSuchObjectError(StoreError):
    """The bucket has no object with that key."""

    def __init__(self, bucket: str, key: str, what_now: str = "") -> None:
        super().__init__("read", bucket, key, f"there is no such object{what_now}")


class NoModelYetError(NoSuchObjectError):
    """There is no channel object at a cold start: a stack has none until its first model is released."""

    def __init__(self, bucket: str, key: str) -> None:
        release = f"`ridecast models release build/bundles/<version> --bucket {bucket}`"
        what_now = f": train a first model with `ridecast train`, and release it with {release}; rides wait until then"
        super().__init__(bucket, key, what_now)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The model for a batch, and the error if the refresh failed."""

    model: ModelBundle
    switched: bool = False
    error: PredictorError | None = None


@dataclass(slots=True)
class ModelStore:
    """Follows one channel.

    Attributes:
        refresh_s: Seconds between two reads of the channel; after a failed one, at most FAILED_REFRESH_S.
        clock: Monotonic seconds.
        signing_key: ARN of the KMS key that bundles must be signed with; "" where they need not be.
        make_kms: Makes a KMS client of a region. Asked only to load a bundle that must be signed: a cold start without
            signatures does not pay for it, and no connection of it grows old or is frozen into a snapshot.
    """

    s3: GetObject
    bucket: str
    channel: str
    refresh_s: float
    clock: Callable[[], float] = time.monotonic
    signing_key: str = ""
    make_kms: Callable[[str], Any] = make_kms_client
    _model: ModelBundle | None = field(default=None, init=False)
    _etag: str = field(default="", init=False)
    _due_s: float = field(default=0.0, init=False)

    def refresh(self) -> Refreshed:
        """Return the current model; read the channel first if that is due. Call it between two batches.

        Raises:
            PredictorError: No model is loaded yet (a cold start) and none can be loaded.
        """
        current = self._model
        now_s = self.clock()
        if current is not None and now_s < self._due_s:
            return Refreshed(current)
        self._due_s = now_s + min(self.refresh_s, FAILED_REFRESH_S)  # until this refresh succeeds
        try:
            model = self._follow(current)
        except PredictorError as error:
            if current is None:
                raise
            return Refreshed(current, error=error)
        self._due_s = now_s + self.refresh_s
        return Refreshed(model, switched=model is not current)

    def _follow(self, current: ModelBundle | None) -> ModelBundle:
        """Return the model that the channel names, which may still be `current`."""
        found = self._read_channel(self._etag)
        if found is None:  # unchanged, so a model is loaded
            assert current is not None  # noqa: S101
            return current
        channel, etag = found
        if current is None or channel.model_version != current.model_version:
            current = self._load(channel)
        self._model, self._etag = current, etag  # only now: a bundle that failed is tried again at the next refresh
        return current

    def _read_channel(self, etag: str) -> tuple[Channel, str] | None:
        """Return the channel and its ETag; None if it is unchanged since `etag`."""
        key = channel_key(self.channel)
        conditions = {"IfNoneMatch": etag} if etag else {}
        try:
            answer = self._get(key, MAX_BYTES["channel"], **conditions)
        except NoSuchObjectError as error:
            if etag:  # the channel existed before
                raise
            raise NoModelYetError(self.bucket, key) from error
        if answer is None:
            return None
        data, new_etag = answer
        try:
            return decode_channel(data), new_etag
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StoreError("use", self.bucket, key, str(error)) from error

    def _load(self, channel: Channel) -> ModelBundle:
        version = channel.model_version
        files = self._files(version, MANIFEST)
        if self.signing_key and MANIFEST in files:  # before the manifest and the files that it names are used
            self._check_signature(version, files[MANIFEST])
        return load_bundle(version, channel.manifest_sha256, {**files, **self._files(version, FOREST, GOLDEN)})

    def _check_signature(self, version: str, manifest: bytes) -> None:
        signature = self._files(version, SIGNATURE).get(SIGNATURE)
        key = KEY_ARN.fullmatch(self.signing_key)
        assert key is not None  # noqa: S101 - as Settings has checked
        check_signature(self.make_kms(key["region"]), self.signing_key, version, manifest, signature)

    def _files(self, version: str, *names: str) -> dict[str, bytes]:
        """Return files of a bundle, without the missing ones: `load_bundle` names those."""
        files = {}
        for name in names:
            try:
                answer = self._get(bundle_key(version, name), MAX_BYTES[name])
            except NoSuchObjectError:
                continue
            if answer is not None:
                files[name] = answer[0]
        return files

    def _get(self, key: str, max_bytes: int, **conditions: str) -> tuple[bytes, str] | None:
        """Return an object and its ETag; None if a condition says that it is unchanged."""
        try:
            answer = self.s3.get_object(Bucket=self.bucket, Key=key, **conditions)
            n_bytes = answer.get("ContentLength", 0)
            if n_bytes > max_bytes:
                raise StoreError("use", self.bucket, key, f"it has {n_bytes:,} bytes; the limit is {max_bytes:,}")
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
