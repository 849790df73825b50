"""An event source mapping's properties in the template, as the local mapping's configuration."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.errors import TemplateError
from infra.local.mapping_config import MappingConfig
from infra.shards import StartingPosition

_KNOWN = frozenset(
    {
        "BatchSize",
        "BisectBatchOnFunctionError",
        "DestinationConfig",
        "Enabled",
        "EventSourceArn",
        "FunctionName",
        "FunctionResponseTypes",
        "MaximumBatchingWindowInSeconds",
        "MaximumRecordAgeInSeconds",
        "MaximumRetryAttempts",
        "MetricsConfig",
        "ParallelizationFactor",
        "StartingPosition",
        "StartingPositionTimestamp",
        "Tags",
    }
)
"""Filters and tumbling windows are not among them: ignored, they would change what the function gets. Metrics are
CloudWatch's, which is not here."""

_BEFORE_THE_NAME = ":function:"  # in a function's ARN
_S3_ARN = "arn:aws:s3:::"


def mapping_config(path: Path, properties: Mapping[str, Any]) -> MappingConfig:
    """Reads properties, references in them resolved to physical names.

    Raises:
        TemplateError: There is a property that the local mapping does not know.
    """
    if unknown := sorted(properties.keys() - _KNOWN):
        raise TemplateError(path, f"gives the event source mapping {', '.join(unknown)}, which is not known locally")
    return MappingConfig(
        stream_name=properties["EventSourceArn"],
        starting_position=_starting_position(properties),
        batch_size=int(properties.get("BatchSize", 100)),
        batching_window_s=float(properties.get("MaximumBatchingWindowInSeconds", 0)),
        parallelization_factor=int(properties.get("ParallelizationFactor", 1)),
        bisect_on_error=bool(properties.get("BisectBatchOnFunctionError", False)),
        maximum_retry_attempts=int(properties.get("MaximumRetryAttempts", -1)),
        maximum_record_age_s=int(properties.get("MaximumRecordAgeInSeconds", -1)),
        on_failure_bucket=_bucket(path, properties.get("DestinationConfig", {})),
        report_batch_item_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", ()),
        function_name=properties["FunctionName"].rpartition(_BEFORE_THE_NAME)[2],
    )


def _starting_position(properties: Mapping[str, Any]) -> StartingPosition:
    position: StartingPosition = properties["StartingPosition"]
    if position == "AT_TIMESTAMP":
        return datetime.fromtimestamp(float(properties["StartingPositionTimestamp"]), UTC)
    return position


def _bucket(path: Path, destinations: Mapping[str, Any]) -> str | None:
    destination: str | None = destinations.get("OnFailure", {}).get("Destination")
    if destination is None:
        return None
    if destination.startswith("arn:") and not destination.startswith(_S3_ARN):
        raise TemplateError(path, f"has the failure destination {destination}: only S3 is known locally")
    return destination.removeprefix(_S3_ARN)
