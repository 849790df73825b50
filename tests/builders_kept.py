"""Rejects and failures as a bucket holds them, a bucket that lists, and what ends a process in the middle."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from infra.operate.redrive.marks import Marks
from infra.operate.redrive.selection import FAILURES, REJECTS
from infra.operate.redrive.redrive import Redrive, RedriveReport
from infra.operate.streams import Timing
from lambda_function.aws.publisher import Publisher
from lambda_function.core.events import NOT_JSON, Reject, encode_reject
from lambda_function.core.records import build_reject
from lambda_function.errors import RejectError
from tests.builders import SHARD_ID, STREAM, STREAM_ARN, kinesis_records, lambda_record, sequence_number
from tests.fakes import BUCKET, FakeS3
from tests.fakes_kinesis import FakeClock, FakeKinesis
from training.registry.bucket import Bucket

FAILURE_KEY = f"aws/lambda/6f5e/{SHARD_ID}/2021/01/05/2021-01-05T20.15.00-0b1c"


@dataclass(slots=True)
class ListingS3(FakeS3):
    """A bucket that lists its keys, a few a page, as boto3 answers."""

    keys_per_page: int = 1000

    def list_objects_v2(self, *, Bucket: str, Prefix: str, ContinuationToken: str = "") -> dict[str, Any]:  # noqa: N803
        """Lists keys below a prefix from a token on."""
        self._begin("list", Bucket, Prefix)
        keys = [key for key in self.keys(Prefix) if key > ContinuationToken]
        page = keys[: self.keys_per_page]
        answer = {"Contents": [{"Key": key} for key in page]} if page else {}
        more = {"NextContinuationToken": page[-1]} if len(keys) > len(page) else {}
        return {**answer, **more, "IsTruncated": bool(more)}


def reject_at(position: int, data: bytes = b"hello", reason: str = NOT_JSON) -> Reject:
    """The reject of the stream's n-th record."""
    records = kinesis_records(*[b""] * position, data)
    return build_reject(records[position], RejectError(reason, "no ride"))


def store_rejects(s3: FakeS3, *rejects: Reject, stream: str = STREAM, first: str = "") -> str:
    """Stores an object of rejects as the function does, and returns its key."""
    key = f"rejects/{stream}/{rejects[0].shard_id}/{first or rejects[0].sequence_number}.ndjson"
    s3.objects[key] = b"".join(encode_reject(reject) + b"\n" for reject in rejects)
    return key


def failure(*datas: bytes | str, first: int = 0, is_text: bool = True, **changes: Any) -> bytes:
    """A failed invocation with the stream's records from `first` on, as Lambda stores it."""
    event = {"Records": [lambda_record(data, first + position) for position, data in enumerate(datas)]}
    document = {
        "requestContext": {
            "requestId": "c3",
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:predictor",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 1001,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2021-01-05T20:15:00.000Z",
        "KinesisBatchInfo": {
            "shardId": SHARD_ID,
            "startSequenceNumber": sequence_number(first),
            "endSequenceNumber": sequence_number(first + len(datas) - 1),
            "approximateArrivalOfFirstRecord": "2021-01-05T08:15:00Z",
            "approximateArrivalOfLastRecord": "2021-01-05T08:15:00Z",
            "batchSize": len(datas),
            "streamArn": STREAM_ARN,
        },
        "payload": json.dumps(event) if is_text else event,
    }
    return json.dumps({**document, **changes}).encode()


class ProcessEnd(BaseException):
    """The process ends here, and nothing after it happens."""


@dataclass(slots=True)
class Countdown:
    """Ends the process at the n-th call to AWS: before it, or after it has taken effect. None: never."""

    n_calls: int | None = None
    is_after: bool = False
    n_made: int = field(default=0, init=False)

    def around(self, call: Callable[[], Any]) -> Any:
        """Makes a call, if there is still somebody to make it."""
        is_last = self.n_made == self.n_calls
        self.n_made += 1
        if is_last and not self.is_after:
            raise ProcessEnd
        answer = call()
        if is_last:
            raise ProcessEnd
        return answer


class Mortal:
    """A client whose caller ends when the countdown says so."""

    def __init__(self, client: Any, countdown: Countdown) -> None:
        self._client = client
        self._countdown = countdown

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda **request: self._countdown.around(lambda: method(**request))


@dataclass(slots=True)
class Account:
    """A bucket and a stream that outlive each process that works on them."""

    s3: ListingS3 = field(default_factory=ListingS3)
    kinesis: FakeKinesis = field(default_factory=lambda: FakeKinesis(n_shards=1, stream_name=STREAM))
    clock: FakeClock = field(default_factory=FakeClock)

    def bucket(self, countdown: Countdown | None = None) -> Bucket:
        """The bucket as one process sees it."""
        return Bucket(Mortal(self.s3, countdown or Countdown()), BUCKET, n_threads=1)

    def prepare(self, countdown: Countdown | None = None, writer: str | None = None, **options: Any) -> Redrive:
        """A redrive with its marks loaded."""
        bucket = self.bucket(countdown)
        marks = Marks(bucket, writer)
        marks.load(marks.keys())
        kinesis = Mortal(self.kinesis, countdown or Countdown())

        def publisher_to(stream: str) -> Publisher:
            return Publisher(kinesis, stream, self.clock.sleep, jitter=lambda _, high_s: high_s)

        return Redrive(marks, publisher_to, timing=Timing(self.clock, self.clock.sleep), **options)

    def redrive(self, countdown: Countdown | None = None, **options: Any) -> RedriveReport:
        """One run over all rejects and failures, from start to end."""
        bucket = self.bucket(countdown)
        run = self.prepare(countdown, **options)
        objects = [one for kind in (REJECTS, FAILURES) for one in kind.read(bucket, kind.keys(bucket))]
        return run.run(objects)

    def taken(self) -> list[bytes]:
        """The data that the stream has, in order, repeats included."""
        return [record["Data"] for shard in self.kinesis.shards.values() for record in shard.records]

    def marked(self) -> list[str]:
        """The ids marked as redriven, repeats included."""
        return [record_id for key in self.s3.keys("redriven/") for record_id in self._mark(key)["redriven"]]

    def under_way(self) -> list[str]:
        """The ids marked as under way, repeats included."""
        return [record_id for key in self.s3.keys("redriven/") for record_id in self._mark(key)["under_way"]]

    def _mark(self, key: str) -> dict[str, Iterable[str]]:
        mark: dict[str, Iterable[str]] = json.loads(self.s3.objects[key])
        return mark
