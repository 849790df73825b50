"""Read all facts of a deployed stack and check them. A part that may not be read is noted, and the rest continues."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from yaml import YAMLError

from infra.operate.doctor.alarms import check_alarms, check_waiting, count_subscribers, count_waiting, probe_alarms
from infra.operate.doctor.facts import (
    Finding,
    FunctionFacts,
    ModelFacts,
    Severity,
    StackFacts,
    StreamFacts,
    WorkFacts,
    warning,
)
from infra.operate.doctor.function import (
    check_function,
    check_mapping,
    check_refresh,
    check_work,
    function_facts,
    probe_concurrency,
    probe_mapping,
    probe_release,
    probe_work,
    variables_of,
)
from infra.operate.doctor.model import check_model, probe_model
from infra.operate.doctor.stack import (
    check_parameters,
    check_release,
    check_resources,
    check_status,
    check_template,
    describe_own_stack,
)
from infra.operate.doctor.streams import check_concurrency, check_quotas, check_streams, probe_quotas, probe_stream
from infra.operate.doctor.template_diff import diff_deployed_template
from infra.stack.describe import DescribedStack, list_resources
from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import ConfigurationError
from training.errors import BucketError

_DENIED = {"AccessDenied", "AccessDeniedException", "403"}
"""Error codes of a missing permission; the last is that of an answer with nothing but a status."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Doctor:
    """Reads one stack.

    Attributes:
        client: Makes a boto3 client of a service.
        stack_name: The stack.
        window_minutes: How far back the metrics go.
        template: The local template to compare with; None compares nothing.
    """

    client: Callable[[str], Any]
    stack_name: str
    window_minutes: int = 60
    template: Path | None = None

    def gather(self) -> StackFacts:
        """Read all facts once.

        Raises:
            UserError: There is no such stack, or it may not be described, or it is another project's, or the local
                template can't be read.
        """
        stack = describe_own_stack(self.client("cloudformation"), self.stack_name)
        return self._facts(stack, **(self._parts(stack, _Probe()) if stack.outputs else {}))

    def _facts(self, stack: DescribedStack, **parts: Any) -> StackFacts:
        return StackFacts(
            name=stack.name,
            status=stack.status,
            window_minutes=self.window_minutes,
            parameters=stack.parameters,
            resource_drift=stack.resource_drift,
            **parts,
        )

    def _parts(self, stack: DescribedStack, probe: "_Probe") -> dict[str, Any]:
        cloudformation, cloudwatch = self.client("cloudformation"), self.client("cloudwatch")
        kinesis, aws_lambda = self.client("kinesis"), self.client("lambda")
        name, outputs = stack.name, stack.outputs
        function_name, alias = outputs["FunctionName"], outputs["FunctionAliasArn"]
        resources = probe("resources", (), list_resources, cloudformation, name)
        function, model, work = self._function(alias, probe)
        return {
            "template_diff": probe("template diff", None, diff_deployed_template, cloudformation, name, self.template),
            "release": probe("release", None, probe_release, aws_lambda, function_name, alias, resources),
            "model": model,
            "function": function,
            "work": work,
            "mapping": probe("mapping", None, probe_mapping, aws_lambda, alias, outputs["RideEventsArn"]),
            "concurrency": probe("concurrency", None, probe_concurrency, aws_lambda, function_name),
            "streams": probe("streams", (), self._streams, outputs),
            "alarms": probe("alarms", (), probe_alarms, cloudwatch, resources),
            "n_subscribers": probe("alarm topic", None, count_subscribers, self.client("sns"), resources),
            "quotas": probe("quotas", (), probe_quotas, kinesis, aws_lambda),
            "n_waiting": probe("rejects and failures", {}, count_waiting, self.client("s3"), outputs["BucketName"]),
            "unread": probe.unread,
            "denied": frozenset(probe.denied),
        }

    def _function(
        self, alias_arn: str, probe: "_Probe"
    ) -> tuple[FunctionFacts | None, ModelFacts | None, WorkFacts | None]:
        """Read the function and, by its settings, its model and its work; wrong settings are a finding."""
        aws_lambda = self.client("lambda")
        configuration = probe("function", None, aws_lambda.get_function_configuration, FunctionName=alias_arn)
        if configuration is None:
            return None, None, None
        facts = function_facts(configuration)
        try:
            settings = ServingSettings.from_env(variables_of(configuration))
        except ConfigurationError:
            return facts, None, None
        work = probe("work", None, probe_work, self.client("cloudwatch"), facts.name, settings, self._window())
        return facts, probe_model(self.client, settings), work

    def _streams(self, outputs: Mapping[str, str]) -> tuple[StreamFacts, ...]:
        clients, window = (self.client("kinesis"), self.client("cloudwatch")), self._window()
        return (
            probe_stream(*clients, outputs["RideEventsStream"], "input", window),
            probe_stream(*clients, outputs["RidePredictionsStream"], "output", window),
        )

    def _window(self) -> tuple[datetime, datetime]:
        end = datetime.now(UTC)
        return end - timedelta(minutes=self.window_minutes), end


@dataclass(slots=True)
class _Probe:
    """Runs probes, and records why one failed."""

    unread: dict[str, str] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)

    def __call__(self, name: str, otherwise: T, part: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return part(*args, **kwargs)
        except (ClientError, BotoCoreError, BucketError, YAMLError) as error:
            self.unread[name] = " ".join(str(error).split())
            if _is_denied(error):
                self.denied.add(name)
            return otherwise


def _is_denied(error: Exception) -> bool:
    cause = error.__cause__ if isinstance(error, BucketError) else error
    return isinstance(cause, ClientError) and cause.response["Error"]["Code"] in _DENIED


def check(facts: StackFacts) -> tuple[Finding, ...]:
    """Check all facts; return the findings, the worst first, findings of one severity in the order of the checks.

    A part that could not be read is a warning.
    """
    findings = (finding for one in _CHECKS for finding in one(facts))
    return tuple(sorted(findings, key=lambda finding: list(Severity).index(finding.severity)))


def _check_unread(facts: StackFacts) -> Iterator[Finding]:
    for name, why in facts.unread.items():
        denied = name in facts.denied
        remedy = "attach the stack's DoctorPolicy to your role" if denied else "remove the cause, and run this again"
        yield warning(name, f"could not be read: {why}", remedy)


_CHECKS = (
    check_status,
    check_template,
    check_parameters,
    check_resources,
    check_release,
    check_streams,
    check_mapping,
    check_concurrency,
    check_model,
    check_function,
    check_refresh,
    check_work,
    check_alarms,
    check_quotas,
    check_waiting,
    _check_unread,
)
