"""The pre-traffic hook: a version gets rides only if it predicts the golden ones, and CodeDeploy always hears of it."""

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from aws_lambda_powertools import Logger
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from lambda_function.aws.settings import PreTrafficSettings
from lambda_function.core.bundle import GOLDEN, bundle_key, decode_golden_rides
from lambda_function.core.rehearsal import is_rehearsal, rehearsal_event
from lambda_function.errors import ConfigurationError
from lambda_function.pre_traffic import ATTEMPTS, NO_MODEL, PASSED, Trial, Verdict, decide, lambda_handler
from tests.builders import golden_of, interval_bundle, invocation, lambda_record, ride_bytes, small_bundle
from tests.builders_calibrations import AS_OF, calibration_bytes, calibration_of
from tests.fakes import BUCKET, FakeContext, FakeFunction, point_channel, publish_bundle
from tests.fakes_output_path import NEW_VERSION, FakeAccount
from tests.outcomes import DENIED, SERVICE_DOWN
from tests.unit.test_channel import DAMAGED
from training.model.bundle import ExportedBundle
from training.registry.bucket import Bucket
from training.registry.channels import calibrate_channel

SETTINGS = PreTrafficSettings(bucket=BUCKET, model_channel="stable", new_version=NEW_VERSION)
EVENT = {"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "hook-1"}

Alter = Callable[[dict[str, Any]], object]


@dataclass
class FakeLambda:
    """Lambda with one new version that runs this code; `alter` changes its answer."""

    version: FakeFunction
    alter: Alter = lambda answer: None
    script: list[Exception] = field(default_factory=list)  # Errors to raise instead of one start each
    events: list[dict[str, Any]] = field(default_factory=list)  # what it was invoked with

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        """Invoke the version as Lambda does: JSON in, JSON out; an error becomes a mark and a payload."""
        assert FunctionName == NEW_VERSION
        event = json.loads(Payload)
        self.events.append(event)
        if self.script:
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(str(self.script.pop(0)).encode())}
        try:
            answer = json.loads(json.dumps(self.version.handler(event, FakeContext(self.version.clock))))
        except Exception as error:  # noqa: BLE001 - Lambda catches every error
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(str(error).encode())}
        self.alter(answer)
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


@dataclass
class FakeDeployments:
    """CodeDeploy: takes verdicts."""

    statuses: list[dict[str, str]] = field(default_factory=list)

    def put_lifecycle_event_hook_execution_status(self, **status: str) -> None:
        """Record a verdict."""
        self.statuses.append(status)


def trial(function: FakeLambda, account: FakeAccount | None = None) -> Verdict:
    return Trial(SETTINGS, function.version.s3, function, (account or FakeAccount()).output_path()).run()


def altered_prediction(place: int, **changes: Any) -> Alter:
    def alter(answer: dict[str, Any]) -> None:
        prediction = json.loads(answer["predictions"][place])
        for name, value in changes.items():
            target = prediction if name in prediction else prediction["prediction"]
            target[name] = value
        answer["predictions"][place] = json.dumps(prediction)

    return alter


@pytest.fixture
def function() -> FakeLambda:
    return FakeLambda(FakeFunction(small_bundle()))


@pytest.mark.parametrize("bundle", [small_bundle, interval_bundle], ids=["durations", "durations and intervals"])
def test_version_that_predicts_all_golden_rides_passes(bundle: Callable[[], ExportedBundle]) -> None:
    function = FakeLambda(FakeFunction(bundle()))

    assert trial(function) == Verdict(passed=True, why=PASSED)
    assert len(function.events[0]["Records"]) == len(golden_of(bundle())) == 100


@pytest.mark.parametrize("has_model", [True, False])
def test_version_that_may_not_publish_gets_no_traffic(function: FakeLambda, has_model: bool) -> None:
    """Measured before: a version with the wrong output stream passed, because a rehearsal publishes nothing."""
    if not has_model:
        function.version.s3.objects.clear()
    account = FakeAccount()
    account.variables["OUTPUT_STREAM"] = "nope"

    verdict = trial(function, account)

    assert not verdict.passed
    assert verdict.why.endswith("stream/nope does not exist")


def test_rehearsal_reaches_neither_the_output_stream_nor_the_bucket(function: FakeLambda) -> None:
    before = dict(function.version.s3.objects)

    trial(function)

    assert function.version.kinesis.put_sizes == []
    assert function.version.s3.objects == before


def test_rehearsal_of_rides_that_are_rejected_stores_no_reject(function: FakeLambda) -> None:
    answer = function.version.handler(
        {**invocation(b"no ride"), "rehearsal": True}, FakeContext(function.version.clock)
    )

    assert len(answer["rejects"]) == 1
    assert function.version.s3.keys("rejects/") == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ride_duration": 1.0}, "golden ride 5 is predicted to take 1.0 minutes, and takes"),
        ({"version": "green-2021-01-000000000000"}, "golden ride 5 is answered as"),
        ({"prediction_id": "shardId-000000000000:6"}, "golden ride 5 is answered as"),
        ({"model": 3}, "its prediction of golden ride 5 does not decode"),
    ],
    ids=["duration", "model version", "prediction id", "form"],
)
def test_version_that_is_off_by_one_ride_is_stopped(function: FakeLambda, changes: dict[str, Any], why: str) -> None:
    function.alter = altered_prediction(5, **changes)

    verdict = trial(function)

    assert not verdict.passed
    assert verdict.why.startswith(why)


def test_version_that_is_off_by_a_hundredth_of_a_minute_is_stopped(function: FakeLambda) -> None:
    minutes = round(golden_of(small_bundle())[5]["duration_minutes"], 2)
    function.alter = altered_prediction(5, ride_duration=round(minutes + 0.01, 2))
    assert not trial(function).passed

    function.alter = altered_prediction(5, ride_duration=minutes)
    assert trial(function).passed


def test_version_that_is_off_in_an_interval_is_stopped() -> None:
    function = FakeLambda(FakeFunction(interval_bundle()), alter=altered_prediction(7, interval=[1.0, 2.0]))

    assert trial(function).why.startswith("golden ride 7 has the interval (1.0, 2.0), where")


@pytest.mark.parametrize("answer", [{"predictions": []}, {"rejects": ["0: Expected `object`"]}], ids=["less", "reject"])
def test_version_that_leaves_rides_out_is_stopped(function: FakeLambda, answer: dict[str, Any]) -> None:
    function.alter = lambda whole: whole.update(answer)
    verdict = trial(function)

    assert not verdict.passed
    assert re.match(r"it (rejects 1|predicts 0 of 100) golden rides", verdict.why)


def test_version_without_rehearsals_is_stopped(function: FakeLambda) -> None:
    function.alter = lambda answer: answer.pop("model_version")

    assert trial(function).why.startswith("the version does not answer a rehearsal")


def test_version_that_never_starts_is_stopped_with_its_own_words(function: FakeLambda) -> None:
    function.script = [ConfigurationError("BUCKET", "is missing")] * ATTEMPTS

    assert trial(function) == Verdict(passed=False, why="the version fails: setting BUCKET is missing")


def test_version_whose_first_start_fails_gets_another_try(function: FakeLambda) -> None:
    function.script = [SERVICE_DOWN] * (ATTEMPTS - 1)

    assert trial(function).passed


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: repr(data)[:20])
def test_damaged_channel_stops_the_deployment_with_the_remedy(function: FakeLambda, data: bytes) -> None:
    point_channel(function.version.s3, data)

    verdict = trial(function)

    assert not verdict.passed
    assert verdict.why.startswith("the channel is damaged: ")
    assert verdict.why.endswith(f"with `ridecast models restore --channel stable --bucket {BUCKET}`")


def test_channel_that_moves_between_two_reads_stops_nothing(function: FakeLambda) -> None:
    # GIVEN a version that has read the channel, and a channel that has moved since
    trial(function)
    publish_bundle(function.version.s3, small_bundle(seed=2))
    # WHEN the version has the earlier model until it reads the channel again
    stale = trial(function)
    function.version.clock.now_s += 61
    # THEN this does not count as a fault of its code
    assert "but the channel names" in stale.why
    assert trial(function).passed


def test_stack_without_a_model_may_be_deployed_to_if_the_version_starts(function: FakeLambda) -> None:
    function.version.s3.objects.clear()

    assert trial(function) == Verdict(passed=True, why=NO_MODEL)
    assert function.events == [{"Records": []}]


def test_stack_without_a_model_does_not_get_a_version_that_does_not_start(function: FakeLambda) -> None:
    function.version.s3.objects.clear()
    function.script = [ConfigurationError("BUCKET", "is missing")] * ATTEMPTS

    assert not trial(function).passed


def test_bundle_without_golden_rides_stops_the_deployment(function: FakeLambda) -> None:
    del function.version.s3.objects[bundle_key(small_bundle().model_version, GOLDEN)]

    assert "has no golden rides" in trial(function).why


def calibrated_function(bundle: ExportedBundle) -> FakeLambda:
    function = FakeLambda(FakeFunction(bundle))
    bucket = Bucket(function.version.s3, BUCKET)
    calibrate_channel(bucket, "stable", calibration_bytes(calibration_of(bundle.model)))
    return function


@pytest.mark.parametrize("bundle", [small_bundle, interval_bundle], ids=["durations", "durations and intervals"])
def test_version_that_predicts_all_golden_rides_with_the_channels_calibration_passes(
    bundle: Callable[[], ExportedBundle],
) -> None:
    function = calibrated_function(bundle())

    assert trial(function) == Verdict(passed=True, why=PASSED)


def test_version_that_does_not_calibrate_is_stopped() -> None:
    function = calibrated_function(interval_bundle())
    served = f"{interval_bundle().model_version}+{AS_OF}"
    golden = golden_of(interval_bundle())[5]
    function.alter = altered_prediction(5, ride_duration=round(golden["duration_minutes"], 2))
    assert trial(function).why.startswith("golden ride 5 is predicted to take")
    function.alter = altered_prediction(5, interval=golden["interval"])
    assert trial(function).why.startswith("golden ride 5 has the interval")
    function.alter = lambda answer: answer.update(model_version=interval_bundle().model_version)
    assert trial(function).why.endswith(f"but the channel names {served}")


def test_damaged_calibration_stops_the_deployment_with_the_remedy() -> None:
    function = calibrated_function(interval_bundle())
    (key,) = function.version.s3.keys("calibrations/")
    del function.version.s3.objects[key]

    verdict = trial(function)

    assert not verdict.passed
    assert verdict.why.startswith(f"{key} is missing: put the right object back, or withdraw the calibration with")


# What a rehearsal is ------------------------------------------------------------------------------------------------


def test_golden_rides_have_the_form_of_lambdas_records() -> None:
    golden = decode_golden_rides(small_bundle().files[GOLDEN])
    event = rehearsal_event(golden)

    assert is_rehearsal(event)
    assert [base64.b64decode(one["kinesis"]["data"]) for one in event["Records"]] == [bytes(g.event) for g in golden]
    assert event["Records"][0].keys() <= lambda_record(b"").keys()
    assert event["Records"][0]["kinesis"].keys() <= lambda_record(b"")["kinesis"].keys()


@pytest.mark.parametrize("mark", ["true", 1, [True], {"rehearsal": True}, None, False])
def test_nothing_but_true_makes_a_rehearsal(mark: object) -> None:
    assert not is_rehearsal({**invocation(ride_bytes()), "rehearsal": mark})


@given(st.binary(max_size=60) | st.sampled_from([b'{"rehearsal":true}', b'"rehearsal":true', b"rehearsal"]), st.text())
def test_no_record_makes_its_invocation_a_rehearsal(data: bytes, partition_key: str) -> None:
    # GIVEN an invocation as Lambda builds it from any bytes of a producer
    record = lambda_record(data)
    record["kinesis"]["partitionKey"] = partition_key
    event = json.loads(json.dumps({"Records": [record, lambda_record(ride_bytes(), 1)]}))

    assert not is_rehearsal(event)


def test_hostile_record_is_a_reject_and_its_neighbour_is_published(function: FakeLambda) -> None:
    hostile = b'{"rehearsal": true, "Records": []}'

    assert function.version.invoke(invocation(hostile, ride_bytes())) == ""
    assert len(function.version.kinesis.taken) == 1
    assert len(function.version.s3.keys("rejects/")) == 1


# What CodeDeploy hears ----------------------------------------------------------------------------------------------


@pytest.fixture
def logger() -> Logger:
    return Logger(service="pre-traffic-test", stream=io.StringIO())


@pytest.mark.parametrize(("passed", "status"), [(True, "Succeeded"), (False, "Failed")])
def test_codedeploy_hears_the_verdict_once(logger: Logger, passed: bool, status: str) -> None:
    deployments = FakeDeployments()
    decide(EVENT, deployments, lambda: Verdict(passed, "because"), logger)

    assert deployments.statuses == [
        {"deploymentId": "d-1", "lifecycleEventHookExecutionId": "hook-1", "status": status}
    ]


@pytest.mark.parametrize(
    "error",
    [DENIED, ConfigurationError("NEW_VERSION", "is missing"), msgspec.ValidationError("no channel")],
    ids=["denied", "setting", "channel"],
)
def test_trial_that_breaks_down_stops_the_deployment_at_once(logger: Logger, error: Exception) -> None:
    def broken() -> Verdict:
        raise error

    deployments = FakeDeployments()
    decide(EVENT, deployments, broken, logger)

    assert [one["status"] for one in deployments.statuses] == ["Failed"]


def test_bucket_that_forbids_reading_breaks_the_trial_down(function: FakeLambda) -> None:
    function.version.s3.script = [DENIED]

    with pytest.raises(type(DENIED), match="AccessDenied"):
        trial(function)


def test_setting_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError, match="NEW_VERSION is missing"):
        PreTrafficSettings.from_env({"BUCKET": BUCKET, "MODEL_CHANNEL": "stable"})


@pytest.mark.parametrize(("missing", "status"), [("", "Succeeded"), ("NEW_VERSION", "Failed")])
def test_entry_point_tells_codedeploy_and_logs_under_its_stacks_name(
    function: FakeLambda,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
    status: str,
) -> None:
    # GIVEN the hook's environment, complete or not
    name = f"ridecast-prod/pre-traffic{missing}"  # of its own in each test: a logger stays with the output of its first
    variables = {
        "BUCKET": BUCKET,
        "MODEL_CHANNEL": "stable",
        "NEW_VERSION": NEW_VERSION,
        "POWERTOOLS_SERVICE_NAME": name,
    }
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv(missing, raising=False)
    deployments = FakeDeployments()
    account = FakeAccount()
    monkeypatch.setattr(function, "get_function_configuration", account.get_function_configuration, raising=False)
    clients = {"s3": function.version.s3, "lambda": function, "codedeploy": deployments}
    clients |= dict.fromkeys(("kinesis", "kms", "iam"), account)
    monkeypatch.setattr(Session, "create_client", lambda _, service, **__: clients[service])
    # WHEN CodeDeploy invokes it
    lambda_handler(EVENT, None)
    # THEN it gets the failure, and the log has it
    assert [one["status"] for one in deployments.statuses] == [status]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    hook = [line for line in lines if line["message"] == "pre-traffic hook"]
    assert [(line["service"], line["passed"]) for line in hook] == [(name, not missing)]
    assert missing in hook[0]["why"]
