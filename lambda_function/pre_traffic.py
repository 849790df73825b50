"""CodeDeploy's hook before a new version gets traffic: it must predict the golden rides and be able to publish.

A version that does not start, predicts one golden ride of the channel's model wrong, or may not publish stops the
deployment. If there is no model yet, the hook only checks that the version starts and may publish.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
from aws_lambda_powertools import Logger
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from lambda_function.aws.model_store import GetObject
from lambda_function.aws.output_path import OutputPath
from lambda_function.aws.settings import PreTrafficSettings
from lambda_function.core.bundle import GOLDEN, MANIFEST, GoldenRide, bundle_key, decode_golden_rides, decode_manifest
from lambda_function.core.calibration import calibration_key, load_calibration
from lambda_function.core.channel import Segment, channel_key, decode_channel, remedy
from lambda_function.core.rehearsal import decode_answer, problem_with, rehearsal_event, served_golden_rides
from lambda_function.errors import CalibrationError, ChannelError

ATTEMPTS = 3
"""A channel may move between the hook's read and the version's, and S3 may fail a version's first start."""

INVOKE_TIMEOUT_S = 80
"""The time for a start and an answer; ATTEMPTS of them fit into this function's own timeout."""

NO_MODEL = "there is no model yet: the version starts and may publish, nothing else was checked"
PASSED = "the version predicts the golden rides and may publish"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a trial."""

    passed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Trial:
    """The trial of a new version with the model that it will serve. `function` is a Lambda client."""

    settings: PreTrafficSettings
    s3: GetObject
    function: Any
    output_path: OutputPath

    def run(self) -> Verdict:
        """Check the output path, which a rehearsal does not use; then let the version predict the golden rides.

        A failure of the version is repeated: it may be the network's.
        """
        if problem := self.output_path.problem(self.settings.new_version):
            return Verdict(passed=False, why=problem)
        verdict = self._attempt()
        for _ in range(ATTEMPTS - 1):
            if verdict.passed:
                break
            verdict = self._attempt()
        return verdict

    def _attempt(self) -> Verdict:
        channel_data = self._read(channel_key(self.settings.model_channel))
        if channel_data is None:
            problem, _ = self._invoke({"Records": []})
            return Verdict(not problem, problem or NO_MODEL)
        try:
            newest = decode_channel(channel_data).segments[0]
        except ChannelError as error:
            how = remedy(error, self.settings.model_channel, self.settings.bucket)
            return Verdict(passed=False, why=f"{error}: {how}")
        golden_data = self._read(bundle_key(newest.model_version, GOLDEN))
        if golden_data is None:
            return Verdict(passed=False, why=f"the channel names {newest.model_version}, which has no golden rides")
        try:
            golden = self._as_served(newest, decode_golden_rides(golden_data))
        except CalibrationError as error:
            return Verdict(passed=False, why=str(error))
        problem = self._rehearse(newest.served_versions, golden)
        return Verdict(not problem, problem or PASSED)

    def _as_served(self, segment: Segment, golden: list[GoldenRide]) -> list[GoldenRide]:
        """Return golden rides with what the segment's champion serves for them."""
        reference, model_version = segment.calibration_of(segment.arm), segment.model_version
        if reference is None:
            return golden
        data = self._read(calibration_key(model_version, reference.as_of))
        calibration = load_calibration(model_version, reference.as_of, reference.sha256, data)
        manifest = decode_manifest(self._read(bundle_key(model_version, MANIFEST)) or b"")
        return served_golden_rides(golden, manifest, calibration)

    def _rehearse(self, served_versions: tuple[str, ...], golden: list[GoldenRide]) -> str:
        """Return the problem with the version's predictions, or ""."""
        problem, payload = self._invoke(rehearsal_event(golden))
        if problem:
            return problem
        try:
            answer = decode_answer(payload)
        except msgspec.MsgspecError as error:
            return f"the version does not answer a rehearsal: {error}"
        serves = tuple(filter(None, (answer.model_version, answer.candidate_version)))
        if serves != served_versions:
            return f"the version serves {' and '.join(serves)}, but the channel names {' and '.join(served_versions)}"
        return problem_with(answer, golden)

    def _invoke(self, event: dict[str, Any]) -> tuple[str, bytes]:
        """Invoke the version; return the problem, or "", and its answer."""
        answer = self.function.invoke(FunctionName=self.settings.new_version, Payload=json.dumps(event).encode())
        payload: bytes = answer["Payload"].read()
        if "FunctionError" in answer:
            return f"the version fails: {payload.decode(errors='replace')}", b""
        return "", payload

    def _read(self, key: str) -> bytes | None:
        try:
            data: bytes = self.s3.get_object(Bucket=self.settings.bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_FOUND:
                return None
            raise
        return data


def decide(event: dict[str, str], deployments: Any, trial: Callable[[], Verdict], logger: Logger) -> None:
    """Report the verdict to CodeDeploy, always: it waits an hour for a hook that reports nothing.

    Args:
        event: CodeDeploy's event: the deployment and its hook.
        deployments: A CodeDeploy client; receives the verdict.
        trial: Tries the version; an exception counts as a failure.
        logger: Receives the reason.
    """
    try:
        verdict = trial()
    except Exception as error:
        logger.exception("the trial itself failed")
        verdict = Verdict(passed=False, why=f"{type(error).__name__}: {error}")
    log = logger.info if verdict.passed else logger.error
    log("pre-traffic hook", extra={"passed": verdict.passed, "why": verdict.why})
    deployments.put_lifecycle_event_hook_execution_status(
        deploymentId=event["DeploymentId"],
        lifecycleEventHookExecutionId=event["LifecycleEventHookExecutionId"],
        status="Succeeded" if verdict.passed else "Failed",
    )


def lambda_handler(event: dict[str, str], context: object) -> None:  # noqa: ARG001 - Lambda's signature
    """Try the new version and report to CodeDeploy, which invokes this function."""
    client: Callable[..., Any] = Session().create_client

    def trial() -> Verdict:
        settings = PreTrafficSettings.from_env()
        patient = Config(read_timeout=INVOKE_TIMEOUT_S, retries={"total_max_attempts": 1})
        # A service that hangs must not use the time in which CodeDeploy has to hear of it.
        brief = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})
        output_path = OutputPath(*(client(service, config=brief) for service in ("lambda", "kinesis", "kms", "iam")))
        return Trial(settings, client("s3"), client("lambda", config=patient), output_path).run()

    # Logger() reads POWERTOOLS_SERVICE_NAME itself, so that a missing setting can be logged too.
    decide(event, client("codedeploy"), trial, Logger())
