"""The metrics that exist: our own, from the output of `Telemetry`, and AWS's, from its documentation."""

import contextlib
import io
import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lambda_function.aws.telemetry import ArchiveReport, ArchiveTelemetry, BatchReport, Telemetry
from lambda_function.core.events import REJECT_REASONS
from training.functions.monitor_telemetry import MonitorTelemetry
from training.functions.telemetry import JoinTelemetry
from training.functions.work import CollectTelemetry, TrainTelemetry
from training.monitoring.monitor.figures import Figures, HourFigures, RawAndServed
from training.monitoring.monitor.monitor import MonitorRun
from training.monitoring.monitor.status import GroupStatus, MonitorStatus
from training.monitoring.summary import HourSummary, Sums
from training.workflows.loop.requests import Collected

NAMESPACE, SERVICE = "ridecast", "metrics-kit"

AWS_METRICS: dict[tuple[str, str], tuple[str, ...]] = {
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    ("AWS/Lambda", "FunctionName"): (
        "DestinationDeliveryFailures", "Duration", "Errors", "Invocations", "IteratorAge", "Throttles",
    ),
    ("AWS/Lambda", "EventSourceMappingUUID"): ("DroppedEventCount", "OnFailureDestinationDeliveredEventCount"),
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
    ("AWS/Events", "RuleName"): ("Invocations",),
    # https://docs.aws.amazon.com/streams/latest/dev/monitoring-with-cloudwatch.html
    ("AWS/Kinesis", "StreamName"): (
        "IncomingBytes", "IncomingRecords", "PutRecords.TotalRecords", "WriteProvisionedThroughputExceeded",
    ),
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    ("AWS/SQS", "QueueName"): (
        "ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesVisible",
    ),
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/CloudWatch-Logs-Monitoring-CloudWatch-Metrics.html
    ("AWS/Logs", "LogGroupName"): ("IncomingBytes",),
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-metrics.html
    ("AWS/ApiGateway", "ApiId"): ("4xx", "5xx", "Count", "Latency"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, and the names of its dimensions."""

    namespace: str
    name: str
    dimensions: frozenset[str]


def own_metrics() -> set[Metric]:
    """Return every metric that the functions write for a full batch, an hour or a run, and for a failed invocation."""
    return {
        Metric(directive["Namespace"], metric["Name"], frozenset(names))
        for line in own_lines()
        for directive in line["_aws"]["CloudWatchMetrics"]
        for names in directive["Dimensions"]
        for metric in directive["Metrics"]
    }


def own_lines() -> list[dict[str, Any]]:
    """Return the lines of metrics of a full batch or an hour, and of a failed invocation, of each function."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        telemetry = Telemetry(SERVICE, NAMESPACE, "INFO")
        telemetry.report(
            BatchReport(
                stream="ride-events",
                shard_id="shardId-000000000000",
                first_sequence_number="4959",
                n_records=10,
                max_record_age_ms=1500.0,
                n_predictions=4,
                rejects_by_reason=Counter(REJECT_REASONS),
                model_version="green-2021-01-000000000000",
                channel_is_stale=True,
            )
        )
        telemetry.failed(ValueError())
        archive = ArchiveTelemetry(SERVICE, NAMESPACE, "INFO")
        archive.report(
            ArchiveReport(
                stream="ride-events",
                kind="rides",
                shard_id="shardId-000000000000",
                first_sequence_number="4959",
                n_records=10,
                n_objects=1,
                n_bytes=310,
            )
        )
        archive.failed(ValueError())
        join = JoinTelemetry(SERVICE, NAMESPACE, "INFO")
        join.joined(HourSummary(hour="2026-08-01T09", pass_number=1, horizon_minutes=180), 1.0)
        join.hour_failed("2026-08-01T09", ValueError())
        monitor = MonitorTelemetry(SERVICE, NAMESPACE, "INFO")
        monitor.ran(_monitor_run(), datetime(2026, 8, 1, 12, tzinfo=UTC), 1.0)
        monitor.failed(ValueError())
        for work in (CollectTelemetry(SERVICE, NAMESPACE, "INFO"), TrainTelemetry(SERVICE, NAMESPACE, "INFO")):
            collected = Collected(key="", sha256="", n_rides=1, first="2026-08-01", last="2026-10-31")
            work.done("run-1", collected, 1.0, was_awaited=True)
            work.refused("run-1", ValueError(), 1.0)
    lines = [json.loads(line) for line in out.getvalue().splitlines() if '"_aws"' in line]
    return [line for line in lines if "_aws" in line]


def _monitor_run() -> MonitorRun:
    """Return a run that has added an hour with a judged ride, and has judged both groups."""
    sums = Sums(n=1, n_with_interval=1)
    figures = Figures(n_judged=1, errors=RawAndServed(sums, sums))
    hour = HourFigures(hour="2026-08-01T09", model_version="green-2021-01-000000000000", figures=figures)
    groups = tuple(GroupStatus(group=group, state="ok") for group in ("data", "performance"))
    status = MonitorStatus(written_at="", channel="stable", groups=groups, last_judged="2026-08-01T09")
    return MonitorRun(status, (hour,), n_days=0, n_left=0, n_sent=0, failures=())


def in_stack(stack_name: str, value: Any) -> str:
    """Return a dimension's value in a stack of this name, on its own streams; a resource becomes a unique name."""
    named = {"AWS::StackName": stack_name, "AWS::Region": "us-east-1"}
    if isinstance(value, dict):
        _, value, _ = value.get("Fn::If", ("", value, ""))
        value = value.get("Fn::Sub") or f"${{{value.get('Ref') or '.'.join(value['Fn::GetAtt'])}}}"
    return re.sub(r"\$\{([^}]+)\}", lambda found: named.get(found[1], f"{found[1]} of {stack_name}"), value)


def known_metrics() -> set[Metric]:
    """Return our own metrics and AWS's."""
    aws = {
        Metric(namespace, name, frozenset({dimension}))
        for (namespace, dimension), names in AWS_METRICS.items()
        for name in names
    }
    return aws | own_metrics()
