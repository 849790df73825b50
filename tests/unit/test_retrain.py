"""Training on collected rides: the bundle of `ridecast train --labelled`, the gate's verdict, one answer a run."""

from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.s3 import MemoryS3
from lambda_function.aws.signature import SIGNATURE
from lambda_function.core.bundle import bundle_key
from tests.builders import FEBRUARY, JANUARY, SMALL_PARAMETERS, small_bundle
from tests.builders_channels import move
from tests.builders_failed import Countdown, Mortal, ProcessEnd
from tests.builders_labelled import PICKUP_TIME, hourly_files, labelled_bucket, labelled_row, parquet_of, rows_of
from tests.fakes_kms import KEY, FakeKms
from training.data.contract import ContractError
from training.data.labelled import FILE, FOLDER
from training.data.labelled_file import read_labelled, rows_between
from training.data.months import parse_days
from training.data.ride_arrays import RideArrays, RideArraysError, decode_ride_arrays, encode_ride_arrays
from training.data.synthetic import synthetic_rides
from training.errors import BucketError, UserError
from training.model.bundle import read_bundle
from training.registry.bucket import Bucket
from training.registry.channel_history import read_channel
from training.registry.channels import store_bundle
from training.registry.signing import Signer
from training.registry.versions import Verdict, read_stored, read_verdict
from training.workflows.collected import CollectOptions, collect
from training.workflows.config import build_config
from training.workflows.day_split import MAX_RIDES, TooFewRidesError, TooManyRidesError
from training.workflows.loop.requests import Collected, CollectRequest, Trained, TrainRequest
from training.workflows.retrain import retrain
from training.workflows.target import Target
from training.workflows.train import RunOptions, run_training

FIRST, LAST = "2021-01-01", "2021-02-28"
RULES = ("rows", "rows-of-median")
SMALL = {**SMALL_PARAMETERS, "max_iter": 5}
DAYS = {"train": "2021-01-01..2021-02-07", "validate": "2021-02-08..2021-02-14", "test": "2021-02-15..2021-02-28"}
CONFIG = build_config(None, {**DAYS, "allow": RULES}, [f"{k}={v}" for k, v in SMALL.items()], parse=parse_days)


class Silent:
    """Progress that nobody sees."""

    def step(self, text: str) -> None:
        """Forget a step."""

    def warn(self, text: str) -> None:
        """Forget a warning."""


@cache
def files(without: str = "") -> dict[str, bytes]:
    """Two months of rides in a file a day; there may be a day without any."""
    rides = synthetic_rides(JANUARY, 700, seed=7), synthetic_rides(FEBRUARY, 700, seed=7)
    rows = [row for month in rides for row in rows_of(month) if str(row["pickup_time"].date()) != without]
    return hourly_files({**row, "arrival_time": row["arrival_time"].replace(hour=12, minute=0)} for row in rows)


def bucket_of_rides() -> Bucket:
    return labelled_bucket(files())


def collect_request(**changes: Any) -> CollectRequest:
    request = CollectRequest(run_id="r1", first=FIRST, last=LAST, key="loop/rides/r1.npz", callback_id="")
    return msgspec.structs.replace(request, **changes)


def train_request(collected: Collected, **changes: Any) -> TrainRequest:
    request = TrainRequest(
        run_id="r1", rides_key=collected.key, rides_sha256=collected.sha256, channel="stable", service="green",
        gate_days=14, callback_id="", allow=RULES,
    )  # fmt: skip
    return msgspec.structs.replace(request, **changes)


def stored(bucket: Bucket, key: str) -> bytes:
    found = bucket.read(key)
    assert found
    return found.body


def retrained(
    bucket: Bucket,
    collected: Collected,
    signer: Signer | None = None,
    *,
    parameters: dict[str, Any] | None = None,
    max_rides: int = MAX_RIDES,
    **changes: Any,
) -> Trained:
    request = train_request(collected, **changes)
    return retrain(bucket, request, signer, parameters=parameters or CONFIG.parameters, max_rides=max_rides)


def a_late_ride() -> dict[str, bytes]:
    """A file of a ride that arrived after all others."""
    return {f"{FOLDER}/dt=2021-03-01/hh=09/{FILE}": parquet_of([labelled_row(pickup_time=PICKUP_TIME)])}


def test_rides_are_those_of_the_other_reader_in_the_same_order() -> None:
    bucket = bucket_of_rides()
    answer = collect(bucket, collect_request(first="2021-01-20", last="2021-02-10"))

    first, last = parse_days("2021-01-20..2021-02-10")
    wanted = rows_between([read_labelled(body, key) for key, body in files().items()], first, last)
    found = decode_ride_arrays(stored(bucket, answer.key)).rows
    assert encode_ride_arrays(RideArrays(first.first_date, last.last_date, wanted)) == stored(bucket, answer.key)
    assert answer.n_rides == len(found) == len(wanted)


@cache
def trained() -> tuple[dict[str, bytes], Collected, Trained]:
    """The objects of a bucket after a run with a signer and an empty channel, and its answers."""
    bucket = bucket_of_rides()
    collected = collect(bucket, collect_request())
    answer = retrained(bucket, collected, Signer(FakeKms(), KEY))
    return {key: stored(bucket, key) for key in bucket.keys("")}, collected, answer


def test_bundle_is_that_of_ridecast_train_on_the_same_days(tmp_path: Path) -> None:
    target = Target(labelled_bucket({}), "stable")
    options = RunOptions(config=CONFIG, folder=tmp_path, labelled=bucket_of_rides(), report=False, target=target)
    wanted = read_bundle(run_training(options, Silent()).path)

    objects, _, answer = trained()
    assert read_stored(labelled_bucket(objects), answer.model_version).files == wanted.files
    assert answer.manifest_sha256 == wanted.manifest_sha256


def test_second_request_of_a_run_gives_the_first_answer_and_changes_nothing() -> None:
    objects, collected, answer = trained()
    bucket = labelled_bucket({**objects, **a_late_ride()})

    assert collect(bucket, collect_request()) == collected
    assert retrained(bucket, collected, parameters={"unknown": 1}) == answer
    assert {key: stored(bucket, key) for key in bucket.keys("")} == {**objects, **a_late_ride()}


def test_rides_that_are_stored_before_the_collector_is_killed_stay_and_are_the_answer() -> None:
    before = hourly_files(labelled_row(ride_id=str(n), pickup_time=PICKUP_TIME + timedelta(days=n)) for n in range(3))
    request = collect_request(first="2021-01-05", last="2021-01-07")
    late = hourly_files([labelled_row(pickup_time=PICKUP_TIME + timedelta(days=1, hours=3))])
    answers = set()
    for n_calls, is_after in product(range(8), (False, True)):
        s3 = MemoryS3(dict(before))
        with suppress(ProcessEnd):
            collect(Bucket(Mortal(s3, Countdown(n_calls, is_after)), "b", n_threads=1), request)
        n_wanted = 3 if request.key in s3.objects else 4
        again = collect(labelled_bucket({**s3.objects, **late}), request)
        assert again.n_rides == n_wanted
        answers.add(n_wanted)
    assert answers == {3, 4}


def test_model_that_passes_is_signed_and_has_its_verdict_and_moves_no_channel() -> None:
    objects, _, answer = trained()
    bucket, version = labelled_bucket(objects), answer.model_version

    assert (answer.passed, answer.failed_rules) == (True, ())
    assert answer.reason == f"{version} passes the gate of stable against the baseline on {DAYS['test']}"
    assert bundle_key(version, SIGNATURE) in objects
    assert read_verdict(bucket, version, "stable") == Verdict(version, None, "stable", passed=True)
    assert not list(bucket.keys("channels/"))


def test_model_that_fails_the_gate_is_stored_with_the_reason_and_is_not_signed() -> None:
    objects, collected, _ = trained()
    bucket = labelled_bucket({key: body for key, body in objects.items() if key.startswith(("loop/rides", FOLDER))})
    store_bundle(bucket, small_bundle())
    move(bucket)  # the small bundle learned from January

    answer = retrained(bucket, collected, Signer(FakeKms(), KEY))

    champion = small_bundle().model_version
    assert not answer.passed
    assert answer.failed_rules
    assert f"{answer.model_version} fails the gate of stable against {champion} on {DAYS['test']}: " in answer.reason
    assert f"{answer.failed_rules[0]}: " in answer.reason
    assert read_stored(bucket, answer.model_version).model_version == answer.model_version
    assert bundle_key(answer.model_version, SIGNATURE) not in bucket.s3.objects
    assert read_channel(bucket, "stable").model_version == champion


def refused(kind: type[UserError], match: str, allow: tuple[str, ...] = RULES, **changes: Any) -> None:
    objects, collected, _ = trained()
    bucket = labelled_bucket({collected.key: objects[collected.key]})
    with pytest.raises(kind, match=match):
        retrained(bucket, collected, allow=allow, **changes)


def test_rides_that_break_the_contract_are_refused() -> None:
    refused(ContractError, "2021-01 breaks rows: it has 700 rows, wanted at least 5,000.*: a later run", allow=())


@pytest.mark.parametrize(("day", "is_refused"), [("2021-01-20", False), ("2021-02-10", True), ("2021-02-20", True)])
def test_day_without_rides_is_refused_only_among_those_that_are_measured(day: str, is_refused: bool) -> None:
    bucket = labelled_bucket(files(without=day))
    collected = collect(bucket, collect_request())
    with pytest.raises(ContractError, match="breaks days: it has no ride on 1") if is_refused else nullcontext():
        assert retrained(bucket, collected).n_rides


def test_too_few_days_are_refused() -> None:
    refused(TooFewRidesError, "leave 22 days to train on, after 7 to validate on and 30 for the gate", gate_days=30)


def test_too_many_rides_are_refused_with_the_command_that_trains_elsewhere() -> None:
    days = " ".join(f"--{name} {days}" for name, days in DAYS.items())
    command = f"ridecast train --labelled s3://labelled-rides.* {days} --channel stable --bucket s3://labelled-rides$"
    refused(TooManyRidesError, f"1,400 labelled rides are more than the 1,399 .*{command}", max_rides=1399)
    with pytest.raises(TooManyRidesError, match=f"at least 1,400 labelled rides, .* on 9: .*{command}"):
        collect(bucket_of_rides(), collect_request(), options=CollectOptions(max_rides=9))


def test_other_rides_than_those_that_were_collected_are_refused() -> None:
    refused(BucketError, "is not what was collected", rides_sha256="0" * 64)
    refused(BucketError, "is missing", rides_key="loop/rides/r2.npz")
    refused(UserError, "service is 'blue'", service="blue")


def test_every_ride_is_counted_once_as_kept_or_dropped() -> None:
    rows = [
        *(labelled_row(ride_id=str(n), pickup_time=PICKUP_TIME + timedelta(days=n // 4)) for n in range(12)),
        labelled_row(ride_id="a", status="no_outcome", duration_minutes=None),
        labelled_row(ride_id="b", has_pickup_time=False),
        labelled_row(ride_id="c", duration_minutes=61.0),
        labelled_row(ride_id="d", pickup_time=PICKUP_TIME + timedelta(days=2)),
    ]
    bucket = labelled_bucket(hourly_files(rows))
    answer = collect(bucket, collect_request(first="2021-01-05", last="2021-01-06"))
    assert (answer.n_rides, answer.dropped) == (
        8,
        {"not_labelled": 1, "pickup_time_missing": 1, "duration_out_of_range": 1},
    )


def test_days_in_which_the_archive_begins_and_ends_are_left_out() -> None:
    whole = collect(bucket_of_rides(), collect_request())
    assert (whole.first, whole.last) == (FIRST, LAST)
    part = collect(bucket_of_rides(), collect_request(first="2020-12-01", last="2021-03-20"))
    assert (part.first, part.last) == ("2021-01-02", "2021-02-27")


def test_damaged_file_is_named() -> None:
    key = sorted(files())[3]
    bucket = labelled_bucket({**files(), key: files()[key][:-100]})
    with pytest.raises(BucketError, match=f"s3://labelled-rides/{key} holds no labelled rides, or is cut short"):
        collect(bucket, collect_request())
    assert not list(bucket.keys("loop/"))


def test_bytes_that_are_no_rides_are_refused() -> None:
    objects, collected, _ = trained()
    rides = objects[collected.key]
    for data in (b"", b"PK", rides[:-30], rides.replace(b"'<i2'", b"'<u2'"), rides.replace(b"span.npy", b"spam.npy")):
        with pytest.raises(RideArraysError, match="the collected rides cannot be read"):
            decode_ride_arrays(data)


@given(st.data())
@settings(max_examples=10)
def test_rides_have_the_same_bytes_in_any_files(data: st.DataObject) -> None:
    rows = [labelled_row(ride_id=str(n), pickup_zone=1 + n % 3, duration_minutes=2.0 + n % 2) for n in range(6)]
    rows += [{**row, "ride_id": "7", "duration_minutes": None, "status": "lost"} for row in rows[:2]]
    places = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    order = data.draw(st.permutations(range(len(rows))))
    cut = [{**rows[n], "arrival_time": PICKUP_TIME + timedelta(hours=5 + places[n])} for n in order]
    request = collect_request(first="2021-01-05", last="2021-01-05")

    buckets = [labelled_bucket(hourly_files(each)) for each in (rows, cut)]
    one, other = (collect(bucket, request, options=CollectOptions(threads=1)) for bucket in buckets)

    assert one == other
    assert one.n_rides == len(rows) - 2
