"""SnapStart's hooks: the snapshot holds the model, and nothing that must be renewed after a restore."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from infra.local.runtime.in_process import load_handler
from lambda_function import handler as entry_point
from lambda_function.aws.settings import Settings
from lambda_function.aws.snapshot import LEAP_S, Restorable, RestorableClock
from lambda_function.core.channel import channel_key
from lambda_function.core.events import decode_prediction
from lambda_function.errors import PredictorError
from lambda_function.handler import StreamHandler, build_handler, register_hooks
from tests.builders import invocation, ride_bytes, small_bundle
from tests.builders_calibrations import LATER, calibrate, key_of
from tests.fakes import (
    BUCKET,
    EARLY,
    OUTPUT_STREAM,
    FakeClock,
    FakeContext,
    FakeKinesis,
    FakeS3,
    damage_bundle,
    output_stream,
    publish_bundle,
)
from tests.outcomes import SERVICE_DOWN
from training.registry.bucket import Bucket

REFRESH_S = 60.0


@dataclass
class FakeRegistry:
    """The runtime's registry of hooks."""

    before: list[Callable[[], None]] = field(default_factory=list)
    after: list[Callable[[], None]] = field(default_factory=list)

    def register_before_snapshot(self, func: Callable[[], None]) -> None:
        """Record a hook."""
        self.before.append(func)

    def register_after_restore(self, func: Callable[[], None]) -> None:
        """Record a hook."""
        self.after.append(func)


class Connected:
    """A client with connections, in front of a fake that all clients of one service share."""

    def __init__(self, fake: FakeS3 | FakeKinesis) -> None:
        self.fake = fake
        self.n_calls = 0
        self.is_closed = False

    def __getattr__(self, name: str) -> Any:
        self.n_calls += 1
        return getattr(self.fake, name)

    def close(self) -> None:
        """Close its connections."""
        self.is_closed = True


@dataclass
class Frozen:
    """A function that is snapshotted and restored."""

    s3: FakeS3 = field(default_factory=FakeS3)
    kinesis: FakeKinesis = field(default_factory=output_stream)
    monotonic: FakeClock = field(default_factory=lambda: FakeClock(5000.0))
    clients: list[tuple[Connected, Connected]] = field(default_factory=list)
    restorable: Restorable = field(init=False)
    handler: StreamHandler = field(init=False)

    def __post_init__(self) -> None:
        self.restorable = Restorable(self._make, RestorableClock(self.monotonic))
        settings = Settings(
            output_stream=OUTPUT_STREAM, bucket=BUCKET, model_channel="stable", model_refresh_s=REFRESH_S
        )
        self.handler = build_handler(settings, *self.restorable.new_clients(), self.restorable.clock)

    def _make(self) -> tuple[Connected, Connected]:
        self.clients.append((Connected(self.s3), Connected(self.kinesis)))
        return self.clients[-1]

    def take_snapshot(self) -> PredictorError | None:
        """End the start and forget its calls of S3."""
        problem = self.restorable.before_snapshot(self.handler.models)
        self.s3.calls.clear()
        return problem

    def restore(self) -> None:
        """Restore the snapshot on another machine, whose monotonic clock is near 0."""
        self.monotonic.now_s = 3.0
        self.restorable.after_restore()

    def invoke(self) -> dict[str, Any]:
        """Predict one ride."""
        return self.handler(invocation(ride_bytes()), FakeContext(FakeClock()))


@pytest.fixture
def frozen() -> Frozen:
    function = Frozen()
    publish_bundle(function.s3, small_bundle())
    return function


def test_model_in_the_snapshot_is_served_after_one_read_of_the_channel(frozen: Frozen) -> None:
    frozen.take_snapshot()
    frozen.restore()

    assert frozen.invoke() == {"batchItemFailures": []}
    assert frozen.s3.calls == [("get", channel_key("stable"))]
    assert frozen.s3.n_unchanged == 1
    assert len(frozen.kinesis.taken) == 1


def test_calibration_since_the_snapshot_is_read_without_the_bundle(frozen: Frozen) -> None:
    bucket = Bucket(frozen.s3, BUCKET)
    calibrate(bucket, mover=EARLY)
    frozen.take_snapshot()
    calibrate(bucket, as_of=LATER, mover=EARLY)
    frozen.s3.calls.clear()
    frozen.restore()

    frozen.invoke()

    assert frozen.s3.calls == [("get", channel_key("stable")), ("get", key_of(as_of=LATER))]
    ((_, data),) = frozen.kinesis.taken
    assert decode_prediction(data).version == f"{small_bundle().model_version}+{LATER}"


def test_channel_that_moved_since_the_snapshot_is_followed_at_the_first_batch(frozen: Frozen) -> None:
    frozen.take_snapshot()
    newer = small_bundle(seed=2)
    publish_bundle(frozen.s3, newer)
    frozen.restore()

    assert frozen.handler.models.refresh().model.model_version == newer.model_version


def test_snapshot_serves_its_model_and_reports_a_channel_that_cannot_be_read(frozen: Frozen) -> None:
    frozen.take_snapshot()
    frozen.restore()
    frozen.s3.script = [SERVICE_DOWN]

    refreshed = frozen.handler.models.refresh()

    assert refreshed.model.model_version == small_bundle().model_version
    assert "ServiceUnavailable" in str(refreshed.error)


def test_copy_whose_look_at_the_channel_fails_says_which_age_its_model_has(
    frozen: Frozen, capsys: pytest.CaptureFixture[str]
) -> None:
    # GIVEN a snapshot that is two weeks old
    wall = FakeClock(1_700_000_000.0)
    frozen.handler.models.wall = wall
    frozen.take_snapshot()
    frozen.restore()
    wall.sleep(14 * 24 * 3600)
    # WHEN its copy cannot read the channel, at the first batch and until the next look
    frozen.s3.script = [SERVICE_DOWN]
    capsys.readouterr()
    ages = []
    for _ in range(3):
        frozen.invoke()
        metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
        ages.append((metrics.get("StaleChannel"), metrics.get("ChannelAge")))
        frozen.monotonic.now_s += REFRESH_S / 2
        wall.sleep(REFRESH_S / 2)
    # THEN each batch counts, with the age, until a look succeeds
    assert ages == [([1], [14 * 24 * 3600]), ([1], [14 * 24 * 3600 + 30]), (None, None)]


def test_channel_is_read_at_the_usual_interval_after_a_restore(frozen: Frozen) -> None:
    frozen.take_snapshot()
    frozen.restore()
    for _ in range(3):
        frozen.handler.models.refresh()
        frozen.monotonic.now_s += REFRESH_S / 2

    assert len(frozen.s3.calls) == 2  # at once, and after one interval


def test_stack_without_a_model_gets_its_snapshot_and_loads_the_model_once_there_is_one() -> None:
    frozen = Frozen()

    assert "ridecast models release" in str(frozen.take_snapshot())

    publish_bundle(frozen.s3, small_bundle())
    frozen.restore()
    assert frozen.invoke() == {"batchItemFailures": []}


def test_snapshot_is_taken_although_the_model_is_damaged(frozen: Frozen) -> None:
    damage_bundle(frozen.s3, small_bundle())

    assert "manifest.json" in str(frozen.take_snapshot())


def test_no_connection_is_open_in_a_snapshot(frozen: Frozen) -> None:
    frozen.take_snapshot()

    assert [client.is_closed for client in frozen.clients[0]] == [True, True]


def test_restored_function_calls_through_new_clients_alone(frozen: Frozen) -> None:
    frozen.take_snapshot()
    before = [client.n_calls for client in frozen.clients[0]]
    frozen.restore()
    frozen.invoke()

    assert [client.n_calls for client in frozen.clients[0]] == before
    assert [client.n_calls > 0 for client in frozen.clients[1]] == [True, True]


def test_two_copies_of_a_snapshot_do_not_wait_the_same_random_pauses() -> None:
    restorable = Restorable(lambda: (Connected(FakeS3()), Connected(output_stream())))
    restorable.new_clients()
    in_the_snapshot = random.getstate()
    pauses = []
    for _ in range(2):
        random.setstate(in_the_snapshot)
        restorable.after_restore()
        pauses.append(random.uniform(0, 1))  # noqa: S311 - what the publisher draws its pauses from

    assert pauses[0] != pauses[1]


def test_clock_never_goes_back_on_a_new_machine() -> None:
    machine = FakeClock(5000.0)
    clock = RestorableClock(machine)
    assert clock() == 5000.0

    clock.freeze()
    machine.now_s = 3.0
    clock.leap()

    assert clock() == 5000.0 + LEAP_S
    machine.now_s += 0.001
    assert clock() - (5000.0 + LEAP_S) == pytest.approx(0.001, abs=1e-6)


# The entry point ----------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {"OUTPUT_STREAM": OUTPUT_STREAM, "BUCKET": BUCKET, "MODEL_CHANNEL": "stable"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    entry_point._cold_start.cache_clear()
    return monkeypatch


def test_version_that_cannot_read_the_bucket_is_published_and_reports_that_it_has_no_model(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("POWERTOOLS_SERVICE_NAME", "snapshot-without-a-model")
    registry = FakeRegistry()
    register_hooks(registry)

    for hook in [*registry.before, *registry.after]:
        hook()

    assert "snapshot without a model" in capsys.readouterr().out
    entry_point._cold_start.cache_clear()


@pytest.mark.parametrize(("start", "n_hooks"), [("snap-start", 1), ("on-demand", 0)])
def test_hooks_are_registered_in_starts_that_are_snapshotted(tmp_path: Path, start: str, n_hooks: int) -> None:
    runtime = pytest.importorskip("snapshot_restore_py")
    before, after = runtime.get_before_snapshot(), runtime.get_after_restore()
    n_before, n_after = len(before), len(after)
    variables = {"AWS_LAMBDA_INITIALIZATION_TYPE": start}

    with load_handler("lambda_function.handler.lambda_handler", variables, tmp_path / "log"):
        assert (len(before) - n_before, len(after) - n_after) == (n_hooks, n_hooks)

    del before[n_before:], after[n_after:]


def test_python_without_the_runtimes_registry_has_no_hooks() -> None:
    register_hooks(None)
