"""The promise of the stream path, tested on simulations with any events, any batching and any finite faults.

For each record on the input stream, and for each sub-record of an aggregate:

1. It is predicted, or it is rejected with its bytes in bucket or queue, or its record is in the failure destination
   with its bytes.
2. It is never both predicted and rejected.
3. Its record is settled once: the function has reported it as done, or it has failed; never both.
4. A failed record may have a prediction or a reject, too: the function wrote it, but its answer was lost, because it
   crashed, was killed, got no answer itself, or had to name an earlier record. If no fault follows a write, this does
   not happen, and each record is in exactly one place.
5. While bucket, queue and stream only refuse and the function lives, it is published or stored once.
6. Its result depends only on the record and the model version, to the byte.
"""

from collections import Counter

import pytest
from hypothesis import given

from infra.local.simulation.simulation import SimulationOptions
from lambda_function.core.events import decode_prediction
from lambda_function.core.records import Entry
from tests.builders import small_bundle
from tests.kits.faults import At, Place
from tests.kits.simulation import Account, alone, data_of, run
from tests.kits.simulation_strategies import (
    ANY_OPTIONS,
    ARRIVALS,
    BAD,
    CLEAN_FAULTS,
    FAULTS,
    PATIENT,
    REFUSALS,
    RIDES,
    mapping_config,
)
from tests.outcomes import AnswerLost, Problem

pytestmark = pytest.mark.slow  # simulations of seconds

Arrivals = list[list[Entry]]
Faults = list[At]


@given(ARRIVALS, ANY_OPTIONS, FAULTS)
def test_every_record_is_predicted_or_rejected_or_in_the_failure_destination_with_its_payload(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    ended, rejected, payloads = account.ended(), account.rejected(), account.payloads()
    for identity, part in account.parts().items():
        assert identity in ended or part.event_id in payloads
        assert rejected.get(identity, part.data) == part.data
    sent = {record["eventID"]: data_of(record) for record in account.arrived()}
    assert payloads.items() <= sent.items()


@given(ARRIVALS, ANY_OPTIONS, FAULTS)
def test_only_rides_are_predicted_all_other_events_are_rejected_and_none_is_both(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    parts = account.parts()
    rides = {identity for identity, part in parts.items() if part.data in RIDES}
    assert account.predicted().keys() <= rides
    assert account.rejected().keys() <= parts.keys() - rides


@given(ARRIVALS, ANY_OPTIONS, FAULTS)
def test_every_record_is_settled_once_as_done_or_failed_and_done_records_have_a_result(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    settled = [*account.confirmed, *account.failed().elements()]
    assert sorted(settled) == sorted(record["eventID"] for record in account.arrived())
    done = set(account.confirmed)
    assert {identity for identity, part in account.parts().items() if part.event_id in done} <= account.ended()


@given(ARRIVALS, ANY_OPTIONS, CLEAN_FAULTS)
def test_every_record_is_in_exactly_one_place_if_no_fault_follows_a_write(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    ended, failed = account.ended(), account.failed()
    for identity, part in account.parts().items():
        assert (identity in ended) + failed[part.event_id] == 1


@pytest.mark.parametrize("fault", [AnswerLost(Problem.DIED), AnswerLost(Problem.NO_ANSWER, after_s=61)])
def test_record_whose_answer_is_always_lost_is_predicted_and_failed(fault: AnswerLost) -> None:
    # GIVEN a function whose answer is lost after its work, and a mapping without retries
    options = SimulationOptions(mapping=mapping_config(maximum_retry_attempts=0))
    never = [At(Place.INVOKE, n, fault) for n in range(3)]
    # WHEN a ride and a bad record arrive
    account = run([[("a", RIDES[0]), ("b", BAD[0])]], options, never)
    # THEN both are in the failure destination, and one is predicted and one rejected
    ride, bad = account.parts()
    assert (set(account.predicted()), set(account.rejected())) == ({ride}, {bad})
    assert set(account.failed()) == {ride, bad}


@given(ARRIVALS, ANY_OPTIONS, FAULTS)
def test_predictions_of_one_id_and_model_version_are_byte_identical_to_the_record_handled_alone(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    expected = {one.model_version: alone(account.arrived(), one) for one in (small_bundle(), small_bundle(seed=2))}
    for prediction_id, by_version in account.predicted().items():
        for version, lines in by_version.items():
            assert lines == {expected[version][prediction_id]}


@given(ARRIVALS, PATIENT)
def test_bad_record_never_delays_its_neighbours(arrivals: Arrivals, options: SimulationOptions) -> None:
    # GIVEN the same arrivals with rides instead of the bad events
    good = [[(key, data if data in RIDES else RIDES[0]) for key, data in entries] for entries in arrivals]
    # WHEN there are no faults
    with_bad, without = run(arrivals, options), run(good, options)
    # THEN each record is delivered once and in the same invocation
    assert batches(with_bad) == batches(without)
    assert with_bad.confirmed == [event_id for batch in batches(with_bad) for event_id in batch]


@given(ARRIVALS, PATIENT, FAULTS)
def test_every_shard_makes_progress_once_faults_end_and_a_mapping_without_limits_fails_no_record(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)  # no minute without a fault or a settled record
    assert sorted(account.confirmed) == sorted(record["eventID"] for record in account.arrived())


@given(ARRIVALS, PATIENT, REFUSALS)
def test_everything_comes_out_once_while_bucket_queue_and_stream_only_refuse(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    out = [decode_prediction(line).prediction_id for line in account.published()]
    out += [identity for identity, _ in account.rejects()]
    assert Counter(out) == Counter(account.parts().keys())


@given(ARRIVALS, ANY_OPTIONS, FAULTS)
def test_reject_is_stored_a_second_time_only_with_the_same_bytes(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    # A batch that was stored and comes again to a new environment leaves a reject in two objects.
    account = run(arrivals, options, faults)
    assert len(set(account.rejects())) == len(account.rejected())


@given(ARRIVALS, ANY_OPTIONS, FAULTS)
def test_records_of_one_key_are_delivered_in_order_after_those_before_them_are_settled(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    by_key: dict[str, list[str]] = {}
    for record in sorted(account.arrived(), key=lambda record: int(record["kinesis"]["sequenceNumber"])):
        by_key.setdefault(record["kinesis"]["partitionKey"], []).append(record["eventID"])
    for batch, settled in zip(account.batches, account.settled, strict=True):
        for key, in_order in by_key.items():
            delivered = [r["eventID"] for r in batch if r["kinesis"]["partitionKey"] == key]
            unsettled = [event_id for event_id in in_order if event_id not in settled]
            assert delivered == unsettled[: len(delivered)]


def batches(account: Account) -> list[list[str]]:
    return [[record["eventID"] for record in batch] for batch in account.batches]
