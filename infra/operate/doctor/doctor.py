"""Read all facts of a deployed stack and check them. A part that may not be read is noted, and the rest continues."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from yaml import YAMLError

from infra.operate.doctor import alarms, function, stack, streams
from infra.operate.doctor.facts import Finding, Severity, StackFacts, StreamFacts, warning
from infra.operate.doctor.model import check_model
from infra.operate.doctor.template_diff import diff_deployed_template
from infra.stack.describe import DescribedStack, list_resources
from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import ConfigurationError
from training.errors import BucketError

_SERVICES = ("cloudformation", "cloudwatch", "kinesis", "lambda", "s3", "sns")

_DENIED = {"AccessDenied", "AccessDeniedException", "403"}
"""Error codes of a missing permission; the last is that of an answer with nothing but a status."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Doctor:
    """Reads one stack."""

    client: Callable[[str], Any]  # makes a boto3 client of a service
    stack_name: str  # the stack
    window_minutes: int = 60  # how far back the metrics go
    template: Path | None = None  # the local template to compare with; None compares nothing

    def gather(self) -> StackFacts:
        """Read all facts once.

        Raises:
            UserError: There is no such stack, or it may not be described, or it is another project's, or the local
                template can't be read.
        """
        own = stack.describe_own_stack(self.client("cloudformation"), self.stack_name)
        facts = StackFacts(own.name, own.status, self.window_minutes, own.parameters, own.resource_drift)
        return replace(facts, **self._parts(own)) if own.outputs else facts

    def _parts(self, own: DescribedStack) -> dict[str, Any]:
        name, outputs, probe = own.name, own.outputs, _Probe()
        cloudformation, cloudwatch, kinesis, aws_lambda, s3, sns = map(self.client, _SERVICES)
        function_name, alias = outputs["FunctionName"], outputs["FunctionAliasArn"]
        end = datetime.now(UTC)
        window = end - timedelta(minutes=self.window_minutes), end

        def both_streams() -> tuple[StreamFacts, ...]:
            roles = {"input": outputs["RideEventsStream"], "output": outputs["RidePredictionsStream"]}
            return tuple(streams.probe_stream(kinesis, cloudwatch, one, role, window) for role, one in roles.items())

        resources = probe("resources", (), list_resources, cloudformation, name)
        configuration: Mapping[str, Any] = probe(
            "function", {}, aws_lambda.get_function_configuration, FunctionName=alias
        )
        settings = _settings(configuration)
        return {
            "template_diff": probe("template diff", None, diff_deployed_template, cloudformation, name, self.template),
            "release": probe("release", None, function.probe_release, aws_lambda, function_name, alias, resources),
            "function": function.function_facts(configuration) if configuration else None,
            "model": check_model(self.client, settings) if settings else None,
            "work": probe("work", None, function.probe_work, cloudwatch, outputs["FunctionName"], settings, window)
            if settings
            else None,
            "mapping": probe("mapping", None, function.probe_mapping, aws_lambda, alias, outputs["RideEventsArn"]),
            "concurrency": probe("concurrency", None, function.probe_concurrency, aws_lambda, function_name),
            "streams": probe("streams", (), both_streams),
            "alarms": probe("alarms", (), alarms.probe_alarms, cloudwatch, resources),
            "n_subscribers": probe("alarm topic", None, alarms.count_subscribers, sns, resources),
            "quotas": probe("quotas", (), streams.probe_quotas, kinesis, aws_lambda),
            "n_waiting": probe("rejects and failures", {}, alarms.count_waiting, s3, outputs["BucketName"]),
            "unread": probe.unread,
            "denied": frozenset(probe.denied),
        }


def _settings(configuration: Mapping[str, Any]) -> ServingSettings | None:
    """Return what names the function's model and metrics; None if it is wrong, which is a finding of the function."""
    with suppress(ConfigurationError):
        return ServingSettings.from_env(function.variables_of(configuration))
    return None


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


def _check_model(facts: StackFacts) -> Iterator[Finding]:
    if facts.model:
        yield facts.model


_CHECKS = (
    stack.check_status,
    stack.check_template,
    stack.check_parameters,
    stack.check_resources,
    stack.check_release,
    streams.check_streams,
    function.check_mapping,
    streams.check_concurrency,
    _check_model,
    function.check_function,
    function.check_refresh,
    function.check_work,
    alarms.check_alarms,
    streams.check_quotas,
    alarms.check_waiting,
    _check_unread,
)
