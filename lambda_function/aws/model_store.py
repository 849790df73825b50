"""Models in S3: a channel names versions, a version is a bundle and perhaps a calibration; both are kept and refreshed.

A look at the channel succeeds if the channel is read and its newest segment loads, in a split both of its models. That
segment begins to serve later: so no batch waits for it then. A failed look leaves channel and models as they are. The
models of older segments are loaded when a record that arrived then needs them.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from botocore.exceptions import ClientError

from lambda_function.aws.clients import NO_USABLE_ANSWER, make_kms_client
from lambda_function.aws.signature import KEY_ARN, SIGNATURE, check_signature
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, ModelBundle, bundle_key, load_bundle
from lambda_function.core.calibration import calibration_key, load_calibration
from lambda_function.core.channel import (
    ACTIVATION_DELAY_S,
    Arm,
    CalibrationRef,
    Channel,
    Segment,
    channel_key,
    decode_channel,
    remedy,
    salvage_channel,
)
from lambda_function.core.processor import CandidateModel, ModelFrom
from lambda_function.errors import BundleError, CalibrationError, ChannelError, PredictorError, StoreError

MAX_BYTES = {
    "channel": 1 << 19,
    MANIFEST: 1 << 20,
    SIGNATURE: 1 << 10,
    FOREST: 1 << 24,
    GOLDEN: 1 << 22,
    "calibration": 1 << 18,
}
"""The most bytes read of an object: fifty times the largest that training makes, and twice a channel with the most
segments. A larger object could fill the function's memory, and a channel must not be able to kill the functions that
follow it."""

FAILED_REFRESH_S = 60.0
"""After a failed refresh, the next one is due within these seconds, even if the refresh interval is longer:
RefreshFailuresAlarm counts minutes and must be able to sound within a canary of five minutes."""

REFRESH_BUDGET_S = 10.0
"""The seconds after which a refresh sends no more requests and stops reading. A request that has begun ends within 9 s
(clients.py), so the shortest timeout that the template allows, 30 s, leaves time for an orderly end."""

N_MODELS = 4
"""Models kept in memory: the newest, the one before, and two for records that waited or come again."""

N_CALIBRATED = 24
"""Calibrated models kept in memory: a day of hourly ones. One takes 0.4 MB beside its model, and a read to load."""

K = TypeVar("K", bound="_Bundle | _Calibrated")

_CHUNK_BYTES = 1 << 12
"""Read at a time: a body that trickles is given up soon after the time is up."""


class GetObject(Protocol):
    """The part of an S3 client that the store uses."""

    def get_object(self, *, Bucket: str, Key: str, **conditions: str) -> Any:  # noqa: N803
        """Read one object; with `IfNoneMatch`, an unchanged one gives status 304."""


class NoSuchObjectError(StoreError):
    """The bucket has no object with that key."""

    def __init__(self, bucket: str, key: str, what_now: str = "") -> None:
        super().__init__("read", bucket, key, f"there is no such object{what_now}")


class DamagedChannelError(StoreError):
    """The channel's object is not a channel that this function can serve."""

    def __init__(self, bucket: str, channel: str, error: ChannelError) -> None:
        super().__init__("use", bucket, channel_key(channel), f"{error}: {remedy(error, channel, bucket)}")


class TooLargeError(StoreError):
    """An object that is larger than the function reads."""


class NoModelYetError(NoSuchObjectError):
    """There is no channel object at a cold start: a stack has none until its first model is released."""

    def __init__(self, bucket: str, key: str) -> None:
        release = f"`ridecast models release build/bundles/<version> --bucket {bucket}`"
        what_now = f": train a first model with `ridecast train`, and release it with {release}; rides wait until then"
        super().__init__(bucket, key, what_now)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The models for a batch, and what is known of the channel.

    Attributes:
        models: The models by the arrival times that they serve, newest first, at least one.
        channel_age_s: Seconds since the last look at the channel that succeeded.
        is_stale: Whether that is so long that a segment may serve by now which this function has not seen.
        switched: Whether the newest of the models, in a split one of the two, is another one than at the last refresh.
        error: Why the look at the channel failed, or why another segment's model serves in place of a damaged one.
    """

    models: tuple[ModelFrom, ...]
    channel_age_s: float = 0.0
    is_stale: bool = False
    switched: bool = False
    error: PredictorError | None = None

    @property
    def model(self) -> ModelBundle:
        """The newest of the models."""
        return self.models[0].model


_Bundle = tuple[str, str]  # model version and SHA-256 of its manifest
_Calibrated = tuple[_Bundle, CalibrationRef]


@dataclass(slots=True)
class ModelStore:
    """Follows one channel.

    Attributes:
        refresh_s: Seconds between two reads of the channel; after a failed one, at most FAILED_REFRESH_S.
        clock: Monotonic seconds.
        signing_key: ARN of the KMS key that bundles must be signed with; "" where they need not be.
        make_kms: Makes a KMS client of a region. Asked only to load a bundle that must be signed: a cold start without
            signatures does not pay for it, and no connection of it grows old or is frozen into a snapshot.
        activation_delay_s: Seconds from a promotion to its first record: an older look at the channel is stale.
        wall: Seconds since the epoch. It measures the age of a look, because it goes on while a snapshot is stored.
    """

    s3: GetObject
    bucket: str
    channel: str
    refresh_s: float
    clock: Callable[[], float] = time.monotonic
    signing_key: str = ""
    make_kms: Callable[[str], Any] = make_kms_client
    activation_delay_s: float = ACTIVATION_DELAY_S
    wall: Callable[[], float] = time.time
    _state: Channel | None = field(default=None, init=False)
    _etag: str = field(default="", init=False)
    _loaded: dict[_Bundle, ModelBundle] = field(default_factory=dict, init=False)  # the most recently used is last
    _calibrated: dict[_Calibrated, ModelBundle] = field(default_factory=dict, init=False)  # likewise
    _unusable: dict[_Bundle | _Calibrated, BundleError] = field(default_factory=dict, init=False)  # since the last look
    _due_s: float = field(default=0.0, init=False)
    _give_up_s: float = field(default=0.0, init=False)
    _seen_at_s: float = field(default=0.0, init=False)  # by the wall clock
    _last_versions: tuple[str, ...] = field(default=(), init=False)

    def refresh(self, arrival_times_s: Sequence[float] = (math.inf,)) -> Refreshed:
        """Return the models of records; read the channel first if that is due. Call it between two batches.

        Args:
            arrival_times_s: Of the records, in seconds since the epoch, at least one; by default the newest segment.

        Raises:
            PredictorError: No model is loaded yet (a cold start) and none can be loaded.
            TransientError: S3 or KMS refused a model that the records need.
        """
        now_s = self.clock()
        self._give_up_s = now_s + REFRESH_BUDGET_S
        error = self._look(now_s) if self._state is None or now_s >= self._due_s else None
        channel = self._state
        assert channel is not None  # noqa: S101 - otherwise the look has raised
        models = []
        for segment in channel.segments_of(arrival_times_s):
            loaded, problem = self._models_of(channel, segment)
            models.append(loaded)
            error = error or problem
        self._keep_few()  # only now: segments of a batch may have their models in turn, and each is loaded once
        versions, before = models[0].served_versions, self._last_versions
        self._last_versions = versions
        age_s = max(0.0, self.wall() - self._seen_at_s)
        return Refreshed(tuple(models), age_s, age_s > self.activation_delay_s, versions != before, error)

    def _look(self, now_s: float) -> PredictorError | None:
        """Read the channel and load its newest model; return the error if that fails.

        Raises:
            PredictorError: Nothing is loaded that could serve meanwhile.
        """
        self._due_s = now_s + min(self.refresh_s, FAILED_REFRESH_S)  # until this look succeeds
        self._unusable.clear()
        try:
            channel, etag = self._read_channel()
            self._load_kept(channel.segments[0])
        except PredictorError as error:
            if self._state is None:
                self._start_without(error)
            return error
        self._state, self._etag = channel, etag  # only now: a bundle that failed is tried again at the next look
        self._due_s = now_s + self.refresh_s
        self._seen_at_s = self.wall()
        return None

    def _start_without(self, error: PredictorError) -> None:
        """At a cold start, use what is left of a damaged channel, or the models before a damaged one.

        The channel is read again: as with bundles, one bad read is no damage.

        Raises:
            PredictorError: The error, if S3 failed or if nothing is left.
        """
        if not isinstance(error, BundleError | DamagedChannelError):
            raise error
        channel, _ = self._read_channel(salvage_channel)
        self._models_of(channel, channel.segments[0])
        self._state, self._seen_at_s = channel, self.wall()

    def _models_of(self, channel: Channel, segment: Segment) -> tuple[ModelFrom, BundleError | None]:
        """Return a segment's models, or those of the next older segment that loads, else the next newer.

        That is so if one of its models is damaged, and then its error is returned too. A damaged calibration counts as
        a damaged model.
        """
        place = channel.segments.index(segment)
        problem = None
        for one in (*channel.segments[place:], *reversed(channel.segments[:place])):
            try:
                loaded = self._load_kept(one)
            except BundleError as error:
                problem = problem or error
            else:
                return (loaded if one is segment else loaded._replace(from_s=segment.effective_from_s)), problem
        assert problem is not None  # noqa: S101 - a channel has a segment
        raise problem

    def _load_kept(self, segment: Segment) -> ModelFrom:
        """Return a segment's models, with their calibrations if they have any."""
        model, other = self._load_arm(segment, segment.arm), segment.candidate
        if other is None:
            return ModelFrom(segment.effective_from_s, model)
        candidate = CandidateModel(self._load_arm(segment, other), segment.salt, other.buckets[1])
        return ModelFrom(segment.effective_from_s, model, candidate)

    def _load_arm(self, segment: Segment, arm: Arm) -> ModelBundle:
        bundle, reference = (arm.model_version, arm.manifest_sha256), segment.calibration_of(arm)
        model = self._kept(self._loaded, bundle, lambda: self._load(*bundle))
        if reference is None:
            return model
        return self._kept(self._calibrated, (bundle, reference), lambda: self._calibrate(model, reference))

    def _kept(self, kept: dict[K, ModelBundle], key: K, load: Callable[[], ModelBundle]) -> ModelBundle:
        """Return a model from memory, else load it."""
        if key in self._unusable:
            raise self._unusable[key]
        model = kept.pop(key, None) or self._load_twice(key, load)
        kept[key] = model
        return model

    def _keep_few(self) -> None:
        """Drop the least recently used models."""
        for bundle in list(self._loaded)[:-N_MODELS]:
            del self._loaded[bundle]
        for key in list(self._calibrated)[:-N_CALIBRATED]:
            del self._calibrated[key]

    def _load_twice(self, key: _Bundle | _Calibrated, load: Callable[[], ModelBundle]) -> ModelBundle:
        """Load a model; an object is damaged only if it is so twice, and not because of one bad read."""
        try:
            return load()
        except BundleError:
            try:
                return load()
            except BundleError as error:
                self._unusable[key] = error
                raise

    def _read_channel(self, decode: Callable[[bytes], Channel] = decode_channel) -> tuple[Channel, str]:
        """Return the channel and its ETag, which are those of the last look if it is unchanged."""
        key = channel_key(self.channel)
        conditions = {"IfNoneMatch": self._etag} if self._etag else {}
        try:
            answer = self._get(key, MAX_BYTES["channel"], **conditions)
        except NoSuchObjectError as error:
            if self._state:  # the channel existed before
                raise
            raise NoModelYetError(self.bucket, key) from error
        if answer is None:
            assert self._state is not None  # noqa: S101 - its ETag was sent
            return self._state, self._etag
        data, etag = answer
        try:
            return decode(data), etag
        except ChannelError as error:
            raise DamagedChannelError(self.bucket, self.channel, error) from error

    def _load(self, version: str, manifest_sha256: str) -> ModelBundle:
        files = self._files(version, MANIFEST)
        if self.signing_key and MANIFEST in files:  # before the manifest and the files that it names are used
            self._check_signature(version, files[MANIFEST])
        return load_bundle(version, manifest_sha256, {**files, **self._files(version, FOREST, GOLDEN)})

    def _calibrate(self, model: ModelBundle, reference: CalibrationRef) -> ModelBundle:
        """Return a model with a calibration."""
        version, key = model.model_version, calibration_key(model.model_version, reference.as_of)
        data = None
        try:
            answer = self._get(key, MAX_BYTES["calibration"])
            data = answer and answer[0]
        except NoSuchObjectError:
            pass
        except TooLargeError as error:
            raise CalibrationError(version, key, f"cannot be used: {error.why}") from error
        return model.calibrated(load_calibration(version, reference.as_of, reference.sha256, data))

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
        self._check_time(key)
        try:
            answer = self.s3.get_object(Bucket=self.bucket, Key=key, **conditions)
            return self._read_body(answer, key, max_bytes), answer["ETag"]
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == HTTPStatus.NOT_MODIFIED:
                return None
            if status == HTTPStatus.NOT_FOUND:
                raise NoSuchObjectError(self.bucket, key) from error
            raise StoreError("read", self.bucket, key, str(error)) from error
        except NO_USABLE_ANSWER as error:
            raise StoreError("read", self.bucket, key, f"{type(error).__name__}: {error}") from error

    def _read_body(self, answer: Any, key: str, max_bytes: int) -> bytes:
        """Return an answer's body, in the time that is left and within the limit."""
        if answer.get("ContentLength", 0) > max_bytes:
            raise self._too_large(key, answer["ContentLength"], max_bytes)
        chunks, n_bytes = [], 0
        while chunk := answer["Body"].read(_CHUNK_BYTES):
            n_bytes += len(chunk)
            if n_bytes > max_bytes:
                raise self._too_large(key, n_bytes, max_bytes)
            self._check_time(key)
            chunks.append(chunk)
        return b"".join(chunks)

    def _too_large(self, key: str, n_bytes: int, max_bytes: int) -> TooLargeError:
        return TooLargeError("use", self.bucket, key, f"it has {n_bytes:,} bytes; the limit is {max_bytes:,}")

    def _check_time(self, key: str) -> None:
        if self.clock() > self._give_up_s:
            raise StoreError("read", self.bucket, key, f"S3 is too slow: {REFRESH_BUDGET_S:g} s are over")
