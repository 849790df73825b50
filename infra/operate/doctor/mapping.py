"""The event source mapping from the input stream to the function's alias, against the template."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra.operate.doctor.facts import Finding, MappingFacts, StackFacts, first_of, good
from infra.operate.doctor.faults import found

_KEPT = (
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "FunctionResponseTypes",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
)
"""What keeps a mapping from losing records or blocking a shard."""

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
        is_of_another_stream=mapping["EventSourceArn"] != stream_arn,
        max_record_age_s=max(mapping.get("MaximumRecordAgeInSeconds", 0), 0),  # -1 is without a limit
        changed=dict(_changed(mapping, wanted or {})),
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


def _described(mapping: MappingFacts) -> str:
    return f"the mapping is {mapping.state}, its last result: {mapping.last_result or 'none yet'}"


def _state(mapping: MappingFacts) -> Iterator[Finding]:
    if not mapping.state:
        yield found("mapping-missing", "no mapping leads from the input stream to the function's alias")
    elif mapping.is_of_another_stream:
        yield found("mapping-wrong-stream", f"the mapping reads {mapping.stream}, and not the stack's input stream")
    elif mapping.state in {"Disabled", "Disabling", "Deleting"}:
        yield found("mapping-disabled", _described(mapping), uuid=mapping.uuid)
    elif mapping.last_result.startswith(_FAILED):
        yield found("mapping-failing", _described(mapping))
    elif mapping.state != "Enabled":
        yield found("mapping-updating", _described(mapping))


def _settings(mapping: MappingFacts) -> Iterator[Finding]:
    if mapping.changed:
        what = f"failed batches are not handled as deployed: {first_of(list(mapping.changed.values()))}"
        yield found("mapping-changed", what, uuid=mapping.uuid, options=" ".join(mapping.changed))
