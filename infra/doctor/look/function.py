"""The function that the mapping invokes: its configuration, its mapping, its versions, its concurrency."""

from collections.abc import Iterable, Mapping
from typing import Any

from infra.doctor.facts import ConcurrencyFacts, FunctionFacts, MappingFacts, ReleaseFacts
from infra.doctor.look.stack import Resource
from lambda_function.errors import ConfigurationError
from lambda_function.settings import Settings

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
