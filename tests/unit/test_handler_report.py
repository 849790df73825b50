"""What the function says of a batch: where each record ended, and how old the oldest was."""

import json

import pytest

from tests.builders import invocation, lambda_records, ride_bytes, sequence_number, small_bundle
from tests.fakes import DENIED, FakeClock, FakeFunction, PartlyFailed
from tests.kits.batches import BAD, good


def test_batch_report_counts_each_record_where_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    function = FakeFunction(small_bundle())
    function.kinesis.script = [PartlyFailed([1]), DENIED]
    # predicted, rejected, not published; what follows comes again with it
    function.invoke(invocation(ride_bytes(), BAD, ride_bytes(), ride_bytes(), BAD))
    batch = json.loads(capsys.readouterr().out.splitlines()[0])["batch"]
    assert batch["n_records"] == 5
    assert batch["n_predictions"] == 1
    assert batch["rejects_by_reason"] == {"not_json": 1}
    assert batch["n_retried"] == 3
    assert batch["retry_from"] == sequence_number(2)
    assert batch["n_resent"] == 1
    assert "AccessDenied" in batch["problem"]


def test_record_age_is_that_of_the_oldest_record(capsys: pytest.CaptureFixture[str]) -> None:
    function = FakeFunction(small_bundle())
    records = lambda_records(good(2))
    records[1]["kinesis"]["approximateArrivalTimestamp"] = function.clock() - 3.5
    records[0]["kinesis"]["approximateArrivalTimestamp"] = function.clock() - 1
    function.invoke({"Records": records})
    assert json.loads(capsys.readouterr().out.splitlines()[0])["batch"]["max_record_age_ms"] == pytest.approx(3500)


def test_record_from_the_future_has_no_negative_age(capsys: pytest.CaptureFixture[str]) -> None:
    function = FakeFunction(small_bundle(), clock=FakeClock(now_s=0.0))
    function.invoke(invocation(ride_bytes()))
    assert json.loads(capsys.readouterr().out.splitlines()[0])["batch"]["max_record_age_ms"] == 0
