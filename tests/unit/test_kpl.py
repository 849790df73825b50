"""KPL aggregates: what we pack others unpack, what others pack we unpack, and what is damaged is a reject, no more."""

import base64
import hashlib
import importlib
import sys
import time
from collections import defaultdict
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lambda_function.core.events import DAMAGED_AGGREGATE
from lambda_function.core.kpl import MAGIC, MAX_SUB_RECORDS, Aggregate, is_aggregated, pack, unpack
from lambda_function.core.records import Entry
from lambda_function.errors import RejectError
from tests.fuzz.inputs import vouch

MIB = 1_048_576
TAGS, TAGS_IN_TWO_BYTES = b"\x22", b"\xa2\x00"  # an unused field: the library reads it, we do not
Entries = list[Entry]

KEYS = st.one_of(st.sampled_from(["7", "8", "ride-ö"]), st.text(st.characters(exclude_categories=["Cs"]), max_size=256))
SIZES = st.integers(0, 20_000) | st.sampled_from([127, 128, 16_383, 16_384])  # lengths of one, two and three bytes
PLAIN = st.binary(max_size=40).filter(lambda data: not is_aggregated(data))  # a prediction never looks like one
DATAS = st.one_of(PLAIN, SIZES.map(lambda size: b"x" * size))
ENTRIES = st.lists(st.tuples(KEYS, DATAS), max_size=30)
GROUPS = st.integers(1, 5)


@cache
def library() -> SimpleNamespace:
    """Return the modules of aws-kinesis-agg, whose import changes the module search path."""
    path = list(sys.path)
    try:
        names = ("aggregator", "deaggregator", "messages_pb2")
        return SimpleNamespace(**{name: importlib.import_module(f"aws_kinesis_agg.{name}") for name in names})
    finally:
        sys.path[:] = path


def deaggregated(data: bytes) -> list[dict[str, Any]]:
    """Return the envelopes of the sub-records that the library finds in one record."""
    record = {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "sequenceNumber": "1",
            "approximateArrivalTimestamp": 0.0,
            "partitionKey": "outer",
            "data": base64.b64encode(data),
        }
    }
    return [one["kinesis"] for one in library().deaggregator.deaggregate_records([record])]


def entries_in(envelopes: list[dict[str, Any]]) -> Entries:
    return [(envelope["partitionKey"], base64.b64decode(envelope["data"])) for envelope in envelopes]


def numbered(n: int, size: int = 230, *, first: int = 0) -> Entries:
    return [(str(first + i), f"{i:<{size}}".encode()) for i in range(n)]


def message(*records: str, keys: str = "0a0137", hash_keys: str = "") -> bytes:
    """Return a message of records, keys and hash keys in hex."""
    tables = bytes.fromhex(keys + hash_keys)
    return tables + b"".join(b"\x1a" + bytes([len(record)]) + record for record in map(bytes.fromhex, records))


def unpacked_or_none(data: bytes) -> Entries | None:
    try:
        return unpack(data)
    except RejectError:
        return None


def routed_hash(partition_key: str) -> int:
    """Where in the stream's hash range Kinesis sends a partition key."""
    return int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest(), "big")


# -- both ways with aws-kinesis-agg


@given(ENTRIES, GROUPS)
def test_what_we_pack_the_library_deaggregates(entries: Entries, n_groups: int) -> None:
    for aggregate in pack(entries, n_groups):
        assert entries_in(deaggregated(aggregate.data)) == [entries[i] for i in aggregate.positions]


@given(ENTRIES, st.booleans())
def test_what_the_library_aggregates_we_unpack(entries: Entries, with_hash_keys: bool) -> None:
    aggregator = library().aggregator.RecordAggregator()
    for position, (key, data) in enumerate(entries):
        assert aggregator.add_user_record(key, data, str(position % 3) if with_hash_keys else None) is None
    aggregated = aggregator.clear_and_get()

    assert aggregated is None or unpack(aggregated.get_contents()[2]) == entries


@given(st.lists(st.tuples(KEYS, DATAS), min_size=1, max_size=200))
def test_packed_message_is_what_protobuf_would_write(entries: Entries) -> None:
    (aggregate,) = pack(entries, n_groups=1)
    expected = library().messages_pb2.AggregatedRecord()
    expected.explicit_hash_key_table.append(str(routed_hash(aggregate.partition_key)))
    for index, (key, data) in enumerate(entries):
        expected.partition_key_table.append(key)
        expected.records.add(partition_key_index=index, explicit_hash_key_index=0, data=data)

    assert aggregate.data == vouch(expected.SerializeToString())


def test_full_batch_of_predictions_survives_the_library() -> None:
    entries = numbered(9_400)

    aggregates = pack(entries, n_groups=1)

    assert len(aggregates) == 3
    assert [entry for one in aggregates for entry in entries_in(deaggregated(one.data))] == entries


# -- packing


@given(ENTRIES, GROUPS, st.integers(0, 50_000))
def test_unpacking_gives_back_every_entry_once_and_in_order_within_a_group(
    entries: Entries, n_groups: int, max_bytes: int
) -> None:
    aggregates = pack(entries, n_groups, max_bytes)

    found: dict[int, Entry] = {}
    last_of_key: defaultdict[str, int] = defaultdict(lambda: -1)
    for one in aggregates:
        sub_records = unpack(one.data) if is_aggregated(one.data) else [(one.partition_key, one.data)]
        for position, sub_record in zip(one.positions, sub_records, strict=True):
            assert position > last_of_key[sub_record[0]]
            last_of_key[sub_record[0]] = position
            assert position not in found
            found[position] = sub_record
    assert [found[position] for position in range(len(entries))] == entries
    assert [one.positions[0] for one in aggregates] == sorted(one.positions[0] for one in aggregates)


@pytest.mark.parametrize(
    "entries",
    [
        numbered(9_400),
        numbered(30_000, size=20),
        [("k" * 256, b"x" * 4_000)] * 600,
        [("k", b"x" * size) for size in (MIB // 2, MIB // 2 - 100, MIB // 2 - 100, 1)],
        [("k", b"x" * size) for size in range(MIB - 100, MIB)],
    ],
    ids=["predictions", "tiny ones", "long keys", "halves", "about as large as a record"],
)
def test_aggregate_with_its_key_is_never_larger_than_a_record(entries: Entries) -> None:
    aggregates = pack(entries, n_groups=1)

    assert all(len(one.data) + len(one.partition_key) <= MIB for one in aggregates)
    assert sum(len(one.positions) for one in aggregates) == len(entries)


@given(st.lists(st.tuples(KEYS, st.binary(max_size=300)), min_size=1), st.integers(400, 2_000))
def test_any_limit_is_respected(entries: Entries, max_bytes: int) -> None:
    aggregates = [one for one in pack(entries, 1, max_bytes) if is_aggregated(one.data)]

    assert all(len(one.data) + len(one.partition_key) <= max_bytes for one in aggregates)


def test_aggregates_are_filled_to_within_two_hundredths_of_a_record() -> None:
    first, *_ = pack(numbered(9_400), n_groups=1)

    assert 0.98 * MIB < len(first.data) <= MIB


def test_entry_too_large_to_be_packed_goes_alone_and_plain() -> None:
    large = ("7", b"x" * (MIB - 20))

    aggregates = pack([("7", b"before"), large, ("7", b"after")], n_groups=1)

    assert aggregates[1] == Aggregate("7", large[1], [1])
    assert [unpack(aggregates[i].data) for i in (0, 2)] == [[("7", b"before")], [("7", b"after")]]


def test_nothing_is_packed_into_nothing() -> None:
    assert pack([], n_groups=3) == []


def test_same_entries_become_the_same_bytes_in_any_process() -> None:
    first, second = pack([("7", b"1"), ("8", b"2"), ("7", b"3")], n_groups=2)

    keys, hash_key = "0a01370a0137", b"\x12&29871468615243985478486908056489800412".hex()
    body = keys + hash_key + "1a07080010001a0131" + "1a07080110001a0133"
    assert (first.partition_key, first.data) == ("6", vouch(bytes.fromhex(body)))
    assert (second.partition_key, second.positions) == ("0", [1])


@given(st.lists(KEYS, min_size=1), st.lists(KEYS, min_size=1), GROUPS)
def test_key_always_goes_to_the_same_partition_key(one: list[str], other: list[str], n_groups: int) -> None:
    routes: defaultdict[str, set[str]] = defaultdict(set)
    for keys in (one, other, one + other):
        for aggregate in pack([(key, b"") for key in keys], n_groups):
            for key, _ in unpack(aggregate.data):
                routes[key].add(aggregate.partition_key)

    assert all(len(partition_keys) == 1 for partition_keys in routes.values())


@pytest.mark.parametrize("n_groups", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("step", [1, 7])
def test_shards_are_loaded_alike(n_groups: int, step: int) -> None:
    aggregates = pack([(str(i * step), b"x" * 50) for i in range(9_400)], n_groups)

    shards = [routed_hash(one.partition_key) * n_groups >> 128 for one in aggregates]
    assert sorted(shards) == list(range(n_groups))
    sizes = [len(one.positions) for one in aggregates]
    assert max(sizes) < 1.1 * min(sizes)


@given(ENTRIES, GROUPS)
def test_client_library_finds_every_sub_record_on_the_shard_that_it_belongs_to(entries: Entries, n_groups: int) -> None:
    # The KCL drops an aggregate as soon as a sub-record's explicit hash key, or else its key's hash, is elsewhere.
    for aggregate in pack(entries, n_groups):
        hash_keys = {envelope["explicitHashKey"] for envelope in deaggregated(aggregate.data)}
        assert hash_keys == {str(routed_hash(aggregate.partition_key))}


# -- what is damaged


@given(st.lists(st.tuples(KEYS, DATAS), min_size=1, max_size=8), st.data())
def test_any_byte_changed_after_the_magic_is_a_reject(entries: Entries, data: st.DataObject) -> None:
    (aggregate,) = pack(entries, n_groups=1)
    position = data.draw(st.integers(len(MAGIC), len(aggregate.data) - 1))
    damaged = bytearray(aggregate.data)
    damaged[position] ^= data.draw(st.integers(1, 255))

    assert is_aggregated(bytes(damaged))
    assert unpacked_or_none(bytes(damaged)) is None


def test_aggregate_cut_anywhere_is_a_reject() -> None:
    (aggregate,) = pack(numbered(5, size=20), n_groups=1)

    for end in range(len(MAGIC), len(aggregate.data)):
        assert is_aggregated(aggregate.data[:end])
        assert unpacked_or_none(aggregate.data[:end]) is None


@given(st.lists(st.tuples(KEYS, DATAS.map(lambda data: b"x" * (len(data) % 300))), min_size=1, max_size=8), st.data())
def test_change_that_the_digest_vouches_for_is_a_reject_or_what_the_library_reads(
    entries: Entries, data: st.DataObject
) -> None:
    (aggregate,) = pack(entries, n_groups=1)
    body = bytearray(aggregate.data[len(MAGIC) : -16])
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(body)))
        body[start : start + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    assume(TAGS not in body and TAGS_IN_TWO_BYTES not in body)
    found = unpacked_or_none(vouch(bytes(body)))

    assert found is None or found == entries_in(deaggregated(vouch(bytes(body))))


FIELD_BYTES = st.sampled_from(b"\x00\x01\x02\x03\x08\x0a\x0d\x10\x12\x1a\x20\x2a\x80\x81\xff")


@given(st.one_of(st.binary(max_size=60), st.lists(FIELD_BYTES, max_size=40).map(bytes)))
def test_any_message_is_a_reject_or_what_the_library_reads(body: bytes) -> None:
    assume(TAGS not in body and TAGS_IN_TWO_BYTES not in body)
    found = unpacked_or_none(vouch(b"\x0a\x017" + body))

    assert found is None or found == entries_in(deaggregated(vouch(b"\x0a\x017" + body)))


@given(st.binary(max_size=100))
def test_any_bytes_after_the_magic_are_a_reject(data: bytes) -> None:
    assert unpacked_or_none(MAGIC + data) is None


@pytest.mark.parametrize("data", [b"", b"{}", MAGIC[:3], b'{"ride_id": 7}' + MAGIC])
def test_record_without_the_magic_is_plain(data: bytes) -> None:
    assert not is_aggregated(data)
    with pytest.raises(RejectError, match="magic"):
        unpack(data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (MAGIC, "too short"),
        (MAGIC + b"x" * 15, "too short"),
        (MAGIC + b"x" * 16, "MD5"),
        (vouch(b""), "0 sub-records"),
        (vouch(message()), "0 sub-records"),
        (vouch(b"\x0a"), "breaks off"),
        (vouch(b"\x0a\x05abc"), "breaks off"),
        (vouch(b"\x0a\x80"), "breaks off"),
        (vouch(message("08001a0578")), "breaks off"),
        (vouch(message("08")), "breaks off"),
        (vouch(message("0800")), "without its key or its data"),
        (vouch(message("1a0178")), "without its key or its data"),
        (vouch(message("")), "without its key or its data"),
        (vouch(message("08011a0178")), "partition key that is not in its table"),
        (vouch(message("08001a0178", keys="")), "partition key that is not in its table"),
        (vouch(message("08ffffffffffffffff7f1a0178")), "partition key that is not in its table"),
        (vouch(message("080010001a0178")), "explicit hash key"),
        (vouch(message("080010011a0178", hash_keys="120131")), "explicit hash key"),
        (vouch(message("08ffffffffffffffffff011a0178")), "partition key that is not in its table"),
        (vouch(message("08ffffffffffffffffffff011a0178")), "more than 64 bits"),
        (vouch(message("0a001a0178")), "field 1 in wire type 2"),
        (vouch(message("08001800")), "field 3 in wire type 0"),
        (vouch(b"\x08\x00" + message("08001a0178")), "field 1 in wire type 0"),
        (vouch(b"\x1d1234" + message("08001a0178")), "field 3 in wire type 5"),
        (vouch(b"\x02\x00" + message("08001a0178")), "field 0"),
        (vouch(b"\x23\x24" + message("08001a0178")), "wire type 3"),
        (vouch(b"\x26" + message("08001a0178")), "wire type 6"),
        (vouch(b"\xa0\x80\x80\x80\x10\x00" + message("08001a0178")), "field 536870916"),
        (vouch(message("08001a0178", keys="0a01ff")), "not UTF-8"),
        (vouch(b"\x0a\x81\x08" + b"k" * 1_025 + message("08001a0178", keys="")), "more than 1,024 bytes"),
        (vouch(message("08001a0178", hash_keys="1201ff")), "not UTF-8"),
        (vouch(message() + bytes.fromhex("1a0408001a00") * (MAX_SUB_RECORDS + 1)), "65537 sub-records"),
    ],
)
def test_damaged_aggregate_is_a_reject_that_says_what_is_wrong(data: bytes, problem: str) -> None:
    with pytest.raises(RejectError, match=problem) as error:
        unpack(data)

    assert error.value.reason == DAMAGED_AGGREGATE


@pytest.mark.parametrize(
    "body",
    [
        message("08001a0178", keys="0a0137" + "2005" + "220161" + "2d01020304" + "310102030405060708"),
        message("08001a0178" + "22050a03616263"),
        message("08001a0178" + "2005", "2d01020304" + "08001a0179"),
        message("1a01780800"),
        message("1a01100800"),
        message("0801" + "0800" + "1a0179" + "1a0178"),
        message("080010001a0178", hash_keys="120131"),
        message("1a0178" + "1000" + "0800", hash_keys="120131"),
        message("0880001a0178"),
        message("088000" + "9a00" + "8100" + "78"),
        bytes.fromhex("8a0001371a05" + "08001a0178"),
        bytes.fromhex("1a05" + "08001a0178" + "0a0137"),
        bytes.fromhex("0a81000037"[:6] + "37" + "1a85808000" + "08001a0178"),
    ],
)
def test_unusual_message_is_read_as_the_library_reads_it(body: bytes) -> None:
    assert unpack(vouch(body)) == entries_in(deaggregated(vouch(body)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["0a00", "1a00", "1a0408001a00", "2000", "2200", "8a0000", "a0808000" + "80" * 9 + "00", "1a06220022002200"]
)
def test_worst_message_of_a_mebibyte_takes_time_in_proportion_to_its_size(part: str) -> None:
    n_parts = MIB // len(bytes.fromhex(part))

    def cpu_s(n: int) -> float:
        started_s = time.process_time()
        unpacked_or_none(vouch(message() + bytes.fromhex(part) * n))
        unpacked_or_none(vouch(b"\x0a\x017\x1a" + b"\xff\xff\x3f" + bytes.fromhex(part) * n))
        return time.process_time() - started_s

    assert cpu_s(n_parts) < 8 * 16 * max(cpu_s(n_parts // 16), 0.001)  # quadratic would be 256 times
