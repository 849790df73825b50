"""A stack: the template's resources as the embedded AWS creates them, and as the rest of `infra` asks about them."""

import json
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from infra.errors import TemplateError
from infra.local.event_source.config import MappingConfig
from infra.operate.shards import StartingPosition
from infra.stack.describe import describe_stack, physical_names
from infra.stack.template import TEMPLATE, decide, transform

# MERGED FROM infra/template/mapping_properties.py
# An event source mapping's properties in the template, as the local mapping's configuration.
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


_MOTO_CREATES = frozenset(
    {
        "AWS::IAM::Role",
        "AWS::Kinesis::Stream",
        "AWS::Lambda::Function",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
    }
)
"""What goes into the embedded AWS. The event source mapping stays out: local/mapping.py does its work. Nor has what
encrypts, watches, or takes new code over bit by bit anything to do there."""

_ALIAS = "AWS::Lambda::Alias"

_IN_SUB = re.compile(r"\$\{(\w+)(\.[\w.]+)?\}")
"""A reference in a text of `Fn::Sub`: to a resource, or an attribute of it. `${AWS::Region}` and its kin are none."""

_INLINE_CODE = {"ZipFile": "# runs in this machine's own Python: see infra/local"}


@dataclass(frozen=True, slots=True)
class DeployedStack:
    """A stack that exists: physical names, and the function's settings as the AWS at hand resolved them.

    Attributes:
        environment: The function's variables.
        timeout_s: How long one invocation may take.
    """

    input_stream: str
    output_stream: str
    bucket: str
    function_name: str
    handler: str
    runtime: str
    timeout_s: int
    memory_mb: int
    environment: Mapping[str, str]
    mapping: MappingConfig


class Stack:
    """A translated template with its parameters resolved.

    Attributes:
        template: As CloudFormation would get it, conditions and all.
        decided: Of it, what there is with these parameters.
    """

    def __init__(self, path: Path = TEMPLATE, parameters: Mapping[str, object] | None = None) -> None:
        """Translates the template.

        Raises:
            TemplateError: The template can't be used, or has no such parameter, or needs a value for one.
        """
        self.path = path
        self.template = transform(path, parameters)
        self.parameters = self._resolve_parameters(parameters or {})
        self.decided = decide(path, self.template, self.parameters)

    def _resolve_parameters(self, given: Mapping[str, object]) -> dict[str, str]:
        declared: dict[str, dict[str, Any]] = self.template.get("Parameters", {})
        if unknown := sorted(given.keys() - declared.keys()):
            raise TemplateError(self.path, f"has no parameter {', '.join(unknown)}")
        values = {name: given.get(name, declaration.get("Default")) for name, declaration in declared.items()}
        if missing := sorted(name for name, value in values.items() if value is None):
            raise TemplateError(self.path, f"needs a value for {', '.join(missing)}")
        return {name: str(value) for name, value in values.items()}

    def only(self, kind: str) -> dict[str, Any]:
        """Returns the properties of the one resource of a type.

        Raises:
            TemplateError: There is none, or more than one.
        """
        found = [r for r in self.decided["Resources"].values() if r["Type"] == kind]
        if len(found) != 1:
            raise TemplateError(self.path, f"has {len(found)} resources of type {kind}, not one")
        properties: dict[str, Any] = found[0]["Properties"]
        return properties

    def for_moto(self) -> dict[str, Any]:
        """Returns the template cut down to what moto can create; names stand in for the rest where it is referred to.

        No output of the rest is left: a name that stands in is no fact.
        """
        resources = {
            name: _with_inline_code(resource)
            for name, resource in self.decided["Resources"].items()
            if resource["Type"] in _MOTO_CREATES
        }
        dropped = self.decided["Resources"].keys() - resources.keys()
        outputs = {name: output for name, output in self.decided["Outputs"].items() if not dropped & _mentions(output)}
        return {**self.decided, "Resources": _with_stand_ins(resources, dropped), "Outputs": outputs}

    def event_source_mapping(self, physical_names: Mapping[str, str]) -> MappingConfig:
        """Reads the mapping's properties.

        Args:
            physical_names: By the template's logical names, once the stack exists.

        Raises:
            TemplateError: There is not one mapping, it has a property that the local one does not know, or a value
                refers to something unknown.
        """
        names = {**self.parameters, **physical_names}
        names = {**self._aliases(names), **names}
        properties = self.only("AWS::Lambda::EventSourceMapping")
        return mapping_config(self.path, {name: self._value(value, names) for name, value in properties.items()})

    def _aliases(self, names: Mapping[str, str]) -> dict[str, str]:
        """Names the aliases of functions that have a name, as `Ref` does: moto creates none."""
        aliases = {name: r["Properties"] for name, r in self.decided["Resources"].items() if r["Type"] == _ALIAS}
        functions = {name: names.get(alias["FunctionName"]["Ref"]) for name, alias in aliases.items()}
        return {
            name: f"{functions[name]}:{alias['Name']}" for name, alias in aliases.items() if functions[name] is not None
        }

    def _value(self, node: Any, names: Mapping[str, str]) -> Any:
        """Resolves references: `Ref x` and `GetAtt x.Arn` both to the name of x, which is all that is needed."""
        if isinstance(node, list):
            return [self._value(item, names) for item in node]
        if not isinstance(node, dict):
            return node
        target = node.get("Ref") or next(iter(node.get("Fn::GetAtt", ())), None)
        if target is None:
            return {key: self._value(value, names) for key, value in node.items()}
        if target not in names:
            raise TemplateError(self.path, f"refers to {target}, which has no value here")
        return names[target]


def deploy(
    client: Callable[[str], Any],
    stack_name: str = "ridecast",
    path: Path = TEMPLATE,
    parameters: Mapping[str, object] | None = None,
) -> DeployedStack:
    """Creates the template's stack in the embedded AWS.

    Args:
        client: Makes a boto3 client for a service: `LocalAws.client`.
        stack_name: The stack's name.
        path: The template.
        parameters: Values for its parameters; the defaults stand for the others.

    Raises:
        TemplateError: The template can't be used, or the stack was not created.
    """
    stack = Stack(path, parameters)
    cloudformation = client("cloudformation")
    try:
        cloudformation.create_stack(
            StackName=stack_name,
            TemplateBody=json.dumps(stack.for_moto()),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in stack.parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=stack_name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
        )
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        raise TemplateError(path, f"can't be deployed as {stack_name}: {' '.join(str(error).split())}") from error
    return _describe(client, stack, stack_name)


def _describe(client: Callable[[str], Any], stack: Stack, stack_name: str) -> DeployedStack:
    cloudformation = client("cloudformation")
    outputs = describe_stack(cloudformation, stack_name).outputs
    function = client("lambda").get_function_configuration(FunctionName=outputs["FunctionName"])
    return DeployedStack(
        input_stream=outputs["RideEventsStream"],
        output_stream=outputs["RidePredictionsStream"],
        bucket=outputs["BucketName"],
        function_name=outputs["FunctionName"],
        handler=function["Handler"],
        runtime=function["Runtime"],
        timeout_s=int(function["Timeout"]),  # a text, where it is a parameter's
        memory_mb=int(function["MemorySize"]),
        environment={name: str(value) for name, value in function["Environment"]["Variables"].items()},
        mapping=stack.event_source_mapping(physical_names(cloudformation, stack_name)),
    )


def _with_inline_code(resource: dict[str, Any]) -> dict[str, Any]:
    if resource["Type"] != "AWS::Lambda::Function":
        return resource
    return {**resource, "Properties": {**resource["Properties"], "Code": _INLINE_CODE}}


def _mentions(node: Any) -> set[str]:
    """Returns every string in a piece of template: among them the logical names that it refers to."""
    if isinstance(node, str):
        return {node, *_names_within(node)}
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return set().union(*map(_mentions, children))


def _names_within(text: str) -> set[str]:
    """Returns the logical names in a text of `Fn::Sub`, or in any other."""
    return {name for name, _ in _IN_SUB.findall(text)}


def _with_stand_ins(node: Any, dropped: Set[str]) -> Any:
    """Returns a piece of template in which what refers to resources that are gone has their logical names instead."""
    if isinstance(node, list):
        return [_with_stand_ins(item, dropped) for item in node]
    if isinstance(node, str):
        return _IN_SUB.sub(lambda found: found[1] if found[1] in dropped else found[0], node)
    if not isinstance(node, dict):
        return node
    target = node.get("Ref") or next(iter(node.get("Fn::GetAtt", ())), None)
    if target in dropped:
        return target
    return {key: _with_stand_ins(value, dropped) for key, value in node.items()}
