"""A split segment is served by both of its models, each ride by the one of its bucket: on the stream and over HTTP."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.operate.doctor.model import check_model
from infra.operate.smoke import plan_trial, run_trial
from infra.operate.streams import Timing
from lambda_function.aws.model_store import ModelStore
from lambda_function.aws.settings import ServingSettings
from lambda_function.core.bundle import FOREST, GOLDEN, MANIFEST, ModelBundle, bundle_key
from lambda_function.core.channel import Segment, bucket_of, channel_key
from lambda_function.core.events import decode_prediction
from lambda_function.core.kpl import pack
from lambda_function.core.processor import CandidateModel, ModelFrom, process, process_by_arrival
from lambda_function.core.records import KinesisRecord
from lambda_function.errors import BundleError
from tests.builders import invocation, kinesis_records, ride_bytes, small_bundle
from tests.builders_calibrations import AS_OF, calibrate, calibration_bytes, calibration_of, key_of
from tests.builders_channels import split
from tests.fakes import BUCKET, EARLY, FakeClock, FakeFunction, FakeS3, damage_bundle, publish_bundle
from tests.fakes_api import FakeApi
from tests.unit.test_pre_traffic import FakeLambda, trial
from tests.unit.test_smoke import PATIENCE_S, TARGET, FakeStack
from training.registry.bucket import Bucket
from training.registry.channels import Mover, calibrate_channel, promote

CHAMPION, CANDIDATE = small_bundle(1), small_bundle(2)
SERVED = (CHAMPION.model_version, CANDIDATE.model_version)
N_BUCKETS_OF_CANDIDATE = 3000
SPLIT = ModelFrom(0.0, CHAMPION.model, CandidateModel(CANDIDATE.model, "salt", N_BUCKETS_OF_CANDIDATE))
RIDE_IDS = st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=300).filter(lambda text: "\ud800" not in text))


def rides(n: int) -> list[bytes]:
    return [ride_bytes(number, trip_distance=1 + number % 9) for number in range(n)]


def model_of(data: bytes) -> ModelBundle:
    """Return the model that is to predict an event."""
    ride_id = decode_prediction_id(data)
    return CANDIDATE.model if bucket_of("salt", ride_id) < N_BUCKETS_OF_CANDIDATE else CHAMPION.model


def decode_prediction_id(data: bytes) -> int | str:
    (record,) = kinesis_records(data)
    ((_, prediction),) = process([record], CHAMPION.model).entries
    return decode_prediction(prediction).prediction.ride_id


def alone(record: KinesisRecord) -> bytes:
    """Return a record's prediction by the model of its bucket, in a batch of its own."""
    ((_, data),) = process([record], model_of(record.data())).entries
    return data


# The processor --------------------------------------------------------------------------------------------------------


def test_each_ride_has_the_bytes_that_its_arms_model_gives_it_alone() -> None:
    records = kinesis_records(*rides(200))
    batch = process_by_arrival(records, [SPLIT])
    assert [data for _, data in batch.entries] == [alone(record) for record in records]
    assert [key for key, _ in batch.entries] == [str(number) for number in range(200)]
    assert batch.positions == list(range(200))
    versions = [decode_prediction(data).version for _, data in batch.entries]
    assert 30 < versions.count(CANDIDATE.model_version) < 90


@given(st.lists(RIDE_IDS, min_size=1, max_size=20))
def test_any_ride_id_has_an_arm_and_the_same_one_as_text(ride_ids: list[int | str]) -> None:
    records = kinesis_records(*(ride_bytes(ride_id) for ride_id in ride_ids))
    texts = kinesis_records(*(ride_bytes(str(ride_id)) for ride_id in ride_ids))
    versions = [
        [decode_prediction(data).version for _, data in process_by_arrival(some, [SPLIT]).entries]
        for some in (records, texts)
    ]
    assert versions[0] == versions[1]


def test_parts_of_a_record_have_their_own_arms_and_rejects_are_the_same() -> None:
    (aggregate,) = pack([(str(n), data) for n, data in enumerate([*rides(40), b"bad"])], n_groups=1)
    records = kinesis_records(aggregate.data, b"no ride", *rides(3), ride_bytes("x" * 1_000_000))
    split_batch, one = process_by_arrival(records, [SPLIT]), process(records, CHAMPION.model)
    assert (split_batch.ids, split_batch.positions, split_batch.rejects) == (one.ids, one.positions, one.rejects)
    assert {decode_prediction(data).version for _, data in split_batch.entries[:40]} == set(SERVED)


def test_ride_without_an_id_is_a_reject_as_ever() -> None:
    batch = process_by_arrival(
        kinesis_records(b'{"ride":{"PULocationID":1,"DOLocationID":2,"trip_distance":1}}'), [SPLIT]
    )
    assert batch.entries == []
    assert [reject.reason for _, reject in batch.rejects] == ["invalid_field"]


def test_buckets_are_evenly_filled_and_another_salt_shuffles_them() -> None:
    n = 20_000
    one, other = ([bucket_of(salt, ride_id) < 1000 for ride_id in range(n)] for salt in ("one", "other"))
    both = sum(a and b for a, b in zip(one, other, strict=True))
    # 4 standard deviations of a share of 0.1 and of 0.01
    assert sum(one) == pytest.approx(2000, abs=4 * 42.4)
    assert both == pytest.approx(200, abs=4 * 14.1)


# The model store ------------------------------------------------------------------------------------------------------


class Followed:
    """A store whose channel has a champion, and is split half and half from an hour later on."""

    def __init__(self) -> None:
        self.s3, self.clock, self.t0_s = FakeS3(), FakeClock(), 1_700_000_000.0
        publish_bundle(self.s3, CHAMPION)
        self.bucket = Bucket(self.s3, BUCKET, n_threads=1)
        self.segment = split(self.bucket, mover=self.mover(0)).now.segments[0]
        self.begins_s = self.segment.effective_from_s
        self.s3.calls.clear()
        self.store = ModelStore(self.s3, BUCKET, "stable", 60.0, self.clock, wall=FakeClock(now_s=self.t0_s))

    def mover(self, after_s: float) -> Mover:
        """Return a mover whose clock stands so many seconds after the split was made."""
        return Mover("ada", lambda: datetime.fromtimestamp(self.t0_s + after_s, UTC))

    def served(self, after_s: float = 1.0) -> tuple[str, ...]:
        """Return the served versions of the arms for a record that arrives then, in seconds after the split begins."""
        return self.store.refresh([self.begins_s + after_s]).models[0].served_versions


def test_both_models_of_a_split_are_loaded_at_the_look_and_stay_while_the_share_grows() -> None:
    followed = Followed()
    assert followed.served(-1.0) == SERVED[:1]
    files = [("get", bundle_key(one, file)) for one in SERVED for file in (MANIFEST, FOREST, GOLDEN)]
    assert followed.s3.calls == [("get", channel_key("stable")), *files]
    split(followed.bucket, 0.8, mover=followed.mover(200))
    followed.s3.calls.clear()
    followed.clock.sleep(60)
    assert followed.served(300) == SERVED
    assert followed.s3.calls == [("get", channel_key("stable"))]
    models = followed.store.refresh([followed.begins_s + at_s for at_s in (300, 1, -1)]).models
    assert [one.candidate and one.candidate.n_buckets for one in models] == [8000, 5000, None]


def test_each_arm_has_its_own_calibration() -> None:
    followed = Followed()
    datas = [calibration_bytes(calibration_of(one.model)) for one in (CHAMPION, CANDIDATE)]
    calibrate_channel(followed.bucket, "stable", *datas, mover=followed.mover(200))
    assert followed.served(1) == SERVED
    assert followed.served(300) == tuple(f"{one}+{AS_OF}" for one in SERVED)


def test_new_split_whose_candidate_does_not_load_leaves_the_models_in_use() -> None:
    followed = Followed()
    promote(followed.bucket, "stable", CHAMPION.model_version, mover=followed.mover(300))
    followed.served(400)
    split(followed.bucket, seed=3, salt="two", mover=followed.mover(600))
    damage_bundle(followed.s3, small_bundle(3))
    followed.clock.sleep(60)
    refreshed = followed.store.refresh([followed.begins_s + 900])
    assert refreshed.model.served_version == CHAMPION.model_version
    assert refreshed.models[0].candidate is None
    assert isinstance(refreshed.error, BundleError)


@pytest.mark.parametrize("seed", [1, 2])
def test_cold_start_on_a_split_with_a_damaged_calibration_serves_the_segment_before(seed: int) -> None:
    followed = Followed()
    calibrate(followed.bucket, seed, mover=followed.mover(200))
    del followed.s3.objects[key_of(seed)]
    refreshed = followed.store.refresh([followed.begins_s + 300])
    assert refreshed.models[0].served_versions == SERVED
    assert refreshed.models[0].from_s > followed.begins_s
    assert isinstance(refreshed.error, BundleError)


def test_cold_start_on_a_split_with_a_damaged_candidate_serves_the_champion_alone() -> None:
    followed = Followed()
    damage_bundle(followed.s3, CANDIDATE)
    refreshed = followed.store.refresh([followed.begins_s + 1])
    assert refreshed.models[0].served_versions == SERVED[:1]
    assert isinstance(refreshed.error, BundleError)


# Entry points and checks ----------------------------------------------------------------------------------------------


def split_now(s3: FakeS3) -> Segment:
    """Split the channel half and half, for every ride from now on."""
    return split(Bucket(s3, BUCKET), mover=EARLY).now.segments[0]


def test_stream_and_http_api_serve_a_ride_by_the_same_arm() -> None:
    function, api = FakeFunction(CHAMPION), FakeApi(CHAMPION)
    segment = split_now(function.s3)
    split_now(api.s3)
    assert function.invoke(invocation(*rides(30))) == ""
    over_http = [api.predict(ride).json["version"] for ride in rides(30)]
    on_the_stream = [decode_prediction(data).version for _, data in function.kinesis.taken]
    assert on_the_stream == over_http == [segment.served_version_of(number) for number in range(30)]
    assert set(over_http) == set(SERVED)
    # AND the API names the champion as its model
    assert api.ask("GET", "/model").json["served_version"] == CHAMPION.model_version


def test_hook_asks_a_new_version_for_both_models() -> None:
    function = FakeLambda(FakeFunction(CHAMPION))
    split_now(function.version.s3)
    assert trial(function).passed
    function.alter = lambda answer: answer.pop("candidate_version")
    names = " and ".join(SERVED)
    assert trial(function).why == f"the version serves {CHAMPION.model_version}, but the channel names {names}"
    # AND a candidate that does not load stops the deployment, although the champion predicts its golden rides
    function = FakeLambda(FakeFunction(CHAMPION))
    split_now(function.version.s3)
    damage_bundle(function.version.s3, CANDIDATE)
    assert trial(function).why.endswith(f"but the channel names {names}")


def test_smoke_test_expects_each_ride_by_its_arm() -> None:
    s3 = FakeS3()
    publish_bundle(s3, CHAMPION)
    segment = split_now(s3)
    both = ModelFrom(0.0, CHAMPION.model, CandidateModel(CANDIDATE.model, "one", 5000))
    planned = plan_trial(s3, TARGET, 40, "test")
    stack = FakeStack(both)
    result = run_trial(stack, TARGET, planned, PATIENCE_S, Timing(stack.clock, stack.clock.sleep))
    assert (result.problems, result.model_version) == ((), " and ".join(SERVED))
    # AND a stack that serves the champion alone is found out
    stack = FakeStack(CHAMPION.model)
    result = run_trial(stack, TARGET, planned, PATIENCE_S, Timing(stack.clock, stack.clock.sleep))
    n_candidates = sum(segment.served_version_of(ride_id) == CANDIDATE.model_version for ride_id in planned.expected)
    assert result.problems[0].startswith(f"{n_candidates} of 40 rides are not predicted by {' and '.join(SERVED)}")


def test_doctor_loads_both_models() -> None:
    s3 = FakeS3()
    publish_bundle(s3, CHAMPION)
    split_now(s3)
    settings = ServingSettings(bucket=BUCKET, model_channel="stable")
    assert check_model(lambda _: s3, settings, BUCKET).what.endswith(f"holds {' and '.join(SERVED)}, and both load")
