"""Fakes of the function's environment: S3, the output stream, the clock and Lambda's context.

Faults are values: each fake has a `script`, a list of outcomes, one a call. `None` (and the end of the list) is a call
that works; an exception is raised instead of the call; `AfterAccepting` does the call and raises nevertheless.
"""

import io
import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from infra.local.s3 import MemoryS3, client_error
from infra.local.simulation.kinesis import check_limits
from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.publisher import Publisher
from lambda_function.aws.settings import Settings
from lambda_function.aws.telemetry import Telemetry
from lambda_function.core.bundle import MANIFEST, Channel, bundle_key, channel_key
from lambda_function.handler import StreamHandler
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle
from training.registry.signing import Signer

BUCKET = "ridecast-test"
OUTPUT_STREAM = "ride-predictions"


def timed_out() -> ReadTimeoutError:
    """Build the error that boto3 raises without an answer: the call may have been done."""
    return ReadTimeoutError(endpoint_url="https://aws.invalid")


SERVICE_DOWN = client_error(503, "ServiceUnavailable")
THROTTLED = client_error(400, "ProvisionedThroughputExceededException")
DENIED = client_error(403, "AccessDeniedException")


@dataclass(frozen=True, slots=True)
class AfterAccepting:
    """The call is done, and its answer is lost."""

    error: Exception


@dataclass(frozen=True, slots=True)
class WhileReading:
    """The object is found, and reading its body fails."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """An action of another client just before the call."""

    action: Callable[[], object]


@dataclass(frozen=True, slots=True)
class PartlyFailed:
    """PutRecords answers 200 and refuses the entries at these positions."""

    positions: Collection[int]
    code: str = "ProvisionedThroughputExceededException"


S3Outcome = Exception | AfterAccepting | WhileReading | Meanwhile | None
PutOutcome = Exception | AfterAccepting | PartlyFailed | None


@dataclass(slots=True)
class FakeClock:
    """A clock that passes only by `advance` and `sleep`. Calling it returns the time."""

    now_s: float = 1_609_834_510.0
    slept_s: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass and record the sleep."""
        self.slept_s.append(seconds)
        self.now_s += seconds


@dataclass(slots=True)
class FakeContext:
    """Lambda's context; the remaining time is by the clock."""

    clock: FakeClock
    timeout_s: float = 60.0
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_s = self.clock()

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the timeout."""
        return max(0, int((self.started_s + self.timeout_s - self.clock()) * 1000))


class _BrokenBody(io.BytesIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        raise self.error


@dataclass
class FakeS3(MemoryS3):
    """A bucket in memory whose calls fail by a script.

    Attributes:
        calls: (operation, key) of each call: "get", "put" or "list".
        n_unchanged: Reads that were answered with 304, without a body.
        keys_per_page: Keys that a listing returns at once.
    """

    script: list[S3Outcome] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    n_unchanged: int = 0
    keys_per_page: int = 1000

    def get_object(self, *, Bucket: str, Key: str, **conditions: Any) -> dict[str, Any]:  # noqa: N803
        """Read an object."""
        outcome = self._begin("get", Bucket, Key)
        try:
            answer = super().get_object(Bucket=Bucket, Key=Key, **conditions)
        except ClientError as error:
            self.n_unchanged += error.response["Error"]["Code"] == "304"
            raise
        return {**answer, "Body": _BrokenBody(outcome.error)} if isinstance(outcome, WhileReading) else answer

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **options: Any) -> dict[str, Any]:  # noqa: N803
        """Store an object."""
        outcome = self._begin("put", Bucket, Key)
        answer = super().put_object(Bucket=Bucket, Key=Key, Body=Body, **options)
        if isinstance(outcome, AfterAccepting):
            raise outcome.error
        return answer

    def list_objects_v2(self, *, Bucket: str, Prefix: str = "", **page: Any) -> dict[str, Any]:  # noqa: N803
        """List a page of objects."""
        self._begin("list", Bucket, Prefix)
        return super().list_objects_v2(Bucket=Bucket, Prefix=Prefix, MaxKeys=self.keys_per_page, **page)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below a prefix, sorted."""
        return sorted(key for key in self.objects if key.startswith(prefix))

    def lines(self, prefix: str) -> list[bytes]:
        """Return the lines of all objects below a prefix."""
        return [line for body in self.bodies(prefix) for line in body.splitlines()]

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
    """An output stream that refuses requests beyond Kinesis's limits.

    Attributes:
        taken: (partition key, data) of each record on the stream, in order and with repeats.
        requests: The number of records of each request.
        request_s: Seconds that a request takes.
    """

    script: list[PutOutcome] = field(default_factory=list)
    clock: FakeClock = field(default_factory=FakeClock)
    request_s: float = 0.0
    taken: list[tuple[str, bytes]] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Put records."""
        assert StreamName == OUTPUT_STREAM
        self.requests.append(len(Records))
        self.clock.now_s += self.request_s
        check_limits(Records)
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


def publish_bundle(
    s3: Any, bundle: ExportedBundle, channel: str = "stable", bucket: str = BUCKET, signer: Signer | None = None
) -> Channel:
    """Store a bundle and move a channel to it."""
    store_bundle(Bucket(s3, bucket), bundle, signer)
    return move_channel(Bucket(s3, bucket), channel, bundle.model_version, bundle.manifest_sha256)


def damage_bundle(s3: FakeS3, bundle: ExportedBundle, file: str = MANIFEST) -> None:
    """Make a stored bundle unusable."""
    s3.objects[bundle_key(bundle.model_version, file)] += b" "


def point_channel(s3: FakeS3, text: bytes, channel: str = "stable") -> None:
    """Write bytes into a channel."""
    s3.objects[channel_key(channel)] = text


_service_numbers = itertools.count()


@dataclass(slots=True)
class FakeFunction:
    """The function on fakes, with a model in its channel.

    Each has a logger of its own, which writes to the standard output of the time when the function is made.
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
        """Handle an invocation; return the sequence number to retry from, or ""."""
        answer = self.handler(event, FakeContext(self.clock, self.timeout_s))
        assert answer.keys() == {"batchItemFailures"}
        failures = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
        assert len(failures) <= 1
        assert all(failures)
        return failures[0] if failures else ""
