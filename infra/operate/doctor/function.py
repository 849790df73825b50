"""The function that the mapping invokes: its configuration, its mapping, its versions, its concurrency."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    good,
    warning,
)
from infra.operate.doctor.metrics import MINUTE_S, Metric, by_minute
from infra.stack.describe import Resource
from lambda_function.aws.settings import ServingSettings, Settings
from lambda_function.errors import ConfigurationError

_SETTING_OF = {
    "ModelChannel": "MODEL_CHANNEL",
    "ModelRefreshSeconds": "MODEL_REFRESH_S",
    "OutputFormat": "OUTPUT_FORMAT",
    "LogLevel": "LOG_LEVEL",
}
"""Parameters that the function gets as settings."""


def variables_of(configuration: Mapping[str, Any]) -> Mapping[str, str]:
    """Returns the function's environment; empty where it has none."""
    found = configuration.get("Environment", {}).get("Variables", {})
    return {name: str(value) for name, value in found.items()}


def function_facts(configuration: Mapping[str, Any]) -> FunctionFacts:
    """Makes facts of what GetFunctionConfiguration answers."""
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


def look_at_mapping(aws_lambda: Any, alias_arn: str, stream_arn: str) -> MappingFacts:
    """Finds the mapping from a stream to an alias; one to another stream or version is none of this function's."""
    answer = aws_lambda.list_event_source_mappings(FunctionName=alias_arn, EventSourceArn=stream_arn)
    if not answer["EventSourceMappings"]:
        return MappingFacts("")
    mapping = answer["EventSourceMappings"][0]  # there is one at most: Lambda refuses a second between the same two
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


def look_at_release(aws_lambda: Any, function: str, alias_arn: str, resources: Iterable[Resource]) -> ReleaseFacts:
    """Looks where the alias points, and which version of the function the stack made."""
    name = alias_arn.rpartition(":")[2]
    alias = aws_lambda.get_alias(FunctionName=function, Name=name)
    versions = [one.physical_name for one in resources if one.type == "AWS::Lambda::Version"]
    published = [arn.rpartition(":")[2] for arn in versions if arn.rpartition(":")[0].endswith(f":{function}")]
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


def look_at_concurrency(aws_lambda: Any, function: str) -> ConcurrencyFacts:
    """Asks how many invocations may run at a time: the function's own number, and the account's."""
    reserved = aws_lambda.get_function_concurrency(FunctionName=function).get("ReservedConcurrentExecutions")
    limit = aws_lambda.get_account_settings()["AccountLimit"]
    return ConcurrencyFacts(
        reserved=reserved,
        n_unreserved=limit["UnreservedConcurrentExecutions"],
        n_account=limit["ConcurrentExecutions"],
        parameters={"ReservedConcurrency": str(-1 if reserved is None else reserved)},
    )


# MERGED FROM infra/doctor/judge/function.py
# Whether the function works: its mapping, its settings, its looks at the channel, and what it made of the rides.
MAX_REJECT_SHARE = 0.01
"""As RejectShareAlarm's default."""

MAX_RECORD_AGE_S = 300.0
"""As IteratorAgeAlarm's default."""

_FAILED = "PROBLEM"
"""How Lambda begins the last result of a mapping that is not well."""


def judge_mapping(facts: StackFacts) -> Iterator[Finding]:
    """Judges whether rides are read, and handed over."""
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
        yield bad("mapping", what, "read the function's log; if it says nothing, its role may lack a permission")
    elif mapping.state != "Enabled":
        yield warning("mapping", what, "look again in a minute")
    else:
        yield good("mapping", what)


def judge_function(facts: StackFacts) -> Iterator[Finding]:
    """Judges whether the function could start."""
    function = facts.function
    if function is None:
        return
    ready = function.state in {"Active", "Inactive"}  # Lambda lets an unused function rest
    state = f"{function.name} is {function.state}" + (f": {function.state_reason}" if function.state_reason else "")
    if function.state == "Pending":
        yield warning("function", state, "look again in a minute: Lambda is making it, and its snapshot")
    elif not ready:
        yield bad("function", state, "put right what Lambda says of it, and deploy again")
    if function.settings_problem:
        what = f"its settings would fail the cold start: {function.settings_problem}"
        yield bad("function", what, "put the variable right in template.yaml and deploy")
    elif ready:
        yield good("function", f"{function.name} is {function.state}, and its settings are complete")


def judge_refresh(facts: StackFacts) -> Iterator[Finding]:
    """Judges the function's last looks at its channel, and those before them."""
    work = facts.work
    if work is None:
        return
    of_window = (
        f"{_times(work.n_refresh_failures, 'look')} at the channel failed in the last {facts.window_minutes} minutes"
    )
    recently = f"in the last {work.recent_minutes} minutes"
    remedy = "see `model`; if that is well, the function's log has `refresh_failed` with the reason"
    if work.n_recent_refresh_failures:
        what = f"{_times(work.n_recent_refresh_failures, 'look')} at the channel failed {recently}"
        yield bad("refresh", f"{what}: the function serves the model that it has", remedy)
    elif work.n_refresh_failures and not work.n_recent_records:
        yield bad("refresh", f"{of_window}, and no ride has come since to make it look again", remedy)
    elif work.n_refresh_failures:
        yield warning(
            "refresh", f"{of_window}, none {recently}", "it mended itself; the log's `refresh_failed` says what was"
        )
    elif work.n_records:
        yield good("refresh", f"no look at the channel failed in the last {facts.window_minutes} minutes")
    else:
        yield good("refresh", "no ride has come, so the function has not looked at its channel")


def judge_work(facts: StackFacts) -> Iterator[Finding]:
    """Judges what became of the rides in the window."""
    work = facts.work
    if work is None:
        return
    ill = [*_not_invoked(facts, work), *_not_finished(work), *_not_predicted(work)]
    figures = f"{work.n_records:,} records, {work.n_predictions:,} predictions, {work.n_rejects:,} rejects"
    yield from ill or [good("work", f"{figures} in the last {facts.window_minutes} minutes")]


def _not_invoked(facts: StackFacts, work: WorkFacts) -> Iterator[Finding]:
    stream = facts.stream("input")
    if stream and stream.n_records and not work.n_records:
        what = f"{stream.n_records:,} records arrived on {stream.name}, and the function has told of none"
        yield warning("work", what, "see `mapping`; if that is well, look again in some minutes: metrics come late")
    if work.n_throttles:
        what = f"Lambda throttled {_times(work.n_throttles, 'invocation')}"
        yield warning("work", what, "see `concurrency`; if that is well, other functions take it all: reserve some")
    if work.max_record_age_s > MAX_RECORD_AGE_S:
        what = f"rides waited up to {work.max_record_age_s:,.0f} s"
        yield warning("work", what, "see the other findings; if all is well, raise ParallelizationFactor or the shards")


def _not_finished(work: WorkFacts) -> Iterator[Finding]:
    n_failed = max(work.n_errors, work.n_exceptions)
    if not n_failed:
        return
    what = f"{_times(n_failed, 'invocation')} failed, {work.n_exceptions:,} by an exception; their batches come again"
    look_for = "`invocation failed`" if work.n_exceptions else "`Task timed out` or `Runtime exited`"
    yield bad("work", what, f"read the function's log for {look_for}; docs/runbook.md#functionerrorsalarm")


def _not_predicted(work: WorkFacts) -> Iterator[Finding]:
    what = f"{work.n_predictions:,} of {work.n_records:,} records were predicted, {work.n_rejects:,} are rejects"
    ask = "`ridecast rejects list` says which reasons; tell the producer"
    if work.n_rejects > MAX_REJECT_SHARE * work.n_records:
        yield warning("work", what, ask) if work.n_predictions else bad("work", what, ask)
    elif work.n_records and not work.n_predictions:
        yield bad("work", f"{what}: all come again", "see `output stream`, and `problem` in the function's log")


def _times(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


# MERGED FROM infra/doctor/look/work.py
# What the function did, by its own metrics and Lambda's.
RECENT_MINUTES = 10
"""Metrics come late by a minute or two, and the function looks at its channel once a minute unless told otherwise."""

MS_PER_S = 1000

_OURS = ("Records", "Predictions", "Rejects", "FailedInvocations", "ModelRefreshFailures")
_LAMBDAS = ("Errors", "Throttles")


def look_at_work(
    cloudwatch: Any, function: str, settings: ServingSettings, window: tuple[datetime, datetime]
) -> WorkFacts:
    """Sums the metrics up.

    Args:
        cloudwatch: A boto3 client.
        function: The function's name, for Lambda's own metrics.
        settings: The function's own: what its metrics are called, and how often it looks at its channel.
        window: From when to when, aware.

    Raises:
        ClientError: CloudWatch refused.
    """
    namespace, dimension = settings.metrics_namespace, ("service", settings.service_name)
    ours = [Metric(namespace, name, dimension, "Sum") for name in _OURS]
    lambdas = [Metric("AWS/Lambda", name, ("FunctionName", function), "Sum") for name in _LAMBDAS]
    age = Metric(namespace, "RecordAge", dimension, "Maximum")
    *series, ages = by_minute(cloudwatch, window, [*ours, *lambdas, age])
    records, predictions, rejects, exceptions, refresh_failures, errors, throttles = _sums(series)

    recent_minutes = max(RECENT_MINUTES, ceil(2 * settings.model_refresh_s / MINUTE_S))
    recently = window[1] - timedelta(minutes=recent_minutes), window[1]
    recent_records, recent_failures = _sums(by_minute(cloudwatch, recently, [ours[0], ours[-1]]))
    return WorkFacts(
        n_records=records,
        n_predictions=predictions,
        n_rejects=rejects,
        n_exceptions=exceptions,
        n_errors=errors,
        n_throttles=throttles,
        max_record_age_s=max(ages, default=0.0) / MS_PER_S,
        n_refresh_failures=refresh_failures,
        recent_minutes=recent_minutes,
        n_recent_refresh_failures=recent_failures,
        n_recent_records=recent_records,
    )


def _sums(series: Sequence[Sequence[float]]) -> list[int]:
    return [int(sum(values)) for values in series]
