"""The promise, proved on a world that misbehaves: any events, any batching, any finite schedule of faults.

What is promised of a record on the input stream, and of each sub-record of an aggregate:

1. It is predicted, or rejected with its bytes, or its record is in the failure destination with its bytes.
2. It is never both predicted and rejected.
3. Its record is settled once: the function has said that it is done, or it was given up; never both.
4. What was given up may have been done all the same: the function did it, and its word for that never came, because it
   died, was killed, got no answer itself, or had to name an earlier record. Such a record stands in the failure
   destination *beside* its prediction or reject: given up rather than lost. Where no fault strikes after the deed, this
   does not happen, and each record is in exactly one place.
5. What comes of it depends on the record and the model version alone, to the byte.
"""

import pytest
from hypothesis import given

from infra.local.simulation.faults import AnswerLost, At, Place, Problem
from infra.local.simulation.simulation import SimulationOptions
from lambda_function.core.records import Entry
from tests.builders import small_bundle
from tests.kits.simulation import Account, alone, data_of, run
from tests.kits.simulation_strategies import (
    ANY_OPTIONS,
    ARRIVALS,
    BAD,
    CLEAN_FAULTS,
    FAULTS,
    PATIENT,
    RIDES,
    mapping_config,
)

pytestmark = pytest.mark.slow  # whole worlds, some seconds of them

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
def test_rides_alone_are_predicted_all_else_is_rejected_and_nothing_is_both(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    parts = account.parts()
    rides = {identity for identity, part in parts.items() if part.data in RIDES}
    assert account.predicted().keys() <= rides
    assert account.rejected().keys() <= parts.keys() - rides


@given(ARRIVALS, ANY_OPTIONS, FAULTS)
def test_every_record_is_settled_once_as_done_or_as_given_up_and_what_is_done_has_ended(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    settled = [*account.confirmed, *account.failed().elements()]
    assert sorted(settled) == sorted(record["eventID"] for record in account.arrived())
    done = set(account.confirmed)
    assert {identity for identity, part in account.parts().items() if part.event_id in done} <= account.ended()


@given(ARRIVALS, ANY_OPTIONS, CLEAN_FAULTS)
def test_every_record_is_in_exactly_one_place_where_no_fault_strikes_after_the_deed(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    ended, failed = account.ended(), account.failed()
    for identity, part in account.parts().items():
        assert (identity in ended) + failed[part.event_id] == 1


@pytest.mark.parametrize("fault", [AnswerLost(Problem.DIED), AnswerLost(Problem.NO_ANSWER, after_s=61)])
def test_record_whose_answer_is_lost_to_the_end_is_given_up_beside_its_prediction(fault: AnswerLost) -> None:
    # GIVEN a function that does its work and whose answer never comes, and a mapping that does not try again
    options = SimulationOptions(mapping=mapping_config(maximum_retry_attempts=0))
    never = [At(Place.INVOKE, n, fault) for n in range(3)]
    # WHEN a ride and a bad record come
    account = run([[("a", RIDES[0]), ("b", BAD[0])]], options, never)
    # THEN both are in the failure destination, one beside its prediction and one beside its reject
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
    # GIVEN the same arrivals with rides in the place of all that is bad
    good = [[(key, data if data in RIDES else RIDES[0]) for key, data in entries] for entries in arrivals]
    # WHEN nothing goes wrong
    with_bad, without = run(arrivals, options), run(good, options)
    # THEN each record came in the same invocation, and once
    assert batches(with_bad) == batches(without)
    assert with_bad.confirmed == [event_id for batch in batches(with_bad) for event_id in batch]


@given(ARRIVALS, PATIENT, FAULTS)
def test_every_shard_makes_progress_once_faults_end_and_nothing_is_given_up_by_a_patient_mapping(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)  # no minute without a fault or a settled record
    assert sorted(account.confirmed) == sorted(record["eventID"] for record in account.arrived())


@given(ARRIVALS, PATIENT, FAULTS)
def test_rejects_saved_twice_are_one_object(arrivals: Arrivals, options: SimulationOptions, faults: Faults) -> None:
    identities = [identity for identity, _ in run(arrivals, options, faults).rejects()]
    assert len(identities) == len(set(identities))


@given(ARRIVALS, ANY_OPTIONS, FAULTS)
def test_reject_stands_twice_with_the_same_bytes_or_not_at_all(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    # A batch that was stored whole, given up in part and stored again leaves a reject in both objects.
    account = run(arrivals, options, faults)
    assert len(set(account.rejects())) == len(account.rejected())


@given(ARRIVALS, ANY_OPTIONS, FAULTS)
def test_records_of_one_key_are_handed_over_in_order_each_after_those_before_it_are_settled(
    arrivals: Arrivals, options: SimulationOptions, faults: Faults
) -> None:
    account = run(arrivals, options, faults)
    by_key: dict[str, list[str]] = {}
    for record in sorted(account.arrived(), key=lambda record: int(record["kinesis"]["sequenceNumber"])):
        by_key.setdefault(record["kinesis"]["partitionKey"], []).append(record["eventID"])
    for batch, settled in zip(account.batches, account.settled, strict=True):
        for key, in_order in by_key.items():
            handed_over = [r["eventID"] for r in batch if r["kinesis"]["partitionKey"] == key]
            unsettled = [event_id for event_id in in_order if event_id not in settled]
            assert handed_over == unsettled[: len(handed_over)]


def batches(account: Account) -> list[list[str]]:
    return [[record["eventID"] for record in batch] for batch in account.batches]
