"""Each record that an audit has counted is shown with what came in, what was predicted, and what should have been."""

import msgspec
import pytest

from lambda_function.core.archive_lines import archive_prefix
from lambda_function.core.bundle import MANIFEST, bundle_key
from lambda_function.core.events import decode_prediction
from lambda_function.core.records import RIDES
from tests.builders import ride_bytes, small_bundle
from tests.kits.audited_hour import AuditedHour, changed
from tests.kits.simulation_strategies import aggregate
from training.monitoring.join.evidence import Finding, Kind, audit_records
from training.monitoring.summary import summary_key

MODEL_VERSION = small_bundle().model_version


def hour_with(*datas: bytes) -> AuditedHour:
    hour = AuditedHour()
    hour.send(*datas, ride_bytes(1000, pickup_datetime=None))
    return hour


def rides(n: int) -> list[bytes]:
    return [ride_bytes(number, trip_distance=1 + number, pickup_datetime=None) for number in range(n)]


def found(hour: AuditedHour, kind: Kind) -> list[Finding]:
    return list(audit_records(hour.simulation.models, [hour.hour + -1, hour.hour], kind))


@pytest.mark.parametrize("kind", ["lost", "conflicting", "skew"])
def test_hour_without_findings_has_no_records(kind: Kind) -> None:
    hour = hour_with(*rides(3), b"bad")
    assert found(hour, kind) == []
    hour.audited()
    assert found(hour, kind) == []


def test_lost_rides_and_records_are_shown_with_their_data() -> None:
    hour = hour_with(*rides(3), b"bad", b"worse", aggregate(rides(2)))
    ids = hour.predicted_ids()
    hour.drop([ids[1], ids[4]])
    (lost_reject, _) = hour.reject_ids()
    hour.remove_rejects([lost_reject])
    assert hour.audited().n_lost == 3
    assert found(hour, "lost") == [
        Finding(hour.hour, ids[1], "1", None, rides(3)[1]),
        Finding(hour.hour, lost_reject, None, None, b"bad"),
        Finding(hour.hour, ids[4], "1", None, rides(2)[1]),
    ]


def test_skewed_prediction_is_shown_beside_what_the_version_predicts_now() -> None:
    hour = hour_with(*rides(5))
    right = hour.predictions()[2]
    hour.change(hour.predicted_ids()[2:3])
    hour.audited()
    (finding,) = found(hour, "skew")
    assert (finding.event_id, finding.model_version, finding.data) == (
        decode_prediction(right).prediction_id,
        MODEL_VERSION,
        rides(5)[2],
    )
    assert (finding.archived, finding.expected) == ((changed(right),), right)


def test_skewed_prediction_that_came_after_the_horizon_is_shown() -> None:
    hour = hour_with(*rides(2))
    right = hour.predictions()[0]
    hour.drop(hour.predicted_ids()[:1])
    hour.simulation.clock.sleep(6 * 3600.0)
    hour.publish(changed(right))
    assert hour.audited().n_skewed == 1
    assert [finding.archived for finding in found(hour, "skew")] == [(changed(right),)]


def test_predictions_that_conflict_are_shown_in_order_of_arrival() -> None:
    hour = hour_with(*rides(5))
    right = hour.predictions()[2]
    hour.simulation.clock.sleep(3600.0)  # into the next hour
    hour.publish(right, changed(right), changed(right))
    hour.audited()
    (finding,) = found(hour, "conflicting")
    assert (finding.archived, finding.expected) == ((right, changed(right)), right)


def test_predicted_record_that_is_no_ride_is_shown_as_skewed() -> None:
    hour = hour_with(*rides(2), b"bad")
    (reject_id,) = hour.reject_ids()
    invented = msgspec.structs.replace(decode_prediction(hour.predictions()[0]), prediction_id=reject_id)
    hour.publish(msgspec.json.encode(invented))
    assert hour.audited().n_skewed == 1
    (finding,) = found(hour, "skew")
    assert (finding.event_id, finding.ride_id, finding.data) == (reject_id, None, b"bad")
    assert (finding.archived, finding.expected) == ((msgspec.json.encode(invented),), None)


def test_what_is_gone_is_left_out_of_a_finding() -> None:
    hour = hour_with(*rides(3))
    hour.change(hour.predicted_ids()[:1])
    hour.audited()
    (whole,) = found(hour, "skew")
    del hour.objects[bundle_key(MODEL_VERSION, MANIFEST)]
    (without_model,) = found(hour, "skew")
    assert (without_model.expected, without_model.data) == (None, whole.data)
    for key in [key for key in hour.objects if key.startswith(archive_prefix(RIDES, hour.hour.partition))]:
        del hour.objects[key]
    (without_record,) = found(hour, "skew")
    assert (without_record.event_id, without_record.data, without_record.archived) == (
        whole.event_id,
        None,
        whole.archived,
    )
    del hour.objects[summary_key(hour.hour)]
    assert found(hour, "skew") == []
