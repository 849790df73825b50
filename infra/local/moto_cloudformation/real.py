"""Resource types that moto has behind its API but not in its CloudFormation: a function's alias, and alarms."""

from collections.abc import Mapping
from typing import Any

from moto.awslambda.utils import get_backend
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel


class FunctionAlias(CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::Lambda::Alias: the alias of moto's Lambda, so that a qualified name finds the version it points at.

    A traffic shift (RoutingConfig, CodeDeploy) is not acted out: the alias moves at once.
    """

    def __init__(self, function_name: str, name: str, arn: str) -> None:
        self.function_name = function_name
        self.name = name
        self.physical_resource_id = arn

    @staticmethod
    def cloudformation_type() -> str:
        """Returns the type as in a template."""
        return "AWS::Lambda::Alias"

    @staticmethod
    def cloudformation_name_type() -> str:
        """Returns the property that names it."""
        return "Name"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Mapping[str, Any], account_id: str, region_name: str, **_: Any
    ) -> "FunctionAlias":
        """Creates it."""
        wanted = cloudformation_json["Properties"]
        alias = get_backend(account_id, region_name).create_alias(
            resource_name, wanted["FunctionName"], wanted["FunctionVersion"], wanted.get("Description", ""), None
        )
        return cls(wanted["FunctionName"], resource_name, alias.arn)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: "FunctionAlias",
        new_resource_name: str,  # noqa: ARG003 - moto's signature
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
    ) -> "FunctionAlias":
        """Points it at another version."""
        wanted = cloudformation_json["Properties"]
        target = wanted["FunctionName"], wanted["FunctionVersion"], wanted.get("Description", ""), None
        get_backend(account_id, region_name).update_alias(original_resource.name, *target)
        return original_resource

    def delete(self, account_id: str, region_name: str) -> None:
        """Removes it."""
        get_backend(account_id, region_name).delete_alias(self.name, self.function_name)


class _AlarmModel:
    """An alarm of moto's CloudWatch, listed and described; no metric ever changes its state: nothing evaluates it."""

    def __init__(self, name: str, arn: str) -> None:
        self.physical_resource_id = name
        self._arn = arn

    def get_cfn_attribute(self, _: str) -> str:
        return self._arn

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr == "Arn"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "AlarmName"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Mapping[str, Any], account_id: str, region_name: str, **_: Any
    ) -> "_AlarmModel":
        wanted = cloudformation_json["Properties"]
        alarm = cloudwatch_backends[account_id][region_name].put_metric_alarm(
            name=resource_name,
            namespace=wanted.get("Namespace"),
            metric_name=wanted.get("MetricName"),
            comparison_operator=wanted.get("ComparisonOperator"),
            evaluation_periods=wanted.get("EvaluationPeriods"),
            period=wanted.get("Period"),
            threshold=wanted.get("Threshold"),
            statistic=wanted.get("Statistic"),
            description=wanted.get("AlarmDescription", ""),
            dimensions=wanted.get("Dimensions", []),
            alarm_actions=wanted.get("AlarmActions", []),
            ok_actions=wanted.get("OKActions", []),
            treat_missing_data=wanted.get("TreatMissingData"),
            rule=wanted.get("AlarmRule"),
        )
        return cls(resource_name, alarm.alarm_arn)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: "_AlarmModel",
        new_resource_name: str,  # noqa: ARG003 - moto's signature
        cloudformation_json: Mapping[str, Any],
        account_id: str,
        region_name: str,
    ) -> "_AlarmModel":
        name = original_resource.physical_resource_id
        return cls.create_from_cloudformation_json(name, cloudformation_json, account_id, region_name)

    def delete(self, account_id: str, region_name: str) -> None:
        cloudwatch_backends[account_id][region_name].delete_alarms([self.physical_resource_id])


class MetricAlarm(_AlarmModel, CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::CloudWatch::Alarm."""

    @staticmethod
    def cloudformation_type() -> str:
        """Returns the type as in a template."""
        return "AWS::CloudWatch::Alarm"


class CompositeAlarm(_AlarmModel, CloudFormationModel):  # type: ignore[misc] # moto is not typed
    """AWS::CloudWatch::CompositeAlarm."""

    @staticmethod
    def cloudformation_type() -> str:
        """Returns the type as in a template."""
        return "AWS::CloudWatch::CompositeAlarm"
