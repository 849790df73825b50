"""The audit finds each fault in what the function and the archive really leave, and counts exactly that."""

from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.demo.replay import MALFORMED
from lambda_function.core.bundle import MANIFEST, bundle_key
from lambda_function.core.events import decode_prediction
from tests.builders import ride_bytes, small_bundle, vouched
from tests.builders_calibrations import AS_OF, HALF, LATER, SOME, calibration_bytes, calibration_of, key_of
from tests.builders_failed import failure
from tests.kits.audited_hour import AuditedHour, changed
from tests.kits.simulation_strategies import aggregate
from training.monitoring.summary import HourSummary

HOUR_S = 3600.0
FIRST, SECOND = small_bundle(1), small_bundle(2)
FORMATS = ("json", "kpl")
COUNTS = ("n_lost", "n_conflicting", "n_skewed", "n_waiting", "n_failed", "n_unrecomputed")


def ride(number: int) -> bytes:
    return ride_bytes(number, trip_distance=1 + number % 7, pickup_datetime=None)


def rides(n: int) -> list[bytes]:
    return [ride(number) for number in range(n)]


def hour_with(*datas: bytes, **options: Any) -> AuditedHour:
    """An hour whose records the function has handled; a last ride comes after them on each shard."""
    hour = AuditedHour(**options)
    hour.send(*datas)
    hour.send_to_each_shard(ride(1000))
    return hour


def findings(summary: HourSummary) -> dict[str, int]:
    """What the audit counts, without what it does not find."""
    return {name: getattr(summary, name) for name in COUNTS if getattr(summary, name)}


MANY_DOCUMENTS = b"".join(rides(5))
SOME_BAD = ride(1) + b'{"ride":{}}' + ride(2)
MANY_BAD = b"".join([*rides(3), *[b'{"ride":{}}'] * 100, *rides(3)])
CLEAN = {
    "rides": rides(15),
    "rejects": [ride(1), b"bad", *MALFORMED, ride(2)],
    "producers' aggregates": [aggregate(rides(7)), aggregate([b"bad", ride(1), b"bad"]), ride(2)],
    "damaged aggregate": [aggregate(rides(3))[:-1], ride(1)],
    "several documents": [MANY_DOCUMENTS, SOME_BAD, ride(1)],
    "many bad documents": [MANY_BAD, ride(1)],
    "small aggregate of many bad rides": [aggregate([ride(1), *[b"bad"] * 100, ride(2)]), ride(3)],
    "aggregate of many bad rides": [aggregate([ride(1), *[b"bad" * 99] * 100, ride(2)]), ride(3)],
}


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("name", CLEAN)
def test_clean_hour_has_no_findings(name: str, output_format: str) -> None:
    hour = hour_with(*CLEAN[name], output_format=output_format)
    summary = hour.audited()
    assert findings(summary) == {}
    assert summary.n_recomputed == len(hour.predicted_ids())
    assert summary.n_rejected >= len(hour.reject_ids())


def test_records_and_rejects_that_are_only_rejects_are_accounted_for() -> None:
    summary = hour_with(b"bad", b"worse").audited()
    assert (summary.n_rejected, summary.n_ride_events, findings(summary)) == (2, 3, {})


def test_rejects_are_counted_by_reason() -> None:
    hour = hour_with(b"bad", b"worse", b'{"ride":{}}', ride(1))
    hour.archive()
    assert hour.join().n_rejected_by_reason == {"invalid_field": 1, "not_json": 2}
    assert hour.join(bytes_per_part=50).n_rejected_by_reason == {"invalid_field": 1, "not_json": 2}


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("places", [[0], [4], [0, 1, 2], [3, 9, 14]])
def test_dropped_predictions_are_lost(places: list[int], output_format: str) -> None:
    hour = hour_with(*rides(15), output_format=output_format)
    hour.drop([hour.predicted_ids()[place] for place in places])
    summary = hour.audited()
    assert findings(summary) == {"n_lost": len(places)}
    assert summary.n_recomputed == 16 - len(places)


def test_dropped_predictions_of_parts_are_lost() -> None:
    hour = hour_with(aggregate(rides(4)), MANY_DOCUMENTS, ride(9))
    ids = hour.predicted_ids()
    hour.drop([ids[1], ids[4], ids[6]])
    assert findings(hour.audited()) == {"n_lost": 3}


def test_last_prediction_of_a_shard_is_waited_for_and_then_lost() -> None:
    hour = hour_with(*rides(5))
    hour.drop(hour.predicted_ids()[-1:])
    assert findings(hour.audited()) == {"n_waiting": 1}
    assert findings(hour.join(pass_number=2)) == {"n_lost": 1}


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize("places", [[0], [2, 7]])
def test_changed_predictions_are_skewed(places: list[int], output_format: str) -> None:
    hour = hour_with(*rides(9), output_format=output_format)
    hour.change([hour.predicted_ids()[place] for place in places])
    assert findings(hour.audited()) == {"n_skewed": len(places)}


def test_repeated_predictions_are_neither_conflicting_nor_skewed() -> None:
    hour = hour_with(*rides(5))
    hour.publish(*hour.predictions()[:3])
    summary = hour.audited()
    assert findings(summary) == {}
    assert summary.n_recomputed == 6


def test_prediction_that_comes_again_with_another_byte_is_conflicting() -> None:
    hour = hour_with(*rides(5))
    hour.publish(*map(changed, hour.predictions()[:2]))
    assert findings(hour.audited()) == {"n_conflicting": 2}


def test_other_bundle_under_the_same_version_skews_every_ride() -> None:
    hour = hour_with(*rides(9))
    impostor = vouched(SECOND.files, model_version=FIRST.model_version)
    hour.objects |= {bundle_key(FIRST.model_version, name): data for name, data in impostor.items()}
    assert findings(hour.audited()) == {"n_skewed": 10}


def test_version_that_is_gone_leaves_its_rides_unrecomputed() -> None:
    hour = hour_with(*rides(9))
    del hour.objects[bundle_key(FIRST.model_version, MANIFEST)]
    summary = hour.audited()
    assert findings(summary) == {"n_unrecomputed": 10}
    assert "holds no version" in summary.unloadable_versions[FIRST.model_version]


@pytest.mark.parametrize(
    ("datas", "n_lost"),
    [
        ([ride(1), b"bad", ride(2)], 1),
        ([aggregate([b"bad", ride(1), b"bad"])], 1),
        ([SOME_BAD], 1),
        ([MANY_BAD], 1),  # one reject for the record
        ([aggregate([ride(1), *[b"bad"] * 100])], 1),
        ([aggregate([ride(1), *[b"bad" * 99] * 100])], 100),  # one reject too, but the archive has the parts
    ],
)
def test_removed_reject_is_lost(datas: list[bytes], n_lost: int) -> None:
    hour = hour_with(*datas)
    hour.remove_rejects(hour.reject_ids()[:1])
    assert findings(hour.audited()) == {"n_lost": n_lost}


def test_redriven_record_is_not_lost() -> None:
    hour = hour_with(*rides(6))
    hour.drop(hour.predicted_ids()[1:3])
    hour.replay(hour.records()[1:3])
    assert findings(hour.audited()) == {}


def test_record_in_a_failed_batch_has_failed_until_it_is_redriven() -> None:
    hour = hour_with(*rides(6))
    lost = hour.records()[2:4]
    hour.drop([record["eventID"] for record in lost])
    info = msgspec.json.decode(failure(b""))["KinesisBatchInfo"]
    numbers = [record["kinesis"]["sequenceNumber"] for record in lost]
    info |= {"startSequenceNumber": numbers[0], "endSequenceNumber": numbers[1]}
    key = f"aws/lambda/6f5e/{info['shardId']}/2021/01/05/2021-01-05T20.15.00-0b1c"
    hour.objects[key] = failure(b"", KinesisBatchInfo=info)
    assert findings(hour.audited()) == {"n_failed": 2}
    hour.replay(lost)
    assert findings(hour.audited()) == {}


def test_two_versions_in_an_hour_are_each_compared_with_themselves() -> None:
    hour = hour_with(*rides(7))
    hour.simulation.serve(SECOND)
    hour.simulation.clock.sleep(400.0)
    hour.send(*rides(7))
    summary = hour.audited()
    assert findings(summary) == {}
    assert summary.n_recomputed == 15
    assert summary.n_ride_events == 15


def rolled_back() -> AuditedHour:
    """An hour in which a version was promoted and rolled back; some of its rides came again after that."""
    hour = hour_with(*rides(7))
    hour.simulation.serve(SECOND)
    hour.simulation.clock.sleep(400.0)
    hour.send(*rides(7))
    hour.simulation.roll_back(FIRST.model_version)
    hour.simulation.clock.sleep(400.0)
    hour.replay(hour.records()[-4:])
    return hour


def test_predictions_of_a_withdrawn_version_do_not_conflict() -> None:
    hour = rolled_back()
    assert len(hour.predictions()) == 19
    summary = hour.audited()
    assert findings(summary) == {}


def calibrated() -> AuditedHour:
    """An hour with two calibrations, of which the second is stopped; some of its rides came again after that."""
    hour = hour_with(*rides(7))
    for as_of in (AS_OF, LATER):
        hour.simulation.calibrate(calibration_bytes(calibration_of(FIRST.model, as_of, weights=HALF)))
        hour.simulation.clock.sleep(400.0)
        hour.send(*rides(7))
    hour.simulation.stop_calibration()
    hour.simulation.clock.sleep(400.0)
    hour.send(*rides(7))
    hour.replay(hour.records()[-18:])
    return hour


def test_calibrated_predictions_are_compared_with_their_calibrations_and_withdrawn_ones_do_not_conflict() -> None:
    hour = calibrated()
    served = Counter(decode_prediction(data).version for data in hour.predictions())
    first, second = (f"{FIRST.model_version}+{as_of}" for as_of in (AS_OF, LATER))
    # 8 + 7 rides by the model alone, and 4 + 7 + 7 again: by the first calibration, and in place of the second
    assert served == {FIRST.model_version: 8 + 7 + 14, first: 7 + 4, second: 7}
    summary = hour.audited()
    assert findings(summary) == {}
    assert summary.n_recomputed == 29


def test_calibration_that_is_gone_leaves_its_rides_unrecomputed() -> None:
    hour = calibrated()
    del hour.objects[key_of(1, AS_OF)]
    assert findings(hour.audited()) == {"n_unrecomputed": 7}


def test_changed_calibration_skews_its_rides() -> None:
    """A calibration that is replaced by another one under its name: the predictions prove it."""
    hour = calibrated()
    hour.objects[key_of(1, AS_OF)] = calibration_bytes(calibration_of(FIRST.model, AS_OF, weights=SOME))
    assert findings(hour.audited()) == {"n_skewed": 7}


def test_changed_prediction_conflicts_although_another_version_was_withdrawn() -> None:
    hour = rolled_back()
    hour.publish(changed(hour.predictions()[-1]), changed(hour.predictions()[9]))
    assert findings(hour.audited())["n_conflicting"] == 2


def test_two_versions_of_one_record_conflict_without_a_rollback() -> None:
    hour = hour_with(*rides(7))
    other = replace(FIRST.model, manifest=SECOND.model.manifest)
    old = hour.predictions()[0]
    assert other.model_version.encode() != FIRST.model_version.encode()
    hour.publish(old.replace(FIRST.model_version.encode(), SECOND.model_version.encode()))
    assert findings(hour.audited())["n_conflicting"] == 1


FORMS = st.fixed_dictionaries(
    {"output_format": st.sampled_from(FORMATS), "batch_size": st.integers(1, 9), "n_shards": st.integers(1, 2)}
)


@st.composite
def faults(draw: st.DrawFn) -> dict[str, set[int]]:
    """Places of 24 rides and rejects: some of each kind of fault, no place with two; the last has none."""
    places = draw(st.permutations(range(22)))
    counts = [draw(st.integers(0, 4)) for _ in range(3)]
    ends = [sum(counts[: number + 1]) for number in range(3)]
    return {
        name: set(places[end - count : end])
        for name, end, count in zip(("dropped", "changed", "repeated"), ends, counts, strict=True)
    }


@pytest.mark.slow
@settings(max_examples=min(30, settings().max_examples))  # an example takes 90 ms or more
@given(faults(), st.sets(st.integers(0, 7)), FORMS, st.sampled_from([10**9, 1500, 300]))
def test_any_faults_are_counted_exactly(
    planted: dict[str, set[int]], removed: set[int], form: dict[str, Any], bytes_per_part: int
) -> None:
    datas = [*rides(8), aggregate(rides(4)), b"bad", *rides(3), MANY_DOCUMENTS, SOME_BAD, *MALFORMED, b"{}", ride(9)]
    hour = hour_with(*datas, **form)
    ids = hour.predicted_ids()
    hour.publish(*(changed(hour.predictions()[place]) for place in planted["repeated"]))
    hour.drop(ids[place] for place in planted["dropped"])
    hour.change(ids[place] for place in planted["changed"])
    hour.remove_rejects(hour.reject_ids()[place] for place in removed)
    n = {name: len(places) for name, places in planted.items()}
    summary = hour.audited(bytes_per_part=bytes_per_part)
    expected = {
        "n_lost": n["dropped"] + len(removed),
        "n_conflicting": n["repeated"],
        "n_skewed": n["changed"],
    }
    assert findings(summary) == {name: count for name, count in expected.items() if count}


def test_every_prediction_is_compared_once_however_often_its_record_is_archived() -> None:
    hour = rolled_back()
    hour.archive()
    hour.batch_size = 4  # other objects with the same records
    summary = hour.audited()
    assert findings(summary) == {}
    assert summary.n_recomputed == summary.n_ride_events == 15


def test_prediction_of_the_next_hour_is_compared_too() -> None:
    hour = hour_with(*rides(6), MANY_DOCUMENTS)
    late = hour.records()[2:6] + hour.records()[6:7]
    hour.drop(hour.predicted_ids()[2:11])
    hour.simulation.clock.sleep(HOUR_S)
    hour.replay(late)
    hour.change(hour.predicted_ids()[-1:])
    summary = hour.audited()
    assert findings(summary) == {"n_skewed": 1}
    assert summary.n_recomputed == 12


def test_sample_of_the_rides_is_recomputed_above_the_maximum() -> None:
    hour = hour_with(*rides(60), batch_size=60)
    assert hour.audited(max_recomputed=1000).n_recomputed == 61
    some = hour.join(max_recomputed=30).n_recomputed
    assert 15 <= some <= 45
    assert hour.join(max_recomputed=30).n_recomputed == some
    assert 15 <= hour.join(max_recomputed=30, bytes_per_part=500).n_recomputed <= 45


def test_parts_of_an_hour_count_what_the_whole_hour_does() -> None:
    hour = hour_with(*rides(20), *MALFORMED, MANY_DOCUMENTS, SOME_BAD, MANY_BAD, aggregate([b"bad", ride(7)]), ride(9))
    hour.send_outcomes({**{number: 5.0 + number for number in range(0, 20, 2)}, 1: -1.0, "3": 10_000.0, "x": 7.0})
    hour.drop(hour.predicted_ids()[3:5])
    hour.archive()
    hour.batch_size = 4  # other objects with the same records
    whole, parts = (msgspec.to_builtins(hour.audited(bytes_per_part=n_bytes)) for n_bytes in (10**9, 1000))
    assert whole["n_outcomes_rejected"] == whole["n_lost"] == 2
    assert {name for name in whole if whole[name] != parts[name]} <= {"n_bytes", "n_objects"}


def test_prediction_of_a_record_that_this_code_divides_is_a_result_of_its_parts() -> None:
    hour = hour_with(MANY_DOCUMENTS, ride(1))
    first, *others = hour.predicted_ids()[:5]
    record_id = first.removesuffix(":0")
    hour.edit(lambda data: data.replace(first.encode(), record_id.encode()))
    hour.drop(others)
    assert findings(hour.audited()) == {}
