"""Resource types that moto's CloudFormation lacks. Most only record their properties, and have a name and an ARN.

What a stand-in does *not* do: an API has no door, a deployment group shifts no traffic, a bucket policy refuses nobody,
a subscription delivers nothing. `real.py` has those that stand on a working part of moto.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from uuid import uuid4

from moto.awslambda.models import LambdaVersion, Permission
from moto.awslambda.utils import get_backend
from moto.cloudformation import parsing
from moto.cloudformation.models import Stack
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.iam.models import Role
from moto.kms.models import Key
from moto.logs.models import LogGroup

# MERGED FROM infra/local/moto_cloudformation/resource.py
# What moto's CloudFormation asks of a resource type, cut down to what types differ in: names, putting, deleting.
Properties = Mapping[str, Any]


class Resource:
    """One resource of a stack; its class is made one of moto's by CloudFormationModel beside this one.

    Attributes:
        type: As in a template.
        name_property: The property that names it; "" where AWS makes a name up.
        attributes: Those that `GetAtt` gives.
        name: As it is called, given or made up.
        physical_resource_id: What `Ref` gives.
    """

    type: ClassVar[str]
    name_property: ClassVar[str] = ""
    attributes: ClassVar[frozenset[str]] = frozenset()

    name: str
    physical_resource_id: str

    @classmethod
    @abstractmethod
    def put(cls, name: str, properties: Properties, account: str, region: str, before: Self | None) -> Self:
        """Makes it, or makes it what its properties say now.

        Args:
            name: Given or made up; on an update the one that it has.
            properties: With references resolved.
            account: The account's id.
            region: The region.
            before: The resource that is updated; None where it is new.
        """

    @classmethod
    def cloudformation_type(cls) -> str:
        """Returns the type."""
        return cls.type

    @classmethod
    def cloudformation_name_type(cls) -> str:
        """Returns the property that names it."""
        return cls.name_property

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        """Says whether `GetAtt` gives an attribute."""
        return attr in cls.attributes

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str, **_: Any
    ) -> Self:
        """Makes it."""
        return cls.put(resource_name, cloudformation_json.get("Properties", {}), account_id, region_name, None)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Self,
        new_resource_name: str,  # noqa: ARG003 - moto's signature
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> Self:
        """Changes it."""
        properties = cloudformation_json.get("Properties", {})
        name = properties.get(cls.name_property, original_resource.name)
        return cls.put(name, properties, account_id, region_name, original_resource)

    @abstractmethod
    def delete(self, account_id: str, region_name: str) -> None:
        """Takes it away."""


# MERGED FROM infra/local/moto_cloudformation/real.py
# Resource types that moto has behind its API but not in its CloudFormation: a function's alias, and alarms.
class FunctionAlias(Resource, CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::Lambda::Alias: the alias of moto's Lambda, so that a qualified name finds the version it points at.

    A traffic shift (RoutingConfig, CodeDeploy) is not acted out: the alias moves at once.
    """

    type = "AWS::Lambda::Alias"
    name_property = "Name"

    def __init__(self, name: str, arn: str, function_name: str) -> None:
        self.name = name
        self.physical_resource_id = arn
        self._function_name = function_name

    @classmethod
    def put(cls, name: str, properties: Properties, account: str, region: str, before: Self | None) -> Self:
        """Points it at a version."""
        functions = get_backend(account, region)
        put = functions.update_alias if before else functions.create_alias
        function_name, version = properties["FunctionName"], properties["FunctionVersion"]
        alias = put(name, function_name, version, properties.get("Description", ""), None)
        return cls(name, alias.arn, function_name)

    def delete(self, account_id: str, region_name: str) -> None:
        """Removes it."""
        get_backend(account_id, region_name).delete_alias(self.name, self._function_name)


class _Alarm(Resource):
    """An alarm of moto's CloudWatch, listed and described; no metric ever changes its state: nothing evaluates it."""

    name_property = "AlarmName"
    attributes = frozenset({"Arn"})

    def __init__(self, name: str, arn: str) -> None:
        self.name = self.physical_resource_id = name
        self._arn = arn

    @classmethod
    def put(cls, name: str, properties: Properties, account: str, region: str, before: Self | None) -> Self:  # noqa: ARG003 - CloudWatch puts over what is there
        alarm = cloudwatch_backends[account][region].put_metric_alarm(
            name=name,
            namespace=properties.get("Namespace"),
            metric_name=properties.get("MetricName"),
            comparison_operator=properties.get("ComparisonOperator"),
            evaluation_periods=properties.get("EvaluationPeriods"),
            period=properties.get("Period"),
            threshold=properties.get("Threshold"),
            statistic=properties.get("Statistic"),
            description=properties.get("AlarmDescription", ""),
            dimensions=properties.get("Dimensions", []),
            alarm_actions=properties.get("AlarmActions", []),
            ok_actions=properties.get("OKActions", []),
            treat_missing_data=properties.get("TreatMissingData"),
            rule=properties.get("AlarmRule"),
        )
        return cls(name, alarm.alarm_arn)

    def get_cfn_attribute(self, _: str) -> str:
        return self._arn

    def delete(self, account_id: str, region_name: str) -> None:
        cloudwatch_backends[account_id][region_name].delete_alarms([self.name])


class MetricAlarm(_Alarm, CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::CloudWatch::Alarm."""

    type = "AWS::CloudWatch::Alarm"


class CompositeAlarm(_Alarm, CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::CloudWatch::CompositeAlarm."""

    type = "AWS::CloudWatch::CompositeAlarm"


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource type as a template sees it.

    Attributes:
        type: As in a template.
        name_property: The property that names it; "" where AWS makes a name up.
        ref: What `Ref` gives, with {name}, {id}, {region} and {account} to fill in.
        attributes: What `GetAtt` gives, likewise.
    """

    type: str
    name_property: str = ""
    ref: str = "{name}"
    attributes: Mapping[str, str] = field(default_factory=dict)


KINDS = (
    Kind("AWS::ApiGatewayV2::Api", ref="{id}", attributes={"ApiEndpoint": "https://{id}.execute-api.{region}.invalid"}),
    Kind("AWS::ApiGatewayV2::Authorizer", ref="{id}"),
    Kind("AWS::ApiGatewayV2::Integration", ref="{id}"),
    Kind("AWS::ApiGatewayV2::Route", ref="{id}"),
    Kind("AWS::ApiGatewayV2::Stage", "StageName"),
    Kind("AWS::CodeDeploy::Application", "ApplicationName"),
    Kind("AWS::CodeDeploy::DeploymentGroup", "DeploymentGroupName"),
    Kind("AWS::S3::BucketPolicy"),
    Kind("AWS::SNS::Subscription", ref="arn:aws:sns:{region}:{account}:{name}:{id}"),
    Kind("AWS::SNS::TopicPolicy"),
    Kind("AWS::SQS::QueuePolicy"),
)


def stand_in(kind: Kind) -> type[Any]:
    """Makes the class that moto's CloudFormation finds by itself: it looks for CloudFormationModel's own subclasses."""
    facts = {"type": kind.type, "name_property": kind.name_property, "attributes": frozenset(kind.attributes)}
    return type(kind.type.replace("::", ""), (_StandIn, CloudFormationModel), {"kind": kind, **facts})


class _StandIn(Resource):
    """A resource that is recorded and no more.

    Attributes:
        properties: As the template resolved them.
    """

    kind: Kind

    def __init__(self, name: str, properties: Properties, account: str, region: str, made_id: str) -> None:
        self.name = name
        self.properties = properties
        self._facts = {"name": name, "id": made_id, "account": account, "region": region}
        self.physical_resource_id = self.kind.ref.format(**self._facts)

    @classmethod
    def put(cls, name: str, properties: Properties, account: str, region: str, before: Self | None) -> Self:
        made_id = before._facts["id"] if before else uuid4().hex[:10]  # noqa: SLF001 - its own
        return cls(name, properties, account, region, made_id)

    def get_cfn_attribute(self, name: str) -> str:
        return self.kind.attributes[name].format(**self._facts)

    def delete(self, account_id: str, region_name: str) -> None:
        """Does nothing: it is nowhere but in its stack."""


# MERGED FROM infra/local/moto_cloudformation/repairs.py
# Resource types that moto's CloudFormation has, and gets wrong: each repair says what was.
def repair() -> None:
    """Mends them all, for the whole process."""
    Stack.stack_resources = property(_stack_resources)
    _leave_out_no_value()
    _name_permissions()
    _name_versions()
    _write_policies_of_roles()
    _tag_keys()
    _end_arns_of_log_groups()


def _stack_resources(stack: Stack) -> list[Any]:
    """Lists what there is. moto's list makes what is missing: a deleted resource comes back when it is described."""
    known = stack.resource_map
    return [
        model
        for name in known._resource_json_map  # noqa: SLF001 - moto has no other door
        if (model := known._parsed_resources.get(name)) is not None  # noqa: SLF001
    ]


def _leave_out_no_value() -> None:
    """`AWS::NoValue` in a list leaves a null there, which no policy may have."""
    moto_clean = parsing.clean_json

    def clean(node: Any, known: Any) -> Any:
        cleaned = moto_clean(node, known)
        return [item for item in cleaned if item is not None] if isinstance(node, list) else cleaned

    parsing.clean_json = clean  # which calls itself by this name


def _name_permissions() -> None:
    """A function's permission has no name."""
    moto_create = Permission.create_from_cloudformation_json

    def create(name: str, *rest: Any, **more: Any) -> Any:
        permission = moto_create(name, *rest, **more)
        permission.physical_resource_id = name
        return permission

    Permission.create_from_cloudformation_json = staticmethod(create)


def _name_versions() -> None:
    """A published version has no name and no attribute: `Ref` is its ARN, and an alias asks for its number."""
    moto_create = LambdaVersion.create_from_cloudformation_json

    def create(name: str, resource: Mapping[str, Any], account: str, region: str, **more: Any) -> Any:
        version = moto_create(name, resource, account, region, **more)
        function = get_backend(account, region).get_function(resource["Properties"]["FunctionName"])
        version.physical_resource_id = f"{function.function_arn.partition(':$')[0]}:{version.version}"
        return version

    LambdaVersion.create_from_cloudformation_json = staticmethod(create)
    LambdaVersion.get_cfn_attribute = lambda version, _: str(version.version)
    LambdaVersion.has_cfn_attr = classmethod(lambda _, attr: attr == "Version")


def _write_policies_of_roles() -> None:
    """A role's inline policies are kept as no text, which nobody can read; an update does not change them at all."""
    moto_create, moto_update = Role.create_from_cloudformation_json, Role.update_from_cloudformation_json

    def create(name: str, resource: Mapping[str, Any], account: str, region: str, **more: Any) -> Any:
        return write(moto_create(name, resource, account, region, **more), resource)

    def update(*, cloudformation_json: Mapping[str, Any], **request: Any) -> Any:
        return write(moto_update(cloudformation_json=cloudformation_json, **request), cloudformation_json)

    def write(role: Any, resource: Mapping[str, Any]) -> Any:
        policies = resource["Properties"].get("Policies", ())
        role.policies = {one["PolicyName"]: json.dumps(one["PolicyDocument"]) for one in policies}
        return role

    Role.create_from_cloudformation_json = staticmethod(create)
    Role.update_from_cloudformation_json = staticmethod(update)


def _tag_keys() -> None:
    """A key's tags are looked for under the names that KMS's own API has."""
    moto_create = Key.create_from_cloudformation_json

    def create(name: str, cloudformation_json: Mapping[str, Any], *rest: Any, **more: Any) -> Any:
        properties = cloudformation_json["Properties"]
        tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in properties.get("Tags", ())]
        return moto_create(name, {**cloudformation_json, "Properties": {**properties, "Tags": tags}}, *rest, **more)

    Key.create_from_cloudformation_json = staticmethod(create)


def _end_arns_of_log_groups() -> None:
    """A log group's ARN ends in `:*` for CloudFormation, so that a policy with it covers the group's streams."""
    LogGroup.get_cfn_attribute = lambda group, _: f"{group.arn}:*"
