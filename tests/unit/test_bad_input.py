"""Any record ends as a prediction or as a reject with a reason, and does not affect its neighbours."""

import base64
from dataclasses import dataclass
from functools import cache
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.core.events import (
    INVALID_FIELD,
    NOT_BASE64,
    NOT_JSON,
    REJECT_REASONS,
    TOO_DEEP,
    TOO_LARGE,
    Reject,
    decode_prediction,
    decode_reject,
)
from tests.builders import event_id, invocation, raw_ride_bytes, ride_bytes, sequence_number, small_bundle
from tests.fakes import FakeFunction
from tests.fuzz.inputs import as_json, ride_events, texts, values

BEFORE, AFTER = ride_bytes("before", trip_distance=1.5), ride_bytes("after", trip_distance=12)
MIB = 1024 * 1024
PICKUP_ZONE, DROPOFF_ZONE = "`$.ride.PULocationID`", "`$.ride.DOLocationID`"
DISTANCE, PICKUP_TIME, RIDE_ID = "`$.ride.trip_distance`", "`$.ride.pickup_datetime`", "`$.ride_id`"


@dataclass(frozen=True)
class Rejected:
    """A reject's reason, and a part of its detail: the field's path, if it has one."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Predicted:
    """A prediction's ride id."""

    ride_id: object = 256


PREDICTED = Predicted()


def pickup_at(text: str) -> bytes:
    return ride_bytes(pickup_datetime=text)


NOT_A_RIDE: dict[str, tuple[bytes | str, Rejected]] = {
    "not base64": ("}not base64{", Rejected(NOT_BASE64, "`$.kinesis.data`")),
    "base64 without its padding": ("eyJ", Rejected(NOT_BASE64, "`$.kinesis.data`")),
    "base64 with something between": ("eyJ9\n", Rejected(NOT_BASE64, "`$.kinesis.data`")),
    "no ASCII where base64 should be": ("ü€", Rejected(NOT_BASE64, "`$.kinesis.data`")),
    "lone surrogate where base64 should be": ("\ud800", Rejected(NOT_BASE64, "`$.kinesis.data`")),
    "no bytes": (b"", Rejected(NOT_JSON, "truncated")),
    "not UTF-8": (b"\xff\xfe\x00", Rejected(NOT_JSON, "byte 0")),
    "not UTF-8 in a field": (raw_ride_bytes('"X"').replace(b"X", b"\xff"), Rejected(NOT_JSON, "utf-8")),
    "UTF-16": (ride_bytes().decode().encode("utf-16"), Rejected(NOT_JSON, "byte 0")),
    "not JSON": (b"PULocationID=130", Rejected(NOT_JSON, "byte 0")),
    "cut short": (ride_bytes()[:-10], Rejected(NOT_JSON, "truncated")),
    "something after the end": (ride_bytes() + b"}", Rejected(NOT_JSON, "trailing")),
    "array": (b"[]", Rejected(INVALID_FIELD, "Expected `object`, got `array`")),
    "null": (b"null", Rejected(INVALID_FIELD, "Expected `object`, got `null`")),
    "number": (b"1", Rejected(INVALID_FIELD, "Expected `object`, got `int`")),
    "string of 1 MiB": (b'"' + b"x" * (MIB - 2) + b'"', Rejected(INVALID_FIELD, "Expected `object`, got `str`")),
    "zeros of 1 MiB": (bytes(MIB), Rejected(NOT_JSON, "byte 0")),
    "empty object": (b"{}", Rejected(INVALID_FIELD, "missing required field `ride`")),
    "event without an id": (b'{"ride":{"PULocationID":1,"DOLocationID":1,"trip_distance":1}}', Rejected("", "ride_id")),
    "ride without a zone": (ride_bytes(PULocationID=None), Rejected(INVALID_FIELD, "PULocationID` - at `$.ride`")),
    "ride that is an array": (b'{"ride":[],"ride_id":1}', Rejected(INVALID_FIELD, "`$.ride`")),
    "nested a million deep": (b"[" * MIB, Rejected(INVALID_FIELD, "Expected `object`, got `array`")),
    "nested deep in an unknown field": (
        raw_ride_bytes(extra=',"x":' + "[" * 500_000 + "]" * 500_000),
        Rejected(TOO_DEEP, "nested deeper"),
    ),
    "nested deep in an unknown field of the ride": (
        raw_ride_bytes(x='{"x":' * 100_000 + "1" + "}" * 100_000),
        Rejected(TOO_DEEP, "nested deeper"),
    ),
    "NaN beside something nested deep": (
        raw_ride_bytes(trip_distance="NaN", x="[" * 100_000 + "]" * 100_000),
        Rejected(NOT_JSON, "byte"),
    ),
}

BAD_FIELDS: dict[str, tuple[bytes | str, Rejected]] = {
    "distance NaN": (raw_ride_bytes(trip_distance="NaN"), Rejected(INVALID_FIELD, DISTANCE)),
    "distance Infinity": (raw_ride_bytes(trip_distance="Infinity"), Rejected(INVALID_FIELD, DISTANCE)),
    "distance -Infinity": (raw_ride_bytes(trip_distance="-Infinity"), Rejected(INVALID_FIELD, DISTANCE)),
    "distance 1e999": (raw_ride_bytes(trip_distance="1e999"), Rejected(INVALID_FIELD, DISTANCE)),
    "distance of 5,000 digits": (raw_ride_bytes(trip_distance="9" * 5000), Rejected(INVALID_FIELD, DISTANCE)),
    "distance below 0": (ride_bytes(trip_distance=-0.01), Rejected(INVALID_FIELD, DISTANCE)),
    "distance null": (raw_ride_bytes(trip_distance="null"), Rejected(INVALID_FIELD, DISTANCE)),
    "NaN in an unknown field": (raw_ride_bytes(extra=',"tip":[1,NaN]'), Rejected(INVALID_FIELD, "`$.tip[1]`")),
    "NaN below a lone surrogate": (raw_ride_bytes(extra=',"\\ud800":NaN'), Rejected(INVALID_FIELD, "`$.\\ud800`")),
    "NaN below a key that is not UTF-8": (b'{"\xed\xa0\x80":NaN}', Rejected(INVALID_FIELD, "`$.\\ud800`")),
    "ride id a lone surrogate": (raw_ride_bytes('"\\ud800"'), Rejected(INVALID_FIELD, RIDE_ID)),
    "lone surrogate in an unknown field": (raw_ride_bytes(x='"\\udc00 "'), Rejected(INVALID_FIELD, "`$.ride.x`")),
    "lone surrogate as an unknown field": (
        raw_ride_bytes(extra=',"\\udfff":1'),
        Rejected(INVALID_FIELD, "`$.\\udfff`"),
    ),
    "ride id null": (ride_bytes(None), Rejected(INVALID_FIELD, RIDE_ID)),
    "ride id true": (ride_bytes(True), Rejected(INVALID_FIELD, RIDE_ID)),
    "ride id of 4,301 digits": (raw_ride_bytes("1" * 4301), Rejected(INVALID_FIELD, RIDE_ID)),
    "ride id of 1 MiB": (raw_ride_bytes('"' + "x" * (MIB - 100) + '"'), Rejected(TOO_LARGE, RIDE_ID)),
    "zone 0": (ride_bytes(PULocationID=0), Rejected(INVALID_FIELD, PICKUP_ZONE)),
    "zone 266": (ride_bytes(DOLocationID=266), Rejected(INVALID_FIELD, DROPOFF_ZONE)),
    "zone -1": (ride_bytes(DOLocationID=-1), Rejected(INVALID_FIELD, DROPOFF_ZONE)),
    "zone true": (ride_bytes(PULocationID=True), Rejected(INVALID_FIELD, PICKUP_ZONE)),
    "zone null": (raw_ride_bytes(DOLocationID="null"), Rejected(INVALID_FIELD, DROPOFF_ZONE)),
    "zone of 5,000 digits": (raw_ride_bytes(PULocationID="9" * 5000), Rejected(INVALID_FIELD, PICKUP_ZONE)),
    "zone '0'": (ride_bytes(PULocationID="0"), Rejected(INVALID_FIELD, PICKUP_ZONE)),
    "zone '266'": (ride_bytes(DOLocationID="266"), Rejected(INVALID_FIELD, DROPOFF_ZONE)),
    "zone '130' and a line end": (ride_bytes(PULocationID="130\n"), Rejected(INVALID_FIELD, PICKUP_ZONE)),
    "zone '007'": (ride_bytes(DOLocationID="007"), Rejected(INVALID_FIELD, DROPOFF_ZONE)),
    "zone in other digits": (ride_bytes(DOLocationID="١٣٠"), Rejected(INVALID_FIELD, DROPOFF_ZONE)),
    "zone ''": (ride_bytes(PULocationID=""), Rejected(INVALID_FIELD, PICKUP_ZONE)),
    "pickup time garbage": (pickup_at("yesterday"), Rejected(INVALID_FIELD, PICKUP_TIME)),
    "pickup time ''": (pickup_at(""), Rejected(INVALID_FIELD, PICKUP_TIME)),
    "pickup time a number": (ride_bytes(pickup_datetime=1609834500), Rejected(INVALID_FIELD, PICKUP_TIME)),
    "pickup time on no calendar": (pickup_at("2021-02-30T08:15:00"), Rejected(INVALID_FIELD, PICKUP_TIME)),
    "pickup time and a line end": (pickup_at("2021-01-05T08:15:00\n"), Rejected(INVALID_FIELD, PICKUP_TIME)),
    "pickup time of 1 MiB": (pickup_at("9" * (MIB - 200)), Rejected(INVALID_FIELD, PICKUP_TIME)),
    "pickup in year 1 with an offset": (pickup_at("0001-01-01T00:00:00+05:00"), Rejected("", PICKUP_TIME)),
    "pickup in year 1 in UTC": (pickup_at("0001-01-01T00:00:00Z"), Rejected(INVALID_FIELD, PICKUP_TIME)),
    "pickup in year 9999 with an offset": (pickup_at("9999-12-31T23:59:59-05:00"), Rejected("", PICKUP_TIME)),
    "pickup in year 10000": (pickup_at("10000-01-01T00:00:00"), Rejected(INVALID_FIELD, PICKUP_TIME)),
}

STRANGE_BUT_FINE: dict[str, tuple[bytes | str, Predicted]] = {
    "ride id 0": (ride_bytes(0), Predicted(0)),
    "ride id -7": (ride_bytes(-7), Predicted(-7)),
    "ride id ''": (ride_bytes(""), Predicted("")),
    "ride id '256'": (ride_bytes("256"), Predicted("256")),
    "ride id of 10,000 characters": (ride_bytes("x" * 10_000), Predicted("x" * 10_000)),
    "ride id of 10,000 emoji": (ride_bytes("🚕" * 10_000), Predicted("🚕" * 10_000)),
    "ride id in Unicode": (ride_bytes("поездка-🚕-ñ\u0000\n"), Predicted("поездка-🚕-ñ\u0000\n")),
    "ride id of 2 to the 64th": (ride_bytes(2**64), Predicted(2**64)),
    "ride id of 4,300 digits": (raw_ride_bytes("1" * 4300), Predicted(int("1" * 4300))),
    "ride id of -4,299 digits": (raw_ride_bytes("-" + "1" * 4299), Predicted(-int("1" * 4299))),
    "zone '130'": (ride_bytes(PULocationID="130"), PREDICTED),
    "zones without a place": (ride_bytes(PULocationID=264, DOLocationID="265"), PREDICTED),
    "distance 0": (ride_bytes(trip_distance=0), PREDICTED),
    "distance -0.0": (ride_bytes(trip_distance=-0.0), PREDICTED),
    "distance 1e308": (ride_bytes(trip_distance=1e308), PREDICTED),
    "distance of 300 digits": (raw_ride_bytes(trip_distance="9" * 300), PREDICTED),
    "string of 1 MiB in an unknown field": (ride_bytes(note="x" * (MIB - 300)), PREDICTED),
    "not UTF-8 in an unknown field": (raw_ride_bytes(extra=',"x":"X"').replace(b"X", b"\xff"), PREDICTED),
    "1e999 in an unknown field": (raw_ride_bytes(extra=',"x":1e999'), PREDICTED),
    "nested 500 deep in an unknown field": (raw_ride_bytes(extra=',"x":' + "[" * 500 + "]" * 500), PREDICTED),
    "the same field twice": (raw_ride_bytes(extra=',"ride_id":257'), Predicted(257)),
    "pickup time null": (raw_ride_bytes(pickup_datetime="null"), PREDICTED),
    "pickup time with an offset": (pickup_at("2021-01-05T08:15:00-05:00"), PREDICTED),
    "pickup time in UTC": (pickup_at("2021-01-05T13:15:00Z"), PREDICTED),
    "pickup time in the gap of daylight saving": (pickup_at("2021-03-14T02:30:00"), PREDICTED),
    "pickup time with nanoseconds": (pickup_at("2021-01-05T08:15:00.123456789"), PREDICTED),
    "pickup in year 1": (pickup_at("0001-01-01T00:00:00"), PREDICTED),
    "pickup in year 9999": (pickup_at("9999-12-31T23:59:59"), PREDICTED),
    "pickup in year 9999 in UTC": (pickup_at("9999-12-31T23:59:59Z"), PREDICTED),
}

EVERYTHING = {**NOT_A_RIDE, **BAD_FIELDS, **STRANGE_BUT_FINE}


def handle(*datas: bytes | str) -> tuple[dict[str, bytes], dict[str, Reject]]:
    """Handle a batch and return predictions by event id and rejects by sequence number."""
    function = FakeFunction(small_bundle())
    assert function.invoke(invocation(*datas)) == ""
    predictions = {decode_prediction(data).prediction_id: data for _, data in function.kinesis.taken}
    rejects = {reject.sequence_number: reject for reject in map(decode_reject, function.s3.lines("rejects/"))}
    assert len(predictions) + len(rejects) == len(datas)
    return predictions, rejects


@pytest.mark.parametrize(("data", "expected"), EVERYTHING.values(), ids=EVERYTHING)
def test_record_ends_as_prediction_or_reject_and_its_neighbours_are_predicted(
    data: bytes | str, expected: Rejected | Predicted
) -> None:
    # GIVEN a record between two good ones
    # WHEN the function handles the three
    predictions, rejects = handle(BEFORE, data, AFTER)
    # THEN the record ends where it should
    if isinstance(expected, Predicted):
        assert decode_prediction(predictions[event_id(1)]).prediction.ride_id == expected.ride_id
    else:
        reject = rejects[sequence_number(1)]
        assert reject.reason == (expected.reason or INVALID_FIELD)
        assert expected.detail in reject.detail
        assert base64.b64decode(reject.data) == original_bytes(data)
    # AND the two have the same bytes as without it
    assert [predictions[event_id(n)] for n in (0, 2)] == undisturbed()


@cache
def undisturbed() -> list[bytes]:
    """Return the predictions of the two good records with a third good one between them."""
    predictions, _ = handle(BEFORE, ride_bytes(), AFTER)
    return [predictions[event_id(n)] for n in (0, 2)]


def original_bytes(data: bytes | str) -> bytes:
    return data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")


def test_all_kinds_of_records_in_one_batch_are_distinguished() -> None:
    predictions, rejects = handle(*(data for data, _ in EVERYTHING.values()))
    kinds = [type(expected) for _, expected in EVERYTHING.values()]
    assert [event_id(n) in predictions for n in range(len(kinds))] == [kind is Predicted for kind in kinds]
    assert [sequence_number(n) in rejects for n in range(len(kinds))] == [kind is Rejected for kind in kinds]


def test_empty_batch_is_done_at_once() -> None:
    function = FakeFunction(small_bundle())
    assert function.invoke({"Records": []}) == ""
    assert function.s3.calls == []
    assert function.kinesis.put_sizes == []


def test_one_record_of_a_mib_cannot_hold_up_its_batch() -> None:
    # A path of 400 kB above 250,000 values, and a NaN at the end: a path built for each value takes seconds.
    slow = b'{"' + b"k" * 400_000 + b'":[' + b"0," * 300_000 + b'0],"x":NaN}'
    plain = slow.replace(b"NaN", b'"-"')  # the same work but for the search for the path
    function = FakeFunction(small_bundle())
    batch, reference = invocation(slow, slow, slow), invocation(plain, plain, plain)
    started_s = process_time()
    function.invoke(reference)
    reference_s = process_time() - started_s
    function.invoke(batch)
    assert process_time() - started_s - reference_s < 50 * reference_s
    details = [decode_reject(line).detail for line in function.s3.lines("rejects/")]
    assert details[-3:] == ["Expected a finite number - at `$.x`"] * 3


@given(st.lists(st.binary(max_size=40) | ride_events.map(as_json) | values.map(as_json), max_size=8))
def test_any_bytes_end_as_a_prediction_or_a_reject(datas: list[bytes]) -> None:
    function = FakeFunction(small_bundle())
    assert function.invoke(invocation(*datas)) == ""
    rejects = [decode_reject(line) for line in function.s3.lines("rejects/")]
    assert len(function.kinesis.taken) + len(rejects) == len(datas)
    assert {reject.reason for reject in rejects} <= set(REJECT_REASONS)


@given(texts)
def test_any_text_where_base64_should_be_ends_as_a_prediction_or_a_reject(text: str) -> None:
    handle(text, ride_bytes())


@given(texts | st.datetimes().map(str) | st.datetimes(timezones=st.timezones()).map(str))
def test_any_pickup_time_ends_as_a_prediction_or_a_reject(text: str) -> None:
    handle(ride_bytes(pickup_datetime=text))
