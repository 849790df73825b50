"""Fakes of the function's environment: S3, Kinesis streams, the clock and Lambda's context.

S3 and streams have a `script`, a list of outcomes (tests/outcomes.py), one a call. `None` (and the end of the list) is
a call that works; an exception is raised instead of the call.
"""

import io
import itertools
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from infra.local.s3 import MemoryS3
from infra.local.simulation.kinesis import MemoryShard, MemoryStream, check_limits
from infra.local.sqs import MemoryQueue
from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.output import Output
from lambda_function.aws.publisher import Publisher
from lambda_function.aws.rejects import RejectStore
from lambda_function.aws.settings import Settings
from lambda_function.aws.telemetry import Telemetry
from lambda_function.core.bundle import MANIFEST, bundle_key
from lambda_function.core.channel import Channel, channel_key
from lambda_function.handler import StreamHandler
from tests.outcomes import (
    AnswerChanged,
    AnswerLost,
    BodyLost,
    EntriesRefused,
    Meanwhile,
    Problem,
    PutOutcome,
    S3Outcome,
    SendOutcome,
)
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import Mover, move_channel, store_bundle
from training.registry.folder_s3 import client_error
from training.registry.signing import Signer

BUCKET = "ridecast-test"
OUTPUT_STREAM = "ride-predictions"


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
        request_s: Seconds that a call takes, by `clock`.
    """

    script: list[S3Outcome] = field(default_factory=list)
    request_s: float = 0.0
    clock: FakeClock = field(default_factory=FakeClock)
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
        return {**answer, "Body": _BrokenBody(outcome.error)} if isinstance(outcome, BodyLost) else answer

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **options: Any) -> dict[str, Any]:  # noqa: N803
        """Store an object."""
        outcome = self._begin("put", Bucket, Key)
        answer = super().put_object(Bucket=Bucket, Key=Key, Body=Body, **options)
        if isinstance(outcome, AnswerLost):
            raise outcome.error()
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
        self.clock.now_s += self.request_s
        outcome = self.script.pop(0) if self.script else None
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, Meanwhile):
            outcome.action()
        return outcome


@dataclass
class FakeQueue(MemoryQueue):
    """A queue whose sends fail by a script.

    Attributes:
        n_sends: How often a message was sent, with or without success.
        request_s: Seconds that a send takes, by `clock`.
    """

    script: list[SendOutcome] = field(default_factory=list)
    n_sends: int = 0
    request_s: float = 0.0
    clock: FakeClock = field(default_factory=FakeClock)

    def send_message(self, **request: Any) -> dict[str, Any]:
        """Send a message."""
        self.n_sends += 1
        self.clock.now_s += self.request_s
        outcome = self.script.pop(0) if self.script else None
        if isinstance(outcome, Exception):
            raise outcome
        answer = super().send_message(**request)
        if isinstance(outcome, AnswerLost):
            raise outcome.error()
        return outcome.change(answer) if isinstance(outcome, AnswerChanged) else answer


class FakeKinesis(MemoryStream):
    """A stream whose calls fail by scripts, and a record of its calls.

    Args:
        script: The outcomes of the 1st, 2nd, … PutRecords.
        stream_name: Its name.
        n_shards: Shards; they share the hash keys evenly.
        clock: Gives arrival times.
        request_s: Seconds that a PutRecords takes.
        read_script: The errors or answers of the 1st, 2nd, … GetRecords; None for the stream's own answer.
        shards_per_page: Shards that ListShards returns at once.

    Attributes:
        requests: Operation and arguments of each call so far.
        outage: The error of all calls about shards; None for none.
        n_cut_off: Answers about shards that are cut off from now on.
        other_names: Names of streams whose records are put on this one too.
    """

    def __init__(
        self,
        script: Iterable[PutOutcome] = (),
        *,
        stream_name: str = "ride-events",
        n_shards: int = 1,
        clock: FakeClock | None = None,
        request_s: float = 0.0,
        read_script: Iterable[Exception | dict[str, Any] | None] = (),
        shards_per_page: int = 100,
    ) -> None:
        self.script = list(script)
        self.clock = clock or FakeClock(now_s=1_700_000_000.0)
        self.request_s = request_s
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.outage: Exception | None = None
        self.n_cut_off = 0
        self.other_names: Container[str] = ()
        self._read_script = iter(read_script)
        self._shards_per_page = shards_per_page
        self._iterators: set[str] = set()
        super().__init__(stream_name, n_shards, self.clock)

    @property
    def taken(self) -> list[tuple[str, bytes]]:
        """Partition key and data of each record on the stream, in order within a shard and with repeats."""
        records = (record for shard in self.shards.values() for record in shard.records)
        return [(record["PartitionKey"], record["Data"]) for record in records]

    @property
    def put_sizes(self) -> list[int]:
        """The number of records of each PutRecords so far."""
        return [len(request["Records"]) for request in self.calls("put_records")]

    def put(self, *data: bytes, partition_key: str = "key", shard: int | None = None) -> list[str]:
        """Put records without faults, by partition key or into the n-th shard; return their sequence numbers."""
        target = self.shard_of(partition_key) if shard is None else self._nth(shard)
        return [self.append(target, partition_key, one) for one in data]

    def split_shard(self, shard: int) -> None:
        """Split the n-th shard."""
        self.split(self.open_shards.index(self._nth(shard)))

    def merge_shards(self, shard: int, adjacent: int) -> None:
        """Merge the n-th shard with an adjacent one."""
        self.merge(min(self.open_shards.index(self._nth(n)) for n in (shard, adjacent)))

    def expire_iterators(self) -> None:
        """Make every iterator returned so far an expired one."""
        self._iterators.clear()

    def sequence_numbers(self, shard_id: str) -> list[str]:
        """Return the sequence numbers of a shard's records, in order."""
        return [record["SequenceNumber"] for record in self.shards[shard_id].records]

    def calls(self, operation: str) -> list[dict[str, Any]]:
        """Return the requests of one operation so far."""
        return [request for name, request in self.requests if name == operation]

    def list_shards(self, **request: Any) -> dict[str, Any]:
        """List shards in pages; refuse a name together with a token, as AWS does."""
        self._note("list_shards", request)
        if self._is_cut_off():
            return {}
        if "NextToken" in request and "StreamName" in request:
            raise client_error(400, "InvalidArgumentException")
        start = int(request.get("NextToken", 0))
        end = start + self._shards_per_page
        shards = super().list_shards(StreamName=self.name)["Shards"]
        return {"Shards": shards[start:end]} | ({"NextToken": str(end)} if end < len(shards) else {})

    def get_shard_iterator(self, **request: Any) -> dict[str, Any]:
        """Create an iterator."""
        self._note("get_shard_iterator", request)
        if self._is_cut_off():
            return {}
        answer = super().get_shard_iterator(**request)
        self._iterators.add(answer["ShardIterator"])
        return answer

    def get_records(self, **request: Any) -> dict[str, Any]:
        """Read records, or fail by the script."""
        self._note("get_records", request)
        outcome = next(self._read_script, None)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            return outcome
        if request["ShardIterator"] not in self._iterators:
            raise Problem.EXPIRED.error()
        arguments = {name: value for name, value in request.items() if name != "StreamARN"}
        answer = super().get_records(**arguments)
        self._iterators.add(answer.get("NextShardIterator", ""))
        return answer

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Put all, some or none of the records, by the script."""
        self.requests.append(("put_records", {"StreamName": StreamName, "Records": Records}))
        self.clock.now_s += self.request_s
        check_limits(Records)
        outcome = self.script.pop(0) if self.script else None
        if isinstance(outcome, Exception):
            raise outcome
        name = self.name if StreamName in self.other_names else StreamName
        put_records = partial(super().put_records, StreamName=name)
        if isinstance(outcome, EntriesRefused):
            return outcome.put(Records, put_records)
        answer = put_records(Records=Records)
        if isinstance(outcome, AnswerLost):
            raise outcome.error()
        return outcome.change(answer) if isinstance(outcome, AnswerChanged) else answer

    def _is_cut_off(self) -> bool:
        self.n_cut_off -= 1
        return self.n_cut_off >= 0

    def _nth(self, n: int) -> MemoryShard:
        return list(self.shards.values())[n]

    def _note(self, operation: str, request: dict[str, Any]) -> None:
        self.requests.append((operation, request))
        if self.outage:
            raise self.outage


def output_stream(script: Iterable[PutOutcome] = (), **options: Any) -> FakeKinesis:
    """Return a stream with the name of the function's output."""
    return FakeKinesis(script, stream_name=OUTPUT_STREAM, **options)


EARLY = Mover("tests", lambda: datetime(2000, 1, 1, tzinfo=UTC))
"""A mover whose clock is so early that what it moves to serves every ride from now on."""


def publish_bundle(
    s3: Any,
    bundle: ExportedBundle,
    channel: str = "stable",
    bucket: str = BUCKET,
    signer: Signer | None = None,
    mover: Mover = EARLY,
) -> Channel:
    """Store a bundle and move a channel to it; by default it serves at once."""
    store_bundle(Bucket(s3, bucket), bundle, signer)
    return move_channel(Bucket(s3, bucket), channel, bundle.model_version, bundle.manifest_sha256, mover=mover)


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
    timeout_s: float = 60.0
    output_format: str = "json"
    output_groups: int = 1
    queue: FakeQueue = field(default_factory=FakeQueue)
    kinesis: FakeKinesis = field(init=False)
    handler: StreamHandler = field(init=False)

    def __post_init__(self) -> None:
        publish_bundle(self.s3, self.bundle)
        self.s3.calls.clear()
        self.s3.clock = self.queue.clock = self.clock
        self.kinesis = output_stream(clock=self.clock)
        settings = Settings(
            output_stream=OUTPUT_STREAM,
            bucket=BUCKET,
            model_channel="stable",
            output_format=self.output_format,
            output_groups=self.output_groups,
            rejects_queue_url=self.queue.url,
            service_name=f"ridecast-test-{next(_service_numbers)}",
        )
        publisher = Publisher(self.kinesis, OUTPUT_STREAM, self.clock.sleep, jitter=lambda _, high_s: high_s)
        self.handler = StreamHandler(
            models=ModelStore(self.s3, BUCKET, "stable", settings.model_refresh_s, self.clock),
            output=Output(
                RejectStore(self.s3, BUCKET, settings.rejects_queue_url, lambda: self.queue),
                publisher,
                settings.packed_groups,
            ),
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
