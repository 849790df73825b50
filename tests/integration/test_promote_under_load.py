"""A channel moves under load: each ride has the version of its arrival, and none is lost or predicted twice."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from infra.local.aws import LocalAws
from infra.local.demo.replay import Replay
from infra.local.event_source.mapping import EventSourceMapping
from infra.local.runtime.in_process import running_in_process
from infra.local.stack import DeployedStack
from infra.operate.streams import publish
from lambda_function.aws.publisher import Publisher
from lambda_function.core.events import DURATION_DECIMALS, Prediction, decode_prediction
from lambda_function.core.features import feature_matrix
from tests.builders import FEBRUARY, small_bundle
from tests.fakes import publish_bundle
from tests.kits.streams import read_stream
from training.data.synthetic import synthetic_rides
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel, read_history
from training.registry.channels import promote, store_bundle
from training.registry.versions import put_artifact

N_RIDES = 20_000
BATCH_SIZE = 500
MIN_SWITCHES = 3
STACK_PARAMETERS = {"BatchSize": BATCH_SIZE, "BatchWindowSeconds": 0}
_SHORT_S = "1e-9"  # reads the channel before each batch
ACTIVATION_DELAY_S = 0.5

BUNDLES = {bundle.model_version: bundle for bundle in (small_bundle(1), small_bundle(2))}
FIRST, SECOND = BUNDLES


def keep_moving(bucket: Bucket, enough: Event) -> int:
    """Promote one version after the other without pause until the event is set, and return the number of moves."""
    n_moves = 0
    while not enough.is_set():
        moved = promote(bucket, "stable", (SECOND, FIRST)[n_moves % 2], activation_delay_s=ACTIVATION_DELAY_S)
        assert moved.has_moved
        n_moves += 1
    return n_moves


@pytest.fixture
def bucket(aws: LocalAws, stack: DeployedStack) -> Bucket:
    """The stack's bucket: the first version serves, the second may follow it."""
    bucket = Bucket(aws.client("s3"), stack.bucket)
    store_bundle(bucket, BUNDLES[SECOND])
    publish_bundle(aws.client("s3"), BUNDLES[FIRST], bucket=stack.bucket)
    verdict = {"model_version": SECOND, "against": FIRST, "channel": "stable", "passed": True}
    put_artifact(bucket, SECOND, "gate-stable.json", json.dumps(verdict).encode())
    return bucket


def test_rides_flow_while_the_channel_moves(
    aws: LocalAws, stack: DeployedStack, bucket: Bucket, tmp_path: Path
) -> None:
    replay = Replay(synthetic_rides(FEBRUARY, N_RIDES, seed=7), n_malformed=0)
    arrivals: dict[str, float] = {}
    function = stack.function.with_variables(MODEL_REFRESH_S=_SHORT_S)
    with (
        running_in_process(function, tmp_path / "function.log") as runtime,
        ThreadPoolExecutor(2) as threads,
    ):

        def invoke(event: dict[str, Any]) -> object:
            for record in event["Records"]:
                arrivals[record["eventID"]] = record["kinesis"]["approximateArrivalTimestamp"]
            return runtime(event)

        # GIVEN a producer that sends rides while a mover moves the channel
        mapping = EventSourceMapping(stack.mapping, aws.client("kinesis"), invoke)
        enough = Event()
        publisher = Publisher(aws.client("kinesis"), stack.input_stream)
        producing = threads.submit(lambda: sum(1 for _ in publish(publisher, replay.entries())))
        moving = threads.submit(keep_moving, bucket, enough)
        # WHEN the function has processed them all
        try:
            while mapping.stats.n_done < N_RIDES:
                mapping.poll_once()
        finally:
            enough.set()
        producing.result()
        n_moves = moving.result()
    # THEN each ride has one prediction, and no batch has come again
    records = read_stream(aws.client("kinesis"), stack.output_stream)
    predictions = [decode_prediction(record.data) for record in records]
    assert sorted(prediction.prediction.ride_id for prediction in predictions) == list(range(N_RIDES))
    assert (mapping.stats.n_failures, mapping.stats.n_redelivered) == (0, 0)
    # and each has the version of its arrival, which may change within an invocation
    channel = read_channel(bucket, "stable").state
    assert channel is not None
    version_of = {prediction.prediction_id: prediction.version for prediction in predictions}
    expected = {event_id: channel.segment_at(at_s).model_version for event_id, at_s in arrivals.items()}
    assert version_of == expected
    # and each has the minutes of the version that it carries
    for version, bundle in BUNDLES.items():
        assert_minutes(replay, [one for one in predictions if one.version == version], bundle)
    # and the channel did move while rides flowed, each move an entry in the history
    in_order = [expected[event_id] for event_id in arrivals]
    assert sum(one != other for one, other in itertools.pairwise(in_order)) >= MIN_SWITCHES
    history = read_history(bucket, "stable")
    assert [entry.model_version for entry in history] == [(FIRST, SECOND)[n % 2] for n in range(n_moves + 1)]


def assert_minutes(replay: Replay, predictions: list[Prediction], bundle: ExportedBundle) -> None:
    """Compare predictions with a bundle's model."""
    columns = replay.rides.columns
    minutes = bundle.model.predict(feature_matrix(columns)).round(DURATION_DECIMALS)
    rides = np.array([one.prediction.ride_id for one in predictions], np.intp)
    durations = np.array([one.prediction.ride_duration for one in predictions])
    assert len(predictions) > 0
    np.testing.assert_array_equal(durations, minutes[rides])
