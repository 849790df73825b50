"""The promise that a record has one model: for any promotions, splits, calibrations and rollbacks, on simulations.

All predictions of one id are the same bytes, whatever comes again, in whichever execution environment, and after any
reshard: the bytes of the model that the channel has for its arrival and its ride's id. The exception is a version that
a rollback or a stop took out: before that was read, its records were predicted by it, and the history names it. The
environments read the channel at different times, each at least twice within the activation delay.
"""

from functools import cache
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.simulation.simulation import CHANNEL, SimulationOptions
from infra.operate.lambda_event import LambdaRecord
from lambda_function.core.bundle import ModelBundle
from lambda_function.core.channel import Channel, aware_time
from lambda_function.core.events import decode_prediction
from lambda_function.core.processor import process
from lambda_function.core.records import Entry, decode_records
from tests.builders import small_bundle
from tests.kits.faults import (
    At,
    Calibrate,
    Cut,
    DeliveredTwice,
    EndSplit,
    FaultSchedule,
    FaultySimulation,
    MergeShards,
    Place,
    RollBack,
    ServeModel,
    SplitRides,
    SplitShard,
    StateFault,
    StopCalibration,
)
from tests.kits.simulation import PATIENCE_S, Account
from tests.kits.simulation_strategies import (
    BATCHING,
    ENTRIES,
    FOR_SOME,
    RIDES,
    at,
    lost,
    mapping_config,
    refused,
    together,
)
from tests.outcomes import AnswerLost, Problem
from training.monitoring.join.skew import stored_models
from training.registry.channel_history import read_channel, read_history

pytestmark = pytest.mark.slow  # simulations of seconds

BUNDLES = [small_bundle(seed) for seed in (1, 2, 3)]


class Step(NamedTuple):
    """A change, then entries that arrive, then time that passes before the mapping polls."""

    change: StateFault | None
    entries: list[Entry]
    gap_s: float


STEPS = st.lists(
    st.builds(
        Step,
        st.one_of(
            st.none(),
            st.builds(ServeModel, st.integers(0, 2)),
            st.builds(ServeModel, st.integers(0, 2)),
            st.builds(RollBack, st.integers(0, 2)),
            st.builds(SplitRides, st.integers(0, 2)),
            st.builds(SplitRides, st.integers(0, 2)),
            st.just(EndSplit()),
            st.builds(Calibrate, st.booleans()),
            st.builds(Calibrate),
            st.just(StopCalibration()),
            st.builds(SplitShard, st.integers(0, 3)),
            st.builds(MergeShards, st.integers(0, 3)),
        ),
        st.lists(ENTRIES, min_size=1, max_size=6),
        st.sampled_from([0.0, 1.0, 30.0, 75.0, 149.0, 160.0, 1000.0]),
    ),
    min_size=3,
    max_size=12,
)
REDELIVERIES: st.SearchStrategy[list[At]] = st.one_of(
    st.just([]),
    together(
        st.one_of(
            at(Place.INVOKE, lost(Problem.DIED, Problem.NO_ANSWER, after_s=(0.0, 40.0)) | st.just(DeliveredTwice())),
            at(Place.INVOKE, st.builds(Cut, st.integers(1, 5))),
            at(Place.PUT_OUTPUT, FOR_SOME | refused(Problem.THROTTLED, Problem.INTERNAL) | lost(Problem.NO_ANSWER)),
        ),
        max_size=10,
    ),
)
OPTIONS = st.builds(
    SimulationOptions,
    mapping=st.builds(mapping_config, **BATCHING),
    n_shards=st.integers(1, 3),
    output_format=st.sampled_from(["json", "kpl"]),
    refreshes_s=st.lists(st.sampled_from([1.0, 20.0, 59.0, 70.0]), min_size=1, max_size=3).map(tuple),
)


def run(steps: list[Step], options: SimulationOptions, faults: list[At]) -> Account:
    simulation = FaultySimulation(BUNDLES, options, FaultSchedule(faults))
    for step in steps:
        simulation.change(step.change)
        simulation.send(step.entries)
        simulation.clock.sleep(step.gap_s)
        simulation.mapping.poll_once()
    assert simulation.settle(PATIENCE_S), "a shard is blocked"
    return Account(simulation)


def check_versions(account: Account) -> dict[str, dict[str, set[bytes]]]:
    """Check that each prediction has the bytes of a version that may serve its record; return the predictions.

    That is the one by the channel as it is now. Others are left only if a move took them out of the record's time.
    """
    models = account.simulation.models
    channel, history = read_channel(models, CHANNEL).state, read_history(models, CHANNEL)
    assert isinstance(channel, Channel)
    withdrawals = [(aware_time(entry.withdrawn_since).timestamp(), entry) for entry in history if entry.withdrawn]
    arrived = {record["eventID"]: record["kinesis"]["approximateArrivalTimestamp"] for record in account.arrived()}
    load = cache(stored_models(models))
    expected = cache(lambda version: predicted_alone(account.arrived(), load(version)))
    predicted = account.predicted()
    for prediction_id, by_version in predicted.items():
        arrival_s = arrived[":".join(prediction_id.split(":")[:2])]
        for version, lines in by_version.items():
            assert lines == {expected(version)[prediction_id]}
            ride_id = decode_prediction(min(lines)).prediction.ride_id
            assert version == channel.segment_at(arrival_s).served_version_of(ride_id) or any(
                entry.has_withdrawn(version) for since_s, entry in withdrawals if since_s <= arrival_s
            )
    return predicted


def predicted_alone(records: list[LambdaRecord], model: ModelBundle) -> dict[str, bytes]:
    """Return the predictions of records, each in a batch of its own, by id."""
    batches = [process(decode_records({"Records": [record]}), model) for record in records]
    return {one_id: data for batch in batches for one_id, (_, data) in zip(batch.ids, batch.entries, strict=True)}


@given(STEPS, OPTIONS, REDELIVERIES)
def test_all_predictions_of_an_id_are_the_bytes_of_its_arrivals_model_or_of_one_that_was_withdrawn(
    steps: list[Step], options: SimulationOptions, faults: list[At]
) -> None:
    check_versions(run(steps, options, faults))


def test_record_that_comes_again_after_a_promotion_and_in_another_environment_has_the_same_bytes() -> None:
    # GIVEN two environments, and a first invocation whose answer is lost
    options = SimulationOptions(mapping=mapping_config(), refreshes_s=(60.0, 60.0))
    lost_answer = [At(Place.INVOKE, 0, AnswerLost(Problem.DIED, after_s=200.0))]
    ride = [("a", RIDES[0])]
    # WHEN the channel is promoted just before, so that the ride comes again when the new model serves
    steps = [Step(ServeModel(1), ride, 0.0), Step(None, ride, 200.0)]
    account = run(steps, options, lost_answer)
    # THEN the first ride has the old model's prediction, twice, and the second ride the new one's
    versions = [list(by_version) for by_version in account.predicted().values()]
    assert versions == [[BUNDLES[0].model_version], [BUNDLES[1].model_version]]
    assert len(account.published()) == 3


def test_each_record_has_the_bytes_of_its_arrivals_calibration_after_a_rollback_and_a_stop() -> None:
    # GIVEN invocations whose answers are lost, so that every ride comes again when the channel has moved on
    options = SimulationOptions(mapping=mapping_config(), refreshes_s=(60.0, 60.0))
    lost_answers = [At(Place.INVOKE, n, AnswerLost(Problem.DIED, after_s=200.0)) for n in range(0, 20, 2)]
    ride = [("a", RIDES[0])]
    # WHEN the channel gets two calibrations, another model, a rollback to the first, a calibration, and is stopped
    changes: list[StateFault | None] = [Calibrate(), Calibrate(), ServeModel(1), Calibrate(), RollBack(0), Calibrate()]
    changes += [StopCalibration(), None]
    account = run([step for one in changes for step in (Step(one, ride, 200.0),)], options, lost_answers)
    # THEN each record has the bytes of the segment of its arrival, or of what was withdrawn from it
    predicted = check_versions(account)
    assert len(predicted) == len(changes)
    # AND calibrations did serve, and no segment of the withdrawn model is left for the rides that came again
    first = BUNDLES[0].model_version
    seen = [version for by_version in predicted.values() for version in by_version]
    assert seen == [first, f"{first}+2026-01-01T01", *4 * [f"{first}+2026-01-01T02"], first, first]
