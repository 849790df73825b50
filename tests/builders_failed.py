"""Rejects and failed batches in a bucket, and processes that end at a chosen call."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infra.operate.redrive.marks import Marks
from infra.operate.redrive.redrive import Redrive, RedriveReport
from infra.operate.redrive.selection import FAILURES, REJECTS
from infra.operate.replayer import Replayer
from infra.operate.streams import Timing
from lambda_function.aws.rejects import RejectStore, reject_key
from lambda_function.core.events import NOT_JSON, Reject, encode_reject
from lambda_function.core.records import build_reject
from lambda_function.errors import RejectError
from tests.builders import SHARD_ID, STREAM, STREAM_ARN, kinesis_records, lambda_record, sequence_number
from tests.fakes import BUCKET, FakeClock, FakeS3
from tests.fakes_lambda import EchoFunction, FakeLambda
from tests.outcomes import DENIED
from training.registry.bucket import Bucket

FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:predictor:live"
ARCHIVER = "ridecast-Archiver-1A2B3C"
"""The archive function's name, as CloudFormation makes it."""
FAILURE_KEY = f"aws/lambda/6f5e/{SHARD_ID}/2021/01/05/2021-01-05T20.15.00-0b1c"


def reject_at(position: int, data: bytes = b"hello", reason: str = NOT_JSON) -> Reject:
    """The reject of the stream's n-th record."""
    records = kinesis_records(*[b""] * position, data)
    return build_reject(records[position], RejectError(reason, "no ride"))


def store_rejects(s3: FakeS3, *rejects: Reject, stream: str = STREAM, first: str = "") -> str:
    """Store an object of rejects as the function does, and return its key."""
    key = f"rejects/{stream}/{rejects[0].shard_id}/{first or rejects[0].sequence_number}.ndjson"
    s3.objects[key] = b"".join(encode_reject(reject) + b"\n" for reject in rejects)
    return key


class RefusingS3:
    """A bucket that takes nothing."""

    def put_object(self, **_: object) -> object:
        """Refuse."""
        raise DENIED


def queue_rejects(sqs: Any, url: str, *rejects: Reject) -> str:
    """Send rejects to a queue as the function does when the bucket refuses, and return the key of their object."""
    RejectStore(RefusingS3(), BUCKET, url, lambda: sqs).store(STREAM, rejects, lambda: 60.0)
    return reject_key(STREAM, rejects[0], b"".join(encode_reject(reject) + b"\n" for reject in rejects))


def failure(
    *datas: bytes | str, first: int = 0, is_text: bool = True, function: str = "predictor", **changes: Any
) -> bytes:
    """A failed invocation of a function with the stream's records from `first` on, as Lambda stores it."""
    event = {"Records": [lambda_record(data, first + position) for position, data in enumerate(datas)]}
    document = {
        "requestContext": {
            "requestId": "c3",
            "functionArn": f"arn:aws:lambda:us-east-1:123456789012:function:{function}",
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
    """The process ends here."""


@dataclass(slots=True)
class Countdown:
    """Ends the process at the n-th call to AWS, before or after its effect; None for never."""

    n_calls: int | None = None
    is_after: bool = False
    n_made: int = field(default=0, init=False)

    def around(self, call: Callable[[], Any]) -> Any:
        """Make a call, or end the process."""
        is_last = self.n_made == self.n_calls
        self.n_made += 1
        if is_last and not self.is_after:
            raise ProcessEnd
        answer = call()
        if is_last:
            raise ProcessEnd
        return answer


class Mortal:
    """A client whose calls the countdown may end."""

    def __init__(self, client: Any, countdown: Countdown) -> None:
        self._client = client
        self._countdown = countdown

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda **request: self._countdown.around(lambda: method(**request))


@dataclass(slots=True)
class Account:
    """A bucket and a function that outlive the processes that use them."""

    s3: FakeS3 = field(default_factory=FakeS3)
    function: EchoFunction = field(default_factory=EchoFunction)
    client: FakeLambda = field(init=False)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.client = FakeLambda(self.function)

    def bucket(self, countdown: Countdown | None = None) -> Bucket:
        """The bucket of one process."""
        return Bucket(Mortal(self.s3, countdown or Countdown()), BUCKET, n_threads=1)

    def marks(self, countdown: Countdown | None = None, writer: str | None = None) -> Marks:
        """All marks, loaded."""
        marks = Marks(self.bucket(countdown), writer)
        marks.load(marks.keys())
        return marks

    def prepare(self, countdown: Countdown | None = None, writer: str | None = None, **options: Any) -> Redrive:
        """A redrive with its marks loaded."""
        timing = Timing(self.clock, self.clock.sleep)
        replayer = Replayer(Mortal(self.client, countdown or Countdown()), FUNCTION_ARN, timing)
        return Redrive(self.marks(countdown, writer), lambda _: replayer, timing=timing, **options)

    def redrive(self, countdown: Countdown | None = None, **options: Any) -> RedriveReport:
        """One complete run over all rejects and failed batches."""
        bucket = self.bucket(countdown)
        run = self.prepare(countdown, **options)
        objects = [one for kind in (REJECTS, FAILURES) for one in kind.read(bucket, kind.keys(bucket))]
        return run.run(objects)

    def published(self) -> list[bytes]:
        """What the function has published, in order, with repeats."""
        return [data for _, data in self.function.published]

    def marked(self) -> list[str]:
        """The ids marked as redriven, with repeats."""
        return self._ids("redriven")

    def under_way(self) -> list[str]:
        """The ids marked as under way, with repeats."""
        return self._ids("under_way")

    def _ids(self, state: str) -> list[str]:
        marks = (json.loads(self.s3.objects[key]) for key in self.s3.keys("redriven/"))
        return [record_id for mark in marks for record_id in mark[state]]
