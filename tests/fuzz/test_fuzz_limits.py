"""Inputs that nest deeply, expand or declare too much: refused in words, within memory and CPU."""

import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from infra.operate.redrive.marks import PREFIX as MARKS
from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import decode_failure, decode_rejects
from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.rejects import PREFIX
from lambda_function.core.arrays import MAX_UNPACKED_BYTES, read_arrays
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, MAX_GOLDEN_RIDES, load_bundle, sha256
from lambda_function.core.channel import channel_key
from lambda_function.core.events import decode_ride_event
from lambda_function.core.features import FEATURE_NAMES
from lambda_function.core.forest import MAX_LEAVES, MAX_TABLE_BYTES, Forest
from lambda_function.errors import BundleError, ForestError, RejectError, StoreError
from tests.builders import interval_bundle, invocation, pack, small_bundle, vouched
from tests.fakes import BUCKET, FakeClock, FakeFunction, FakeS3, point_channel, publish_bundle
from tests.fuzz.inputs import FAILURE, REJECT_LINES, archive_of, length_delimited, vouch
from training.errors import UserError
from training.registry.bucket import Bucket

MB = 1 << 20


@contextmanager
def memory_below(mb: float) -> Iterator[None]:
    """Fail if a block takes more memory at its peak, numpy's arrays included."""
    tracemalloc.start()
    try:
        yield
        peak_mb = tracemalloc.get_traced_memory()[1] / MB
    finally:
        tracemalloc.stop()
    assert peak_mb < mb, f"{peak_mb:.0f} MB"


def npy(header: str, body: bytes = b"") -> bytes:
    """Return a member of an archive with any header."""
    padded = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + body


def claiming(dtype: str, shape: tuple[int, ...], body: bytes = b"") -> bytes:
    """Return an archive of one array that declares a dtype and a shape."""
    return one_member(npy(repr({"descr": dtype, "fortran_order": False, "shape": shape}), body))


def one_member(data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive of one array."""
    return archive_of({"leaf_minutes.npy": data}, method)


def understated(data: bytes, declared_bytes: int) -> bytes:
    """Return an archive whose directory declares its one member small."""
    place = data.rindex(b"PK\x01\x02") + 24
    return data[:place] + declared_bytes.to_bytes(4, "little") + data[place + 4 :]


BOMBS: dict[str, Callable[[], bytes]] = {
    "zeros": lambda: claiming("<f8", (32 * MB,), bytes(256 * MB)),
    "zeros, directory understated": lambda: understated(one_member(bytes(64 * MB)), 100),
    "many members": lambda: archive_of({f"{number}.npy": b"" for number in range(5_000)}),
    "lzma": lambda: one_member(bytes(64 * MB), zipfile.ZIP_LZMA),
    "bzip2": lambda: one_member(bytes(64 * MB), zipfile.ZIP_BZIP2),
    "lzma, directory understated": lambda: understated(one_member(bytes(64 * MB), zipfile.ZIP_LZMA), 100),
    "bzip2, directory understated": lambda: understated(one_member(bytes(64 * MB), zipfile.ZIP_BZIP2), 100),
    "a terabyte declared": lambda: claiming("<f8", (1 << 37,)),
    "shape that overflows": lambda: claiming("<f8", (1 << 62, 4)),
    "negative shape": lambda: claiming("<f8", (-1, -1), bytes(8)),
    "a wide element": lambda: claiming("|V2147483647", (9,)),
    "pickled objects": lambda: claiming("|O", (1,), b"\x80\x04N."),
    "brackets in a header": lambda: one_member(npy("(" * 9_000)),
    "a header of 60 kB": lambda: one_member(npy("{'descr': '<f8', " + " " * 60_000 + "}")),
}


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_archive_beyond_the_limits_is_refused_before_it_is_unpacked(make: Callable[[], bytes]) -> None:
    data = make()
    n_directory_mb = len(data) / MB * 12  # what zipfile makes of a directory
    with memory_below(4 + n_directory_mb), pytest.raises(ForestError, match="is no archive of plain arrays"):
        read_arrays(data)


def test_archive_of_a_long_directory_is_refused_before_the_directory_is_read() -> None:
    """16 MB of entries would take a second of CPU and 300 MB."""
    entry = b"PK\x01\x02" + bytes(24) + (1).to_bytes(2, "little") + bytes(16) + b"x"
    directory = entry * (16 * MB // len(entry))
    data = directory + b"PK\x05\x06" + bytes(8) + len(directory).to_bytes(4, "little") + bytes(6)
    with memory_below(1), pytest.raises(ForestError, match="356,962 entries, where 32 are taken"):
        read_arrays(data)


def test_archive_at_the_size_limit_is_read() -> None:
    body = bytes(MAX_UNPACKED_BYTES - 129)
    data = archive_of({"x.npy": npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(body)},), }}", body)})
    assert read_arrays(data)["x"].nbytes == len(body)


def test_forest_whose_tables_would_fill_memory_is_refused_before_they_are_made() -> None:
    """Tables have a row a threshold and a column a tree: 2 MB of arrays make 320 MB, and 16 MB make 13 GB."""
    n_splits, n_trees = 16_000, 5_000
    arrays: dict[str, Any] = {
        "split_feature": np.zeros(n_splits, np.uint8),
        "split_threshold": np.arange(n_splits, dtype=np.float64),
        "split_tree": np.zeros(n_splits, np.uint16),
        "split_mask": np.full(n_splits, 0xFFFFFFFE, np.uint32),
        "split_missing_right": np.zeros(n_splits, np.bool_),
        "leaf_minutes": np.zeros((n_trees, MAX_LEAVES)),
        "base_minutes": np.array(0.0),
    }
    with memory_below(16), pytest.raises(ForestError, match="16,000 splits of 5,000 trees are more than memory"):
        Forest.from_arrays(arrays, 13)


def forest_of(n_trees: int, n_splits: int) -> dict[str, Any]:
    """Return the arrays of a forest whose splits are drawn; every ride is predicted to take 10 minutes."""
    drawn = np.random.default_rng(1)
    return {
        "split_feature": drawn.integers(0, len(FEATURE_NAMES), n_splits).astype(np.uint8),
        "split_threshold": drawn.random(n_splits) * 100 - 75,
        "split_tree": drawn.integers(0, n_trees, n_splits).astype(np.uint16),
        "split_mask": np.full(n_splits, 0xFFFFFFFF, np.uint32),
        "split_missing_right": np.ones(n_splits, np.bool_),
        "leaf_minutes": np.zeros((n_trees, MAX_LEAVES)),
        "base_minutes": np.array(10.0),
    }


def test_tables_at_the_limit_are_held_once_while_they_are_made() -> None:
    """A function may hold the model before this one too."""
    arrays = forest_of(1_000, 33_500)
    with memory_below(1.3 * MAX_TABLE_BYTES / MB):
        Forest.from_arrays(arrays, len(FEATURE_NAMES))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_trees", "n_splits"), [(1_000, 33_500), (5_000, 6_600), (65_000, 400), (28, 1_000_000), (1, 1_000_000)]
)
def test_bundle_at_the_limits_loads_in_time(n_trees: int, n_splits: int) -> None:
    """A version's first start, at the limits of table, archive and golden rides; 2 s of CPU are 7 s at 512 MB."""
    ride = (
        '{"event":{"ride":{"PULocationID":%d,"DOLocationID":%d,"trip_distance":%d},"ride_id":1},"duration_minutes":10}'
    )
    rides = [ride % (1 + number % 263, 1 + number * 7 % 263, number) for number in range(MAX_GOLDEN_RIDES)]
    files = vouched(
        {**small_bundle().files, FOREST: pack(forest_of(n_trees, n_splits)), GOLDEN: f"[{','.join(rides)}]".encode()}
    )
    started_s = time.thread_time()
    load_bundle(small_bundle().model_version, sha256(files[MANIFEST]), files)
    assert time.thread_time() - started_s < 2


HOSTILE_MANIFESTS: dict[str, tuple[bytes, bytes]] = {
    "nested parameters": (b'"parameters": {', b'"parameters": {"x": ' + b"[" * 200_000 + b"]" * 200_000 + b", "),
    "nested unknown field": (b'"parameters": {', b'"more": ' + b"[" * 200_000 + b"]" * 200_000 + b', "parameters": {'),
    "huge integer": (b'"format": 1', b'"format": ' + b"9" * 4_000),
    "long name of a feature": (b'"trip_distance_miles"', b'"' + b"x" * 900_000 + b'"'),
    "path for a file's name": (b'"forest.npz"', b'"../../../etc/passwd"'),
    "signature for a file's name": (b'"forest.npz"', b'"manifest.sig"'),
}


@pytest.mark.parametrize(("old", "new"), HOSTILE_MANIFESTS.values(), ids=HOSTILE_MANIFESTS)
def test_hostile_manifest_is_refused_with_a_short_message(old: bytes, new: bytes) -> None:
    bundle = small_bundle()
    assert old in bundle.files[MANIFEST]
    manifest = bundle.files[MANIFEST].replace(old, new, 1)
    with memory_below(64), pytest.raises(BundleError) as refused:
        load_bundle(bundle.model_version, sha256(manifest), {**bundle.files, MANIFEST: manifest})
    assert refused.value.file == MANIFEST
    assert len(str(refused.value)) < 1_200


@pytest.mark.parametrize(("n_sub_records", "n_data_bytes"), [(64, 0), (10_000, 26), (60_000, 0)])
def test_batch_of_hostile_aggregates_stays_within_the_functions_memory(n_sub_records: int, n_data_bytes: int) -> None:
    """Each empty one has 6 bytes in an aggregate and would have 1.3 kB as a reject; a batch has 4.5 MB at most."""
    sub_record = b"\x08\x00\x1a" + length_delimited(b"x" * n_data_bytes)
    body = b"\x0a" + length_delimited(b"k" * 1_024) + (b"\x1a" + length_delimited(sub_record)) * n_sub_records
    data = vouch(body)
    n_records = max(1, MB // len(data))
    function = FakeFunction(interval_bundle())
    with memory_below(100 * n_records * len(data) / MB):
        assert function.invoke(invocation(*[data] * n_records)) == ""
    assert len(function.s3.lines(f"{PREFIX}/")) == n_records


LARGE: dict[str, bytes] = {
    "brackets": b'{"ride":' + b"[" * MB,
    "digits": b'{"ride_id":' + b"9" * MB + b"}",
    "decimals": b'{"ride":{"PULocationID":1,"DOLocationID":1,"trip_distance":0.' + b"9" * MB + b'},"ride_id":1}',
    "text for a zone": b'{"ride":{"PULocationID":"' + b"1" * MB + b'","DOLocationID":1,"trip_distance":1},"ride_id":1}',
    "surrogates": b'{"ride_id":"\\ud800","x":"' + b"\\ud800" * (MB // 6) + b'"}',
    "NaN after integers": b'{"x":[' + b",".join([b"9" * 4_299] * 240) + b'],"ride":NaN}',
    "NaN after fields": b"{" + b",".join(b'"%d":0' % number for number in range(90_000)) + b',"ride":NaN}',
    "NaN inside long names": b'{"' + (b"k" * 1_000 + b'":{"') * 900 + b'":NaN' + b"}" * 901,
    "no UTF-8": b"\xff" * MB,
    "one field many times": b"{" + b'"ride_id":1,' * 87_000 + b'"ride_id":1}',
}


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_record_of_a_megabyte_is_decided_in_time(data: bytes) -> None:
    """The largest record of a stream, in the most expensive forms. The limit is 20 times the CPU that it takes."""

    def cpu_s() -> float:
        started_s = time.thread_time()
        with pytest.raises(RejectError):
            decode_ride_event(data[:-1] if b'"ride":{"PU' in data and b"0.9" in data else data)
        return time.thread_time() - started_s

    assert min(cpu_s() for _ in range(3)) < 2


def test_deeply_nested_channel_keeps_the_last_good_model() -> None:
    s3, clock = FakeS3(), FakeClock()
    publish_bundle(s3, small_bundle())
    store = ModelStore(s3, BUCKET, "stable", 60.0, clock)
    good = store.refresh().model
    channel = s3.objects[channel_key("stable")]
    for hostile in (
        b"[" * 30_000,
        b'{"a":' * 10_000,
        channel[:-1] + b',"more":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    ):
        point_channel(s3, hostile)
        clock.sleep(60.0)
        refreshed = store.refresh()
        assert refreshed.model is good
        assert isinstance(refreshed.error, StoreError)


HOSTILE_FAILURES: dict[str, tuple[bytes, bytes]] = {
    "nested": (b'"approximateInvokeCount":3', b'"approximateInvokeCount":' + b"[" * 50_000),
    "no records": (b"Records", b"records"),
}


@pytest.mark.parametrize(("old", "new"), HOSTILE_FAILURES.values(), ids=HOSTILE_FAILURES)
def test_failed_batch_that_cannot_be_read_is_reported(old: bytes, new: bytes) -> None:
    assert old in FAILURE
    found = decode_failure("aws/lambda/mapping/shardId-000000000000/x", FAILURE.replace(old, new))
    assert found.records == ()
    assert found.problem.startswith("is no failed invocation: ")


@pytest.mark.parametrize("arrival", [b"1e300", b"-1e15"])
def test_failed_batch_with_a_time_that_no_calendar_has_is_read(arrival: bytes) -> None:
    found = decode_failure("aws/lambda/mapping/shardId-000000000000/x", FAILURE.replace(b"1609834500.25", arrival))
    assert (len(found.records), found.problem) == (1, "")


def test_deeply_nested_reject_is_reported_and_the_others_are_decoded() -> None:
    good = REJECT_LINES[0]
    found = decode_rejects("rejects/s/shardId-000000000000/0.ndjson", b'{"x":' + b"[" * 50_000 + b"\n" + good)
    assert len(found.records) == 1
    assert found.problem.startswith("line 1: ")


def test_at_most_ten_problems_of_an_object_are_reported() -> None:
    found = decode_rejects("rejects/s/shardId-000000000000/0.ndjson", b"x\n" * 50_000)
    assert found.problem.count(";") == 10
    assert found.problem.endswith("and 49,990 lines more")


def test_deeply_nested_mark_stops_the_redrive_with_a_message() -> None:
    key = f"{MARKS}rejects/x"
    with pytest.raises(UserError, match="holds no mark"):
        Marks(Bucket(FakeS3({key: b'{"x":' + b"[" * 50_000}), BUCKET, n_threads=1)).load([key])


def test_deeply_nested_golden_rides_are_refused() -> None:
    golden = b'[{"event":' + b"[" * 300_000 + b"]" * 300_000 + b',"duration_minutes":1}]'
    files = vouched({**small_bundle().files, GOLDEN: golden})
    with pytest.raises(BundleError, match=r"golden\.json: does not decode"):
        load_bundle(small_bundle().model_version, sha256(files[MANIFEST]), files)
