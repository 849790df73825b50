"""What is fuzzed: how a hostile input is made, and what may come of it. Anything else is a finding."""

import hashlib
import io
import logging
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from infra.cli.output import printable
from infra.operate.redrive.marks import PREFIX, Marks
from infra.operate.redrive.records import decode_failure, decode_rejects
from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.rejects import PREFIX as REJECTS
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, load_bundle, sha256
from lambda_function.core.events import REJECT_REASONS, Reject, decode_reject, decode_ride_event, encode_reject
from lambda_function.core.kpl import MAGIC, is_aggregated, pack, unpack
from lambda_function.errors import BundleError, PredictorError, RejectError
from tests.builders import interval_bundle, invocation, raw_ride_bytes, ride_bytes, small_bundle, vouched
from tests.fakes import BUCKET, FakeFunction, FakeS3, point_channel
from tests.fuzz.http_api import make_request, run_request
from tests.fuzz.mutate import mutate
from training.errors import BucketError
from training.registry.bucket import Bucket

Input = bytes | list[bytes] | dict[str, bytes]

RIDES = (
    ride_bytes(),
    ride_bytes("a-ride", pickup_datetime=None, trip_distance=0),
    ride_bytes(2**63 - 1, PULocationID="264", pickup_datetime="2021-07-04T23:59:59.5+02:00"),
    ride_bytes("x" * 300, trip_distance=1e300),
    raw_ride_bytes('"\\u00e9\\ud83d\\ude95"', extra=',"more":[1,{"a":null}]'),
    raw_ride_bytes(trip_distance="NaN"),
    raw_ride_bytes('"\\ud800"'),
)


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder, or what is behind several.

    Attributes:
        make: Makes an input.
        run: Takes it; raises where something comes of it that must not.
        limit_ms: CPU that an input may cost.
    """

    name: str
    make: Callable[[Random], Input]
    run: Callable[[Any], None]
    limit_ms: float = 100.0


def make_event(random: Random) -> bytes:
    """Makes a ride event."""
    return mutate(random, RIDES)


def run_event(data: bytes) -> None:
    """Decodes: an event, or a reject whose reason is one of those that there are, and which encodes."""
    reject = _reject_of(lambda: decode_ride_event(data))
    assert reject is None or (reject.reason in REJECT_REASONS and reject.detail)


def _reject_of(decode: Callable[[], object]) -> RejectError | None:
    try:
        decode()
    except RejectError as error:
        return error
    return None


AGGREGATES = tuple(
    pack([(str(number), ride) for number, ride in enumerate(RIDES * times)], n_groups=1)[0].data for times in (1, 20)
)


def make_aggregate(random: Random) -> bytes:
    """Makes an aggregate; three of four with the right digest, or all would end at it."""
    data = mutate(random, AGGREGATES)
    return vouch(data[len(MAGIC) : -16]) if random.random() < 0.75 else data


def vouch(body: bytes) -> bytes:
    """Returns an aggregate of a message, whatever it holds."""
    return MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()


def run_aggregate(data: bytes) -> None:
    """Unpacks: at least one sub-record, no more bytes than there were, or a reject."""
    if is_aggregated(data) and _reject_of(lambda: unpack(data)) is None:
        records = unpack(data)
        assert records
        assert sum(len(sub) for _, sub in records) <= len(data)


_function: list[FakeFunction] = []


def the_function() -> FakeFunction:
    """The whole function on fakes, made once: what it holds on to from input to input is growth."""
    if not _function:
        _function.append(FakeFunction(interval_bundle()))
        name = _function[0].handler.settings.service_name
        logging.getLogger(name).propagate = False  # pytest keeps whatever reaches the root logger
    return _function[0]


def make_invocation(random: Random) -> list[bytes]:
    """Makes the data of a batch: events, aggregates, and what is neither."""
    makers = (make_event, make_aggregate, lambda one: one.randbytes(one.randrange(64)))
    return [random.choice(makers)(random)[: 1 << 14] for _ in range(random.randint(1, 4))]


def run_invocation(datas: list[bytes]) -> None:
    """Invokes: nothing to come again, and for every record at least one prediction or reject."""
    function = the_function()
    function.kinesis.taken.clear()
    for key in function.s3.keys(REJECTS):
        del function.s3.objects[key]
    function.s3.calls.clear()
    function.kinesis.requests.clear()
    assert function.invoke(invocation(*datas)) == ""
    predicted = {_sequence_number(msgspec.json.decode(data)["prediction_id"]) for _, data in function.kinesis.taken}
    rejects = [decode_reject(line) for line in function.s3.lines(f"{REJECTS}/")]
    assert len(predicted | {reject.sequence_number for reject in rejects}) == len(datas)


def _sequence_number(prediction_id: str) -> str:
    return prediction_id.split(":")[1]


def make_bundle(random: Random) -> dict[str, bytes]:
    """Makes a bundle of which one file is hostile, and the manifest vouches for it more often than not."""
    files = dict(random.choice((small_bundle(), interval_bundle())).files)
    name = random.choice((MANIFEST, FOREST, FOREST, GOLDEN))
    if name == FOREST and random.random() < 0.8:
        files[FOREST] = _with_hostile_array(random, files[FOREST])
    else:
        files[name] = mutate(random, [files[name]])
    if name != MANIFEST and random.random() < 0.9:
        files = vouched(files)
    return files


def _with_hostile_array(random: Random, archive: bytes) -> bytes:
    """Damages one array inside of the archive, where a flipped bit of the archive itself would end at its checksum."""
    with zipfile.ZipFile(io.BytesIO(archive)) as read:
        members = {name: read.read(name) for name in read.namelist()}
    name = random.choice(list(members))
    header, body = members[name][:128], members[name][128:]
    members[name] = mutate(random, [header]) + body if random.random() < 0.6 else header + mutate(random, [body])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as written:
        for member, data in members.items():
            written.writestr(member, data)
    return file.getvalue()


def run_bundle(files: Mapping[str, bytes]) -> None:
    """Loads: a model, or an error that names the bundle."""
    version = small_bundle().model_version
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        version = msgspec.json.decode(files[MANIFEST])["model_version"]
    with suppress(BundleError):
        load_bundle(version, sha256(files[MANIFEST]), files)


CHANNEL = (
    b'{"model_version":"green-2021-01-3f2a9c1d0b7e","manifest_sha256":"' + b"ab" * 32 + b'","previous":null,'
    b'"moved_at":"2026-11-21T22:00:00+00:00","moved_by":"ada@laptop","why":"promote","move_id":"0123456789ab"}'
)


def make_channel(random: Random) -> bytes:
    """Makes a channel's object."""
    return mutate(random, [CHANNEL])


def run_channel(data: bytes) -> None:
    """Follows: what cannot be is an error that keeps the last good model."""
    s3 = FakeS3()
    point_channel(s3, data)
    try:
        ModelStore(s3, BUCKET, "stable", 60.0).refresh()
    except PredictorError:
        return
    raise AssertionError("there is no such bundle")


REJECT_LINES = tuple(
    encode_reject(
        Reject("invalid_field", "why", "shardId-000000000000", str(n), "2021-01-05T08:15:00+00:00", "k", "e30=")
    )
    + b"\n"
    for n in range(3)
)
FAILURE = msgspec.json.encode(
    {
        "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 3},
        "responseContext": {"functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2021-01-05T08:20:00.000Z",
        "KinesisBatchInfo": {"streamArn": "arn:aws:kinesis:us-east-1:123456789012:stream/ride-events"},
        "payload": msgspec.json.encode(invocation(ride_bytes())).decode(),
    }
)
MARK = b'{"stream":"ride-events","writer":"w","redriven":["shardId-000000000000:1"],"under_way":[]}'


def make_failed_records(random: Random) -> bytes:
    """Makes an object of rejects, a failure, or a mark."""
    return mutate(random, [b"".join(REJECT_LINES), FAILURE, MARK])


def run_failed_records(data: bytes) -> None:
    """Reads what people list and redrive: records or a problem in words, and what is shown obeys no terminal."""
    for decoded in (
        decode_rejects("rejects/ride-events/shardId-000000000000/1.ndjson", data),
        decode_failure("aws/lambda/m/shardId-000000000000/2021/01/05/x", data),
    ):
        shown = [
            decoded.problem,
            *(text for one in decoded.records for text in (one.record_id, one.detail, one.reason)),
        ]
        assert all(char.isprintable() or char == "\n" for text in shown for char in printable(text))
    s3 = FakeS3(objects={f"{PREFIX}rejects/x": data})
    with suppress(BucketError):
        Marks(Bucket(s3, BUCKET, n_threads=1)).load([f"{PREFIX}rejects/x"])


TARGETS = {
    target.name: target
    for target in (
        Target("events", make_event, run_event),
        Target("aggregates", make_aggregate, run_aggregate),
        Target("invocations", make_invocation, run_invocation),
        Target("bundles", make_bundle, run_bundle),
        Target("channels", make_channel, run_channel),
        Target("failed-records", make_failed_records, run_failed_records),
        Target("http", make_request, run_request),
    )
}
