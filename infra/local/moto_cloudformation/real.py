"""Resource types that moto has behind its API but not in its CloudFormation: a function's alias, and alarms."""

from typing import Self

from moto.awslambda.utils import get_backend
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel

from infra.local.moto_cloudformation.resource import Properties, Resource


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
