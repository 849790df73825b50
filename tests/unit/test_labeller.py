"""Hours of `ridecast up` are joined as soon as their archive changes, and then monitored."""

from datetime import timedelta
from pathlib import Path

from infra.local.up.labeller import Labeller
from lambda_function.core.records import OUTCOMES
from tests.builders import interval_bundle
from tests.builders_archive import HOUR, ArchivedStreams, archive
from tests.builders_monitored import FakeBus
from tests.fakes import FakeClock
from training.monitoring.calibration.status import CalibrationMode
from training.monitoring.hours import EARLY, FIRST
from training.monitoring.join.join import labelled_key
from training.monitoring.join.options import JoinOptions
from training.monitoring.monitor.monitor import MonitorOptions
from training.monitoring.monitor.status import read_status
from training.registry.bucket import Bucket
from training.registry.channels import move_channel, store_bundle


class Stack:
    """An archive of an hour, and its labeller, half an hour into it."""

    def __init__(self, folder: Path) -> None:
        bundle = interval_bundle()
        self.streams = ArchivedStreams(bundle.model)
        for ride_id in range(5):
            self.streams.ride(ride_id, minute=ride_id)
        self.streams.outcome(0, minute=18.0)
        self.bucket: Bucket = self.streams.store()
        store_bundle(self.bucket, bundle)
        move_channel(self.bucket, "stable", bundle.model_version, bundle.manifest_sha256)
        self.now, self.monotonic = HOUR.start + timedelta(minutes=30), FakeClock()
        self.labeller = Labeller(
            bucket=self.bucket,
            join_options=JoinOptions(threads=1),
            monitor_options=MonitorOptions(mode=CalibrationMode.OFF, shows_early=True),
            bus=FakeBus(),
            folder=folder,
            clock=lambda: self.now,
            monotonic=self.monotonic,
        )

    def n_judged(self) -> int:
        """Return the judged rides in the monitor's status."""
        status = read_status(self.bucket).status
        return status.latest.n_judged if status and status.latest else 0


def test_hour_is_joined_again_when_its_outcomes_come_and_the_monitor_shows_them(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    assert stack.labeller.run()
    assert (stack.labeller.summaries[HOUR].n_labelled, stack.n_judged()) == (1, 1)
    assert not stack.labeller.run()

    stack.streams.outcome(1, minute=25.0)
    archive(stack.bucket.s3, OUTCOMES, stack.streams.outcomes[1:])
    assert stack.labeller.run()

    summary = stack.labeller.summaries[HOUR]
    assert (summary.n_labelled, summary.pass_number, stack.n_judged()) == (2, EARLY, 2)
    assert stack.labeller.problems == ()
    assert "labelled 2, RMSE" in stack.labeller.figures()
    assert "audit 0/0/0" in stack.labeller.figures()
    assert [path.name for path in tmp_path.rglob("*.parquet")] == ["rides.parquet"]


def test_outcomes_that_come_in_the_next_hour_are_joined_too(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.labeller.run()
    stack.streams.outcome(4, minute=65.0)
    archive(stack.bucket.s3, OUTCOMES, stack.streams.outcomes[1:])
    stack.now = HOUR.end + timedelta(minutes=10)
    assert stack.labeller.run()
    assert stack.labeller.summaries[HOUR].n_labelled == 2


def test_hour_is_joined_as_on_aws_after_its_horizon(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.labeller.run()
    stack.now = HOUR.end + timedelta(hours=3, minutes=1)
    stack.monotonic.advance(3600.0)
    assert stack.labeller.run()
    assert stack.labeller.summaries[HOUR].pass_number == FIRST


def test_the_copy_follows_labelled_rides_that_others_change(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.labeller.run()
    stack.bucket.write(labelled_key(HOUR), b"without a ride that was forgotten")
    stack.monotonic.advance(60.0)
    stack.labeller.run()
    assert (tmp_path / labelled_key(HOUR)).read_bytes() == b"without a ride that was forgotten"


def test_an_hour_that_cannot_be_joined_is_named_and_tried_again(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    (tmp_path / "labelled").touch()  # a copy cannot be written here
    stack.labeller.run()
    assert f"{HOUR} can't be joined" in stack.labeller.problems[0]
    (tmp_path / "labelled").unlink()
    assert stack.labeller.run()
    assert stack.labeller.problems == ()
