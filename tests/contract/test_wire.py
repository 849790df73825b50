"""The wire formats, byte for byte: a change here affects every producer and consumer.

Each golden file holds one form. A new field is added there first; fields are never renamed or removed.
"""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lambda_function.core.archive_lines import decode_lines, encode_lines
from lambda_function.core.bundle import MANIFEST, decode_manifest, sha256
from lambda_function.core.calibration import calibration_key, decode_calibration, split_version
from lambda_function.core.channel import (
    BEGINNING,
    Arm,
    CalibrationRef,
    Channel,
    Segment,
    bucket_of,
    decode_channel,
    encode_channel,
)
from lambda_function.core.events import (
    MODEL_NAME,
    Reject,
    decode_prediction,
    decode_reject,
    decode_ride_event,
    encode_predictions,
    encode_reject,
)
from lambda_function.core.kpl import pack
from lambda_function.core.outcomes import Outcome, decode_outcome, encode_outcome
from lambda_function.core.records import build_reject
from lambda_function.errors import RejectError
from tests.builders import (
    ARRIVAL_TIME_S,
    event_id,
    interval_bundle,
    kinesis_records,
    sequence_number,
    small_bundle,
    small_interval,
)
from tests.fakes import BUCKET, FakeFunction, FakeS3, publish_bundle
from training.evaluation.gate import decode_gate_report, encode_gate_report
from training.registry.bucket import Bucket
from training.registry.channel_history import read_history

GOLDEN = Path(__file__).with_name("golden")
VERSION = "green-2021-01-3f2a9c1d0b7e"


def golden_bytes(name: str) -> bytes:
    """A golden file without its last line end."""
    return (GOLDEN / name).read_bytes().removesuffix(b"\n")


def golden_json(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(golden_bytes(name))
    return value


def shape(value: object) -> object:
    """Return the names and types of a value, on which consumers rely."""
    if isinstance(value, dict):
        return {key: shape(child) for key, child in value.items()}
    if isinstance(value, list):
        return [shape(child) for child in value[:1]]
    return type(value).__name__


# Ride events in -----------------------------------------------------------------------------------------------------


def test_ride_event_is_read() -> None:
    event = decode_ride_event(golden_bytes("ride_event.json"))
    assert event.ride_id == 256
    assert (event.ride.pickup_zone, event.ride.dropoff_zone) == (130, 205)
    assert event.ride.trip_distance == 3.66
    assert event.ride.pickup_datetime == "2021-01-05T08:15:00"


def test_courses_own_event_is_read() -> None:
    event = decode_ride_event(golden_bytes("course_ride_event.json"))
    assert (event.ride_id, event.ride.pickup_zone, event.ride.pickup_datetime) == (256, 130, None)


def test_courses_own_event_in_its_envelope_is_predicted() -> None:
    # GIVEN the invocation with which the course's lessons test their function
    invocation = golden_json("course_invocation.json")
    data = base64.b64decode(invocation["Records"][0]["kinesis"]["data"])
    assert json.loads(data) == golden_json("course_ride_event.json")
    # WHEN the function gets it
    function = FakeFunction(small_bundle())
    assert function.invoke(invocation) == ""
    # THEN there is a prediction for its ride, with what the course's consumers read
    ((key, data),) = function.kinesis.taken
    prediction = json.loads(data)
    assert key == "256"
    assert prediction["model"] == "ride_duration_prediction_model"
    assert prediction["prediction"]["ride_id"] == 256
    assert 1 <= prediction["prediction"]["ride_duration"] <= 60
    assert prediction["prediction_id"] == invocation["Records"][0]["eventID"]


def test_envelope_as_lambda_sends_it_is_handled() -> None:
    function = FakeFunction(small_bundle())
    assert function.invoke(golden_json("invocation.json")) == ""
    first, second = [decode_prediction(data).prediction for _, data in function.kinesis.taken]
    assert (first.ride_id, second.ride_id) == (256, "a-7")
    assert decode_reject(function.s3.lines("rejects/ride-events/shardId-000000000006/")[0]).reason == "not_json"


# Predictions out ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "minutes", "ride_id"),
    [
        ("prediction.json", 18.23, 256),
        ("prediction_text_id.json", 7.0, 'поездка "7"\n🚕'),
    ],
)
def test_prediction_has_these_bytes(file: str, minutes: float, ride_id: int | str) -> None:
    assert encode_predictions(VERSION, [minutes], [ride_id], [event_id(0)])[0] == golden_bytes(file)


def test_prediction_with_an_interval_has_these_bytes() -> None:
    interval = msgspec.Raw(b"[14.73,21.67]")
    data = golden_bytes("prediction_interval.json")
    assert encode_predictions(VERSION, [18.23], [256], [event_id(0)], [interval])[0] == data
    assert decode_prediction(data).interval == (14.73, 21.67)


def test_interval_is_a_field_added_at_the_end() -> None:
    plain, extended = golden_json("prediction.json"), golden_json("prediction_interval.json")
    assert list(extended) == [*plain, "interval"]
    assert plain.items() <= extended.items()


def test_function_sends_the_golden_shape() -> None:
    for bundle, file in ((small_bundle(), "prediction.json"), (interval_bundle(), "prediction_interval.json")):
        function = FakeFunction(bundle)
        assert function.invoke(golden_json("invocation.json")) == ""
        assert shape(json.loads(function.kinesis.taken[0][1])) == shape(golden_json(file))


def test_prediction_with_unknown_fields_is_read() -> None:
    old = golden_bytes("prediction.json")
    new = json.dumps(golden_json("prediction.json") | {"confidence": 0.9}).encode()
    assert decode_prediction(new) == decode_prediction(old)


def test_name_of_the_model_is_the_courses() -> None:
    assert MODEL_NAME == "ride_duration_prediction_model"


# Rejects ------------------------------------------------------------------------------------------------------------


def test_reject_has_these_bytes() -> None:
    (record,) = kinesis_records(b'{"ride": {}, "ride_id": 256}')
    with pytest.raises(RejectError) as rejected:
        decode_ride_event(record.data())
    line = encode_reject(build_reject(record, rejected.value))
    assert line == golden_bytes("reject.json")
    assert base64.b64decode(decode_reject(line).data) == b'{"ride": {}, "ride_id": 256}'


def test_reject_is_read_field_by_field() -> None:
    assert msgspec.to_builtins(decode_reject(golden_bytes("reject.json"))) == golden_json("reject.json")
    assert set(Reject.__struct_fields__) == {*golden_json("reject.json"), "sub_record"}


# Outcomes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "outcome"),
    [
        ("outcome.json", Outcome(256, 17.4)),
        ("outcome_dropoff.json", Outcome("a-7", None, "2021-01-05T08:33:00")),
        ("outcome_times.json", Outcome(256, None, "2021-01-05T08:33:00", "2021-01-05T08:15:00")),
    ],
)
def test_outcome_is_read_and_has_these_bytes(file: str, outcome: Outcome) -> None:
    assert decode_outcome(golden_bytes(file)) == outcome
    assert encode_outcome(outcome) == golden_bytes(file)
    assert decode_outcome(json.dumps(golden_json(file) | {"fare": 9}).encode()) == outcome


# Lines of the archive -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "data", "sub_index"),
    [
        ("archive_line.json", golden_bytes("ride_event.json"), None),
        ("archive_line_base64.json", b'{"ride": {}, \n"ride_id": 256}', None),
        ("archive_line_sub_record.json", golden_bytes("ride_event.json"), 0),
    ],
)
def test_line_of_the_archive_has_these_bytes_and_is_read(file: str, data: bytes, sub_index: int | None) -> None:
    sent = data if sub_index is None else pack([("256", data)], n_groups=1)[0].data
    line = golden_bytes(file) + b"\n"
    assert encode_lines(kinesis_records(sent)) == line
    ((archived, record),) = ((one, one.kinesis_record()) for one in decode_lines(line))
    assert (archived.data, archived.at_s) == (data, ARRIVAL_TIME_S)
    assert (record.envelope.sequence_number, record.sub_index) == (sequence_number(0), sub_index)


# Channels and manifests ---------------------------------------------------------------------------------------------


OLDER = "green-2020-12-000000000000"
BUCKETS = ((0, 2156), (256, 8386), ("256", 8386), (-1, 4259), (2**70, 2502), ("", 2089), ("a ride", 275), ("é", 6421))
SEGMENTS = (
    Segment("2026-11-21T22:02:30.000000+00:00", (Arm(VERSION, "ab" * 32),)),
    Segment(BEGINNING, (Arm(OLDER, "cd" * 32),)),
)


def test_channel_has_these_bytes() -> None:
    channel = Channel(
        segments=SEGMENTS,
        moved_at="2026-11-21T22:00:00.000000+00:00",
        moved_by="ada@laptop",
        why="promote",
        move_id="0123456789ab",
    )
    assert encode_channel(channel) == golden_bytes("channel_segments.json")
    assert decode_channel(golden_bytes("channel_segments.json")) == channel


def test_calibrated_channel_and_its_line_of_the_history_have_these_bytes() -> None:
    newest, oldest = SEGMENTS
    reference = CalibrationRef("2026-11-21T05", sha256(golden_bytes("calibration.json")))
    channel = Channel(
        segments=(Segment(newest.effective_from, newest.arms, reference), oldest),
        withdrawn=f"{VERSION}+2026-11-22T05",
        moved_at="2026-11-21T22:00:00.000000+00:00",
        moved_by="ada@laptop",
        why="rollback",
        move_id="0123456789ab",
    )
    assert encode_channel(channel) == golden_bytes("channel_calibrated.json")
    assert decode_channel(golden_bytes("channel_calibrated.json")) == channel
    s3 = FakeS3({"channels/stable.json": golden_bytes("channel_calibrated.json")})
    read_history(Bucket(s3, BUCKET), "stable")
    (key,) = s3.keys("history/")
    assert key == f"history/stable/20261121T220000.000000Z-{VERSION}+2026-11-21T05.json"
    assert s3.objects[key].removesuffix(b"\n") == golden_bytes("history_calibrated.json")


def test_split_channel_and_its_line_of_the_history_have_these_bytes() -> None:
    """A split, as it is after a rollback that took another candidate out of older segments."""
    newest, oldest = SEGMENTS
    reference = CalibrationRef("2026-11-21T05", sha256(golden_bytes("calibration.json")))
    arms = (Arm(VERSION, "ab" * 32, (2000, 10_000), reference), Arm(OLDER, "cd" * 32, (0, 2000)))
    channel = Channel(
        segments=(Segment(newest.effective_from, arms, salt="one"), oldest),
        withdrawn=f"{VERSION}+2026-11-22T05",
        also_withdrawn=("green-2020-11-000000000000",),
        withdrawn_from="2026-11-20T22:02:30.000000+00:00",
        moved_at="2026-11-21T22:00:00.000000+00:00",
        moved_by="ada@laptop",
        why="rollback",
        move_id="0123456789ab",
    )
    assert encode_channel(channel) == golden_bytes("channel_split.json")
    assert decode_channel(golden_bytes("channel_split.json")) == channel
    s3 = FakeS3({"channels/stable.json": golden_bytes("channel_split.json")})
    read_history(Bucket(s3, BUCKET), "stable")
    (key,) = s3.keys("history/")
    assert key == f"history/stable/20261121T220000.000000Z-{VERSION}+2026-11-21T05.json"
    assert s3.objects[key].removesuffix(b"\n") == golden_bytes("history_split.json")


@pytest.mark.parametrize(("ride_id", "bucket"), BUCKETS)
def test_buckets_of_rides_stay(ride_id: str | int, bucket: int) -> None:
    """Another bucket would move rides to another arm in the middle of a split."""
    assert bucket_of("one", ride_id) == bucket


def test_calibration_is_read() -> None:
    calibration = decode_calibration(golden_bytes("calibration.json"))
    assert (calibration.model_version, calibration.as_of) == (VERSION, "2026-11-21T05")
    assert len(calibration.weights) == 10
    assert calibration.interval_scale == 1.0312
    assert calibration_key(VERSION, "2026-11-21T05") == f"calibrations/{VERSION}/2026-11-21T05.json"


def test_calibrated_prediction_names_the_served_version() -> None:
    data = golden_bytes("prediction_calibrated.json")
    interval = msgspec.Raw(b"[14.73,21.67]")
    version = f"{VERSION}+2026-11-21T05"
    assert encode_predictions(version, [18.23], [256], [event_id(0)], [interval])[0] == data
    assert split_version(decode_prediction(data).version) == (VERSION, "2026-11-21T05")


@pytest.mark.parametrize("name", ["channel.json", "channel_moved.json"])
def test_channel_from_before_there_were_segments_is_one_segment_from_the_beginning(name: str) -> None:
    channel = decode_channel(golden_bytes(name))
    assert channel.segments == (Segment(BEGINNING, (Arm(VERSION, "ab" * 32),)),)
    assert channel.moved_at == "2026-11-21T22:00:00+00:00"
    assert channel.moved_by == golden_json(name).get("moved_by")


def test_channel_as_it_is_moved_has_the_golden_shape() -> None:
    s3 = FakeS3()
    publish_bundle(s3, small_bundle())
    publish_bundle(s3, small_bundle(seed=2))
    assert shape(json.loads(s3.objects["channels/stable.json"])) == shape(golden_json("channel_segments.json"))


def test_line_of_the_history_has_these_bytes_by_this_key() -> None:
    s3 = FakeS3({"channels/stable.json": golden_bytes("channel_segments.json")})
    read_history(Bucket(s3, BUCKET), "stable")
    (key,) = s3.keys("history/")
    assert key == f"history/stable/20261121T220000.000000Z-{VERSION}.json"
    assert s3.objects[key].removesuffix(b"\n") == golden_bytes("history_segments.json")


def test_old_line_of_the_history_is_read_and_stays() -> None:
    key = f"history/stable/20261121T220000.000000Z-{VERSION}.json"
    s3 = FakeS3({"channels/stable.json": golden_bytes("channel_moved.json"), key: golden_bytes("history_line.json")})
    (entry,) = read_history(Bucket(s3, BUCKET), "stable")
    assert (entry.model_version, entry.why, entry.moved_by) == (VERSION, "promote", "ada@laptop")
    assert s3.objects[key] == golden_bytes("history_line.json")


def test_old_manifest_is_read() -> None:
    manifest = decode_manifest(golden_bytes("manifest.json"))
    assert manifest.model_version == VERSION
    assert manifest.duration_range_minutes == (1.0, 60.0)
    assert manifest.data[0].n_kept == 2000


def test_old_manifest_with_an_interval_is_read() -> None:
    manifest = decode_manifest(golden_bytes("manifest_interval.json"))
    assert manifest.interval == small_interval()
    assert set(manifest.files) == {"evaluation.json", "forest.npz", "golden.json"}


def test_old_verdict_of_the_gate_is_read_and_has_no_warning() -> None:
    report = decode_gate_report(golden_bytes("gate_verdict.json"))
    assert [rule.passed for rule in report.rules] == [True, True, False, False, True]
    assert not any(rule.is_warning for rule in report.rules)
    assert shape(json.loads(encode_gate_report(report))["rules"][0]) == shape(
        golden_json("gate_verdict.json")["rules"][0] | {"is_warning": False}
    )


def test_manifest_as_it_is_exported_has_the_golden_shape() -> None:
    exported, golden = json.loads(interval_bundle().files[MANIFEST]), golden_json("manifest_interval.json")
    golden["files"].pop("evaluation.json")  # only evaluated bundles have one
    for free in ("parameters", "metrics"):  # a training run is free in these
        assert isinstance(exported.pop(free), dict)
        golden.pop(free)
    assert shape(exported) == shape(golden)
