"""The smoke test of a deployed stack: predictions that are right, missing, wrong or repeated."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from infra.operate.smoke import (
    ID_PREFIX,
    Progress,
    SmokeResult,
    Target,
    plan_trial,
    run_trial,
    seconds_to_wait,
    smoke,
    target_of,
)
from infra.operate.streams import Timing
from lambda_function.core.bundle import ModelBundle
from lambda_function.core.channel import ACTIVATION_DELAY_S
from lambda_function.core.events import decode_prediction
from lambda_function.core.processor import ModelFrom, process_by_arrival
from tests.builders import interval_bundle, kinesis_records, small_bundle
from tests.builders_calibrations import AS_OF, calibration_bytes, calibration_of
from tests.fakes import BUCKET, FakeClock, FakeKinesis, FakeS3, publish_bundle
from training.errors import UserError
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import calibrate_channel, rollback, this_mover

TARGET = Target("ride-events", "ride-predictions", BUCKET, "stable", refresh_s=60.0)
PATIENCE_S = 60.0
Alter = Callable[[list[bytes]], Sequence[bytes]]


class FakeStack:
    """Both streams as a boto3 client, with the real processor between them; `alter` changes the predictions."""

    def __init__(self, model: ModelBundle | ModelFrom, alter: Alter = lambda predictions: predictions) -> None:
        self.clock = FakeClock()
        self._models = model if isinstance(model, ModelFrom) else ModelFrom(0.0, model)
        self._alter = alter
        self._output = FakeKinesis(clock=self.clock)

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Accept rides and predict them at once."""
        assert StreamName == TARGET.input_stream
        self._output.put(b"another producer", b'{"not": "a prediction"}')
        records = kinesis_records(*(record["Data"] for record in Records))
        processed = process_by_arrival(records, [self._models])
        self._output.put(*self._alter([data for _, data in processed.entries]))
        return {"FailedRecordCount": 0, "Records": [{} for _ in Records]}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


@pytest.fixture
def s3(bundle: ExportedBundle) -> FakeS3:
    s3 = FakeS3()
    publish_bundle(s3, bundle)
    return s3


def run(
    s3: FakeS3, model: ModelBundle, alter: Alter = lambda predictions: predictions, n_rides: int = 20
) -> SmokeResult:
    return run_on(FakeStack(model, alter), s3, n_rides)


def run_on(stack: FakeStack, s3: FakeS3, n_rides: int) -> SmokeResult:
    trial = plan_trial(s3, TARGET, n_rides, "test")
    return run_trial(stack, TARGET, trial, PATIENCE_S, Timing(stack.clock, stack.clock.sleep))


def changed(data: bytes, **fields: object) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(data) | fields)


def with_minutes(data: bytes, minutes: float) -> bytes:
    prediction = decode_prediction(data).prediction
    return changed(data, prediction={"ride_duration": minutes, "ride_id": prediction.ride_id})


def test_stack_that_predicts_as_in_the_golden_file_has_no_problems(s3: FakeS3, model: ModelBundle) -> None:
    result = run(s3, model)

    assert result.problems == ()
    assert (result.n_sent, result.n_predicted, result.n_repeated) == (20, 20, 0)
    assert result.model_version == model.manifest.model_version


def test_more_rides_than_golden_rides_have_different_ids(s3: FakeS3, model: ModelBundle) -> None:
    result = run(s3, model, n_rides=250)

    assert (result.n_predicted, result.problems) == (250, ())


def test_ride_ids_have_a_prefix_and_the_run(s3: FakeS3) -> None:
    trial = plan_trial(s3, TARGET, 2, "run")

    assert list(trial.expected) == [f"{ID_PREFIX}run-0", f"{ID_PREFIX}run-1"]
    assert [key for key, _ in trial.entries] == list(trial.expected)


def test_prediction_that_comes_again_is_no_problem(s3: FakeS3, model: ModelBundle) -> None:
    result = run(s3, model, lambda predictions: [predictions[0], *predictions])

    assert (result.n_repeated, result.problems) == (1, ())


@pytest.mark.parametrize(
    ("alter", "problem", "first"),
    [
        (lambda ones: ones[1:], "have no prediction", 0),
        (lambda ones: [b"cut " + ones[0], *ones[1:]], "have no prediction", 0),
        (lambda ones: [*ones[:-1], with_minutes(ones[-1], 61.0)], "are not within 1 to 60 minutes", 19),
        (lambda ones: [changed(ones[0], interval=[59.5, 60.0]), *ones[1:]], "are not within 1 to 60 minutes", 0),
        (
            lambda ones: [with_minutes(ones[0], decode_prediction(ones[0]).prediction.ride_duration + 0.02), *ones[1:]],
            "have another prediction than the golden rides",
            0,
        ),
        (lambda ones: [changed(ones[0], prediction_id="another"), *ones], "have two predictions that differ", 0),
    ],
    ids=["missing", "can't be read", "out of range", "outside its interval", "off", "two"],
)
def test_each_fault_is_reported_with_its_first_ride(
    s3: FakeS3, model: ModelBundle, alter: Alter, problem: str, first: int
) -> None:
    assert f"1 of 20 rides {problem}, the first is smoke-test-{first}" in run(s3, model, alter).problems


def test_prediction_by_another_model_is_a_problem(s3: FakeS3, bundle: ExportedBundle) -> None:
    other = small_bundle(seed=2)

    result = run(s3, other.model)

    assert result.problems == (
        f"20 of 20 rides are not predicted by {bundle.model_version}, the first is smoke-test-0",
    )


@pytest.mark.parametrize("calibrated", [small_bundle, interval_bundle], ids=["durations", "durations and intervals"])
def test_calibrated_channel_is_compared_with_what_its_version_serves(
    calibrated: Callable[[], ExportedBundle],
) -> None:
    s3, model = FakeS3(), calibrated().model
    publish_bundle(s3, calibrated())
    calibration = calibration_of(model)
    calibrate_channel(Bucket(s3, BUCKET), "stable", calibration_bytes(calibration))

    good = run(s3, model.calibrated(calibration))
    plain = run(s3, model)

    assert (good.problems, good.model_version) == ((), f"{model.model_version}+{AS_OF}")
    assert f"20 of 20 rides are not predicted by {good.model_version}" in plain.problems[0]


def test_waiting_ends_at_the_time_limit(s3: FakeS3, model: ModelBundle) -> None:
    stack = FakeStack(model, lambda predictions: [])
    begun_s = stack.clock()

    result = run_on(stack, s3, 3)

    assert PATIENCE_S <= stack.clock() - begun_s < PATIENCE_S + 1
    assert result.problems == ("3 of 3 rides have no prediction, the first is smoke-test-0",)


def test_channel_without_a_model_is_an_error_with_a_remedy() -> None:
    with pytest.raises(UserError, match=r"channel stable .* holds no model: release one with `ridecast models"):
        plan_trial(FakeS3(), TARGET, 1, "test")


def test_lost_channel_is_an_error_with_its_own_remedy() -> None:
    s3 = FakeS3({f"history/stable/20261121T220000.000000Z-{small_bundle().model_version}.json": b"{}"})
    with pytest.raises(UserError, match=r"stable has a history .* is lost: .*`ridecast models restore"):
        plan_trial(s3, TARGET, 1, "test")


def test_trial_waits_until_every_function_has_read_a_moved_channel(s3: FakeS3) -> None:
    # GIVEN a first model, and then another
    assert seconds_to_wait(plan_trial(s3, TARGET, 1, "test"), datetime.now(UTC)) == 0.0
    moved_at = datetime.fromisoformat(publish_bundle(s3, small_bundle(seed=2), mover=this_mover()).moved_at)

    trial = plan_trial(s3, TARGET, 1, "test")

    assert seconds_to_wait(trial, moved_at) == pytest.approx(ACTIVATION_DELAY_S + 10, abs=0.1)
    assert seconds_to_wait(trial, moved_at + timedelta(seconds=140)) == pytest.approx(20, abs=0.1)
    assert seconds_to_wait(trial, moved_at + timedelta(days=1)) == 0.0


def test_trial_after_a_rollback_waits_until_every_function_has_read_it(s3: FakeS3) -> None:
    # GIVEN a segment that serves already, and then gets another version
    publish_bundle(s3, small_bundle(seed=2))
    moved = rollback(Bucket(s3, BUCKET), "stable", small_bundle().model_version)

    trial = plan_trial(s3, TARGET, 1, "test")

    assert trial.model_version == small_bundle().model_version
    assert seconds_to_wait(trial, datetime.fromisoformat(moved.now.moved_at)) == TARGET.refresh_s + 10


def cloudformation_of(outputs: dict[str, str], parameters: dict[str, str]) -> Any:
    """Return a client that describes one stack under any name."""
    stack = {
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()],
        "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
    }
    return SimpleNamespace(describe_stacks=lambda **_: {"Stacks": [stack]})


OUTPUTS = {"RideEventsStream": "ride-events", "RidePredictionsStream": "ride-predictions", "BucketName": BUCKET}


def smoke_after_a_move(s3: FakeS3, patience_s: float, progress: Progress) -> tuple[SmokeResult, float]:
    """Test a stack whose channel has just moved; return the result and the seconds on the fake clock."""
    newer = small_bundle(seed=2)
    publish_bundle(s3, newer, mover=this_mover())
    stack = FakeStack(newer.model)
    begun_s = stack.clock()
    cloudformation = cloudformation_of(OUTPUTS, {"ModelChannel": "stable", "ModelRefreshSeconds": "60"})
    clients = {"cloudformation": cloudformation, "s3": s3, "kinesis": stack}
    result = smoke(clients.__getitem__, "ridecast", 5, patience_s, progress, Timing(stack.clock, stack.clock.sleep))
    return result, stack.clock() - begun_s


def test_rides_are_sent_after_functions_have_followed_a_move(s3: FakeS3) -> None:
    said: list[str] = []
    counted: list[int] = []

    result, took_s = smoke_after_a_move(s3, 300, Progress(say=said.append, count=counted.append))

    assert (result.n_predicted, result.problems) == (5, ())
    assert 0 < took_s < 165
    assert counted[-1] == 5
    assert [sentence.partition(",")[0] for sentence in said] == ["channel stable has just moved"]


def test_wait_beyond_the_time_limit_is_an_error_with_a_remedy(s3: FakeS3) -> None:
    with pytest.raises(UserError, match=r"channel stable has just moved, .* or with --patience-s \d+$"):
        smoke_after_a_move(s3, 5, Progress())


def test_stack_of_another_template_is_an_error() -> None:
    with pytest.raises(
        UserError,
        match="stack other has no RideEventsStream, RidePredictionsStream, BucketName, ModelChannel, ModelRefresh",
    ):
        target_of(cloudformation_of({}, {}), "other")
