"""Outages of the function and of the stream that last hours of a fake clock."""

import threading
from itertools import repeat

import pytest
from botocore.exceptions import ClientError

from infra.local.event_source.batcher import MappingTiming
from infra.local.event_source.config import MappingConfig
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.stack import Stack
from tests.fakes import BUCKET, FakeKinesis, FakeS3
from tests.kits.mapping import (
    ScriptedFunction,
    fail,
    failed_batches,
    make_mapping,
    rides,
    run,
    texts_of_failed,
)
from tests.outcomes import NO_ANSWER, THROTTLED, Problem
from training.registry.folder_s3 import client_error

pytestmark = pytest.mark.slow  # simulations of seconds

HOUR_S = 3600
STEP_S = 10
PUT_EVERY_S = 60
RECOVERY_S = 600

UNREACHABLE = Problem.UNREACHABLE.error()
OUTAGES = [Problem.INTERNAL.error(), Problem.DOWN.error(), UNREACHABLE]


@pytest.fixture(scope="module")
def templates() -> MappingConfig:
    """The mapping's properties in template.yaml."""
    names = {"RideEvents": "ride-events", "PredictorAliaslive": "predictor:live", "Bucket": BUCKET}
    return Stack().event_source_mapping(names)


class Outage:
    """A stream with a producer, and a function that can be down."""

    def __init__(self, config: MappingConfig) -> None:
        self.kinesis, self.s3 = FakeKinesis(), FakeS3()
        self.function = ScriptedFunction()
        self.is_down = False
        self.n_sent = 0
        timing = MappingTiming(self.kinesis.clock, self.kinesis.clock)
        self.mapping = EventSourceMapping(config, self.kinesis, self._invoke, timing, s3=self.s3)

    def begin(self, of_the_stream: Exception | None) -> None:
        """Let the stream fail with an error, or the function for None."""
        self.is_down = of_the_stream is None
        self.kinesis.outage = of_the_stream

    def end(self) -> None:
        """Let stream and function work again; iterators have expired."""
        self.is_down, self.kinesis.outage = False, None
        self.kinesis.expire_iterators()

    def let_pass(self, seconds: float) -> None:
        """Let time pass: a record comes every minute, the mapping polls every ten seconds."""
        for second in range(0, int(seconds), STEP_S):
            if second % PUT_EVERY_S == 0:
                self.kinesis.put(f"{self.n_sent:05}".encode())
                self.n_sent += 1
            self.mapping.poll_once()
            self.kinesis.clock.advance(STEP_S)

    def done(self) -> list[str]:
        """Return the texts of the records done, in order."""
        return [ride for _, ride in self.function.done]

    def sent(self) -> list[str]:
        """Return the texts of the records sent."""
        return [f"{i:05}" for i in range(self.n_sent)]

    def _invoke(self, event: dict[str, object]) -> object:
        if self.is_down:
            raise ConnectionError("all is down")
        return self.function(event)


@pytest.mark.parametrize("error", [None, *OUTAGES], ids=["function", "500", "503", "unreachable"])
def test_six_hours_without_function_or_stream_lose_nothing_and_keep_the_order(
    templates: MappingConfig, error: Exception | None
) -> None:
    outage = Outage(templates)
    outage.let_pass(HOUR_S)
    outage.begin(error)
    outage.let_pass(6 * HOUR_S)
    outage.end()
    outage.let_pass(RECOVERY_S)

    assert outage.done() == outage.sent()
    assert outage.s3.objects == {}


@pytest.mark.parametrize("error", [None, UNREACHABLE], ids=["function", "stream"])
def test_outage_longer_than_the_record_age_fails_the_old_records_once_and_delivers_the_rest(
    templates: MappingConfig, error: Exception | None
) -> None:
    outage = Outage(templates)
    outage.begin(error)
    outage.let_pass(26 * HOUR_S)
    outage.end()
    outage.let_pass(RECOVERY_S)

    failed = texts_of_failed(outage.s3)
    assert failed + outage.done() == outage.sent()
    assert len(failed) == pytest.approx(2 * HOUR_S / PUT_EVERY_S, abs=2)
    assert {one["requestContext"]["condition"] for one in failed_batches(outage.s3)} == {"RecordAgeExceeded"}


def test_retries_once_a_second_do_not_end_before_the_record_age(templates: MappingConfig) -> None:
    """Lambda promises no pause between retries: 10,000 of them, the largest limit, can be over in 2.8 hours."""
    kinesis, s3 = FakeKinesis(), FakeS3()
    kinesis.put(b"00000")
    timing = MappingTiming(kinesis.clock, kinesis.clock, lambda _: 1.0)
    mapping = EventSourceMapping(templates, kinesis, ScriptedFunction(repeat(fail)), timing, s3=s3)
    for _ in range(3 * HOUR_S):
        mapping.poll_once()
        kinesis.clock.advance(1)

    assert mapping.stats.n_failures > 10_000
    assert s3.objects == {}


@pytest.mark.parametrize(
    "fault",
    [Problem.INTERNAL.error(), client_error(400, "ThrottlingException"), UNREACHABLE, NO_ANSWER],
    ids=["500", "throttled", "unreachable", "timeout"],
)
def test_temporary_read_error_is_retried(fault: Exception) -> None:
    kinesis = FakeKinesis(read_script=[fault, fault])
    kinesis.put(*rides(3))
    function = ScriptedFunction()
    mapping = make_mapping(kinesis, function)

    assert [mapping.poll_once() for _ in range(3)] == [0, 0, 3]


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException"])
def test_missing_or_forbidden_stream_ends_the_run(code: str) -> None:
    with pytest.raises(ClientError, match=code):
        make_mapping(FakeKinesis(read_script=[client_error(400, code)]), ScriptedFunction()).run(threading.Event())


def test_throttled_reads_lose_nothing() -> None:
    kinesis = FakeKinesis(read_script=[THROTTLED, None] * 5)
    kinesis.put(*rides(20))
    function = ScriptedFunction()

    run(kinesis, function)

    assert [ride for _, ride in function.done] == [f"ride {i}" for i in range(20)]
