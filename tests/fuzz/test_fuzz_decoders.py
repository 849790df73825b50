"""Hostile inputs at every decoder: documented errors only, an end in time, and no memory that stays.

The normal run tries the same inputs each time. `make fuzz` sets FUZZ_INPUTS and tries that many new ones a decoder.
"""

import gc
import io
import logging
import os
import signal
import struct
import time
import tracemalloc
import zipfile
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Never

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from infra.cli.output import printable
from infra.local.runtime.http import http_event
from infra.operate.redrive.marks import PREFIX, Marks
from infra.operate.redrive.records import decode_failure, decode_rejects
from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.rejects import PREFIX as REJECTS
from lambda_function.aws.telemetry import Telemetry
from lambda_function.core.archive_lines import decode_lines, encode_lines
from lambda_function.core.arrays import MAX_UNPACKED_BYTES, read_arrays
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, load_bundle, sha256
from lambda_function.core.calibration import load_calibration
from lambda_function.core.events import INVALID_FIELD, REJECT_REASONS, decode_reject, decode_ride_event
from lambda_function.core.features import feature_matrix
from lambda_function.core.forest import FOREST_DTYPES, Forest
from lambda_function.core.kpl import MAGIC, is_aggregated, pack, unpack
from lambda_function.core.outcomes import decode_outcomes, outcome_minutes
from lambda_function.errors import ArchiveError, BundleError, CalibrationError, ForestError, PredictorError, RejectError
from tests.builders import (
    ARRIVAL_TIME_S,
    Arrays,
    forest_arrays_of,
    interval_bundle,
    invocation,
    kinesis_records,
    raw_ride_bytes,
    ride_bytes,
    sequence_number,
    small_bundle,
    small_rides,
    vouched,
)
from tests.builders_calibrations import AS_OF, calibration_bytes, calibration_of
from tests.fakes import BUCKET, FakeFunction, FakeS3, point_channel
from tests.fakes_api import FakeApi, rides_bytes
from tests.fuzz.inputs import (
    FAILURE,
    MARK,
    REJECT_LINES,
    archive_of,
    as_json,
    length_delimited,
    messages,
    mutated,
    one_in,
    ride_events,
    texts,
    tokens,
    values,
    vouch,
)
from training.errors import UserError
from training.registry.bucket import Bucket

N_INPUTS = int(os.environ.get("FUZZ_INPUTS", "200"))
"""Inputs a decoder."""

MAX_CPU_MS = 2_000.0
"""Some 20 times what the slowest input takes, so that a slow machine makes no difference."""
HANG_CPU_S = 10.0
N_GROWTH_INPUTS, N_PASSES = 300, 4
MAX_GROWTH = 1_500
"""Allocations that may stay. Bounded caches and free lists hold up to 1,100; two an input would be 1,920."""

Run = Callable[[Any], object]

thorough = settings(
    max_examples=N_INPUTS,
    deadline=None,
    derandomize="FUZZ_INPUTS" not in os.environ,
    suppress_health_check=list(HealthCheck),
)


class Nowhere(io.TextIOBase):
    """A text file that drops what is written."""

    def write(self, text: str, /) -> int:
        """Drop a text."""
        return len(text)


NOWHERE = Nowhere()


class HangError(Exception):
    """An input used HANG_CPU_S of CPU and did not end."""


def watch(run: Run, data: object, max_cpu_ms: float = MAX_CPU_MS, hang_cpu_s: float = HANG_CPU_S) -> None:
    """Fail if an input raises, does not end, or takes too much CPU three times in a row."""
    times_ms = (_cpu_ms(run, data, hang_cpu_s) for _ in range(3))  # other processes slow down a single measurement
    assert any(cpu_ms <= max_cpu_ms for cpu_ms in times_ms), f"more than {max_cpu_ms:g} ms of CPU"


def _cpu_ms(run: Run, data: object, hang_cpu_s: float) -> float:
    def stop(*_: object) -> Never:
        raise HangError

    previous = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, hang_cpu_s)
    started_s = time.thread_time()
    try:
        with redirect_stdout(NOWHERE):  # the function's log and metrics
            run(data)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
    return (time.thread_time() - started_s) * 1000


def growth(run: Run, inputs: list[Any]) -> int:
    """Return how many allocations stay after several passes over the inputs; the first fifth is the warm-up."""
    n_warm_up = len(inputs) // 5
    with redirect_stdout(NOWHERE):
        for data in inputs[:n_warm_up]:
            run(data)
        gc.collect()
        tracemalloc.start()
        try:
            for data in [*inputs[n_warm_up:] * N_PASSES, inputs[0]]:  # the last result may stay: one of a small input
                run(data)
            gc.collect()
            return len(tracemalloc.take_snapshot().traces)
        finally:
            tracemalloc.stop()


def rejection_by(decode: Callable[[], object]) -> RejectError | None:
    try:
        decode()
    except RejectError as error:
        return error
    return None


# Ride events, aggregates and whole invocations

RIDES = (
    ride_bytes(),
    ride_bytes("a-ride", pickup_datetime=None, trip_distance=0),
    ride_bytes(2**63 - 1, PULocationID="264", pickup_datetime="2021-07-04T23:59:59.5+02:00"),
    ride_bytes("x" * 300, trip_distance=1e300),
    raw_ride_bytes('"\\u00e9\\ud83d\\ude95"', extra=',"more":[1,{"a":null}]'),
    raw_ride_bytes(trip_distance="NaN"),
    raw_ride_bytes('"\\ud800"'),
    raw_ride_bytes("256.0", PULocationID="1.3e2", DOLocationID='"205.0"', trip_distance='"3.66"'),
    raw_ride_bytes(lpep_pickup_datetime='"2021-01-05 08:15:00"'),
    b"\xef\xbb\xbf" + ride_bytes(),
    ride_bytes() + b"\n" + raw_ride_bytes(trip_distance="NaN") + b"\n" + ride_bytes()[:50],
    b"[" + ride_bytes() + b", {}]",
    ride_bytes() * 3,
    b'{"data":' + ride_bytes() + b"}",
    b64encode(ride_bytes()),
)
AGGREGATES = tuple(
    pack([(str(number), ride) for number, ride in enumerate(RIDES * times)], n_groups=1)[0].data for times in (1, 20)
)

OUTCOMES = (
    b'{"ride_id":256,"outcome":{"ride_duration":17.4}}',
    b'{"ride_id":"a-7","outcome":{"dropoff_datetime":"2021-11-07T01:33:00"}}',
    b'{"ride_id":256.0,"outcome":{"dropoff_datetime":"2021-01-05T08:33:00Z","pickup_datetime":"2021-01-05T03:15:00"}}',
    b'{"ride_id":1,"outcome":{"ride_duration":"17.4"}}\n{"ride_id":2,"outcome":{"ride_duration":-1}}\n',
    b'{"data":{"ride_id":256,"outcome":{}}}',
)
LINES = encode_lines(kinesis_records(*RIDES[:7], *OUTCOMES[:1], AGGREGATES[0]))

events = mutated(*RIDES) | ride_events.map(as_json)


@st.composite
def aggregates(draw: st.DrawFn) -> bytes:
    """Draw an aggregate; the digest is right in all but one of four, or decoding would end there."""
    data = draw(mutated(*AGGREGATES))
    return data if draw(one_in(4)) else vouch(data[len(MAGIC) : -16])


aggregates_of_any_fields = st.tuples(messages | st.just(b"\x0a\x01k"), messages).map(
    lambda one: vouch(one[0] + b"\x1a" + length_delimited(one[1]))
)
batches = st.lists(
    st.one_of(events, aggregates(), st.binary(max_size=64)).map(lambda data: data[: 1 << 14]), min_size=1, max_size=4
)


def run_event_and_outcomes(data: bytes) -> None:
    """Decode: a ride event, or a reject with a documented reason; and outcomes, or rejects of a record."""
    reject = rejection_by(lambda: decode_ride_event(data))
    assert reject is None or (reject.reason in REJECT_REASONS and reject.detail)
    (record,) = kinesis_records(data)
    outcomes, rejects = decode_outcomes(record)
    assert outcomes or rejects
    assert all(reject.reason in REJECT_REASONS and reject.detail for reject in rejects)
    for _, outcome in outcomes:
        problem = rejection_by(partial(outcome_minutes, outcome, None, ARRIVAL_TIME_S))
        assert problem is None or problem.reason == INVALID_FIELD


def run_archive(data: bytes | list[bytes]) -> None:
    """Read lines: records, or an error. Archive records: each is a line with its bytes, or those of its sub-records."""
    if isinstance(data, bytes):
        with suppress(ArchiveError):
            for one in decode_lines(data):
                one.kinesis_record()
        return
    lines = encode_lines(kinesis_records(*data))
    archived = [(one.kinesis_record().envelope.sequence_number, one.data) for one in decode_lines(lines)]
    assert lines.count(b"\n") == len(archived)
    for position, record in enumerate(data):
        found = [one for number, one in archived if number == sequence_number(position)]
        assert found == [record] or found == [sub_record for _, sub_record in unpack(record)]


def run_aggregate(data: bytes) -> None:
    """Unpack: at least one sub-record and no more bytes than arrived, or a reject."""
    if is_aggregated(data) and rejection_by(lambda: unpack(data)) is None:
        records = unpack(data)
        assert records
        assert sum(len(sub) for _, sub in records) <= len(data)


@cache
def the_function() -> FakeFunction:
    """Return one function for all inputs, so that what it retains counts as growth."""
    function = FakeFunction(interval_bundle())
    do_not_propagate(function.handler.telemetry)
    return function


def do_not_propagate(telemetry: Telemetry) -> None:
    """Keep a function's log from the root logger, whose records pytest retains."""
    logging.getLogger(telemetry.logger.service).propagate = False


def run_invocation(datas: list[bytes]) -> None:
    """Invoke: nothing to retry, and each record has at least one prediction or reject."""
    function = the_function()
    function.kinesis.take()
    for key in function.s3.keys(REJECTS):
        del function.s3.objects[key]
    function.s3.calls.clear()
    function.kinesis.requests.clear()
    assert function.invoke(invocation(*datas)) == ""
    predicted = {msgspec.json.decode(data)["prediction_id"].split(":")[1] for _, data in function.kinesis.taken}
    rejects = [decode_reject(line) for line in function.s3.lines(f"{REJECTS}/")]
    assert len(predicted | {reject.sequence_number for reject in rejects}) == len(datas)


# Bundles and channels


@st.composite
def bundles(draw: st.DrawFn) -> dict[str, bytes]:
    """Draw a bundle with one hostile file, whose digest the manifest usually has."""
    files = dict(draw(st.sampled_from((small_bundle, interval_bundle)))().files)
    name = draw(st.sampled_from((MANIFEST, FOREST, FOREST, GOLDEN)))
    hostile = archives(files[FOREST]) if name == FOREST and not draw(one_in(5)) else mutated(files[name])
    files[name] = draw(hostile)
    return files if name == MANIFEST or draw(one_in(10)) else vouched(files)


@st.composite
def archives(draw: st.DrawFn, valid: bytes) -> bytes:
    """Draw an archive with one damaged array; damage to the archive itself would end at its checksum."""
    with zipfile.ZipFile(io.BytesIO(valid)) as read:
        members = {name: read.read(name) for name in read.namelist()}
    name = draw(st.sampled_from(sorted(members)))
    header, body = members[name][:128], members[name][128:]
    members[name] = draw(
        st.one_of(mutated(header).map(lambda one: one + body), mutated(body).map(lambda one: header + one))
    )
    return archive_of(members, draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))))


def run_bundle(files: Mapping[str, bytes]) -> None:
    """Load: a model, or an error that names the bundle."""
    version = small_bundle().model_version
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        version = msgspec.json.decode(files[MANIFEST])["model_version"]
    with suppress(BundleError):
        load_bundle(version, sha256(files[MANIFEST]), files)


dtypes = st.sampled_from(["|u1", "<f8", "<u2", "<u4", "|b1", "|O", "|V0", "<U1", "(9,9)<f8", ">f8", "x", "<M8[s]"])
shapes = st.lists(st.integers(-(2**63), 2**70) | st.integers(0, 40), max_size=4).map(tuple)


@st.composite
def array_headers(draw: st.DrawFn) -> bytes:
    """Draw an archive of one array whose header declares any dtype and shape."""
    header = {"descr": draw(dtypes), "fortran_order": draw(st.booleans()), "shape": draw(shapes)}
    text = repr(header).encode()
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + draw(st.binary(max_size=64))
    return archive_of({"split_feature.npy": member})


def run_array_header(data: bytes) -> None:
    """Read: arrays within the limit, or an error."""
    with suppress(ForestError):
        assert sum(array.nbytes for array in read_arrays(data).values()) <= MAX_UNPACKED_BYTES


@st.composite
def forest_arrays(draw: st.DrawFn) -> Arrays:
    """Draw arrays of the right shapes and dtypes in which up to three values are wrong."""
    arrays: Arrays = {name: array.copy() for name, array in forest_arrays_of(small_bundle()).items()}
    for name in draw(st.lists(st.sampled_from(list(FOREST_DTYPES)), min_size=1, max_size=3)):
        flat = arrays[name].reshape(-1)
        position = draw(st.integers(0, len(flat) - 1))
        flat[position] = np.frombuffer(draw(st.binary(min_size=8, max_size=8)), flat.dtype)[0]
        arrays[name] = flat.reshape(arrays[name].shape)
    return arrays


def run_forest(arrays: Arrays) -> None:
    """Build: a forest that predicts, or an error."""
    with suppress(ForestError):
        forest = Forest.from_arrays(arrays, 13)
        with np.errstate(over="ignore", invalid="ignore"):
            assert forest.predict(np.full((3, 13), np.nan)).shape == (3,)


CHANNEL = (
    b'{"model_version":"green-2021-01-3f2a9c1d0b7e","manifest_sha256":"' + b"ab" * 32 + b'","previous":null,'
    b'"moved_at":"2026-11-21T22:00:00+00:00","moved_by":"ada@laptop","why":"promote","move_id":"0123456789ab"}'
)
SEGMENTS = (
    b'{"segments":[{"effective_from":"2026-11-21T22:02:30+00:00","arms":[{"model_version":"green-2021-01-3f2a9c1d0b7e",'
    b'"manifest_sha256":"' + b"ab" * 32 + b'","buckets":[0,10000]}],"calibration":null},'
    b'{"effective_from":"1970-01-01T00:00:00Z","arms":[{"model_version":"green-2020-12-000000000000",'
    b'"manifest_sha256":"'
    + b"cd" * 32
    + b'"}],"calibration":{"as_of":"2026-11-21T05","sha256":"'
    + b"ef" * 32
    + b'"}}],'
    b'"moved_at":"2026-11-21T22:00:00+00:00","withdrawn":"green-2021-01-3f2a9c1d0b7e","withdrawn_as_of":"2026-11-22T05"}'
)

SPLIT = (
    b'{"segments":[{"effective_from":"2026-11-21T22:02:30+00:00","arms":[{"model_version":"green-2021-01-3f2a9c1d0b7e",'
    b'"manifest_sha256":"' + b"ab" * 32 + b'","buckets":[2000,10000],"calibration":{"as_of":"2026-11-21T05","sha256":"'
    b"" + b"ef" * 32 + b'"}},{"model_version":"green-2020-12-000000000000","manifest_sha256":"' + b"cd" * 32 + b'",'
    b'"buckets":[0,2000]}],"calibration":null,"salt":"one"}],"moved_at":"2026-11-21T22:00:00+00:00",'
    b'"withdrawn":"green-2021-01-3f2a9c1d0b7e","also_withdrawn":["green-2020-12-000000000000"],'
    b'"withdrawn_from":"2026-11-20T22:00:00+00:00"}'
)

objects_of_any_values = (st.dictionaries(texts, values, max_size=4) | values).map(as_json)


def run_channel(data: bytes) -> None:
    """Follow: an error that keeps the last good model, for no channel names a bundle that exists."""
    s3 = FakeS3()
    point_channel(s3, data)
    with pytest.raises(PredictorError):
        ModelStore(s3, BUCKET, "stable", 60.0).refresh()


# Calibrations

CALIBRATION = calibration_bytes(calibration_of(interval_bundle().model))


def run_calibration(data: bytes) -> None:
    """Calibrate: one short error, or predictions within the range and their intervals."""
    model = interval_bundle().model
    try:
        calibrated = model.calibrated(load_calibration(model.model_version, AS_OF, None, data))
    except CalibrationError as error:
        problem = str(error)
    else:
        problem = ""
    assert len(problem) < 1_500
    if problem:
        return
    rides = small_rides().head(50).columns
    matrix = feature_matrix(rides)
    minutes = calibrated.served_minutes(rides, matrix)
    low, high = calibrated.interval_bounds(matrix, minutes) or (minutes, minutes)
    assert ((low >= 1.0) & (low <= minutes) & (minutes <= high) & (high <= 60.0)).all()


# Failed records and HTTP requests


def run_failed_records(data: bytes) -> None:
    """Read for a list and a redrive: records or a problem, without characters that control a terminal."""
    for decoded in (
        decode_rejects("rejects/ride-events/shardId-000000000000/1.ndjson", data),
        decode_failure("aws/lambda/m/shardId-000000000000/2021/01/05/x", data),
    ):
        shown = [decoded.problem]
        for one in decoded.records:
            shown += [one.record_id, one.detail, one.reason]
        assert all(char.isprintable() or char == "\n" for text in shown for char in printable(text))
    s3 = FakeS3(objects={f"{PREFIX}rejects/x": data})
    with suppress(UserError):
        Marks(Bucket(s3, BUCKET, n_threads=1)).load([f"{PREFIX}rejects/x"])


INTERNALS = ("Traceback", "lambda_function", BUCKET, "Error:", 'File "')
STATUSES = {200, 204, 207, 400, 404, 405, 413, 415, 422}
NO_CONTENT = 204
PATHS = ("/predictions",) * 8 + ("/model", "/health", "/openapi.json", "/", "//", "/predictions/", "/%00", "/../model")
METHODS = ("POST",) * 8 + ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE")
TYPES = ("application/json",) * 8 + ("application/json; charset=utf-8", "text/plain", "", "\x00", "a" * 1_000)
BODIES = (
    ride_bytes(),
    rides_bytes(*[ride_bytes()] * 3),
    b'{"rides":[]}',
    b'{"rides":[1,null,"x",{}]}',
    rides_bytes(*[b"{}"] * 1_001),
    b"",
)

short_tokens = tokens.map(lambda token: token[:2_000].decode("utf-8", "replace"))
bodies = st.one_of(
    mutated(*BODIES),
    (ride_events | st.fixed_dictionaries({"rides": st.lists(ride_events, max_size=3) | values})).map(as_json),
)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a request as API Gateway passes it."""
    headers = {"Content-Type": draw(st.sampled_from(TYPES)), "X-Anything": draw(short_tokens | texts)}
    event = http_event(draw(st.sampled_from(METHODS)), "/", headers, draw(bodies), ARRIVAL_TIME_S)
    path = draw(st.sampled_from(PATHS)) + (draw(short_tokens) if draw(one_in(20)) else "")
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    return event


@cache
def the_api() -> FakeApi:
    """Return one API function for all requests."""
    api = FakeApi(interval_bundle())
    do_not_propagate(api.handler.telemetry)
    return api


def run_request(event: dict[str, Any]) -> None:
    """Request: a documented status and a JSON body that shows no internals."""
    response = the_api().take(event)
    assert response.status in STATUSES, response
    is_empty = event["requestContext"]["http"]["method"] == "HEAD" or response.status == NO_CONTENT
    assert not response.body if is_empty else response.json is not None
    if response.status >= 400:
        assert not any(word.encode() in response.body for word in INTERNALS), response
        assert len(response.body) < 8_000
    assert not any("\n" in f"{name}{value}" for name, value in response.headers.items())


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder: its hostile inputs, and a function that decodes one and fails on a wrong result."""

    inputs: st.SearchStrategy[Any]
    run: Run


TARGETS = {
    "events and outcomes": Target(events | mutated(*OUTCOMES), run_event_and_outcomes),
    "aggregates": Target(aggregates() | aggregates_of_any_fields, run_aggregate),
    "archive": Target(batches | mutated(LINES), run_archive),
    "invocations": Target(batches, run_invocation),
    "bundles": Target(bundles(), run_bundle),
    "array headers": Target(array_headers(), run_array_header),
    "forests": Target(forest_arrays(), run_forest),
    "channels": Target(mutated(CHANNEL, SEGMENTS, SPLIT) | objects_of_any_values, run_channel),
    "calibrations": Target(mutated(CALIBRATION) | objects_of_any_values, run_calibration),
    "failed records": Target(
        mutated(b"".join(REJECT_LINES), FAILURE, MARK) | objects_of_any_values, run_failed_records
    ),
    "requests": Target(requests(), run_request),
}


@pytest.fixture(autouse=True)
def new_functions() -> None:
    """Make functions whose logs pytest does not retain: it captures each logger that exists when a test begins."""
    the_function.cache_clear()
    the_api.cache_clear()


each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
pytestmark = pytest.mark.filterwarnings("ignore::SyntaxWarning")  # from Python, about the header of a hostile array


@each_target
@thorough
@given(data=st.data())
def test_hostile_input_ends_in_a_documented_result_in_time(target: Target, data: st.DataObject) -> None:
    watch(target.run, data.draw(target.inputs))


@each_target
def test_hostile_inputs_leave_nothing_in_memory(target: Target) -> None:
    inputs: list[Any] = []

    @settings(thorough, max_examples=N_GROWTH_INPUTS, phases=[Phase.generate], derandomize=True, database=None)
    @given(target.inputs)
    def collect(data: object) -> None:
        inputs.append(data)

    collect()
    assert growth(target.run, inputs) < MAX_GROWTH


def test_watch_finds_a_crash_a_hang_and_a_slow_input() -> None:
    def hang(_: object) -> None:
        while True:
            pass

    with pytest.raises(KeyError):
        watch({}.__getitem__, b"7")
    with pytest.raises(HangError):
        watch(hang, b"", hang_cpu_s=0.05)
    with pytest.raises(AssertionError, match="more than 1 ms of CPU"):
        watch(lambda _: sum(range(1_000_000)), b"", max_cpu_ms=1.0)


def test_memory_that_each_input_leaves_is_found() -> None:
    inputs, retained = list(range(N_GROWTH_INPUTS)), list[list[bytes]]()
    assert growth(lambda n: retained.append([bytes(500 + n)]), inputs) > MAX_GROWTH
    assert growth(lambda n: bytes(500 + n), inputs) < 10
