"""The event source mappings: from the input stream to the predictor, from each stream to the archive function."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.operate.doctor.facts import Finding, MappingFacts, StackFacts, first_of, good
from infra.operate.doctor.faults import found
from infra.operate.doctor.reading import Reading
from lambda_function.core.records import stream_of_arn

_KEPT = (
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "FunctionResponseTypes",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
)
"""What keeps a mapping from losing records or blocking a shard."""

ARCHIVED = {
    "ArchiverRides": "RideEvents",
    "ArchiverPredictions": "RidePredictions",
    "ArchiverOutcomes": "RideOutcomes",
}
"""Streams by the archive's mappings, as the template names both."""

_OFF = {"Disabled", "Disabling", "Deleting"}

_FAILED = "PROBLEM"
"""The beginning of a mapping's last result if it failed."""


def probe_mapping(
    aws_lambda: Any, alias_arn: str, stream_arn: str, wanted: Mapping[str, Any] | None = None
) -> MappingFacts:
    """Read the mapping to an alias: the one from the stream, else one from another stream.

    `wanted` are its properties in the template; without them nothing is compared.
    """
    mappings = aws_lambda.list_event_source_mappings(FunctionName=alias_arn)["EventSourceMappings"]
    mapping = next((one for one in mappings if one["EventSourceArn"] == stream_arn), next(iter(mappings), None))
    return _facts(mapping, stream_arn, wanted or {})


def read_archive(reading: Reading) -> dict[str, Any]:
    """Read the mappings of the archive function by stream; none if there is no such function."""
    function, wanted = reading.stack.outputs.get("ArchiverName"), {}
    for logical_name, stream in ARCHIVED.items():
        if arn := reading.stack.outputs.get(f"{stream}Arn"):
            wanted[arn] = reading.wanted(logical_name)
    if not function or "archive" in reading.missing:
        return {}
    aws_lambda = reading.client("lambda")
    return {
        "archive_mappings": reading.part("archive", {}, lambda: probe_archive(aws_lambda, function, wanted)),
    }


def probe_archive(aws_lambda: Any, function: str, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, MappingFacts]:
    """Read the mappings to a function from streams; `wanted` has their properties in the template by stream's ARN."""
    mappings = aws_lambda.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
    return {
        stream_of_arn(arn): _facts(next((one for one in mappings if _reads(one, arn)), None), arn, properties)
        for arn, properties in wanted.items()
    }


def _reads(mapping: Mapping[str, Any], stream_arn: str) -> bool:
    source: str = mapping["EventSourceArn"]
    return source == stream_arn or source.startswith(f"{stream_arn}/consumer/")  # with enhanced fan-out


def _facts(mapping: Mapping[str, Any] | None, stream_arn: str, wanted: Mapping[str, Any]) -> MappingFacts:
    if mapping is None:
        return MappingFacts("")
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
        uuid=mapping["UUID"],
        stream=mapping["EventSourceArn"],
        is_of_another_stream=not _reads(mapping, stream_arn),
        max_record_age_s=max(mapping.get("MaximumRecordAgeInSeconds", 0), 0),  # -1 is without a limit
        changed=dict(_changed(mapping, wanted)),
    )


def _changed(mapping: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what of a mapping is not as in the template, each after the option that restores it."""
    for name in _KEPT:
        now, then = mapping.get(name), wanted.get(name)
        if then is not None and now != then:
            yield _option(name, then), f"{name} is {json.dumps(now)}, and the template says {json.dumps(then)}"


def _option(name: str, value: object) -> str:
    """Return an option of AWS's command line.

    >>> _option("MaximumRetryAttempts", 5), _option("BisectBatchOnFunctionError", True)
    ('--maximum-retry-attempts 5', '--bisect-batch-on-function-error')
    """
    words = re.sub(r"(?<=.)([A-Z])", r"-\1", name).lower()
    match value:
        case bool():
            return f"--{words}" if value else f"--no-{words}"
        case list():
            return f"--{words} {' '.join(map(str, value))}"
        case dict():
            return f"--{words} '{json.dumps(value)}'"
    return f"--{words} {value}"


def check_mapping(facts: StackFacts) -> Iterator[Finding]:
    """Check that rides are read and given to the function, and that none is lost."""
    mapping = facts.mapping
    if mapping is None:
        return
    problems = [*_state(mapping), *_settings(mapping)]
    yield from problems or [good("mapping", _described(mapping))]


def check_archive(facts: StackFacts) -> Iterator[Finding]:
    """Check that the records of each stream are read and given to the archive function."""
    for stream, mapping in facts.archive_mappings.items():
        problems = [*_archive_state(stream, mapping), *_settings(mapping, "archive")]
        yield from problems or [good("archive", f"of {stream}, {_described(mapping)}")]


def _archive_state(stream: str, mapping: MappingFacts) -> Iterator[Finding]:
    what = f"of {stream}, {_described(mapping)}"
    if not mapping.state:
        yield found("archive-mapping-missing", f"no mapping leads from {stream} to the archive function")
    elif mapping.state in _OFF:
        yield found("archive-mapping-disabled", what, uuid=mapping.uuid)
    elif mapping.last_result.startswith(_FAILED):
        yield found("archive-mapping-failing", what)
    elif mapping.state != "Enabled":
        yield found("mapping-updating", what, check="archive")


def _described(mapping: MappingFacts) -> str:
    return f"the mapping is {mapping.state}, its last result: {mapping.last_result or 'none yet'}"


def _state(mapping: MappingFacts) -> Iterator[Finding]:
    if not mapping.state:
        yield found("mapping-missing", "no mapping leads from the input stream to the function's alias")
    elif mapping.is_of_another_stream:
        yield found("mapping-wrong-stream", f"the mapping reads {mapping.stream}, and not the stack's input stream")
    elif mapping.state in _OFF:
        yield found("mapping-disabled", _described(mapping), uuid=mapping.uuid)
    elif mapping.last_result.startswith(_FAILED):
        yield found("mapping-failing", _described(mapping))
    elif mapping.state != "Enabled":
        yield found("mapping-updating", _described(mapping))


def _settings(mapping: MappingFacts, check: str = "") -> Iterator[Finding]:
    if mapping.changed:
        what = f"failed batches are not handled as deployed: {first_of(list(mapping.changed.values()))}"
        yield found("mapping-changed", what, check=check, uuid=mapping.uuid, options=" ".join(mapping.changed))
