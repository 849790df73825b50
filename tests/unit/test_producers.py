"""What producers and tools really send: several documents in a record, other spellings, other encodings and events."""

import base64
import gc
import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infra.local.runtime.http import http_event
from infra.operate.redrive.records import decode_rejects
from lambda_function.core import diagnosis, documents, kpl
from lambda_function.core.bundle import ModelBundle
from lambda_function.core.documents import split_documents
from lambda_function.core.events import (
    DAMAGED_AGGREGATE,
    INVALID_FIELD,
    NOT_JSON,
    decode_prediction,
    decode_ride_event,
    encode_reject,
)
from lambda_function.core.kpl import pack
from lambda_function.core.parts import MAX_BAD_TRIES
from lambda_function.core.pickup_time import arrival_minutes, pickup_minute
from lambda_function.core.processor import ProcessedBatch, process
from lambda_function.core.records import decode_records, stream_name
from lambda_function.errors import ConfigurationError, RejectError
from tests.builders import (
    ARRIVAL_TIME_S,
    STREAM_ARN,
    event_id,
    invocation,
    kinesis_records,
    lambda_record,
    raw_ride_bytes,
    ride_bytes,
    ride_event,
    small_bundle,
)
from tests.fakes import FakeFunction
from tests.fakes_api import JSON, FakeApi, assert_is_problem, rides_bytes
from tests.fuzz.inputs import as_json, length_delimited, values, vouch

MARK = b"\xef\xbb\xbf"
MIB = 1 << 20
ONE, TWO = ride_bytes(1), ride_bytes(2, trip_distance=12)
BAD = b'{"ride":{},"ride_id":3}'
CUT = ONE[: len(ONE) // 2]
NAN = raw_ride_bytes("4", trip_distance="NaN")


def processed(*datas: bytes | str) -> ProcessedBatch:
    return process(kinesis_records(*datas), small_bundle().model)


def predicted_ids(batch: ProcessedBatch) -> list[str]:
    """Return the indices in the predictions' ids, "" for a record of its own; all are of the first record."""
    ids = [decode_prediction(data).prediction_id for _, data in batch.entries]
    assert all(one.startswith(event_id(0)) for one in ids)
    return [one.removeprefix(event_id(0)).removeprefix(":") for one in ids]


def rejected(batch: ProcessedBatch) -> list[tuple[int | None, bytes]]:
    """Return sub-record and original bytes of each reject."""
    return [(reject.sub_record, base64.b64decode(reject.data)) for _, reject in batch.rejects]


def reject_of(data: bytes) -> tuple[str, str]:
    """Return reason and detail of the only reject of a record that has no prediction."""
    batch = processed(data)
    assert batch.entries == []
    ((_, reject),) = batch.rejects
    assert base64.b64decode(reject.data) == data
    return reject.reason, reject.detail


def durations(batch: ProcessedBatch) -> list[float]:
    return [decode_prediction(data).prediction.ride_duration for _, data in batch.entries]


# Several documents in a record


@pytest.mark.parametrize("data", [ONE + b"\n", b" " + ONE + b"\r\n", MARK + ONE, MARK + ONE + b"\n\n"])
def test_one_document_is_the_record_itself(data: bytes) -> None:
    batch = processed(data)
    assert (predicted_ids(batch), batch.rejects) == ([""], [])
    assert batch.entries == processed(ONE).entries


SEVERAL: dict[str, bytes] = {
    "a line each": ONE + b"\n" + TWO,
    "a line each and one at the end": ONE + b"\r\n" + TWO + b"\r\n",
    "empty lines between": ONE + b"\n\n \n" + TWO,
    "no separator": ONE + TWO,
    "white space": ONE + b" \t " + TWO,
    "array": b"[" + ONE + b"," + TWO + b"]",
    "array in lines": b"[\n  " + ONE + b",\n  " + TWO + b"\n]\n",
    "indented documents": json.dumps(json.loads(ONE), indent=2).encode()
    + json.dumps(json.loads(TWO), indent=2).encode(),
    "indented array": json.dumps([json.loads(ONE), json.loads(TWO)], indent=2).encode(),
    "commas without an array": ONE + b",\n" + TWO + b",\n",
    "byte order mark": MARK + ONE + b"\n" + TWO,
    "braces and quotes in text": ride_bytes('}{"\\') + ride_bytes('[{"ride"'),
}


@pytest.mark.parametrize("data", SEVERAL.values(), ids=SEVERAL)
def test_several_documents_are_predicted_as_sub_records(data: bytes) -> None:
    batch = processed(data)
    assert (predicted_ids(batch), batch.rejects) == (["0", "1"], [])


def test_document_has_the_prediction_of_a_record_of_its_own() -> None:
    together, alone = processed(ONE + b"\n" + TWO), processed(ONE, TWO)
    assert durations(together) == durations(alone)
    assert [key for key, _ in together.entries] == [key for key, _ in alone.entries]


def test_array_of_one_has_an_index() -> None:
    assert predicted_ids(processed(b"[" + ONE + b"]")) == ["0"]


MIXED: dict[str, tuple[bytes, list[str], list[tuple[int | None, bytes]]]] = {
    "a bad line": (ONE + b"\n" + BAD + b"\n" + TWO, ["0", "2"], [(1, BAD)]),
    "an empty object": (ONE + b"\n{}", ["0"], [(1, b"{}")]),
    "a line cut short": (CUT + b"\n" + TWO, ["1"], [(0, CUT)]),
    "a last line cut short": (ONE + b"\n" + CUT, ["0"], [(1, CUT)]),
    "a line that is no JSON": (ONE + b"\n# two\n" + TWO, ["0", "2"], [(1, b"# two")]),
    "NaN in a line": (NAN + b"\n" + TWO, ["1"], [(0, NAN)]),
    "NaN without a separator": (ONE + NAN + TWO, ["0", "2"], [(1, NAN)]),
    "NaN in an array": (b"[" + ONE + b", " + NAN + b", " + TWO + b"]", ["0", "2"], [(1, NAN)]),
    "others in an array": (b"[1, " + ONE + b', "x", null]', ["1"], [(0, b"1"), (2, b'"x"'), (3, b"null")]),
    "an array cut short": (b"[" + ONE + b"," + CUT, ["0"], [(1, CUT)]),
    "no JSON between": (ONE + b"xyz" + TWO, ["0", "2"], [(1, b"xyz")]),
    "two on a line": (ONE + b"\n" + TWO + BAD, ["0", "1"], [(2, BAD)]),
}


@pytest.mark.parametrize(("data", "predicted", "rejects"), MIXED.values(), ids=MIXED)
def test_bad_document_is_a_reject_of_its_own(
    data: bytes, predicted: list[str], rejects: list[tuple[int | None, bytes]]
) -> None:
    batch = processed(data)
    assert (predicted_ids(batch), rejected(batch)) == (predicted, rejects)


ONE_BAD = {
    "something after the end": ONE + b"}",
    "text after the end": ONE + b" and so on",
    "cut short": CUT,
    "NaN": NAN,
    "NaN in lines": json.dumps({**ride_event(trip_distance=float("nan"))}, indent=1).encode(),
    "array without an object": b'["ride", 1]',
    "array of an array": b"[[" + ONE + b"]]",
    "array cut in its first element": b"[" + CUT,
    "two marks": MARK + MARK + ONE,
    "no ride at all": b"{}\n{}\n{}",
}


@pytest.mark.parametrize("data", ONE_BAD.values(), ids=ONE_BAD)
def test_what_is_not_several_documents_is_one_reject(data: bytes) -> None:
    assert reject_of(data)[0] in {NOT_JSON, INVALID_FIELD}


DOCUMENTS = st.one_of(
    st.builds(ride_bytes, st.integers() | st.text(max_size=9), trip_distance=st.floats(0, 70)),
    st.builds(lambda value: as_json({"ride": value}), values),
    st.sampled_from([BAD, b"{}", NAN]),
)


@given(st.lists(DOCUMENTS, max_size=6), st.sampled_from([b"\n", b"\r\n", b"", b" ", b",", b"array"]))
@example([BAD] * 3, b"\n")
def test_n_documents_have_n_outcomes_and_no_byte_of_a_bad_one_is_lost(datas: list[bytes], separator: bytes) -> None:
    datas = [ONE, *datas, TWO]
    whole = b"[" + b",".join(datas) + b"]" if separator == b"array" else separator.join(datas)
    batch = processed(whole)
    alone = processed(*datas)
    assert predicted_ids(batch) == [str(n) for n in alone.positions]
    assert durations(batch) == durations(alone)
    assert rejected(batch) == [(n, base64.b64decode(reject.data)) for n, reject in alone.rejects]


@given(
    st.lists(st.sampled_from([b'{"ride":', b'"', b"{", b"}", b"[", b"]", b",", b"\n", b"\\", b"1", ONE]), max_size=30)
)
def test_parts_are_the_data_without_separators_in_order(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    parts = split_documents(data)
    position = 0
    for part in parts:
        position = data.index(part, position) + len(part)
    if parts:
        assert sum(map(len, parts)) >= len(data.translate(None, b" \t\r\n,[]"))


def test_part_that_comes_again_by_itself_is_not_split() -> None:
    record = msgspec.structs.replace(kinesis_records(b"[" + ONE + b"]")[0], event_id=f"{event_id(0)}:7")
    batch = process([record], small_bundle().model)
    assert (batch.entries, rejected(batch)) == ([], [(7, b"[" + ONE + b"]")])


# Many bad parts


def aggregate(*datas: bytes) -> bytes:
    (packed,) = pack([("k", data) for data in datas], n_groups=1)
    return packed.data


@pytest.mark.parametrize("join", [lambda datas: aggregate(*datas), b"\n".join], ids=["KPL", "lines"])
@pytest.mark.parametrize("bad", [b"{}", b'{"ride":0}'])
def test_good_rides_among_a_thousand_bad_parts_are_predicted(join: Callable[[list[bytes]], bytes], bad: bytes) -> None:
    data = join([ONE] * 5 + [bad] * 1_000 + [TWO] * 5)
    batch = processed(data)
    assert predicted_ids(batch) == list(map(str, [*range(5), *range(1_005, 1_010)]))
    assert rejected(batch) == [(None, data)]
    assert "1,010 parts, too many of them bad" in batch.rejects[0][1].detail
    assert "part 5: " in batch.rejects[0][1].detail


@pytest.mark.parametrize(("n_bad", "n_rejects"), [(64, 64), (65, 1)])
def test_up_to_a_limit_bad_parts_are_rejects_of_their_own(n_bad: int, n_rejects: int) -> None:
    assert len(processed(aggregate(ONE, *[BAD] * n_bad)).rejects) == n_rejects


@pytest.mark.parametrize(("n_bad", "rejected_parts"), [(64, [*range(1, 65)]), (65, [None])])
def test_limit_of_rejects_holds_for_bad_pickup_times(n_bad: int, rejected_parts: list[int | None]) -> None:
    batch = processed(aggregate(ONE, *[ride_bytes(pickup_datetime="05/01/2021 08:15")] * n_bad))
    assert predicted_ids(batch) == ["0"]
    assert [index for index, _ in rejected(batch)] == rejected_parts


def test_record_is_rejected_once_whatever_is_wrong_with_its_parts() -> None:
    data = b"\n".join([ride_bytes(pickup_datetime="x")] * 70 + [BAD] * 70)
    assert rejected(processed(data)) == [(None, data)]


def test_few_bad_parts_under_one_long_key_are_one_reject() -> None:
    rides = [b"\x08\x00\x1a" + length_delimited(data) for data in [ONE, *[b"{}"] * 60]]
    data = vouch(b"\x0a" + length_delimited(b"k" * 256) + b"".join(b"\x1a" + length_delimited(one) for one in rides))
    batch = processed(data)
    assert (predicted_ids(batch), rejected(batch)) == (["0"], [(None, data)])


def test_bad_records_and_parts_leave_nothing_for_the_garbage_collector() -> None:
    # It is off while a batch is processed: cycles of errors and frames would fill the memory.
    gc.collect()
    gc.disable()
    try:
        processed(
            *[BAD, b"{}", NAN, CUT, raw_ride_bytes("256.5")] * 20,
            aggregate(*[BAD] * 60),
            b"\n".join([ONE, *[BAD] * 99]),
        )
        n_found = gc.collect()
    finally:
        gc.enable()
    assert n_found < 100


@pytest.mark.parametrize(("n_bad", "is_tried"), [(MAX_BAD_TRIES, True), (MAX_BAD_TRIES + 1, False)])
def test_after_many_bad_parts_that_could_be_rides_no_other_is_tried(n_bad: int, is_tried: bool) -> None:
    batch = processed(b"\n".join([ONE] + [b'{"ride":0}'] * n_bad + [TWO]))
    assert predicted_ids(batch) == ["0", str(n_bad + 1)][: 1 + is_tried]
    assert len(batch.rejects) == 1


# The work on a megabyte: bounded by counts, because times vary between machines


def test_megabyte_of_braces_is_not_split() -> None:
    n = documents.MAX_BRACES
    assert len(split_documents(b'[{"ride":0}' + b",{}" * (n - 1) + b"]")) == n
    assert split_documents(b'[{"ride":0}' + b",{}" * n + b"]") == []


def test_array_of_more_elements_is_not_split() -> None:
    n = documents.MAX_BRACES
    assert len(split_documents(b'[{"ride":0}' + b",1" * (n - 1) + b"]")) == n
    assert split_documents(b'[{"ride":0}' + b",1" * n + b"]") == []


def test_in_more_lines_than_that_documents_are_found_by_their_braces() -> None:
    lines = b"x\n" * documents.MAX_BRACES
    assert split_documents(ONE + b"\n" + ONE + b"\n" + lines) == [ONE, ONE, lines.rstrip()]


def test_record_of_more_than_a_megabyte_of_rides_is_split() -> None:
    smallest = b'{"ride":{"PULocationID":1,"DOLocationID":1,"trip_distance":1},"ride_id":1}'
    assert len(split_documents(smallest * 30_000)) == 30_000


def test_megabyte_of_containers_is_not_searched_for_nan() -> None:
    def reason(n_containers: int) -> str:
        return reject_of(b'{"x":[' + b"[]," * (n_containers - 2) + b'0],"ride":NaN}')[0]

    assert reason(diagnosis.MAX_CONTAINERS) == INVALID_FIELD
    assert reason(diagnosis.MAX_CONTAINERS + 1) == NOT_JSON


@pytest.mark.parametrize("field", ["2000", "2200", "8a0000", "a0808000" + "80" * 9 + "00"])
def test_unknown_fields_of_an_aggregate_are_bounded(field: str) -> None:
    def message(n: int) -> bytes:
        record = b"\x08\x00\x1a" + length_delimited(ONE)
        return vouch(b"\x0a\x017" + bytes.fromhex(field) * n + b"\x1a" + length_delimited(record))

    n = kpl.MAX_UNKNOWN_FIELDS
    assert "too many fields" in reject_of(message(2 * n))[1]
    assert predicted_ids(processed(message(n // 2))) == ["0"]


def test_tag_for_each_ride_of_an_aggregate_is_skipped() -> None:
    n = 3_000
    record = b"\x08\x00\x1a" + length_delimited(ONE) + bytes.fromhex("22030a0161")
    batch = processed(vouch(b"\x0a\x017" + (b"\x1a" + length_delimited(record)) * n))
    assert (len(batch.entries), batch.rejects) == (n, [])


@pytest.mark.parametrize("fields", ["1a00", "0a00", "1200"])
def test_fields_of_an_aggregate_are_bounded(fields: str) -> None:
    reason, detail = reject_of(vouch(bytes.fromhex(fields) * (kpl.MAX_FIELDS + 1)))
    assert (reason, "196,608 fields" in detail) == (DAMAGED_AGGREGATE, True)


WORST: dict[str, bytes] = {
    "quotes": b'{"ride":0}{"' + b'"' * (MIB - 20),
    "backslashes": b'{"ride":0}{"' + b"\\" * (MIB - 20),
    "open braces": b'{"ride":0}' + b"{" * (documents.MAX_BRACES - 1),
    "lines of open braces": b'{"ride":0}\n' + b"{\n" * (documents.MAX_BRACES - 1),
    "lines of quotes": ONE + b'\n{"' * (documents.MAX_BRACES - 2),
    "commas": b'{"ride":0}' + b"," * MIB,
}


@pytest.mark.parametrize("data", WORST.values(), ids=WORST)
def test_megabyte_in_the_worst_form_is_decided_in_time(data: bytes) -> None:
    """The limit is 20 times the CPU that it takes."""
    started_s = time.thread_time()
    assert processed(data).rejects
    assert time.thread_time() - started_s < 2


# Numbers in other spellings

SAME: dict[str, bytes] = {
    "zones with a point": raw_ride_bytes(PULocationID="130.0", DOLocationID="205.00"),
    "zones with an exponent": raw_ride_bytes(PULocationID="1.3e2", DOLocationID="2050E-1"),
    "zones in text": raw_ride_bytes(PULocationID='"130"', DOLocationID='"205"'),
    "zones with a point in text": raw_ride_bytes(PULocationID='"130.0"', DOLocationID='"205.000"'),
    "ride id with a point": raw_ride_bytes("256.0"),
    "ride id with an exponent": raw_ride_bytes("2.56e+2"),
    "distance in text": raw_ride_bytes(trip_distance='"3.66"'),
    "distance in text with an exponent": raw_ride_bytes(trip_distance='"366e-2"'),
    "all of them": raw_ride_bytes("256.0", PULocationID="130.0", DOLocationID='"205.0"', trip_distance='"3.66"'),
    "with unknown fields": raw_ride_bytes("256.0", x="[1.0]", extra=',"ride_number":1.5'),
}


@pytest.mark.parametrize("data", SAME.values(), ids=SAME)
def test_number_in_another_spelling_is_that_number(data: bytes) -> None:
    batch = processed(data)
    assert batch.entries == processed(raw_ride_bytes()).entries
    assert batch.rejects == []


@pytest.mark.parametrize(
    ("written", "ride_id"),
    [
        ("-7.0", -7),
        ("-0.0", 0),
        ("0e5", 0),
        ("9007199254740993.0", 9007199254740993),  # a float would be another ride's id
        ("1e22", 10**22),
        ("12345678901234567890.50e1", 123456789012345678905),
        ('"256.0"', "256.0"),
    ],
)
def test_ride_id_is_returned_exactly(written: str, ride_id: int | str) -> None:
    (entry,) = processed(raw_ride_bytes(written)).entries
    found = decode_prediction(entry[1]).prediction.ride_id
    assert (found, type(found)) == (ride_id, type(ride_id))


OTHER_NUMBERS: dict[str, tuple[bytes, str]] = {
    "zone 130.5": (raw_ride_bytes(PULocationID="130.5"), "`$.ride.PULocationID`"),
    "zone '130.5'": (raw_ride_bytes(DOLocationID='"130.5"'), "`$.ride.DOLocationID`"),
    "zone 266.0": (raw_ride_bytes(DOLocationID="266.0"), "`$.ride.DOLocationID`"),
    "zone '0.0'": (raw_ride_bytes(DOLocationID='"0.0"'), "`$.ride.DOLocationID`"),
    "zone '0130.0'": (raw_ride_bytes(DOLocationID='"0130.0"'), "`$.ride.DOLocationID`"),
    "ride id 256.5": (raw_ride_bytes("256.5"), "`$.ride_id`"),
    "ride id 1e999999999": (raw_ride_bytes("1e999999999"), "`$.ride_id`"),
    "distance far": (ride_bytes(trip_distance="far"), "`$.ride.trip_distance`"),
    "distance ''": (ride_bytes(trip_distance=""), "`$.ride.trip_distance`"),
    "distance '-1'": (ride_bytes(trip_distance="-1"), "`$.ride.trip_distance`"),
    "distance 'NaN'": (ride_bytes(trip_distance="NaN"), "`$.ride.trip_distance`"),
    "distance '1e999'": (ride_bytes(trip_distance="1e999"), "`$.ride.trip_distance`"),
    "distance ' 3.66'": (ride_bytes(trip_distance=" 3.66"), "`$.ride.trip_distance`"),
    "distance '3.66\\n'": (ride_bytes(trip_distance="3.66\n"), "`$.ride.trip_distance`"),
    "distance '3,66'": (ride_bytes(trip_distance="3,66"), "`$.ride.trip_distance`"),
    "distance in other digits": (ride_bytes(trip_distance="٣"), "`$.ride.trip_distance`"),
    "two fields, one respelt": (raw_ride_bytes("256.0", trip_distance='"far"'), "`$.ride.trip_distance`"),
    "NaN beside 130.0": (raw_ride_bytes(PULocationID="130.0", trip_distance="NaN"), "`$.ride.trip_distance`"),
}


@pytest.mark.parametrize(("data", "path"), OTHER_NUMBERS.values(), ids=OTHER_NUMBERS)
def test_what_is_no_such_number_is_rejected_by_its_path(data: bytes, path: str) -> None:
    reason, detail = reject_of(data)
    assert (reason, path in detail) == (INVALID_FIELD, True)


def test_event_cut_short_after_a_respelt_number_is_no_json() -> None:
    assert reject_of(raw_ride_bytes("256.0")[:-1])[0] == NOT_JSON


@given(st.integers(-(10**30), 10**30), st.integers(0, 30), st.integers(0, 5))
def test_any_whole_number_is_itself_in_any_spelling(number: int, n_shifted: int, n_zeros: int) -> None:
    shifted = f"{number}{'0' * n_shifted if number else ''}.{'0' * n_zeros}0e-{n_shifted}"
    for text in (f"{number}.{'0' * n_zeros}0", shifted):
        assert decode_ride_event(raw_ride_bytes(text)).ride_id == number


@given(st.integers(1, 10**6), st.integers(1, 8))
def test_any_number_with_a_fraction_is_no_ride_id(number: int, n_digits: int) -> None:
    if number % 10**n_digits:
        with pytest.raises(RejectError, match="ride_id"):
            decode_ride_event(raw_ride_bytes(f"{number}e-{n_digits}"))


# Pickup times

WITH_PICKUP = ride_bytes(pickup_datetime="2021-01-05 08:15:00")


@pytest.mark.parametrize("name", ["lpep_pickup_datetime", "tpep_pickup_datetime"])
@pytest.mark.parametrize("others", [{}, {"pickup_datetime": "null"}, {"PULocationID": "130.0"}])
def test_tlcs_name_of_the_pickup_time_is_the_same(name: str, others: dict[str, str]) -> None:
    batch = processed(raw_ride_bytes(**{name: '"2021-01-05 08:15:00"', **others}))
    assert batch.entries == processed(WITH_PICKUP).entries
    assert batch.n_without_pickup_time == 0


def test_pickup_datetime_comes_before_tlcs_names() -> None:
    data = ride_bytes(pickup_datetime="2021-01-05 08:15:00", lpep_pickup_datetime="1999-07-01 03:00:00")
    assert processed(data).entries == processed(WITH_PICKUP).entries


@pytest.mark.parametrize(
    ("value", "path"),
    [(5, "`$.ride.tpep_pickup_datetime`"), ("soon", "pickup_datetime`"), ("2021-01-05", "pickup_datetime`")],
)
def test_bad_time_under_tlcs_name_is_rejected(value: object, path: str) -> None:
    reason, detail = reject_of(ride_bytes(pickup_datetime=None, tpep_pickup_datetime=value))
    assert (reason, path in detail) == (INVALID_FIELD, True)


@pytest.mark.parametrize("value", [b"\xff", b"\xed\xa0\x80", b"\\ud800"])
def test_text_that_is_no_utf_8_under_tlcs_name_is_rejected(value: bytes) -> None:
    data = raw_ride_bytes(tpep_pickup_datetime='"X"').replace(b"X", value)
    assert reject_of(data)[0] in {NOT_JSON, INVALID_FIELD}


@pytest.mark.parametrize("date", ["2021-01-05", "20210105", "2021-W01-2", "2021W01"])
def test_date_without_a_time_is_rejected(date: str) -> None:
    reason, detail = reject_of(ride_bytes(pickup_datetime=date))
    assert reason == INVALID_FIELD
    assert detail == "Expected a time after the date - at `$.ride.pickup_datetime`"


@pytest.mark.parametrize("name", ["pickupDatetime", "pickup_time", "tpepPickupDatetime", "lpep_pickup_datetimes"])
def test_ride_with_another_name_for_it_is_predicted_as_of_its_arrival_and_counted(name: str) -> None:
    batch = processed(ride_bytes(pickup_datetime=None, **{name: "1999-07-01T03:00:00"}), ONE)
    assert durations(batch)[0] == durations(processed(ride_bytes(pickup_datetime="2021-01-05T03:15:00")))[0]
    assert batch.n_without_pickup_time == 1


def test_rides_without_a_pickup_time_are_counted_in_a_metric(capsys: pytest.CaptureFixture[str]) -> None:
    without = ride_bytes(pickup_datetime=None)
    FakeFunction(small_bundle()).invoke(invocation(without, ONE, without, b"bad"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["RidesWithoutPickupTime"] for line in lines if "Predictions" in line] == [[2.0]]


@given(st.lists(st.floats(0, 4e9), max_size=20))
def test_many_arrivals_have_the_minutes_that_each_has_alone(arrival_times_s: list[float]) -> None:
    assert arrival_minutes(arrival_times_s).tolist() == [pickup_minute(None, one) for one in arrival_times_s]


# What a reject says about other encodings

ENCODED: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(ONE), "gzip"),
    "UTF-16": (ONE.decode().encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": (ONE.decode().encode("utf-16-le"), "UTF-16"),
    "UTF-16, big end first": (ONE.decode().encode("utf-16-be"), "UTF-16"),
    "base64": (base64.b64encode(ONE), "base64 of JSON"),
    "base64 in lines": (base64.encodebytes(ONE), "base64 of JSON"),
    "base64 of an array": (base64.b64encode(b"[" + ONE + b"]"), "base64 of JSON"),
    "base64 in a string": (json.dumps(base64.b64encode(ONE).decode()).encode(), "base64 of JSON"),
    "JSON in a string": (json.dumps(ONE.decode()).encode(), "JSON in a string"),
    "CloudEvents": (b'{"specversion": "1.0", "data": ' + ONE + b"}", "the ride event is under `$.data`"),
    "EventBridge": (b'{"detail-type": "ride", "detail": {"a": 1, "x": ' + ONE + b"}}", "under `$.detail.x`"),
    "a list in a wrapper": (b'{"Records": [' + ONE + b"]}", "under `$.Records[0]`"),
    "SNS": (json.dumps({"Message": ONE.decode()}).encode(), "JSON in a string is under `$.Message`"),
    "CloudEvents in base64": (
        json.dumps({"data_base64": base64.b64encode(ONE).decode(), "type": "ride"}).encode(),
        "base64 of JSON is under `$.data_base64`",
    ),
}


@pytest.mark.parametrize(("data", "form"), ENCODED.values(), ids=ENCODED)
def test_reject_names_the_form_that_was_seen(data: bytes, form: str) -> None:
    assert form in reject_of(data)[1]


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"PULocationID=130", b'"a ride"', b"[]", b"abcd" * 20, BAD, b'{"x":"ride"}']
)
def test_reject_of_anything_else_names_no_form(data: bytes) -> None:
    assert "looks like" not in reject_of(data)[1]


def test_document_in_a_wrapper_among_others_is_named() -> None:
    batch = processed(ONE + b'\n{"data":' + TWO + b"}")
    assert predicted_ids(batch) == ["0"]
    assert "`$.data`" in batch.rejects[0][1].detail


# Events of Lambda


def arriving(arrival: object, data: bytes | str = ONE) -> dict[str, Any]:
    """Return an invocation with a record of this arrival time between two usual ones."""
    records = [lambda_record(ONE), lambda_record(data, 1), lambda_record(TWO, 2)]
    records[1]["kinesis"]["approximateArrivalTimestamp"] = arrival
    return {"Records": records}


def test_arrival_time_in_milliseconds_is_that_time(model: ModelBundle) -> None:
    without = ride_bytes(pickup_datetime=None)
    in_ms, in_s = (decode_records(arriving(at, without)) for at in (int(ARRIVAL_TIME_S * 1000), ARRIVAL_TIME_S))
    assert in_ms == in_s
    assert process(in_ms, model) == process(in_s, model)


@pytest.mark.parametrize(("written", "seconds"), [(99_999_999_999, 99_999_999_999.0), (100_000_000_000, 1e8), (0, 0.0)])
def test_number_is_milliseconds_from_a_hundred_thousand_million_on(written: int, seconds: float) -> None:
    assert decode_records(arriving(written))[1].envelope.arrival_time_s == seconds


@pytest.mark.parametrize(
    "arrival", [1e300, -1e15, 1e17, float("nan"), float("inf"), -62_135_596_800.0, 10**400, None, "soon", [], {}]
)
@pytest.mark.parametrize("pickup", ["2021-01-05T08:15:00", None])
def test_arrival_that_no_calendar_has_is_one_reject(arrival: object, pickup: str | None) -> None:
    function = FakeFunction(small_bundle())
    assert function.invoke(arriving(arrival, ride_bytes(pickup_datetime=pickup))) == ""
    assert len(function.kinesis.taken) == 2
    (line,) = function.s3.lines("rejects/")
    assert b"`$.kinesis.approximateArrivalTimestamp`" in line


def test_record_without_an_arrival_of_a_calendar_is_rejected_again_when_it_is_redriven() -> None:
    record = lambda_record(ONE)
    record["kinesis"]["approximateArrivalTimestamp"] = 1e18
    ((_, reject),) = process(decode_records({"Records": [record]}), small_bundle().model).rejects
    (failed,) = decode_rejects("rejects/rides/shard/1.ndjson", encode_reject(reject)).records
    again = process(decode_records({"Records": [failed.original(STREAM_ARN)]}), small_bundle().model)
    assert again.rejects == [(0, reject)]


def test_arrival_in_milliseconds_beside_data_that_are_no_base64_is_kept() -> None:
    _, record, _ = decode_records(arriving(int(ARRIVAL_TIME_S * 1000), "}no base64{"))
    assert record.envelope.arrival_time_s == ARRIVAL_TIME_S
    with pytest.raises(RejectError, match=r"`\$\.kinesis\.data`"):
        record.data()


OTHER_EVENTS: dict[str, tuple[Any, str]] = {
    "console's test": ({"key1": "value1", "key2": "value2", "key3": "value3"}, "the console's test event"),
    "S3": ({"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": "b"}}}]}, "aws:s3"),
    "SQS": ({"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": "{}"}]}, "aws:sqs"),
    "SNS": ({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "{}"}}]}, "aws:sns"),
    "DynamoDB": ({"Records": [{"eventID": "1", "eventSource": "aws:dynamodb", "dynamodb": {}}]}, "aws:dynamodb"),
    "Firehose": ({"invocationId": "1", "deliveryStreamArn": "arn", "records": []}, "a batch of Data Firehose"),
    "EventBridge": ({"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}, "EventBridge"),
    "HTTP": (http_event("GET", "/", {}, b"", 0.0), "an HTTP request"),
    "empty": ({}, "an empty event"),
    "unknown": ({"ride": {}, "ride_id": 1}, "the fields ride, ride_id"),
    "list": ([], "no object"),
    "text": ("hello", "no object"),
    "null": (None, "no object"),
    "records that are no list": ({"Records": {}}, "the fields Records"),
}


@pytest.mark.parametrize(("event", "arrived"), OTHER_EVENTS.values(), ids=OTHER_EVENTS)
def test_event_of_another_source_is_named_in_a_sentence(event: Any, arrived: str) -> None:
    with pytest.raises(ConfigurationError, match="Kinesis event source mapping is expected") as raised:
        FakeFunction(small_bundle()).invoke(event)
    assert arrived in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("consumer", ["", "/consumer/name:1700000000"])
def test_stream_of_an_enhanced_fan_out_consumer_has_its_own_name(consumer: str) -> None:
    event = invocation(b"bad")
    event["Records"][0]["eventSourceARN"] = STREAM_ARN + consumer
    assert stream_name(event) == "ride-events"
    function = FakeFunction(small_bundle())
    function.invoke(event)
    assert function.s3.keys("rejects/")[0].startswith("rejects/ride-events/shardId-")


# HTTP


def http_request(body: bytes = ONE, **changes: object) -> dict[str, Any]:
    return {**http_event("POST", "/predictions", {"content-type": JSON}, body, ARRIVAL_TIME_S), **changes}


@pytest.mark.parametrize("data", [MARK + raw_ride_bytes(), *SAME.values()])
def test_request_is_read_as_leniently_as_a_record(data: bytes) -> None:
    api = FakeApi()
    usual, found = (api.predict(one).json for one in (raw_ride_bytes(), data))
    assert found["prediction"] == usual["prediction"]
    assert api.predict(rides_bytes(data.removeprefix(MARK))).json["results"] == [found]


@pytest.mark.parametrize("body", [data for name, data in SEVERAL.items() if name != "byte order mark"])
def test_several_documents_in_a_body_are_a_problem(body: bytes) -> None:
    response = FakeApi().predict(body)
    assert response.status in {400, 422}
    assert_is_problem(response, response.status, "$")


def test_place_in_a_list_takes_one_ride() -> None:
    response = FakeApi().predict(rides_bytes(b"[" + ONE + b"," + TWO + b"]", ONE))
    assert response.status == 207
    problem, prediction = response.json["results"]
    assert (problem["status"], problem["path"]) == (422, "$.rides[0]")
    assert prediction["prediction"]["ride_id"] == 1


def test_form_that_was_seen_is_named_to_the_caller() -> None:
    response = FakeApi().predict(b'{"data": ' + ONE + b"}")
    assert_is_problem(response, 422, "$")
    assert "`$.data`" in response.json["detail"]


def test_request_without_headers_has_no_content_type() -> None:
    assert_is_problem(FakeApi().take(http_request(headers=None)), 415)


V1 = {"resource": "/predictions", "path": "/predictions", "httpMethod": "POST", "headers": {}, "body": ONE.decode()}
NO_REQUESTS: dict[str, tuple[Any, str]] = {
    "REST API": ({**V1, "requestContext": {"stage": "prod"}}, "payload format 1.0"),
    "format 1.0": ({**V1, "version": "1.0"}, "payload format 1.0"),
    "no path": ({**http_request(), "rawPath": None}, "no HTTP request"),
    "no context": (http_request(requestContext=None), "no HTTP request"),
    "Kinesis": (invocation(ONE), "no HTTP request"),
    "empty": ({}, "no HTTP request"),
    "null": (None, "no HTTP request"),
}


@pytest.mark.parametrize(("event", "arrived"), NO_REQUESTS.values(), ids=NO_REQUESTS)
def test_event_of_another_format_is_a_problem_that_says_which_is_wanted(event: Any, arrived: str) -> None:
    response = FakeApi().take(event)
    assert_is_problem(response, 400)
    assert arrived in response.json["detail"]
    assert "payload format 2.0" in response.json["detail"]
