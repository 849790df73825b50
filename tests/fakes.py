"""Stand-ins for what the function talks to: S3, a stream that takes records, time, Lambda's context.

Faults are values: each fake has a `script`, a list of outcomes, one a call. `None` (and the end of the list) is a call
that works; an exception is raised instead of the call; `AfterAccepting` does the call and raises nevertheless.
"""

import hashlib
import io
import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.publisher import Publisher
from lambda_function.aws.settings import Settings
from lambda_function.aws.telemetry import Telemetry
from lambda_function.core.bundle import MANIFEST, Channel, bundle_key, channel_key
from lambda_function.handler import StreamHandler
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle

BUCKET = "ridecast-test"
OUTPUT_STREAM = "ride-predictions"

_MAX_REQUEST_BYTES = 5 * 1024 * 1024
_MAX_RECORD_BYTES = 1024 * 1024
_MAX_REQUEST_RECORDS = 500
_MAX_KEY_CHARACTERS = 256


def client_error(status: int, code: str, operation: str = "Operation") -> ClientError:
    """An error as boto3 raises it for an answer of AWS."""
    response: Any = {"Error": {"Code": code, "Message": f"{code}."}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, operation)


def timed_out() -> ReadTimeoutError:
    """An error as boto3 raises it when no answer came: what was asked may have been done."""
    return ReadTimeoutError(endpoint_url="https://aws.invalid")


SERVICE_DOWN = client_error(503, "ServiceUnavailable")
THROTTLED = client_error(400, "ProvisionedThroughputExceededException")
DENIED = client_error(403, "AccessDeniedException")


@dataclass(frozen=True, slots=True)
class AfterAccepting:
    """The call is done, and its answer never arrives."""

    error: Exception


@dataclass(frozen=True, slots=True)
class WhileReading:
    """The object is found, and its body breaks off."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Something that somebody else does just before the call."""

    action: Callable[[], object]


@dataclass(frozen=True, slots=True)
class PartlyFailed:
    """PutRecords answers 200, and these positions of the request were not taken."""

    positions: Collection[int]
    code: str = "ProvisionedThroughputExceededException"


S3Outcome = Exception | AfterAccepting | WhileReading | Meanwhile | None
PutOutcome = Exception | AfterAccepting | PartlyFailed | None


@dataclass(slots=True)
class FakeClock:
    """Seconds that pass when told to, or by sleeping."""

    now_s: float = 1_609_834_510.0
    slept_s: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """Returns the time."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Lets time pass, and remembers that somebody slept."""
        self.slept_s.append(seconds)
        self.now_s += seconds


@dataclass(slots=True)
class FakeContext:
    """Lambda's context: the time that is left runs on the clock."""

    clock: FakeClock
    timeout_s: float = 60.0
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_s = self.clock()

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the timeout."""
        return max(0, int((self.started_s + self.timeout_s - self.clock()) * 1000))


class _BrokenBody(io.BytesIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        raise self.error


@dataclass(slots=True)
class FakeS3:
    """Objects with ETags, and conditional reads and writes as S3 has them.

    Attributes:
        calls: ("get" or "put", key) each.
        n_unchanged: Reads that were answered with 304, without a body.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    script: list[S3Outcome] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    n_unchanged: int = 0

    def get_object(self, *, Bucket: str, Key: str, **conditions: str) -> dict[str, Any]:  # noqa: N803
        """Reads an object."""
        assert conditions.keys() <= {"IfNoneMatch"}
        outcome = self._begin("get", Bucket, Key)
        if Key not in self.objects:
            raise client_error(HTTPStatus.NOT_FOUND, "NoSuchKey", "GetObject")
        if conditions.get("IfNoneMatch") == self.etag(Key):
            self.n_unchanged += 1
            raise client_error(HTTPStatus.NOT_MODIFIED, "304", "GetObject")
        body = _BrokenBody(outcome.error) if isinstance(outcome, WhileReading) else io.BytesIO(self.objects[Key])
        return {"Body": body, "ETag": self.etag(Key)}

    def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        ContentType: str,  # noqa: N803
        IfMatch: str | None = None,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        """Stores an object."""
        outcome = self._begin("put", Bucket, Key)
        if IfNoneMatch == "*" and Key in self.objects:
            raise client_error(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed", "PutObject")
        if IfMatch is not None and Key not in self.objects:
            raise client_error(HTTPStatus.NOT_FOUND, "NoSuchKey", "PutObject")
        if IfMatch is not None and IfMatch != self.etag(Key):
            raise client_error(HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed", "PutObject")
        self.objects[Key] = bytes(Body)
        if isinstance(outcome, AfterAccepting):
            raise outcome.error
        return {"ETag": self.etag(Key)}

    def etag(self, key: str) -> str:
        """The ETag of an object, in its quotes."""
        return f'"{hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()}"'

    def keys(self, prefix: str) -> list[str]:
        """The keys below a prefix, sorted."""
        return sorted(key for key in self.objects if key.startswith(prefix))

    def lines(self, prefix: str) -> list[bytes]:
        """The lines of all objects below a prefix."""
        return [line for key in self.keys(prefix) for line in self.objects[key].splitlines()]

    def _begin(self, operation: str, bucket: str, key: str) -> S3Outcome:
        assert bucket == BUCKET
        self.calls.append((operation, key))
        outcome = self.script.pop(0) if self.script else None
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, Meanwhile):
            outcome.action()
        return outcome


@dataclass(slots=True)
class FakeKinesis:
    """A stream that takes records, and refuses requests beyond the limits as Kinesis does.

    Attributes:
        taken: What the stream took: (partition key, data) each, in order, repeats included.
        requests: The number of records of each request.
        request_s: Seconds that a request takes.
    """

    script: list[PutOutcome] = field(default_factory=list)
    clock: FakeClock = field(default_factory=FakeClock)
    request_s: float = 0.0
    taken: list[tuple[str, bytes]] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Takes a request."""
        assert StreamName == OUTPUT_STREAM
        self.requests.append(len(Records))
        self.clock.now_s += self.request_s
        _check_limits(Records)
        outcome = self.script.pop(0) if self.script else None
        if isinstance(outcome, Exception):
            raise outcome
        failed = set(outcome.positions) if isinstance(outcome, PartlyFailed) else set()
        answers = [self._put(record, outcome, position in failed) for position, record in enumerate(Records)]
        if isinstance(outcome, AfterAccepting):
            raise outcome.error
        return {"FailedRecordCount": sum("ErrorCode" in answer for answer in answers), "Records": answers}

    def _put(self, record: dict[str, Any], outcome: PutOutcome, failed: bool) -> dict[str, Any]:
        if failed and isinstance(outcome, PartlyFailed):
            return {"ErrorCode": outcome.code, "ErrorMessage": "Rate exceeded for shard."}
        self.taken.append((record["PartitionKey"], record["Data"]))
        return {"ShardId": "shardId-000000000000", "SequenceNumber": str(len(self.taken))}


def _check_limits(records: Sequence[dict[str, Any]]) -> None:
    sizes = [len(record["Data"]) + len(record["PartitionKey"].encode()) for record in records]
    within = (
        1 <= len(records) <= _MAX_REQUEST_RECORDS
        and sum(sizes) <= _MAX_REQUEST_BYTES
        and max(sizes) <= _MAX_RECORD_BYTES
        and all(1 <= len(record["PartitionKey"]) <= _MAX_KEY_CHARACTERS for record in records)
    )
    if not within:
        raise client_error(400, "ValidationException", "PutRecords")


def publish_bundle(s3: FakeS3, bundle: ExportedBundle, channel: str = "stable") -> Channel:
    """Stores a bundle and moves a channel to it, as a training run does."""
    store_bundle(Bucket(s3, BUCKET), bundle)
    return move_channel(Bucket(s3, BUCKET), channel, bundle.model_version, bundle.manifest_sha256)


def spoil_bundle(s3: FakeS3, bundle: ExportedBundle, file: str = MANIFEST) -> None:
    """Makes a stored bundle unusable."""
    s3.objects[bundle_key(bundle.model_version, file)] += b" "


def point_channel(s3: FakeS3, text: bytes, channel: str = "stable") -> None:
    """Writes something into a channel, whatever it points at."""
    s3.objects[channel_key(channel)] = text


_service_numbers = itertools.count()


@dataclass(slots=True)
class FakeFunction:
    """The whole function on fakes, its model published.

    Each has a logger of its own, which writes to what is the standard output when the function is made.
    """

    bundle: ExportedBundle
    clock: FakeClock = field(default_factory=FakeClock)
    s3: FakeS3 = field(default_factory=FakeS3)
    kinesis: FakeKinesis = field(default_factory=FakeKinesis)
    timeout_s: float = 60.0
    output_format: str = "json"
    output_groups: int = 1
    handler: StreamHandler = field(init=False)

    def __post_init__(self) -> None:
        publish_bundle(self.s3, self.bundle)
        self.s3.calls.clear()
        self.kinesis.clock = self.clock
        settings = Settings(
            output_stream=OUTPUT_STREAM,
            bucket=BUCKET,
            model_channel="stable",
            output_format=self.output_format,
            output_groups=self.output_groups,
            service_name=f"ridecast-test-{next(_service_numbers)}",
        )
        self.handler = StreamHandler(
            settings=settings,
            s3=self.s3,
            models=ModelStore(self.s3, BUCKET, "stable", settings.model_refresh_s, self.clock),
            publisher=Publisher(self.kinesis, OUTPUT_STREAM, self.clock.sleep, jitter=lambda _, high_s: high_s),
            telemetry=Telemetry(settings.service_name, settings.metrics_namespace, settings.log_level),
            clock=self.clock,
        )

    def invoke(self, event: dict[str, Any]) -> str:
        """Handles an invocation and returns the sequence number that must come again, or ""."""
        answer = self.handler(event, FakeContext(self.clock, self.timeout_s))
        assert answer.keys() == {"batchItemFailures"}
        failures = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
        assert len(failures) <= 1
        assert all(failures)
        return failures[0] if failures else ""
