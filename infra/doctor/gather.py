"""Facts of a deployed stack, gathered with boto3 clients; what may not be looked at is noted, and the rest goes on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from infra.bucket import Bucket
from infra.doctor.drift import differences, parse_deployed
from infra.doctor.facts import (
    AlarmFacts,
    FunctionFacts,
    MappingFacts,
    ModelFacts,
    QuotaFacts,
    StackFacts,
    StreamFacts,
)
from infra.doctor.metrics import MINUTE_S, Metric, by_minute
from infra.errors import NoSuchStackError
from infra.kept.bucket import FAILURES, REJECTS
from infra.kept.marks import PREFIX as REDRIVEN
from infra.transform import read_template
from lambda_function.errors import ConfigurationError, PredictorError, StoreError
from lambda_function.model_store import ModelStore
from lambda_function.settings import Settings

_ALARMS_A_CALL = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Doctor:
    """Looks at one stack.

    Attributes:
        client: Makes a boto3 client of a service.
        stack_name: The stack.
        window_minutes: How far back the metrics go.
        template: The local template to compare with; None compares nothing.
        now: Tells the time, aware.
    """

    client: Callable[[str], Any]
    stack_name: str
    window_minutes: int = 60
    template: Path | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def gather(self) -> StackFacts:
        """Looks at everything once.

        Raises:
            NoSuchStackError: There is no such stack, or it may not be described.
        """
        status, outputs = self._stack()
        unseen: dict[str, str] = {}

        def look(name: str, part: Callable[[], T], otherwise: T) -> T:
            try:
                return part()
            except (ClientError, BotoCoreError, StoreError) as error:
                unseen[name] = " ".join(str(error).split())
                return otherwise

        function = outputs.get("FunctionAliasArn") or outputs["FunctionName"]
        nothing: Mapping[str, str] = {}
        variables = look("settings", lambda: self._variables(function), nothing)
        return StackFacts(
            name=self.stack_name,
            status=status,
            window_minutes=self.window_minutes,
            model=look("model", lambda: self._model(variables), None) if variables else None,
            function=look("function", lambda: self._function(function, variables), None),
            mapping=look("mapping", lambda: self._mapping(function), None),
            streams=look("streams", lambda: self._streams(outputs), ()),
            alarms=look("alarms", self._alarms, ()),
            quotas=look("quotas", self._quotas, ()),
            drift=look("drift", self._drift, None),
            n_kept=look("rejects and failures", lambda: self._kept(outputs["BucketName"]), {}),
            unseen=unseen,
        )

    def _stack(self) -> tuple[str, dict[str, str]]:
        try:
            (stack,) = self.client("cloudformation").describe_stacks(StackName=self.stack_name)["Stacks"]
        except ClientError as error:
            raise NoSuchStackError(self.stack_name, str(error)) from error
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}
        if "FunctionName" not in outputs:
            raise NoSuchStackError(self.stack_name, f"it is {stack['StackStatus']}, and has no output FunctionName")
        return stack["StackStatus"], outputs

    def _variables(self, function: str) -> Mapping[str, str]:
        found = self.client("lambda").get_function_configuration(FunctionName=function)
        return {name: str(value) for name, value in found["Environment"]["Variables"].items()}

    def _model(self, variables: Mapping[str, str]) -> ModelFacts:
        bucket, channel = variables["BUCKET"], variables["MODEL_CHANNEL"]
        store = ModelStore(
            self.client("s3"),
            bucket,
            channel,
            refresh_s=1,
            signing_key=variables.get("MODEL_SIGNING_KEY", ""),
            make_kms=lambda _: self.client("kms"),
        )
        try:
            return ModelFacts(bucket, channel, store.refresh().model.model_version)
        except PredictorError as error:
            return ModelFacts(bucket, channel, problem=str(error))

    def _function(self, function: str, variables: Mapping[str, str]) -> FunctionFacts:
        found = self.client("lambda").get_function_configuration(FunctionName=function)
        sums = by_minute(
            self.client("cloudwatch"),
            self._window(),
            [
                Metric("ridecast", name, ("service", variables.get("POWERTOOLS_SERVICE_NAME", "ridecast")), statistic)
                for name, statistic in _FUNCTION_METRICS
            ],
        )
        values = {name: sum(series) for (name, _), series in zip(_FUNCTION_METRICS[:-1], sums, strict=False)}
        return FunctionFacts(
            name=found["FunctionName"],
            state=found.get("State", "Active"),
            settings_problem=_settings_problem(variables),
            n_records=int(values["Records"]),
            n_predictions=int(values["Predictions"]),
            n_rejects=int(values["Rejects"]),
            n_failed_invocations=int(values["FailedInvocations"]),
            n_refresh_failures=int(values["ModelRefreshFailures"]),
            max_record_age_s=max(sums[-1], default=0.0) / 1000,
        )

    def _mapping(self, function: str) -> MappingFacts:
        found = self.client("lambda").list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
        if not found:
            return MappingFacts("not there", "")
        return MappingFacts(found[0]["State"], found[0].get("LastProcessingResult", ""))

    def _streams(self, outputs: Mapping[str, str]) -> tuple[StreamFacts, ...]:
        return (
            self._stream(outputs["RideEventsStream"], "input"),
            self._stream(outputs["RidePredictionsStream"], "output"),
        )

    def _stream(self, name: str, role: str) -> StreamFacts:
        summary = self.client("kinesis").describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        records, n_bytes, throttled, throttled_one = by_minute(
            self.client("cloudwatch"),
            self._window(),
            [Metric("AWS/Kinesis", metric, ("StreamName", name), "Sum") for metric in _STREAM_METRICS],
        )
        return StreamFacts(
            name=name,
            role=role,
            n_open_shards=summary["OpenShardCount"],
            is_on_demand=summary.get("StreamModeDetails", {}).get("StreamMode") == "ON_DEMAND",
            peak_records_per_s=max(records, default=0.0) / MINUTE_S,
            peak_bytes_per_s=max(n_bytes, default=0.0) / MINUTE_S,
            n_throttled=int(sum(throttled) + sum(throttled_one)),
        )

    def _window(self) -> tuple[datetime, datetime]:
        end = self.now()
        return end - timedelta(minutes=self.window_minutes), end

    def _alarms(self) -> tuple[AlarmFacts, ...]:
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack_name)
        resources = [resource for page in pages for resource in page["StackResourceSummaries"]]
        names = [one["PhysicalResourceId"] for one in resources if one["ResourceType"] in _ALARM_TYPES]
        cloudwatch = self.client("cloudwatch")
        described = [
            cloudwatch.describe_alarms(
                AlarmNames=names[start : start + _ALARMS_A_CALL], AlarmTypes=["MetricAlarm", "CompositeAlarm"]
            )
            for start in range(0, len(names), _ALARMS_A_CALL)
        ]
        return tuple(
            AlarmFacts(alarm["AlarmName"], alarm["StateValue"], alarm.get("StateReason", ""), alarm["ActionsEnabled"])
            for answer in described
            for alarm in (*answer["MetricAlarms"], *answer["CompositeAlarms"])
        )

    def _quotas(self) -> tuple[QuotaFacts, ...]:
        shards = self.client("kinesis").describe_limits()
        return (QuotaFacts("shards of the account", shards["OpenShardCount"], shards["ShardLimit"]),)

    def _drift(self) -> tuple[str, ...] | None:
        if self.template is None:
            return None
        answer = self.client("cloudformation").get_template(StackName=self.stack_name, TemplateStage="Original")
        return differences(read_template(self.template), parse_deployed(answer["TemplateBody"]))

    def _kept(self, name: str) -> dict[str, int]:
        bucket = Bucket(self.client("s3"), name)
        marked = {key.removeprefix(REDRIVEN) for key in bucket.keys(REDRIVEN)}
        return {kind.name: _count(kind.keys(bucket), marked) for kind in (REJECTS, FAILURES)}


def _count(keys: Iterable[str], marked: set[str]) -> int:
    """Counts objects without a mark: one of which a part is redriven has one, and is not counted."""
    return sum(key not in marked for key in keys)


def _settings_problem(variables: Mapping[str, str]) -> str:
    try:
        Settings.from_env(variables)
    except ConfigurationError as error:
        return str(error)
    return ""


_FUNCTION_METRICS = (
    ("Records", "Sum"),
    ("Predictions", "Sum"),
    ("Rejects", "Sum"),
    ("FailedInvocations", "Sum"),
    ("ModelRefreshFailures", "Sum"),
    ("RecordAge", "Maximum"),
)

_STREAM_METRICS = (
    "IncomingRecords",
    "IncomingBytes",
    "PutRecords.ThrottledRecords",
    "WriteProvisionedThroughputExceeded",
)

_ALARM_TYPES = {"AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"}
