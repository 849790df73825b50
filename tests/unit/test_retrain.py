"""Training on collected rides: the bundle of `ridecast train --labelled`, the gate's verdict, one answer a run."""

from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tests.builders import FEBRUARY, JANUARY, SMALL_PARAMETERS
from tests.builders_labelled import hourly_files, labelled_bucket, rows_of
from training.data.labelled_file import read_labelled, rows_between
from training.data.months import parse_days
from training.data.ride_arrays import RideArrays, decode_ride_arrays, encode_ride_arrays
from training.data.synthetic import synthetic_rides
from training.model.bundle import read_bundle
from training.registry.bucket import Bucket
from training.registry.signing import Signer
from training.registry.versions import read_stored
from training.workflows.collected import collect
from training.workflows.config import build_config
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
def files() -> dict[str, bytes]:
    """Two months of rides in a file a day."""
    rides = synthetic_rides(JANUARY, 700, seed=7), synthetic_rides(FEBRUARY, 700, seed=7)
    rows = [row for month in rides for row in rows_of(month)]
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


def retrained(bucket: Bucket, signer: Signer | None = None, **changes: Any) -> Trained:
    request = train_request(collect(bucket, collect_request()), **changes)
    return retrain(bucket, request, signer, parameters=CONFIG.parameters)


def test_rides_are_those_of_the_other_reader_in_the_same_order() -> None:
    bucket = bucket_of_rides()
    answer = collect(bucket, collect_request(first="2021-01-20", last="2021-02-10"))

    first, last = parse_days("2021-01-20..2021-02-10")
    wanted = rows_between([read_labelled(body, key) for key, body in files().items()], first, last)
    found = decode_ride_arrays(stored(bucket, answer.key)).rows
    assert encode_ride_arrays(RideArrays(first.first_date, last.last_date, wanted)) == stored(bucket, answer.key)
    assert answer.n_rides == len(found) == len(wanted)


def test_bundle_is_that_of_ridecast_train_on_the_same_days(tmp_path: Path) -> None:
    bucket = bucket_of_rides()
    target = Target(labelled_bucket({}), "stable")
    options = RunOptions(config=CONFIG, folder=tmp_path, labelled=bucket, report=False, target=target)
    outcome = run_training(options, Silent())

    answer = retrained(bucket)

    wanted = read_bundle(outcome.path)
    assert read_stored(bucket, answer.model_version).files == wanted.files
    assert answer.manifest_sha256 == wanted.manifest_sha256
