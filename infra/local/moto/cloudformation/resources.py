"""Resource types that moto's CloudFormation lacks: aliases, alarms, HTTP APIs, and stand-ins with properties only.

A stand-in does *not* work: a route answers no request, a deployment group shifts no traffic, a bucket policy refuses no
request, a subscription delivers nothing.
"""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self
from uuid import uuid4

from moto.apigatewayv2.models import apigatewayv2_backends
from moto.awslambda.utils import get_backend
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.scheduler.models import scheduler_backends

Properties = Mapping[str, Any]


class _Resource:
    """One resource of a stack, in the form that moto's CloudFormation expects; subclasses define name, put and delete.

    moto finds a resource type among the direct subclasses of its CloudFormationModel, so each class names that too.
    """

    type: ClassVar[str]  # as in a template
    name_property: ClassVar[str] = ""  # the property that names the resource; "" if AWS generates the name
    attributes: ClassVar[Collection[str]] = ()  # the attributes that `GetAtt` returns

    name: str  # the given or generated name
    physical_resource_id: str  # the value of `Ref`

    @classmethod
    @abstractmethod
    def put(cls, name: str, properties: Properties, account: str, region: str, before: Self | None) -> Self:
        """Create or update the resource.

        Args:
            name: Given or generated; on an update the present name.
            properties: With references resolved.
            account: The account's id.
            region: The region.
            before: The resource to update; None to create one.
        """

    @abstractmethod
    def delete(self, account_id: str, region_name: str) -> None:
        """Delete the resource."""

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.type

    @classmethod
    def cloudformation_name_type(cls) -> str:
        return cls.name_property

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in cls.attributes

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str, **_: Any
    ) -> Self:
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
        properties = cloudformation_json.get("Properties", {})
        name = properties.get(cls.name_property, original_resource.name)
        return cls.put(name, properties, account_id, region_name, original_resource)


class _FunctionAlias(_Resource, CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::Lambda::Alias: an alias in moto's Lambda, so that a qualified name finds its version.

    There is no traffic shift (RoutingConfig, CodeDeploy): the alias moves at once.
    """

    type = "AWS::Lambda::Alias"
    name_property = "Name"

    def __init__(self, name: str, arn: str, function_name: str) -> None:
        self.name = name
        self.physical_resource_id = arn
        self._function_name = function_name

    @classmethod
    def put(cls, name: str, properties: Properties, account: str, region: str, before: Self | None) -> Self:
        functions = get_backend(account, region)
        put = functions.update_alias if before else functions.create_alias
        function_name, version = properties["FunctionName"], properties["FunctionVersion"]
        alias = put(name, function_name, version, properties.get("Description", ""), None)
        return cls(name, alias.arn, function_name)

    def delete(self, account_id: str, region_name: str) -> None:
        get_backend(account_id, region_name).delete_alias(self.name, self._function_name)


class _Alarm(_Resource):
    """An alarm in moto's CloudWatch, which lists and describes it, but never evaluates it."""

    name_property = "AlarmName"
    attributes = ("Arn",)

    def __init__(self, name: str, arn: str) -> None:
        self.name = self.physical_resource_id = name
        self._arn = arn

    @classmethod
    def put(cls, name: str, properties: Properties, account: str, region: str, before: Self | None) -> Self:  # noqa: ARG003 - CloudWatch replaces an alarm of that name
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


class _MetricAlarm(_Alarm, CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::CloudWatch::Alarm."""

    type = "AWS::CloudWatch::Alarm"


class _CompositeAlarm(_Alarm, CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::CloudWatch::CompositeAlarm."""

    type = "AWS::CloudWatch::CompositeAlarm"


class _HttpApi(_Resource, CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::ApiGatewayV2::Api: an API in moto that can be described. Its routes are stand-ins: it answers no request."""

    type = "AWS::ApiGatewayV2::Api"
    attributes = ("ApiEndpoint",)

    def __init__(self, name: str, api_id: str, region: str) -> None:
        self.name = name
        self.physical_resource_id = api_id
        self._endpoint = f"https://{api_id}.execute-api.{region}.invalid"

    @classmethod
    def put(cls, name: str, properties: Properties, account: str, region: str, before: Self | None) -> Self:
        if before:
            return before
        made = apigatewayv2_backends[account][region].create_api(
            name=properties["Name"],
            description=properties.get("Description", ""),
            protocol_type=properties["ProtocolType"],
            api_key_selection_expression="",
            cors_configuration=None,
            disable_execute_api_endpoint=False,
            disable_schema_validation=False,
            route_selection_expression="",
            tags={},
            version="",
        )
        return cls(name, made.api_id, region)

    def get_cfn_attribute(self, _: str) -> str:
        return self._endpoint

    def delete(self, account_id: str, region_name: str) -> None:
        apigatewayv2_backends[account_id][region_name].delete_api(self.physical_resource_id)


class _Schedule(_Resource, CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::Scheduler::Schedule: a schedule in moto that can be described. It invokes nothing."""

    type = "AWS::Scheduler::Schedule"
    name_property = "Name"

    def __init__(self, name: str) -> None:
        self.name = self.physical_resource_id = name

    @classmethod
    def put(cls, name: str, properties: Properties, account: str, region: str, before: Self | None) -> Self:
        backend = scheduler_backends[account][region]
        put = backend.update_schedule if before else backend.create_schedule
        settings: dict[str, Any] = {
            "description": properties.get("Description", ""),
            "end_date": None,
            "flexible_time_window": properties["FlexibleTimeWindow"],
            "group_name": "default",
            "kms_key_arn": "",
            "name": name,
            "schedule_expression": properties["ScheduleExpression"],
            "schedule_expression_timezone": "UTC",
            "start_date": None,
            "state": properties.get("State", "ENABLED"),
            "target": properties["Target"],
        }
        put(**settings, **({} if before else {"action_after_completion": None}))
        return cls(name)

    def delete(self, account_id: str, region_name: str) -> None:
        scheduler_backends[account_id][region_name].delete_schedule("default", self.name)


class _StandIn(_Resource):
    """A resource that only records its properties.

    Attributes:
        ref: The value of `Ref`, with {name}, {id}, {region} and {account} to fill in.
        attributes: The values of `GetAtt` by attribute, in the same form.
        properties: As the template resolved them.
    """

    ref: ClassVar[str]
    attributes: ClassVar[Mapping[str, str]]

    def __init__(self, name: str, properties: Properties, account: str, region: str, made_id: str) -> None:
        self.name = name
        self.properties = properties
        self._facts = {"name": name, "id": made_id, "account": account, "region": region}
        self.physical_resource_id = self.ref.format(**self._facts)

    @classmethod
    def put(cls, name: str, properties: Properties, account: str, region: str, before: Self | None) -> Self:
        made_id = before._facts["id"] if before else uuid4().hex[:10]
        return cls(name, properties, account, region, made_id)

    def get_cfn_attribute(self, name: str) -> str:
        return self.attributes[name].format(**self._facts)

    def delete(self, account_id: str, region_name: str) -> None:
        """Do nothing: the stack alone has the resource."""


def _stand_in(kind: str, name_property: str = "", ref: str = "{name}", **attributes: str) -> type[Any]:
    facts = {"type": kind, "name_property": name_property, "ref": ref, "attributes": attributes}
    return type(kind.replace("::", ""), (_StandIn, CloudFormationModel), facts)


STAND_INS = (
    _stand_in("AWS::ApiGatewayV2::Authorizer", ref="{id}"),
    _stand_in("AWS::ApiGatewayV2::Integration", ref="{id}"),
    _stand_in("AWS::ApiGatewayV2::Route", ref="{id}"),
    _stand_in("AWS::ApiGatewayV2::Stage", "StageName"),
    _stand_in("AWS::CodeDeploy::Application", "ApplicationName"),
    _stand_in("AWS::CodeDeploy::DeploymentGroup", "DeploymentGroupName"),
    _stand_in("AWS::Glue::Database"),
    _stand_in("AWS::Glue::Table"),
    _stand_in("AWS::Lambda::EventInvokeConfig", ref="{id}"),
    _stand_in("AWS::Kinesis::StreamConsumer", ref="arn:aws:kinesis:{region}:{account}:stream/any/consumer/{name}:{id}"),
    _stand_in("AWS::S3::BucketPolicy"),
    _stand_in("AWS::SNS::Subscription", ref="arn:aws:sns:{region}:{account}:{name}:{id}"),
    _stand_in("AWS::SNS::TopicPolicy"),
    _stand_in("AWS::SQS::QueuePolicy"),
)
"""Held here, for moto finds only classes that still exist."""
