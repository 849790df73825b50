"""Forgetting a ride: no version of any object holds it then, and all other records stay as they were."""

import gzip
import io
import itertools
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infra.local.s3 import MemoryS3
from infra.operate.forget.forget import Forget, ForgetReport
from infra.operate.forget.without import RideSearch, archive_without
from infra.operate.redrive.records import decode_rejects
from lambda_function.aws.rejects import reject_key
from lambda_function.core.archive_lines import decode_lines
from lambda_function.core.events import decode_ride_event, encode_reject
from lambda_function.core.kpl import pack
from lambda_function.core.outcomes import decode_outcome
from lambda_function.core.records import KINDS
from tests.builders import SHARD_ID, STREAM, ride_bytes
from tests.builders_archived import HOUR, archived
from tests.builders_failed import FAILURE_KEY, Countdown, Mortal, ProcessEnd, failure, reject_at
from tests.fakes import BUCKET
from tests.fakes_versions import VersionedS3
from training.registry.bucket import Bucket

LABELLED_KEY = f"labelled/{HOUR}/rides.parquet"
PREDICTION = b'{"model":"m","version":"v","prediction":{"ride_duration":1.0,"ride_id":%b},"prediction_id":"p"}'
OUTCOME = b'{"ride_id":%b,"outcome":{"ride_duration":17.4}}'


def labelled(*ride_ids: str) -> bytes:
    """Labelled rides with these ids, and one more column."""
    file = io.BytesIO()
    pq.write_table(pa.table({"ride_id": ride_ids, "predicted_minutes": [1.5] * len(ride_ids)}), file)
    return file.getvalue()


def rides_in(parquet: bytes) -> list[str]:
    """The ids in a file of labelled rides, in order."""
    ids: list[str] = pq.read_table(io.BytesIO(parquet))["ride_id"].to_pylist()
    return ids


def run(s3: Any, ride_id: str = "256", *, dry: bool = False, hours: tuple[str, ...] = ()) -> ForgetReport:
    forget = Forget(Bucket(s3, BUCKET, n_threads=1), RideSearch(ride_id), is_dry_run=dry)
    return forget.run(forget.objects(*hours))


def texts_in(s3: Any) -> set[bytes]:
    """The data of all records in the archive."""
    return {
        record.data
        for key, body in s3.objects.items()
        if key.startswith("archive/")
        for record in decode_lines(gzip.decompress(body))
    }


def put(s3: Any, key: str, body: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key=key, Body=body)


def full_bucket(s3: Any) -> None:
    """Store the rides "anna" and 257 in everything that can hold them, some of it written twice."""
    datas = {
        "rides": [ride_bytes("anna"), ride_bytes(257)],
        "predictions": [PREDICTION % b'"anna"', PREDICTION % b"257"],
        "outcomes": [OUTCOME % b'"anna"', OUTCOME % b"257"],
    }
    for kind in (*KINDS, *KINDS):
        put(s3, *archived(kind, *datas[kind]))
    put(s3, *archived("rides", ride_bytes("anna"), first=7))
    put(s3, LABELLED_KEY, labelled("anna", "257"))  # of the first pass
    put(s3, LABELLED_KEY, labelled("anna", "257", "258"))
    rejects = [reject_at(2, b'{"ride_id": "anna"}'), reject_at(3, b'{"ride_id": 257}')]
    body = b"".join(encode_reject(reject) + b"\n" for reject in rejects)
    put(s3, reject_key(STREAM, rejects[0], body), body)
    put(s3, "monitor/hours/2021-01-05T08.json", b"{}")


def plain(body: bytes) -> bytes:
    """What a version holds, readable."""
    if body.startswith(b"\x1f\x8b"):
        return gzip.decompress(body)
    if body.startswith(b"PAR1"):
        return json.dumps(rides_in(body)).encode()
    return b"".join(reject.data for reject in decode_rejects("rejects/s", body).records)


def test_no_version_of_any_object_holds_the_ride_and_the_others_stay() -> None:
    s3 = VersionedS3()
    full_bucket(s3)
    report = run(s3, "anna")
    assert not [body for body in s3.bodies() if b"anna" in plain(body)]
    assert texts_in(s3) == {ride_bytes(257), PREDICTION % b"257", OUTCOME % b"257"}
    assert rides_in(s3.objects[LABELLED_KEY]) == ["257", "258"]
    assert s3.objects["monitor/hours/2021-01-05T08.json"] == b"{}"
    assert report.removed == {
        "archive/rides": 2,
        "archive/predictions": 1,
        "archive/outcomes": 1,
        "labelled": 1,
        f"rejects/{STREAM}": 1,
    }
    assert (report.n_objects, report.n_old_versions) == (6, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_is_the_object_that_would_have_been_written_without_the_ride(kind: str) -> None:
    data = [PREDICTION % b"257", PREDICTION % b"258"]
    s3 = MemoryS3()
    put(s3, *archived(kind, PREDICTION % b"256", *data))
    run(s3)
    key, body = archived(kind, *data, first=1)
    assert s3.objects == {key: body}


def test_run_that_finds_nothing_and_dry_run_change_nothing() -> None:
    s3 = VersionedS3()
    full_bucket(s3)
    before = {key: list(versions) for key, versions in s3.versions.items()}
    assert run(s3, "no-such-ride").n_objects == 0
    dry = run(s3, "anna", dry=True)
    assert s3.versions == before
    assert (dry.n_objects, dry.removed) == (6, run(s3, "anna").removed)
    assert run(s3, "anna").n_objects == 0


@pytest.mark.slow
@pytest.mark.parametrize("bucket", [MemoryS3, VersionedS3])
@pytest.mark.parametrize("is_after", [False, True])
def test_interruption_at_any_call_keeps_the_other_rides_and_the_next_run_ends_the_work(
    bucket: type[Any], is_after: bool
) -> None:
    expected = bucket()
    full_bucket(expected)
    run(expected, "anna")
    for n_calls in itertools.count():
        s3 = bucket()
        full_bucket(s3)
        countdown = Countdown(n_calls, is_after)
        try:
            run(Mortal(s3, countdown), "anna")
        except ProcessEnd:
            assert texts_in(s3) >= {ride_bytes(257), PREDICTION % b"257", OUTCOME % b"257"}
            assert {"257", "258"} <= set(rides_in(s3.objects[LABELLED_KEY]))
        run(s3, "anna")
        assert s3.objects == expected.objects
        left = s3.bodies() if isinstance(s3, VersionedS3) else s3.objects.values()
        assert not [body for body in left if b"anna" in plain(body)]
        if countdown.n_made <= n_calls:
            break
    assert n_calls > 10


(AGGREGATE,) = pack([("a", b'{"ride_id": 255}'), ("b", b'{"ride_id": 256}')], n_groups=1)
DAMAGED = AGGREGATE.data[:-1] + b"!"
HOLDING = [
    ride_bytes(256),
    ride_bytes("256"),
    b'\xef\xbb\xbf{"ride": {}, "ride_id": 256.0}',
    b'{"ride_id":2.56e2}',
    b'{"ride_id" : "\\u0032\\u0035\\u0036"}',
    b'{"ride\\u005Fid": 256}',
    b'{"ride_id": 255}\n{"ride_id": 256}',
    b'[{"ride_id": 256}, {"ride_id": 257}]',
    b'{"ride": {"trip_distance": NaN}, "ride_id": 256}',
    b'\xff\xfe {"ride_id": 256',
    b"[" * 2000 + b'{"ride_id": 256}' + b"]" * 2000,
    PREDICTION % b"256",
    OUTCOME % b'"256"',
    DAMAGED,  # a damaged aggregate
]
OTHERS = [
    ride_bytes(2567),
    ride_bytes(1256),
    ride_bytes(25),
    ride_bytes(-256),
    ride_bytes("256 "),
    ride_bytes(' "ride_id": 256, '),
    ride_bytes(257, note=256),
    b"not JSON, 256",
    b"",
]


@pytest.mark.parametrize("data", HOLDING)
def test_record_is_found_however_it_spells_the_id(data: bytes) -> None:
    s3 = MemoryS3()
    put(s3, *archived("rides", *OTHERS, data, *OTHERS))
    assert run(s3).removed == {"archive/rides": 1}
    assert texts_in(s3) == set(OTHERS)


def test_data_without_any_ride_id_belong_to_the_ride_of_their_partition_key() -> None:
    search = RideSearch("256")
    assert search.holds("256", b"not JSON")
    assert not search.holds("256", ride_bytes(257))
    assert not search.holds("257", b"not JSON")


@given(ride_id=st.one_of(st.integers(), st.text()), other=st.one_of(st.integers(), st.text()))
@example(ride_id=256, other='"ride_id":1')
def test_every_ride_that_a_decoder_finds_is_found_and_no_other(ride_id: int | str, other: int | str) -> None:
    text = json.dumps(ride_id).encode()
    for data, decode in ((ride_bytes(ride_id), decode_ride_event), (OUTCOME % text, decode_outcome)):
        found = str(decode(data).ride_id)
        assert RideSearch(found).holds("key", data)
        assert archive_without(RideSearch(found), *archived("rides", data)) is not None
        assert RideSearch(str(other)).holds("key", data) == (str(other) == found)


def test_only_the_hours_that_are_named_are_searched_and_rejects_in_any_case() -> None:
    s3 = MemoryS3()
    hours = [f"dt=2021-01-05/hh={hour:02}" for hour in range(8, 12)]
    for hour in hours:
        put(s3, *archived("rides", ride_bytes(256), hour=hour))
    put(s3, f"rejects/{STREAM}/{SHARD_ID}/1.ndjson", encode_reject(reject_at(0, b'{"ride_id": 256}')))
    report = run(s3, hours=(hours[1], hours[2]))
    assert report.removed == {"archive/rides": 2, f"rejects/{STREAM}": 1}
    assert [key.split("/")[3] for key in s3.objects] == ["hh=08", "hh=11"]


@pytest.mark.parametrize(
    "body",
    [b"no gzip", archived("rides", ride_bytes(256))[1][:-9], gzip.compress(b'{"ride_id":256')],
    ids=["no gzip", "cut short", "no line"],
)
def test_damaged_archive_object_is_named_and_left(body: bytes) -> None:
    s3 = MemoryS3()
    key, _ = archived("rides", ride_bytes(256))
    put(s3, key, body)
    report = run(s3)
    assert (list(report.unreadable), s3.objects) == ([key], {key: body})


def test_damaged_parquet_and_rejects_are_named_and_readable_lines_go_all_the_same() -> None:
    s3 = MemoryS3()
    put(s3, LABELLED_KEY, b"PAR1")
    key = f"rejects/{STREAM}/{SHARD_ID}/1.ndjson"
    put(s3, key, b"{\n")
    assert set(run(s3).unreadable) == {LABELLED_KEY, key}
    put(s3, key, encode_reject(reject_at(0, b'{"ride_id": 256}')) + b"\n{\n")
    run(s3)
    assert [body for name, body in s3.objects.items() if name != LABELLED_KEY] == [b"{\n"]


def test_zero_is_found_with_a_sign_too() -> None:
    key, body = archived("outcomes", OUTCOME % b"-0.0")
    s3 = MemoryS3()
    put(s3, key, body)
    assert run(s3, "0").n_objects == 1


def test_failed_batches_that_hold_the_ride_are_named_and_left() -> None:
    s3 = MemoryS3()
    put(s3, FAILURE_KEY, failure(ride_bytes(256), ride_bytes(257)))
    before = dict(s3.objects)
    assert run(s3).failed_batches == [FAILURE_KEY]
    assert run(s3, "258").failed_batches == []
    assert s3.objects == before


def test_old_versions_of_failed_batches_and_those_that_cannot_be_read_are_named_too() -> None:
    s3 = VersionedS3()
    put(s3, FAILURE_KEY, failure(ride_bytes(256)))
    put(s3, FAILURE_KEY, failure(ride_bytes(257)))
    put(s3, f"{FAILURE_KEY}-cut", failure(ride_bytes(256))[:-9])
    report = run(s3)
    assert (report.failed_batches, list(report.unreadable)) == ([FAILURE_KEY], [f"{FAILURE_KEY}-cut"])
