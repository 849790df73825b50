"""Everything that is asked of a deployed stack, once; what may not be looked at is noted, and the rest goes on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from yaml import YAMLError

from infra.operate.doctor.alarms import count_kept, count_told, judge_alarms, judge_kept, look_at_alarms
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
    function_facts,
    judge_function,
    judge_mapping,
    judge_refresh,
    judge_work,
    look_at_concurrency,
    look_at_mapping,
    look_at_release,
    look_at_work,
    variables_of,
)
from infra.operate.doctor.model import judge_model, look_at_model
from infra.operate.doctor.stack import (
    describe_own_stack,
    judge_drift,
    judge_release,
    judge_status,
    look_at_drift,
)
from infra.operate.doctor.streams import judge_concurrency, judge_quotas, judge_streams, look_at_quotas, look_at_stream
from infra.stack.describe import DescribedStack, list_resources
from lambda_function.aws.settings import ServingSettings
from lambda_function.errors import ConfigurationError, StoreError

_DENIED = {"AccessDenied", "AccessDeniedException", "403"}
"""What services call it; the last where there is nothing but a status to read."""

P = ParamSpec("P")
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
            UserError: There is no such stack, or it may not be described, or it is another project's.
            TemplateError: The local template can't be read.
        """
        stack = describe_own_stack(self.client("cloudformation"), self.stack_name)
        return self._look_around(stack, _Look()) if stack.outputs else self._facts(stack)

    def _look_around(self, stack: DescribedStack, look: "_Look") -> StackFacts:
        cloudformation, cloudwatch = self.client("cloudformation"), self.client("cloudwatch")
        kinesis, aws_lambda = self.client("kinesis"), self.client("lambda")
        name, outputs = stack.name, stack.outputs
        function, alias = outputs["FunctionName"], outputs["FunctionAliasArn"]
        resources = look("resources", (), list_resources, cloudformation, name)
        as_configured, model, work = self._function(stack, look)
        return self._facts(
            stack,
            drift=look("drift", None, look_at_drift, cloudformation, name, self.template),
            release=look("release", None, look_at_release, aws_lambda, function, alias, resources),
            model=model,
            function=as_configured,
            work=work,
            mapping=look("mapping", None, look_at_mapping, aws_lambda, alias, outputs["RideEventsArn"]),
            concurrency=look("concurrency", None, look_at_concurrency, aws_lambda, function),
            streams=look("streams", (), self._streams, outputs),
            alarms=look("alarms", (), look_at_alarms, cloudwatch, resources),
            n_told=look("alarm topic", None, count_told, self.client("sns"), resources),
            quotas=look("quotas", (), look_at_quotas, kinesis, aws_lambda),
            n_kept=look("rejects and failures", {}, count_kept, self.client("s3"), outputs["BucketName"]),
            unseen=look.unseen,
            denied=frozenset(look.denied),
        )

    def _facts(self, stack: DescribedStack, **seen: Any) -> StackFacts:
        return StackFacts(
            name=stack.name,
            status=stack.status,
            window_minutes=self.window_minutes,
            parameters=stack.parameters,
            resource_drift=stack.resource_drift,
            **seen,
        )

    def _function(
        self, stack: DescribedStack, look: "_Look"
    ) -> tuple[FunctionFacts | None, ModelFacts | None, WorkFacts | None]:
        """Looks at the function, and by its own settings at its model and its work; wrong ones are a finding."""
        nothing: Mapping[str, Any] = {}
        configuration = look("function", nothing, self._configuration, stack.outputs["FunctionAliasArn"])
        if not configuration:
            return None, None, None
        facts, variables = function_facts(configuration), variables_of(configuration)
        try:
            settings = ServingSettings.from_env(variables)
        except ConfigurationError:
            return facts, None, None
        cloudwatch = self.client("cloudwatch")
        work = look("work", None, look_at_work, cloudwatch, facts.name, settings, self._window())
        return facts, look_at_model(self.client, settings), work

    def _configuration(self, alias_arn: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self.client("lambda").get_function_configuration(FunctionName=alias_arn)
        return answer

    def _streams(self, outputs: Mapping[str, str]) -> tuple[StreamFacts, ...]:
        clients, window = (self.client("kinesis"), self.client("cloudwatch")), self._window()
        return (
            look_at_stream(*clients, outputs["RideEventsStream"], "input", window),
            look_at_stream(*clients, outputs["RidePredictionsStream"], "output", window),
        )

    def _window(self) -> tuple[datetime, datetime]:
        end = self.now()
        return end - timedelta(minutes=self.window_minutes), end


@dataclass(slots=True)
class _Look:
    """Tries to look at a part, and remembers why it could not."""

    unseen: dict[str, str] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)

    def __call__(self, name: str, otherwise: T, part: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return part(*args, **kwargs)
        except (ClientError, BotoCoreError, StoreError, YAMLError) as error:
            self.unseen[name] = " ".join(str(error).split())
            if _is_denied(error):
                self.denied.add(name)
            return otherwise


def _is_denied(error: Exception) -> bool:
    cause = error.__cause__ if isinstance(error, StoreError) else error
    return isinstance(cause, ClientError) and cause.response["Error"]["Code"] in _DENIED


# MERGED FROM infra/doctor/checks.py
# Facts of a stack → findings, the worst first. Pure.
__all__ = ["Finding", "Severity", "check"]

_BY_BADNESS = list(Severity)


def check(facts: StackFacts) -> tuple[Finding, ...]:
    """Judges all that is known, the worst first, and else in the order of a ride's way.

    What could not be looked at is a warning: nothing is said of it that nobody knows.
    """
    findings = (finding for judge in _JUDGES for finding in judge(facts))
    return tuple(sorted(findings, key=lambda finding: _BY_BADNESS.index(finding.severity)))


def _judge_unseen(facts: StackFacts) -> Iterator[Finding]:
    for name, why in facts.unseen.items():
        denied = name in facts.denied
        remedy = "attach the stack's DoctorPolicy to your role" if denied else "put right what it says, and look again"
        yield warning(name, f"could not be looked at: {why}", remedy)


_JUDGES = (
    judge_status,
    judge_drift,
    judge_release,
    judge_streams,
    judge_mapping,
    judge_concurrency,
    judge_model,
    judge_function,
    judge_refresh,
    judge_work,
    judge_alarms,
    judge_quotas,
    judge_kept,
    _judge_unseen,
)
