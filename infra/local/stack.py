"""The template's stack on the local AWS: deploy it, and read its function's and its event source mapping's settings."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.aws import LocalAws
from infra.local.event_source.config import MappingConfig
from infra.local.moto.cloudformation.templates import resolve_parameters
from infra.local.runtime.function import FunctionConfig, read_function
from infra.operate.shards import StartingPosition
from infra.stack.conditions import decide
from infra.stack.describe import describe_stack, physical_names
from infra.stack.template import TEMPLATE
from infra.stack.translate import transform
from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES, stream_of_arn
from training.errors import UserError

_CONVERTED: dict[str, tuple[str, Callable[[Any], object]]] = {
    "BatchSize": ("batch_size", int),
    "BisectBatchOnFunctionError": ("bisect_on_error", bool),
    "MaximumBatchingWindowInSeconds": ("batching_window_s", float),
    "MaximumRecordAgeInSeconds": ("maximum_record_age_s", int),
    "MaximumRetryAttempts": ("maximum_retry_attempts", int),
    "ParallelizationFactor": ("parallelization_factor", int),
}
_OTHERS = {"DestinationConfig", "EventSourceArn", "FunctionName", "FunctionResponseTypes"}
_OTHERS |= {"Enabled", "MetricsConfig", "StartingPosition", "StartingPositionTimestamp", "Tags"}
"""Properties of an event source mapping. Filters and tumbling windows are not among them: if they were ignored, the
function would get other records than on AWS. `MetricsConfig` concerns CloudWatch only."""

_MAPPING = "AWS::Lambda::EventSourceMapping"

_KINDS = {"ArchiverRides": RIDES, "ArchiverPredictions": PREDICTIONS, "ArchiverOutcomes": OUTCOMES}
"""The archive's kinds by the logical names of its mappings."""

_BEFORE_THE_NAME = ":function:"  # in a function's ARN
_S3_ARN = "arn:aws:s3:::"

_INLINE_CODE = {"ZipFile": "# runs in Python on this machine: see infra/local/runtime"}


@dataclass(frozen=True, slots=True)
class DeployedStack:
    """A stack on the local AWS: physical names, its functions on the streams and their event source mappings."""

    input_stream: str
    output_stream: str
    outcomes_stream: str
    bucket: str
    function: FunctionConfig  # the predicting function
    mapping: MappingConfig
    archiver: FunctionConfig
    archive_mappings: Mapping[str, MappingConfig]  # by the archive's kinds
    monitor: FunctionConfig


class Stack:
    """A translated template with its parameters resolved.

    Attributes:
        template: As CloudFormation gets it, with conditions.
        decided: The template without conditions: what exists with these parameters.
    """

    def __init__(self, path: Path = TEMPLATE, parameters: Mapping[str, object] | None = None) -> None:
        """Translate the template.

        Raises:
            UserError: The template cannot be used, or a parameter is unknown, missing or not allowed.
        """
        self.path = path
        self.template = transform(path, parameters)
        self.parameters = resolve_parameters(self.template.get("Parameters", {}), parameters or {})
        self.decided = decide(self.template, self.parameters)

    def only(self, kind: str) -> dict[str, Any]:
        """Return the properties of the one resource of a type.

        Raises:
            UserError: The template has none, or more than one.
        """
        found = [r for r in self.decided["Resources"].values() if r["Type"] == kind]
        if len(found) != 1:
            raise UserError(f"{self.path.name} has {len(found)} resources of type {kind}, not one")
        properties: dict[str, Any] = found[0]["Properties"]
        return properties

    def event_source_mapping(self, physical_names: Mapping[str, str], function: str = "Predictor") -> MappingConfig:
        """Return the configuration of a function's only event source mapping.

        Args:
            physical_names: By logical names, as the deployed stack has them.
            function: The function's logical name.

        Raises:
            UserError: The function has not one mapping, or one with an unsupported property or an unknown reference.
        """
        mappings = list(self.event_source_mappings(physical_names, function).values())
        if len(mappings) != 1:
            raise UserError(f"{function} in {self.path.name} has {len(mappings)} event source mappings, not one")
        return mappings[0]

    def event_source_mappings(self, physical_names: Mapping[str, str], function: str) -> dict[str, MappingConfig]:
        """Return the configurations of a function's event source mappings by their logical names.

        Args:
            physical_names: By logical names, as the deployed stack has them.
            function: The function's logical name.

        Raises:
            UserError: A mapping has an unsupported property or an unknown reference.
        """
        names = {**self.parameters, **physical_names}
        mappings = {}
        for logical_name, resource in self.decided["Resources"].items():
            properties = resource["Properties"]
            if resource["Type"] == _MAPPING and self._function_of(properties) == function:
                resolved = {name: self._value(value, names) for name, value in properties.items()}
                mappings[logical_name] = mapping_config(resolved)
        return mappings

    def archive_mappings(self, physical_names: Mapping[str, str]) -> dict[str, MappingConfig]:
        """Return the configurations of the archive function's event source mappings by the archive's kinds."""
        mappings = self.event_source_mappings(physical_names, "Archiver")
        return {kind: mappings[name] for name, kind in _KINDS.items()}

    def _function_of(self, properties: Mapping[str, Any]) -> str:
        """Return the logical name of a mapping's or an alias's function."""
        target = _target(properties["FunctionName"])
        resource = self.decided["Resources"].get(target, {})
        return self._function_of(resource["Properties"]) if resource.get("Type") == "AWS::Lambda::Alias" else target

    def _value(self, node: Any, names: Mapping[str, str]) -> Any:
        """Resolve references: `Ref x` and `GetAtt x.Arn` both to the name of x, which is enough for a mapping."""
        if isinstance(node, list):
            return [self._value(item, names) for item in node]
        if not isinstance(node, dict):
            return node
        target = _target(node)
        if not target:
            return {key: self._value(value, names) for key, value in node.items()}
        if target not in names:
            raise UserError(f"{self.path.name} refers to {target}, which has no value here")
        return names[target]


def _target(node: Mapping[str, Any]) -> str:
    """Return the logical name that a `Ref` or a `GetAtt` refers to; "" for anything else."""
    return str(node.get("Ref") or next(iter(node.get("Fn::GetAtt", ())), ""))


def mapping_config(properties: Mapping[str, Any]) -> MappingConfig:
    """Convert an event source mapping's CloudFormation properties.

    Args:
        properties: With references resolved to physical names; a stream may be given by its ARN.

    Raises:
        UserError: A property is not supported locally.
    """
    if unsupported := sorted(properties.keys() - _CONVERTED.keys() - _OTHERS):
        raise UserError(f"the event source mapping has {', '.join(unsupported)}, which is not supported locally")
    converted: dict[str, Any] = {
        field: convert(properties[name]) for name, (field, convert) in _CONVERTED.items() if name in properties
    }
    return MappingConfig(
        stream_name=stream_of_arn(properties["EventSourceArn"]) or properties["EventSourceArn"],
        starting_position=_starting_position(properties),
        on_failure_bucket=_bucket(properties.get("DestinationConfig", {})),
        report_batch_item_failures="ReportBatchItemFailures" in properties.get("FunctionResponseTypes", ()),
        function_name=properties["FunctionName"].rpartition(_BEFORE_THE_NAME)[2],
        **converted,
    )


def _starting_position(properties: Mapping[str, Any]) -> StartingPosition:
    position: StartingPosition = properties["StartingPosition"]
    if position == "AT_TIMESTAMP":
        return datetime.fromtimestamp(float(properties["StartingPositionTimestamp"]), UTC)
    return position


def _bucket(destinations: Mapping[str, Any]) -> str | None:
    destination: str | None = destinations.get("OnFailure", {}).get("Destination")
    if destination is None:
        return None
    if destination.startswith("arn:") and not destination.startswith(_S3_ARN):
        raise UserError(f"the failure destination is {destination}", "locally, only an S3 bucket is supported")
    return destination.removeprefix(_S3_ARN)


def deploy(
    aws: LocalAws,
    stack_name: str = "ridecast",
    path: Path = TEMPLATE,
    parameters: Mapping[str, object] | None = None,
) -> DeployedStack:
    """Create the template's stack on the local AWS, by a change set as `sam deploy` does, but without building code.

    Parameters that are not given have their defaults.

    Raises:
        UserError: The template cannot be used, or the stack was not created.
    """
    stack, cloudformation = Stack(path, parameters), aws.client("cloudformation")
    try:
        change_set = cloudformation.create_change_set(
            StackName=stack_name,
            ChangeSetName="create",
            ChangeSetType="CREATE",
            TemplateBody=json.dumps(_with_inline_code(stack.template)),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in stack.parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        cloudformation.execute_change_set(ChangeSetName=change_set["Id"])  # returns when the stack is ready
        described = describe_stack(cloudformation, stack_name)
        if described.status != "CREATE_COMPLETE":
            raise _not_created(path, stack_name, _failure_reason(cloudformation, stack_name))
        outputs, names = described.outputs, physical_names(cloudformation, stack_name)
        return DeployedStack(
            input_stream=outputs["RideEventsStream"],
            output_stream=outputs["RidePredictionsStream"],
            outcomes_stream=outputs["RideOutcomesStream"],
            bucket=outputs["BucketName"],
            function=read_function(aws, outputs["FunctionName"]),
            mapping=stack.event_source_mapping(names),
            archiver=read_function(aws, outputs["ArchiverName"]),
            archive_mappings=stack.archive_mappings(names),
            monitor=read_function(aws, outputs["MonitorName"]),
        )
    except (BotoCoreError, ClientError) as error:
        raise _not_created(path, stack_name, str(error)) from error


def _with_inline_code(template: Mapping[str, Any]) -> dict[str, Any]:
    resources = {
        name: {**resource, "Properties": {**resource["Properties"], "Code": _INLINE_CODE}}
        if resource["Type"] == "AWS::Lambda::Function"
        else resource
        for name, resource in template["Resources"].items()
    }
    return {**template, "Resources": resources}


def _failure_reason(cloudformation: Any, stack_name: str) -> str:
    events = cloudformation.describe_stack_events(StackName=stack_name)["StackEvents"]
    return next(
        (one["ResourceStatusReason"] for one in events if one["ResourceStatus"].endswith("FAILED")), "no reason given"
    )


def _not_created(path: Path, stack_name: str, reason: str) -> UserError:
    return UserError(f"{path.name} cannot be deployed as {stack_name}: {' '.join(reason.split())}")
