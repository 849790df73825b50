"""Filters of archived lines: nothing that the decoders would take for a wanted record is left out."""

import gzip
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from infra.local.s3 import MemoryS3
from lambda_function.core.archive_lines import encode_lines
from lambda_function.core.outcomes import decode_outcomes, ride_key
from lambda_function.core.processor import RideBatch
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES, KinesisRecord
from tests.builders import raw_ride_bytes
from tests.builders_archive import HOUR, archive, archived_record, at_s
from training.monitoring.join.archive_reader import ArchiveReader, by_predicted_ride, by_prediction_id, by_ride_key
from training.registry.bucket import Bucket

WANTED = {"256", "7.5", "a"}
IDS = st.sampled_from(["256", '"256"', "256.0", "2.56e2", '"a"', '"\\u0061"', "7.5", '"7.5"', "257", "null", '"b"'])
FRAMES = st.sampled_from([b"%s", b"[%s]", b"\xef\xbb\xbf%s", b" %s ", b"%s%s", b"%s\n%s", b"[%s,%s]", b"x%s", b"{%s"])


def framed(document: bytes, frame: bytes) -> bytes:
    return frame.replace(b"%s", document)


RIDE_DATA = st.builds(framed, IDS.map(raw_ride_bytes), FRAMES)
OUTCOME_DATA = st.builds(
    framed, IDS.map(lambda ride_id: b'{"ride_id":%s,"outcome":{"ride_duration":9}}' % ride_id.encode()), FRAMES
)


def records_of(datas: Sequence[bytes]) -> list[KinesisRecord]:
    return [archived_record(data, at_s(number / 100), number) for number, data in enumerate(datas)]


def read(kind: str, records: Sequence[KinesisRecord], chosen: object) -> list[KinesisRecord]:
    s3 = MemoryS3()
    archive(s3, kind, records)
    reader = ArchiveReader(Bucket(s3, "b", n_threads=1))
    found = [record.kinesis_record() for one in reader.read(kind, HOUR, chosen) for record in one.records]  # type: ignore[arg-type]
    assert not reader.problems
    return found


def ride_ids(records: Sequence[KinesisRecord]) -> list[tuple[str, str]]:
    batch = RideBatch.of(records)
    keys = [
        (record.event_id, ride_key(event.ride_id)) for record, event in zip(batch.records, batch.events, strict=True)
    ]
    return [(event_id, key) for event_id, key in keys if key in WANTED]


@given(st.lists(RIDE_DATA, min_size=1, max_size=8))
def test_filter_by_ride_leaves_out_no_wanted_ride_event(datas: list[bytes]) -> None:
    records = records_of(datas)
    assert ride_ids(read(RIDES, records, by_ride_key(WANTED.__contains__))) == ride_ids(records)


@given(st.lists(OUTCOME_DATA, min_size=1, max_size=8))
def test_filter_by_ride_leaves_out_no_wanted_outcome(datas: list[bytes]) -> None:
    def wanted(records: Sequence[KinesisRecord]) -> list[str]:
        found = [one for record in records for one in decode_outcomes(record)[0]]
        return [part.event_id for part, outcome in found if ride_key(outcome.ride_id) in WANTED]

    records = records_of(datas)
    assert wanted(read(OUTCOMES, records, by_ride_key(WANTED.__contains__))) == wanted(records)


def test_filter_decodes_the_wanted_lines_alone() -> None:
    records = records_of([raw_ride_bytes(str(number)) for number in range(100)])
    assert [one.event_id for one in read(RIDES, records, by_ride_key({"7", "40"}.__contains__))] == [
        records[7].event_id, records[40].event_id,
    ]  # fmt: skip


def test_predictions_are_chosen_by_their_id_or_their_ride() -> None:
    datas = [b'{"prediction":{"ride_id":%d},"prediction_id":"p%d"}' % (number, number) for number in range(9)]
    records = records_of([*datas, b"no prediction"])
    by_id = read(PREDICTIONS, records, by_prediction_id({"p3"}.__contains__))
    by_ride = read(PREDICTIONS, records, by_predicted_ride({"4"}.__contains__))
    assert [one.event_id for one in by_id] == [records[3].event_id, records[9].event_id]
    assert [one.event_id for one in by_ride] == [records[4].event_id, records[9].event_id]


def test_white_space_between_lines_does_not_shift_them() -> None:
    s3 = MemoryS3()
    lines = encode_lines(records_of([raw_ride_bytes("1"), raw_ride_bytes("2")])).replace(b"\n", b"\n\n")
    key = f"archive/rides/{HOUR.partition}/s-1-ab.ndjson.gz"
    s3.objects[key] = gzip.compress(lines)
    reader = ArchiveReader(Bucket(s3, "b", n_threads=1))
    [found] = reader.read(RIDES, HOUR, by_ride_key({"2"}.__contains__))
    assert [record.id for record in found.records] == [records_of([b"", b""])[1].event_id]
