"""A scripted function behind an event source mapping, on a fake stream with a clock that tests advance."""

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from infra.local.event_source.batcher import MappingTiming
from infra.local.event_source.config import MappingConfig
from infra.local.event_source.mapping import EventSourceMapping
from infra.operate.lambda_event import count_done
from tests.fakes import FakeClock, FakeKinesis, FakeS3

BACKOFF_S = 1.0

Respond = Callable[[list[str]], object]
"""Takes the sequence numbers of a batch; returns the function's response, or raises."""


def succeed(batch: list[str]) -> object:
    return {"batchItemFailures": []}


def fail(batch: list[str]) -> object:
    raise RuntimeError("failing on purpose")


def report(*positions: int) -> Respond:
    """Report the records at these positions of the batch (modulo its size)."""

    def respond(batch: list[str]) -> object:
        return {"batchItemFailures": [{"itemIdentifier": batch[i % len(batch)]} for i in positions]}

    return respond


@dataclass
class ScriptedFunction:
    """A function that responds to its 1st, 2nd, … batch by a script, and then succeeds.

    Attributes:
        events: The events of all invocations.
        done: (partition key, text) of each record done, in order.
    """

    script: Iterable[Respond] = ()
    events: list[dict[str, Any]] = field(default_factory=list)
    done: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._script = iter(self.script)

    def __call__(self, event: dict[str, Any]) -> object:
        """Handle one batch."""
        self.events.append(event)
        response = next(self._script, succeed)(sequence_numbers(event))
        n_done = count_done(response, event["Records"])
        self.done += [(record["kinesis"]["partitionKey"], text(record)) for record in event["Records"][:n_done]]
        return response

    def batches(self) -> list[list[str]]:
        """Return the texts of the records of each batch."""
        return [[text(record) for record in event["Records"]] for event in self.events]


def sequence_numbers(event: dict[str, Any]) -> list[str]:
    return [record["kinesis"]["sequenceNumber"] for record in event["Records"]]


def text(record: dict[str, Any]) -> str:
    return base64.b64decode(record["kinesis"]["data"]).decode()


def payload_bytes(event: dict[str, Any]) -> int:
    return len(json.dumps(event, separators=(",", ":")))


def make_mapping(
    kinesis: FakeKinesis,
    function: Callable[[dict[str, Any]], object],
    *,
    s3: FakeS3 | None = None,
    positions: Mapping[str, str] | None = None,
    **config: Any,
) -> EventSourceMapping:
    properties = {"batch_size": 3, "report_batch_item_failures": True} | config
    numbers = count()
    return EventSourceMapping(
        MappingConfig("ride-events", **properties),
        kinesis,
        function,
        MappingTiming(kinesis.clock, kinesis.clock, lambda attempt: BACKOFF_S * attempt),
        s3=s3,
        new_id=lambda: f"id-{next(numbers)}",
        positions=positions or {},
    )


def drain(mapping: EventSourceMapping, clock: FakeClock, n_idle_rounds: int = 10) -> None:
    """Poll until no record was delivered for as long as a backoff could last."""
    n_idle = 0
    while n_idle < n_idle_rounds:
        n_idle = 0 if mapping.poll_once() else n_idle + 1
        clock.advance(BACKOFF_S)


def stream(*data: bytes, partition_key: str = "key") -> FakeKinesis:
    """Return a stream of one shard with these records."""
    kinesis = FakeKinesis()
    kinesis.put(*data, partition_key=partition_key)
    return kinesis


def run(
    kinesis: FakeKinesis, function: Callable[[dict[str, Any]], object], n_idle_rounds: int = 10, **options: Any
) -> EventSourceMapping:
    """Make a mapping and poll until no record was delivered for as long as a backoff could last."""
    mapping = make_mapping(kinesis, function, **options)
    drain(mapping, kinesis.clock, n_idle_rounds)
    return mapping


def rides(n: int) -> list[bytes]:
    return [f"ride {i}".encode() for i in range(n)]


def poisoned_by(*bad: str) -> ScriptedFunction:
    """Return a function that raises for each batch with one of these texts in it."""

    class PoisonedFunction(ScriptedFunction):
        def __call__(self, event: dict[str, Any]) -> object:
            texts = [text(record) for record in event["Records"]]
            self._script = iter([fail] if set(bad) & set(texts) else [])
            return super().__call__(event)

    return PoisonedFunction()


def failed_batches(s3: FakeS3) -> list[dict[str, Any]]:
    """Return the objects in the failure destination, in the order in which they were stored."""
    return [json.loads(body) for body in s3.objects.values()]


def texts_of_failed(s3: FakeS3) -> list[str]:
    """Return the texts of the records in the failure destination."""
    return [text(record) for one in failed_batches(s3) for record in json.loads(one["payload"])["Records"]]
