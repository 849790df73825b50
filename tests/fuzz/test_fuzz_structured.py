"""Hypothesis' own inputs: of the right shape and the wrong values, where mutation seldom leads."""

import io
import json
import struct
import zipfile
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambda_function.core.arrays import MAX_UNPACKED_BYTES, read_arrays
from lambda_function.core.forest import FOREST_DTYPES, Forest
from lambda_function.errors import ForestError
from tests.builders import Arrays, forest_arrays_of, small_bundle
from tests.fuzz.http_api import run_request
from tests.fuzz.targets import run_aggregate, run_channel, run_event, run_failed_records, run_invocation, vouch

pytestmark = pytest.mark.slow

N_EXAMPLES = 500
thorough = settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

texts = st.text(st.characters(exclude_categories=())) | st.sampled_from(["\ud800", "\x1b[2J", "\x9b", "9" * 400])
numbers = st.integers() | st.floats() | st.sampled_from([2**64, -(2**63), 10**400, 1e308, -0.0])
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
zones = st.integers(-1, 300) | st.integers(-1, 300).map(str) | values
rides = st.fixed_dictionaries(
    {},
    optional={
        "PULocationID": zones,
        "DOLocationID": zones,
        "trip_distance": numbers | values,
        "pickup_datetime": st.datetimes().map(str) | texts | values,
        "more": values,
    },
)
ride_events = st.fixed_dictionaries({}, optional={"ride": rides | values, "ride_id": texts | numbers | values})


def as_json(value: Any) -> bytes:
    """JSON as Python's own encoder writes it: with NaN, and lone surrogates escaped or as they are."""
    escaped = json.dumps(value).encode()
    is_left_so = crc32(escaped) % 2 == 0  # the same in each process, so that a finding can be made again
    return escaped if is_left_so else json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@thorough
@given(ride_events.map(as_json))
def test_ride_events_of_any_values_are_decoded_or_rejected(data: bytes) -> None:
    run_event(data)


@thorough
@given(st.lists(ride_events.map(as_json) | st.binary(), min_size=1, max_size=4))
def test_batches_of_any_values_lose_nothing(datas: list[bytes]) -> None:
    run_invocation(datas)


fields = st.tuples(st.integers(0, 40), st.integers(0, 2**70) | st.binary(max_size=40))


def as_protobuf(found: list[tuple[int, int | bytes]]) -> bytes:
    """A message of fields, each a tag with a number or with bytes behind it, whatever the tag says."""
    parts = []
    for tag, value in found:
        parts.append(varint(tag))
        parts.append(varint(value) if isinstance(value, int) else varint(len(value)) + value)
    return b"".join(parts)


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


@thorough
@given(st.lists(fields, max_size=8).map(as_protobuf), st.lists(fields, max_size=8).map(as_protobuf))
def test_aggregates_of_any_fields_are_unpacked_or_rejected(head: bytes, record: bytes) -> None:
    run_aggregate(vouch(head + b"\x1a" + varint(len(record)) + record))
    run_aggregate(vouch(b"\x0a\x01k\x1a" + varint(len(record)) + record))


@thorough
@given(st.dictionaries(texts, values, max_size=4) | values)
def test_channels_and_kept_objects_of_any_values_are_errors_in_words(value: Any) -> None:
    run_channel(as_json(value))
    run_failed_records(as_json(value))


@thorough
@given(ride_events | st.fixed_dictionaries({"rides": st.lists(ride_events, max_size=3) | values}), texts)
def test_requests_of_any_values_are_answered(value: Any, text: str) -> None:
    header = text.encode("utf-8", "replace").replace(b"\n", b"")
    run_request(
        {
            "method": b"POST",
            "path": b"/predictions",
            "type": b"application/json",
            "header": header,
            "body": as_json(value),
        }
    )


dtypes = st.sampled_from(["|u1", "<f8", "<u2", "<u4", "|b1", "|O", "|V0", "<U1", "(9,9)<f8", ">f8", "x", "<M8[s]"])
shapes = st.lists(st.integers(-(2**63), 2**70) | st.integers(0, 40), max_size=4).map(tuple)


@thorough
@given(dtypes, shapes, st.booleans(), st.binary(max_size=64))
def test_array_headers_of_any_claim_are_read_or_refused(dtype: str, shape: Any, order: bool, body: bytes) -> None:
    claim = f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {shape!r}, }}".encode()
    try:
        arrays = read_arrays(archive_of(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(claim)) + claim + body))
    except ForestError:
        return
    assert sum(array.nbytes for array in arrays.values()) <= MAX_UNPACKED_BYTES


def archive_of(member: bytes) -> bytes:
    """An archive of one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("split_feature.npy", member)
    return file.getvalue()


@thorough
@given(st.data())
def test_forests_of_any_values_are_built_or_refused(data: st.DataObject) -> None:
    """The right shapes and dtypes, so that it is the values that decide; what is built predicts a finite number."""
    arrays: Arrays = {name: array.copy() for name, array in forest_arrays_of(small_bundle()).items()}
    for name in data.draw(st.lists(st.sampled_from(list(FOREST_DTYPES)), min_size=1, max_size=3)):
        flat = arrays[name].reshape(-1)
        place = data.draw(st.integers(0, len(flat) - 1))
        flat[place] = np.frombuffer(data.draw(st.binary(min_size=8, max_size=8)), flat.dtype)[0]
        arrays[name] = flat.reshape(arrays[name].shape)
    try:
        forest = Forest.from_arrays(arrays, 13)
    except ForestError:
        return
    with np.errstate(over="ignore", invalid="ignore"):
        minutes = forest.predict(np.full((3, 13), np.nan))
    assert minutes.shape == (3,)
