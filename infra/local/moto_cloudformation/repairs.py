"""Resource types that moto's CloudFormation has, and gets wrong: each repair says what was."""

import json
from collections.abc import Mapping
from typing import Any

from moto.awslambda.models import LambdaVersion, Permission
from moto.awslambda.utils import get_backend
from moto.cloudformation import parsing
from moto.cloudformation.models import Stack
from moto.iam.models import Role
from moto.kms.models import Key
from moto.logs.models import LogGroup


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
