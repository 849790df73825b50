"""The package of join and monitor in AWS's own runtime: it does with an archived hour what the sources here do."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.local.aws import LocalAws
from infra.local.runtime.function import read_function
from infra.local.runtime.in_process import FunctionError
from infra.local.runtime.running import running
from infra.local.s3 import MemoryS3
from infra.local.stack import DeployedStack
from infra.stack.describe import describe_stack
from tests.builders import interval_bundle
from tests.builders_archive import HOUR, archive_steady_stream
from tests.fakes import publish_bundle
from tests.kits.emulator import needs_emulator
from training.monitoring.hours import SECOND
from training.monitoring.join.join import join_hour, labelled_key
from training.monitoring.join.options import JoinOptions
from training.monitoring.monitor.figures import encode_figures, figures_key
from training.monitoring.monitor.monitor import MonitorOptions, run_monitor
from training.monitoring.monitor.status import load_status
from training.monitoring.summary import load_summary, summary_key
from training.registry.bucket import Bucket

pytestmark = [needs_emulator, pytest.mark.slow]

N_RIDES = 500


def archived_hour() -> MemoryS3:
    """An archived hour, and the model that served it."""
    s3, bundle = MemoryS3(), interval_bundle()
    archive_steady_stream(s3, bundle.model, N_RIDES)
    publish_bundle(s3, bundle)
    return s3


def test_package_joins_an_hour_to_the_same_bytes_as_the_sources_here(
    aws: LocalAws, stack: DeployedStack, log: Path
) -> None:
    here, bucket = archived_hour(), Bucket(aws.client("s3"), stack.bucket)
    for key, body in here.objects.items():
        bucket.write(key, body)
    function = read_function(aws, describe_stack(aws.client("cloudformation"), "ridecast").outputs["JoinerName"])

    with running(function, log, "emulator") as joiner:
        with pytest.raises(FunctionError, match="raised UserError: 'now' is no hour"):
            joiner({"hours": ["now"]})
        assert joiner({"hours": [str(HOUR)]}) == {"joined": [str(HOUR)], "left": []}

    summary = join_hour(Bucket(here, "here"), HOUR, JoinOptions(), SECOND)
    assert load_summary(bucket, HOUR) == summary
    assert (summary.n_ride_events, summary.n_recomputed, summary.n_skewed, summary.n_lost) == (N_RIDES, N_RIDES, 0, 0)
    for key in (labelled_key(HOUR), summary_key(HOUR)):
        stored = bucket.read(key)
        assert stored
        assert stored.body == here.objects[key]


def test_package_monitors_an_hour_to_the_same_bytes_as_the_sources_here(
    aws: LocalAws, stack: DeployedStack, log: Path
) -> None:
    here, bucket = Bucket(archived_hour(), "here"), Bucket(aws.client("s3"), stack.bucket)
    join_hour(here, HOUR, JoinOptions(), SECOND)
    for key in here.keys(""):
        stored = here.read(key)
        assert stored
        bucket.write(key, stored.body)
    function = read_function(aws, describe_stack(aws.client("cloudformation"), "ridecast").outputs["MonitorName"])

    with running(function, log, "emulator") as monitor:
        found: Any = monitor({})

    assert (found["hours"], found["left"], found["stored"]) == ([str(HOUR)], 0, True)
    run = run_monitor(here, MonitorOptions(), None, lambda: datetime.now(UTC))
    assert run.failures == ()
    (hour,) = run.hours
    assert hour.figures.n_judged > 0.9 * N_RIDES
    stored = bucket.read(figures_key(hour.model_version, HOUR))
    assert stored
    assert stored.body == encode_figures(hour)
    status = load_status(bucket)
    assert status
    assert status.latest is None or status.latest.n_hours == 1
    assert (status.channel, status.model_version, status.pending) == ("stable", hour.model_version, ())
