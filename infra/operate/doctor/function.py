"""The function that the mapping invokes: configuration, mapping, versions, concurrency, and its work by its metrics."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from infra.operate.doctor.facts import (
    ConcurrencyFacts,
    Finding,
    FunctionFacts,
    MappingFacts,
    ReleaseFacts,
    StackFacts,
    WorkFacts,
    bad,
    counted,
    good,
    warning,
)
from infra.operate.doctor.metrics import MINUTE_S, by_minute
from infra.stack.describe import Resource
from lambda_function.aws.settings import ServingSettings, Settings
from lambda_function.errors import ConfigurationError

MAX_REJECT_SHARE = 0.01
"""As the default of RejectShareAlarm."""

MAX_RECORD_AGE_S = 300.0
"""As the default of IteratorAgeAlarm."""

RECENT_MINUTES = 10
"""Metrics arrive a minute or two late, and the function refreshes its channel once a minute by default."""

_SETTING_OF = {
    "ModelChannel": "MODEL_CHANNEL",
    "ModelRefreshSeconds": "MODEL_REFRESH_S",
    "OutputFormat": "OUTPUT_FORMAT",
    "LogLevel": "LOG_LEVEL",
}
"""Parameters that the function receives as settings."""

_FAILED = "PROBLEM"
"""The beginning of a mapping's last result if it failed."""

_RECENT_METRICS = dict.fromkeys(("Records", "ModelRefreshFailures"), "Sum")
_OUR_METRICS = {
    **_RECENT_METRICS,
    **dict.fromkeys(("Predictions", "Rejects", "FailedInvocations"), "Sum"),
    "RecordAge": "Maximum",
}
_LAMBDA_METRICS = dict.fromkeys(("Errors", "Throttles"), "Sum")
_MS_PER_S = 1000


def variables_of(configuration: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the function's environment; empty if it has none."""
    found = configuration.get("Environment", {}).get("Variables", {})
    return {name: str(value) for name, value in found.items()}


def function_facts(configuration: Mapping[str, Any]) -> FunctionFacts:
    """Build facts from the answer of GetFunctionConfiguration."""
    variables = variables_of(configuration)
    settings = {name: variables[setting] for name, setting in _SETTING_OF.items() if setting in variables}
    return FunctionFacts(
        name=configuration["FunctionName"],
        state=configuration.get("State", "Active"),
        state_reason=configuration.get("StateReason", ""),
        settings_problem=_settings_problem(variables),
        parameters={
            "MemoryMb": str(configuration["MemorySize"]),
            "TimeoutSeconds": str(configuration["Timeout"]),
            **settings,
        },
    )


def _settings_problem(variables: Mapping[str, str]) -> str:
    try:
        Settings.from_env(variables)
    except ConfigurationError as error:
        return str(error)
    return ""


def probe_mapping(aws_lambda: Any, alias_arn: str, stream_arn: str) -> MappingFacts:
    """Read the mapping from a stream to an alias; mappings of other streams or versions are ignored."""
    answer = aws_lambda.list_event_source_mappings(FunctionName=alias_arn, EventSourceArn=stream_arn)
    if not answer["EventSourceMappings"]:
        return MappingFacts("")
    mapping = answer["EventSourceMappings"][0]  # at most one: Lambda refuses a second between the same two
    factor = mapping.get("ParallelizationFactor", 1)
    return MappingFacts(
        state=mapping["State"],
        last_result=mapping.get("LastProcessingResult", ""),
        parallelization_factor=factor,
        parameters={
            "BatchSize": str(mapping["BatchSize"]),
            "BatchWindowSeconds": str(mapping.get("MaximumBatchingWindowInSeconds", 0)),
            "ParallelizationFactor": str(factor),
        },
    )


def probe_release(aws_lambda: Any, function: str, alias_arn: str, resources: Iterable[Resource]) -> ReleaseFacts:
    """Read which version the alias points at, and which version of the function the stack published last."""
    name = alias_arn.rpartition(":")[2]
    alias = aws_lambda.get_alias(FunctionName=function, Name=name)
    versions = [one.physical_name.rpartition(":") for one in resources if one.type == "AWS::Lambda::Version"]
    published = [version for arn, _, version in versions if arn.endswith(f":{function}")]
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {})
    next_version, next_share = next(iter(weights.items()), ("", 0.0))
    return ReleaseFacts(
        function=function,
        alias=name,
        serving=alias["FunctionVersion"],
        published=max(published, key=int, default=""),
        next_version=next_version,
        next_share=next_share,
    )


def probe_concurrency(aws_lambda: Any, function: str) -> ConcurrencyFacts:
    """Read how many invocations may run at the same time: the function's reservation and the account's quota."""
    reserved = aws_lambda.get_function_concurrency(FunctionName=function).get("ReservedConcurrentExecutions")
    limit = aws_lambda.get_account_settings()["AccountLimit"]
    return ConcurrencyFacts(
        reserved=reserved,
        n_unreserved=limit["UnreservedConcurrentExecutions"],
        n_account=limit["ConcurrentExecutions"],
        parameters={"ReservedConcurrency": str(-1 if reserved is None else reserved)},
    )


def probe_work(
    cloudwatch: Any, function: str, settings: ServingSettings, window: tuple[datetime, datetime]
) -> WorkFacts:
    """Sum up the function's metrics; its settings name them and its refresh interval."""
    service = settings.metrics_namespace, ("service", settings.service_name)
    ours = by_minute(cloudwatch, window, *service, _OUR_METRICS)
    lambdas = by_minute(cloudwatch, window, "AWS/Lambda", ("FunctionName", function), _LAMBDA_METRICS)
    recent_minutes = max(RECENT_MINUTES, ceil(2 * settings.model_refresh_s / MINUTE_S))
    recently = window[1] - timedelta(minutes=recent_minutes), window[1]
    recent = by_minute(cloudwatch, recently, *service, _RECENT_METRICS)
    return WorkFacts(
        n_records=_total(ours["Records"]),
        n_predictions=_total(ours["Predictions"]),
        n_rejects=_total(ours["Rejects"]),
        n_exceptions=_total(ours["FailedInvocations"]),
        n_errors=_total(lambdas["Errors"]),
        n_throttles=_total(lambdas["Throttles"]),
        max_record_age_s=max(ours["RecordAge"], default=0.0) / _MS_PER_S,
        n_refresh_failures=_total(ours["ModelRefreshFailures"]),
        recent_minutes=recent_minutes,
        n_recent_refresh_failures=_total(recent["ModelRefreshFailures"]),
        n_recent_records=_total(recent["Records"]),
    )


def _total(values: Iterable[float]) -> int:
    return int(sum(values))


def check_mapping(facts: StackFacts) -> Iterator[Finding]:
    """Check that rides are read and given to the function."""
    mapping = facts.mapping
    if mapping is None:
        return
    what = f"the mapping is {mapping.state}, its last result: {mapping.last_result or 'none yet'}"
    if not mapping.state:
        what = "no mapping leads from the input stream to the function's alias"
        yield bad("mapping", what, "deploy again: no ride is read; they wait in the stream for 48 hours")
    elif mapping.state in {"Disabled", "Disabling", "Deleting"}:
        remedy = "`aws lambda update-event-source-mapping --enabled`: no ride is read; they wait in the stream"
        yield bad("mapping", what, f"{remedy} for 48 hours")
    elif mapping.last_result.startswith(_FAILED):
        yield bad("mapping", what, "read the function's log; if it has no error, its role may lack a permission")
    elif mapping.state != "Enabled":
        yield warning("mapping", what, "run this command again in a minute")
    else:
        yield good("mapping", what)


def check_function(facts: StackFacts) -> Iterator[Finding]:
    """Check that the function can start."""
    function = facts.function
    if function is None:
        return
    ready = function.state in {"Active", "Inactive"}  # Lambda sets a function Inactive that nobody uses
    state = f"{function.name} is {function.state}" + (f": {function.state_reason}" if function.state_reason else "")
    if function.state == "Pending":
        yield warning("function", state, "run this command again in a minute: Lambda is creating it and its snapshot")
    elif not ready:
        yield bad("function", state, "correct what Lambda reports, and deploy again")
    if function.settings_problem:
        what = f"its settings would fail the cold start: {function.settings_problem}"
        yield bad("function", what, "correct the variable in template.yaml and deploy")
    elif ready:
        yield good("function", f"{function.name} is {function.state}, and its settings are complete")


def check_refresh(facts: StackFacts) -> Iterator[Finding]:
    """Check that the function's refreshes of its channel succeed, in the recent past and in the window."""
    work = facts.work
    if work is None:
        return
    recently, window = f"in the last {work.recent_minutes} minutes", f"in the last {facts.window_minutes} minutes"
    n_failed, n_recent = work.n_refresh_failures, work.n_recent_refresh_failures
    failed = f"{counted(n_failed, 'refresh failure')} of the channel {window}"
    remedy = "see `model`; if it is good, the function's log has `refresh_failed` with the reason"
    if n_recent:
        what = f"{counted(n_recent, 'refresh failure')} of the channel {recently}"
        yield bad("refresh", f"{what}: the function serves the model that it has loaded before", remedy)
    elif n_failed and not work.n_recent_records:
        yield bad("refresh", f"{failed}, and no ride has arrived since to start another refresh", remedy)
    elif n_failed:
        remedy = "refreshes succeed again; `refresh_failed` in the log has the reason"
        yield warning("refresh", f"{failed}, none {recently}", remedy)
    elif work.n_records:
        yield good("refresh", f"no refresh of the channel failed {window}")
    else:
        yield good("refresh", "no ride has arrived, so the function has not refreshed its channel")


def check_work(facts: StackFacts) -> Iterator[Finding]:
    """Check that the rides of the window were predicted."""
    work = facts.work
    if work is None:
        return
    problems = [*_not_invoked(facts, work), *_not_finished(work), *_not_predicted(work)]
    figures = f"{work.n_records:,} records, {work.n_predictions:,} predictions, {work.n_rejects:,} rejects"
    yield from problems or [good("work", f"{figures} in the last {facts.window_minutes} minutes")]


def _not_invoked(facts: StackFacts, work: WorkFacts) -> Iterator[Finding]:
    stream = facts.stream("input")
    if stream and stream.n_records and not work.n_records:
        what = f"{stream.n_records:,} records arrived on {stream.name}, and the function reports none"
        remedy = "see `mapping`; if it is good, run this command again in some minutes: metrics arrive late"
        yield warning("work", what, remedy)
    if work.n_throttles:
        what = f"Lambda throttled {counted(work.n_throttles, 'invocation')}"
        remedy = "see `concurrency`; if it is good, other functions use up the account's: reserve some"
        yield warning("work", what, remedy)
    if work.max_record_age_s > MAX_RECORD_AGE_S:
        what = f"rides waited up to {work.max_record_age_s:,.0f} s"
        remedy = "see the other findings; if all are good, raise ParallelizationFactor or the number of shards"
        yield warning("work", what, remedy)


def _not_finished(work: WorkFacts) -> Iterator[Finding]:
    n_failed = max(work.n_errors, work.n_exceptions)
    if not n_failed:
        return
    what = (
        f"{counted(n_failed, 'invocation')} failed, {work.n_exceptions:,} by an exception; Lambda retries the batches"
    )
    wanted = "`invocation failed`" if work.n_exceptions else "`Task timed out` or `Runtime exited`"
    yield bad("work", what, f"search the function's log for {wanted}; see docs/runbook.md#functionerrorsalarm")


def _not_predicted(work: WorkFacts) -> Iterator[Finding]:
    what = f"{work.n_predictions:,} of {work.n_records:,} records were predicted, {work.n_rejects:,} are rejects"
    remedy = "`ridecast records list --kind reject` shows the reasons; inform the producer"
    if work.n_rejects > MAX_REJECT_SHARE * work.n_records:
        yield warning("work", what, remedy) if work.n_predictions else bad("work", what, remedy)
    elif work.n_records and not work.n_predictions:
        yield bad("work", f"{what}: Lambda retries all", "see `output stream`, and `problem` in the function's log")
