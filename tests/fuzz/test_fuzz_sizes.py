"""Small inputs that ask for much: no memory is taken before it is known to be needed, nor more than what arrives."""

import io
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from lambda_function.aws.rejects import PREFIX
from lambda_function.core.arrays import MAX_UNPACKED_BYTES, read_arrays
from lambda_function.core.bundle import MANIFEST, load_bundle, sha256
from lambda_function.core.events import decode_ride_event
from lambda_function.core.forest import MAX_LEAVES, Forest
from lambda_function.core.kpl import unpack
from lambda_function.errors import BundleError, ForestError, RejectError
from tests.builders import interval_bundle, invocation, small_bundle
from tests.fakes import FakeFunction
from tests.fuzz.targets import vouch
from tests.fuzz.test_fuzz_structured import varint

pytestmark = pytest.mark.slow

MB = 1 << 20


@contextmanager
def memory_below(mb: float) -> Iterator[None]:
    """Fails where a block takes more at its peak; numpy's arrays count too."""
    tracemalloc.start()
    try:
        yield
        peak_mb = tracemalloc.get_traced_memory()[1] / MB
    finally:
        tracemalloc.stop()
    assert peak_mb < mb, f"{peak_mb:.0f} MB"


def npy(header: str, body: bytes = b"") -> bytes:
    """A member of an archive, with any header."""
    padded = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + body


def claiming(dtype: str, shape: tuple[int, ...], body: bytes = b"") -> bytes:
    """An archive of one array that claims a dtype and a shape."""
    return one_member(npy(repr({"descr": dtype, "fortran_order": False, "shape": shape}), body))


def one_member(data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of one array."""
    return archive({"leaf_minutes.npy": data}, method)


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive as numpy lays it out."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for name, data in members.items():
            written.writestr(name, data)
    return file.getvalue()


def lying(data: bytes, said_bytes: int) -> bytes:
    """An archive whose directory says that its one member is small."""
    place = data.rindex(b"PK\x01\x02") + 24
    return data[:place] + said_bytes.to_bytes(4, "little") + data[place + 4 :]


BOMBS: dict[str, Callable[[], bytes]] = {
    "zeros": lambda: claiming("<f8", (32 * MB,), bytes(256 * MB)),
    "zeros that the directory denies": lambda: lying(one_member(bytes(64 * MB)), 100),
    "many members": lambda: archive({f"{number}.npy": b"" for number in range(5_000)}),
    "lzma": lambda: one_member(bytes(64 * MB), zipfile.ZIP_LZMA),
    "bzip2": lambda: one_member(bytes(64 * MB), zipfile.ZIP_BZIP2),
    "lzma that the directory denies": lambda: lying(one_member(bytes(64 * MB), zipfile.ZIP_LZMA), 100),
    "bzip2 that the directory denies": lambda: lying(one_member(bytes(64 * MB), zipfile.ZIP_BZIP2), 100),
    "a terabyte claimed": lambda: claiming("<f8", (1 << 37,)),
    "claims that overflow": lambda: claiming("<f8", (1 << 62, 4)),
    "claims below nothing": lambda: claiming("<f8", (-1, -1), bytes(8)),
    "a wide element": lambda: claiming("|V2147483647", (9,)),
    "pickled objects": lambda: claiming("|O", (1,), b"\x80\x04N."),
    "brackets in a header": lambda: one_member(npy("(" * 9_000)),
    "a header of 60 kB": lambda: one_member(npy("{'descr': '<f8', " + " " * 60_000 + "}")),
}


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_archive_that_asks_for_more_than_it_may_is_refused_before_it_is_unpacked(make: Callable[[], bytes]) -> None:
    data = make()
    n_directory_mb = len(data) / MB * 12  # what zipfile makes of a directory
    with memory_below(4 + n_directory_mb), pytest.raises(ForestError, match="is no archive of plain arrays"):
        read_arrays(data)


def test_archive_as_large_as_it_may_be_is_read() -> None:
    body = bytes(MAX_UNPACKED_BYTES - 129)
    data = archive({"x.npy": npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(body)},), }}", body)})
    assert read_arrays(data)["x"].nbytes == len(body)


def test_forest_whose_tables_would_fill_memory_is_refused_before_they_are_made() -> None:
    """A row a threshold, a column a tree: 2 MB of arrays make a table of 320 MB, and 16 MB one of 13 GB."""
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


HOSTILE_MANIFESTS: dict[str, tuple[bytes, bytes]] = {
    "nested parameters": (b'"parameters": {', b'"parameters": {"x": ' + b"[" * 200_000 + b"]" * 200_000 + b", "),
    "nested unknown field": (b'"parameters": {', b'"more": ' + b"[" * 200_000 + b"]" * 200_000 + b', "parameters": {'),
    "huge integer": (b'"format": 1', b'"format": ' + b"9" * 4_000),
    "long name of a feature": (b'"trip_distance_miles"', b'"' + b"x" * 900_000 + b'"'),
    "path for a file's name": (b'"forest.npz"', b'"../../../etc/passwd"'),
    "signature for a file's name": (b'"forest.npz"', b'"manifest.sig"'),
}


@pytest.mark.parametrize(("old", "new"), HOSTILE_MANIFESTS.values(), ids=HOSTILE_MANIFESTS)
def test_hostile_manifest_is_refused_in_a_sentence_that_a_log_line_holds(old: bytes, new: bytes) -> None:
    bundle = small_bundle()
    assert old in bundle.files[MANIFEST]
    manifest = bundle.files[MANIFEST].replace(old, new, 1)
    with memory_below(64), pytest.raises(BundleError) as refused:
        load_bundle(bundle.model_version, sha256(manifest), {**bundle.files, MANIFEST: manifest})
    assert refused.value.file == MANIFEST
    assert len(str(refused.value)) < 1_200


def test_many_empty_sub_records_under_one_long_key_do_not_become_many_long_rejects() -> None:
    """6 bytes each in the aggregate; 1.3 kB each as rejects, and a batch of them 3 GB of memory."""
    sub_record = b"\x1a\x04\x08\x00\x1a\x00"
    data = vouch(b"\x0a" + varint(1_024) + b"k" * 1_024 + sub_record * 60_000)
    with memory_below(40), pytest.raises(RejectError, match="60,000 sub-records in 361,027 bytes are too small"):
        unpack(data)


@pytest.mark.parametrize(("n_sub_records", "n_data_bytes"), [(64, 0), (10_000, 26)], ids=["few", "small"])
def test_what_a_batch_of_hostile_aggregates_is_made_of_stays_within_the_functions_memory(
    n_sub_records: int, n_data_bytes: int
) -> None:
    """As many rejects as a producer gets out of a byte: a hundred times as much memory at most, of 4.5 MB a batch."""
    sub_record = b"\x08\x00\x1a" + varint(n_data_bytes) + b"x" * n_data_bytes
    body = b"\x0a" + varint(1_024) + b"k" * 1_024 + (b"\x1a" + varint(len(sub_record)) + sub_record) * n_sub_records
    data = vouch(body)
    n_records = max(1, MB // len(data))
    function = FakeFunction(interval_bundle())
    with memory_below(250 * n_records * len(data) / MB):
        assert function.invoke(invocation(*[data] * n_records)) == ""
    assert len(function.s3.lines(f"{PREFIX}/")) == n_sub_records * n_records


LARGE: dict[str, bytes] = {
    "brackets": b'{"ride":' + b"[" * MB,
    "digits": b'{"ride_id":' + b"9" * MB + b"}",
    "decimals": b'{"ride":{"PULocationID":1,"DOLocationID":1,"trip_distance":0.' + b"9" * MB + b'},"ride_id":1}',
    "text for a zone": b'{"ride":{"PULocationID":"' + b"1" * MB + b'","DOLocationID":1,"trip_distance":1},"ride_id":1}',
    "surrogates": b'{"ride_id":"\\ud800","x":"' + b"\\ud800" * (MB // 6) + b'"}',
    "NaN behind integers": b'{"x":[' + b",".join([b"9" * 4_299] * 240) + b'],"ride":NaN}',
    "NaN behind fields": b"{" + b",".join(b'"%d":0' % number for number in range(90_000)) + b',"ride":NaN}',
    "NaN below long names": b'{"' + (b"k" * 1_000 + b'":{"') * 900 + b'":NaN' + b"}" * 901,
    "no UTF-8": b"\xff" * MB,
    "one field many times": b"{" + b'"ride_id":1,' * 87_000 + b'"ride_id":1}',
}


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_record_of_a_megabyte_is_decided_in_a_quarter_of_a_second(data: bytes) -> None:
    """The largest that a stream takes, in the forms that cost most. 100 ms here; a busy machine has room."""

    def cpu_s() -> float:
        started_s = time.thread_time()
        with pytest.raises(RejectError):
            decode_ride_event(data[:-1] if b'"ride":{"PU' in data and b"0.9" in data else data)
        return time.thread_time() - started_s

    assert min(cpu_s() for _ in range(3)) < 0.25
