"""Batches that the archive function failed on: redriven, they are in the archive, as if they had never failed."""

from itertools import count

import pytest

from infra.operate.redrive.marks import Marks
from infra.operate.redrive.records import FailedRecord
from infra.operate.redrive.redrive import Redrive, RedriveReport
from infra.operate.redrive.selection import FAILURES, REJECTS, Kind
from infra.operate.replayer import Replayer
from lambda_function.archive import build_archiver
from lambda_function.aws.rejects import reject_key
from lambda_function.aws.settings import ArchiveSettings
from lambda_function.core.events import INVALID_FIELD, encode_reject
from lambda_function.core.outcomes import Outcome, encode_outcome
from lambda_function.core.processor import process
from tests.builders import ARRIVAL_TIME_S, kinesis_records, ride_bytes, small_bundle
from tests.builders_archived import archived
from tests.builders_failed import ARCHIVER, FAILURE_KEY, failure, reject_at
from tests.fakes import BUCKET, FakeContext, FakeS3
from tests.fakes_lambda import FakeLambda
from training.monitoring.hours import Hour
from training.monitoring.join.join import join_hour
from training.monitoring.join.options import JoinOptions
from training.monitoring.summary import HourSummary
from training.registry.bucket import Bucket

STREAMS = {name: f"ride-{name.split('_')[1].lower()}" for name in ("RIDE_EVENTS_STREAM", "RIDE_PREDICTIONS_STREAM")}
_numbers = count()


def redrive(s3: FakeS3, kind: Kind) -> RedriveReport:
    environment = {"BUCKET": BUCKET, "RIDE_OUTCOMES_STREAM": "ride-outcomes", **STREAMS}
    service = {"POWERTOOLS_SERVICE_NAME": f"archive-again-{next(_numbers)}"}
    archiver = build_archiver(ArchiveSettings.from_env(environment | service), s3)
    client = FakeLambda(lambda event: archiver(event, FakeContext(s3.clock, 60.0)))
    bucket = Bucket(s3, BUCKET, n_threads=1)
    marks = Marks(bucket)
    marks.load(marks.keys())

    def replayer_of(record: FailedRecord) -> Replayer:
        return Replayer(client, ARCHIVER)

    return Redrive(marks, replayer_of).run(kind.read(bucket, kind.keys(bucket)))


def test_batch_that_the_archive_function_failed_on_is_archived_under_its_own_name() -> None:
    s3 = FakeS3()
    rides = [ride_bytes(ride) for ride in range(5)]
    s3.objects[FAILURE_KEY] = failure(*rides, function=ARCHIVER)
    report = redrive(s3, FAILURES)
    key, body = archived("rides", *rides)
    assert s3.objects[key] == body
    assert (report.n_redriven, redrive(s3, FAILURES).n_redriven) == (5, 0)


def test_hour_is_whole_again_once_its_failed_batch_is_redriven_and_it_is_joined() -> None:
    s3, model, rides = FakeS3(), small_bundle().model, [ride_bytes(ride) for ride in range(5)]
    outcomes = [encode_outcome(Outcome(ride, 17.4)) for ride in range(5)]
    s3.objects[FAILURE_KEY] = failure(*rides, function=ARCHIVER)
    for kind, datas in (
        ("predictions", [data for _, data in process(kinesis_records(*rides), model).entries]),
        ("outcomes", outcomes),
    ):
        key, body = archived(kind, *datas, first=10)  # they arrive after the rides
        s3.objects[key] = body

    def join() -> HourSummary:
        bucket = Bucket(s3, BUCKET, n_threads=1)
        return join_hour(bucket, Hour.of(ARRIVAL_TIME_S), JoinOptions(threads=1), load=lambda _: model)

    before = join()
    redrive(s3, FAILURES)
    after = join()
    assert (before.n_ride_events, before.n_outcomes_unmatched) == (0, 5)
    assert (after.n_ride_events, after.n_labelled, after.n_lost, after.n_outcomes_unmatched) == (5, 5, 0, 0)


@pytest.mark.parametrize("n_before", [0, 3])
def test_rejected_outcome_that_has_expired_is_in_the_archive_again(n_before: int) -> None:
    s3 = FakeS3()
    data = b'{"ride_id": 256, "outcome": {}}'
    reject = reject_at(n_before, data, INVALID_FIELD)
    body = encode_reject(reject) + b"\n"
    s3.objects[reject_key("ride-outcomes", reject, body)] = body
    assert redrive(s3, REJECTS).by_stream == {"ride-outcomes": 1}
    key, lines = archived("outcomes", data, first=n_before)
    assert s3.objects[key] == lines
