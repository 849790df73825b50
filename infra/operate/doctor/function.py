"""The function that the mapping invokes: configuration, versions, concurrency, and its work by its metrics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Any

from infra.operate.doctor.facts import (
    ConcurrencyFacts,
    Finding,
    FunctionFacts,
    ReleaseFacts,
    Severity,
    StackFacts,
    WorkFacts,
    counted,
    first_of,
    good,
)
from infra.operate.doctor.faults import FAULTS, found
from infra.operate.doctor.local import NO_METRICS
from infra.operate.doctor.mapping import probe_mapping
from infra.operate.doctor.metrics import MINUTE_S, by_minute
from infra.operate.doctor.model import check_model
from infra.operate.doctor.reading import Reading
from infra.operate.doctor.variables import changed_variables, variables_of
from infra.stack.describe import Resource
from lambda_function.aws.settings import ServingSettings, Settings
from lambda_function.errors import ConfigurationError

MAX_REJECT_SHARE = 0.01
"""As the default of RejectShareAlarm."""

MAX_WITHOUT_PICKUP_SHARE = 0.01
"""Of the predictions. Above it, it is the producer that sends none, or under another name."""

MAX_RECORD_AGE_S = 300.0
"""As the default of IteratorAgeAlarm."""

RECENT_MINUTES = 10
"""Metrics arrive a minute or two late, and the function refreshes its channel once a minute by default."""

_SETTING_OF = {
    "ModelChannel": "MODEL_CHANNEL",
    "ModelRefreshSeconds": "MODEL_REFRESH_S",
    "ModelActivationDelaySeconds": "MODEL_ACTIVATION_DELAY_S",
    "OutputFormat": "OUTPUT_FORMAT",
    "LogLevel": "LOG_LEVEL",
}
"""Parameters that the function receives as settings."""

_RECENT_METRICS = dict.fromkeys(("Records", "ModelRefreshFailures", "StaleChannel"), "Sum")
_OUR_METRICS = {
    **_RECENT_METRICS,
    **dict.fromkeys(("Predictions", "RidesWithoutPickupTime", "Rejects", "RejectsNotStored"), "Sum"),
    **dict.fromkeys(("RetriedRecords", "FailedInvocations"), "Sum"),
    "RecordAge": "Maximum",
}
_LAMBDA_METRICS = dict.fromkeys(("Errors", "Throttles"), "Sum")
_MS_PER_S = 1000


def read(reading: Reading) -> dict[str, Any]:
    """Read the function, its alias, mapping, model and work; nothing of a function or alias that does not exist."""
    aws_lambda, outputs = reading.client("lambda"), reading.stack.outputs
    name, alias_arn = outputs["FunctionName"], outputs["FunctionAliasArn"]
    no_function = found("function-missing", f"{name} does not exist")
    reading.part("function", {}, lambda: aws_lambda.get_function_configuration(FunctionName=name), no_function)
    if "function" in reading.missing:
        return {}
    release = reading.part(
        "release",
        None,
        lambda: probe_release(aws_lambda, name, alias_arn, reading.resources),
        _no_alias(name, alias_arn, published_version(name, reading.resources)),
    )
    if "release" in reading.missing:
        return {}
    stream_arn = outputs["RideEventsArn"]
    return {
        "release": release,
        "mapping": reading.part(
            "mapping", None, lambda: probe_mapping(aws_lambda, alias_arn, stream_arn, reading.wanted("PredictorRides"))
        ),
        "concurrency": reading.part("concurrency", None, lambda: probe_concurrency(aws_lambda, name)),
        **_read_version(reading, aws_lambda),
    }


def _no_alias(function: str, alias_arn: str, published: str) -> Finding:
    alias = alias_arn.rpartition(":")[2]
    what = f"{function} has no alias {alias}, which the mapping invokes: no ride is predicted"
    return found("alias-missing", what, function=function, alias=alias, version=published or "VERSION")


def _read_version(reading: Reading, aws_lambda: Any) -> dict[str, Any]:
    """Read the version that the alias serves, and what its settings name: its model and its metrics."""
    outputs = reading.stack.outputs
    configuration: Mapping[str, Any] = reading.part(
        "function", {}, lambda: aws_lambda.get_function_configuration(FunctionName=outputs["FunctionAliasArn"])
    )
    if not configuration:
        return {}
    wanted, published = reading.wanted("Predictor"), published_version(outputs["FunctionName"], reading.resources)
    changed = tuple(changed_variables(configuration, wanted, set(_SETTING_OF.values())))
    function = replace(function_facts(configuration), changed=changed, published=published)
    facts: dict[str, Any] = {"function": function}
    with suppress(ConfigurationError):  # a finding of the function
        settings = ServingSettings.from_env(variables_of(configuration))
        work = partial(probe_work, reading.client("cloudwatch"), outputs["FunctionName"], settings, reading.window)
        facts["work"] = reading.part("work", None, work)
        if "bucket" not in reading.missing:
            facts["model"] = check_model(reading.client, settings, outputs["BucketName"])
    return facts


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


def probe_release(aws_lambda: Any, function: str, alias_arn: str, resources: Iterable[Resource]) -> ReleaseFacts:
    """Read which version the alias points at, and which version of the function the stack published last."""
    name = alias_arn.rpartition(":")[2]
    alias = aws_lambda.get_alias(FunctionName=function, Name=name)
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights", {})
    next_version, next_share = next(iter(weights.items()), ("", 0.0))
    return ReleaseFacts(
        function=function,
        alias=name,
        serving=alias["FunctionVersion"],
        published=published_version(function, resources),
        next_version=next_version,
        next_share=next_share,
    )


def published_version(function: str, resources: Iterable[Resource]) -> str:
    """Return the version of a function that the stack published last; "" if it lists none."""
    versions = [one.physical_name.rpartition(":") for one in resources if one.type == "AWS::Lambda::Version"]
    return max((version for arn, _, version in versions if arn.endswith(f":{function}")), key=int, default="")


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
        n_without_pickup_time=_total(ours["RidesWithoutPickupTime"]),
        n_rejects=_total(ours["Rejects"]),
        n_rejects_not_stored=_total(ours["RejectsNotStored"]),
        n_retried=_total(ours["RetriedRecords"]),
        n_exceptions=_total(ours["FailedInvocations"]),
        n_errors=_total(lambdas["Errors"]),
        n_throttles=_total(lambdas["Throttles"]),
        max_record_age_s=max(ours["RecordAge"], default=0.0) / _MS_PER_S,
        n_refresh_failures=_total(ours["ModelRefreshFailures"]),
        recent_minutes=recent_minutes,
        n_recent_refresh_failures=_total(recent["ModelRefreshFailures"]),
        n_recent_records=_total(recent["Records"]),
        n_recent_stale=_total(recent["StaleChannel"]),
    )


def _total(values: Iterable[float]) -> int:
    return int(sum(values))


def check_function(facts: StackFacts) -> Iterator[Finding]:
    """Check that the function can start, and that it works with this stack's resources."""
    function = facts.function
    if function is None:
        return
    state = f"{function.name} is {function.state}" + (f": {function.state_reason}" if function.state_reason else "")
    problems = []
    if function.state == "Pending":
        problems.append(found("function-pending", state))
    elif function.state not in {"Active", "Inactive"}:  # Lambda sets a function Inactive that nobody uses
        problems.append(found("function-failed", state))
    if function.settings_problem:
        what = f"its settings would fail the cold start: {function.settings_problem}"
        problems.append(found("settings-wrong", what))
    elif function.changed:
        what = f"the version that serves works with other settings than the stack's: {first_of(function.changed)}"
        problems.append(
            found("environment-wrong", what, function=function.name, version=function.published or "VERSION")
        )
    yield from problems or [good("function", f"{function.name} is {function.state}, and its settings are the stack's")]


def check_refresh(facts: StackFacts) -> Iterator[Finding]:
    """Check that the function's refreshes of its channel succeed, in the recent past and in the window."""
    work = facts.work
    if work is None:
        return
    recently, window = f"in the last {work.recent_minutes} minutes", f"in the last {facts.window_minutes} minutes"
    n_failed, n_recent = work.n_refresh_failures, work.n_recent_refresh_failures
    failed = f"{counted(n_failed, 'refresh failure')} of the channel {window}"
    if work.n_recent_stale:
        yield found(
            "channel-stale",
            f"{counted(work.n_recent_stale, 'time')} {recently} the function used an old look at the channel",
        )
    if n_recent:
        what = f"{counted(n_recent, 'refresh failure')} of the channel {recently}"
        yield found("refresh-failing", f"{what}: the function serves the model that it has loaded before")
    elif n_failed and not work.n_recent_records:
        yield found("refresh-failing", f"{failed}, and no ride has arrived since to start another refresh")
    elif n_failed:
        yield found("refresh-failed", f"{failed}, none {recently}")
    elif work.n_records:
        yield good("refresh", f"no refresh of the channel failed {window}")
    elif not facts.is_local:
        yield good("refresh", "no ride has arrived, so the function has not refreshed its channel")


def check_work(facts: StackFacts) -> Iterator[Finding]:
    """Check that the rides of the window were predicted."""
    work = facts.work
    if work is None:
        return
    problems = [
        *_not_invoked(facts, work),
        *_not_finished(work),
        *_not_predicted(facts, work),
        *_without_pickup_time(work),
    ]
    figures = f"{work.n_records:,} records, {work.n_predictions:,} predictions, {work.n_rejects:,} rejects"
    what = (
        NO_METRICS if facts.is_local and not work.n_records else f"{figures} in the last {facts.window_minutes} minutes"
    )
    yield from problems or [good("work", what)]


def _not_invoked(facts: StackFacts, work: WorkFacts) -> Iterator[Finding]:
    stream = facts.stream("input")
    if stream and stream.n_records and not work.n_records and not facts.is_local:
        what = f"{stream.n_records:,} records arrived on {stream.name}, and the function reports none"
        yield found("nothing-reported", what)
    if work.n_throttles:
        yield found("throttled", f"Lambda throttled {counted(work.n_throttles, 'invocation')}")


def _not_finished(work: WorkFacts) -> Iterator[Finding]:
    n_failed = max(work.n_errors, work.n_exceptions)
    if n_failed:
        what = f"{counted(n_failed, 'invocation')} failed, {work.n_exceptions:,} by an exception"
        fault = "invocations-failed" if work.n_exceptions else "invocations-ended"
        yield found(fault, f"{what}; Lambda retries the batches")


def _not_predicted(facts: StackFacts, work: WorkFacts) -> Iterator[Finding]:
    if work.n_rejects_not_stored:
        what = f"{counted(work.n_rejects_not_stored, 'reject')} found no place, and the records behind them wait"
        yield found("rejects-not-stored", what)
    if work.n_retried:
        yield found("records-retried", f"{counted(work.n_retried, 'record')} were returned to Lambda and come again")
    what = f"{work.n_predictions:,} of {work.n_records:,} records were predicted, {work.n_rejects:,} are rejects"
    if work.n_rejects > MAX_REJECT_SHARE * work.n_records:
        yield found("many-rejects" if work.n_predictions else "only-rejects", what, stack=facts.name)
    elif work.n_records and not work.n_predictions:
        yield found("no-predictions", f"{what}: Lambda retries all")


def _without_pickup_time(work: WorkFacts) -> Iterator[Finding]:
    n_without = work.n_without_pickup_time
    if work.n_predictions and n_without > MAX_WITHOUT_PICKUP_SHARE * work.n_predictions:
        what = f"{n_without:,} of {work.n_predictions:,} rides had no pickup time and are predicted as of their arrival"
        yield found("many-without-pickup-time", what)


def check_waiting_time(work: WorkFacts | None, findings: Sequence[Finding]) -> Iterator[Finding]:
    """Check how long rides waited. More shards are the remedy only if no other finding is the cause."""
    if work is None or work.max_record_age_s <= MAX_RECORD_AGE_S:
        return
    what = f"rides waited up to {work.max_record_age_s:,.0f} s"
    if causes := dict.fromkeys(f"`{one.check}`" for one in findings if _makes_rides_wait(one)):
        yield found("rides-waited-for-a-cause", what, causes=", ".join(causes))
    else:
        yield found("rides-waited", what)


def _makes_rides_wait(finding: Finding) -> bool:
    if not finding.fault:
        return False
    return finding.severity in {Severity.bad, Severity.unknown} or "IteratorAgeAlarm" in FAULTS[finding.fault].alarms
