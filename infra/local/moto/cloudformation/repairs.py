"""Corrections of resource types that moto's CloudFormation has, but handles in another way than AWS."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from moto.awslambda.models import LambdaFunction, LambdaVersion, Permission
from moto.awslambda.utils import get_backend
from moto.cloudformation import parsing
from moto.cloudformation.models import Stack
from moto.iam.models import Role
from moto.kms.models import Key
from moto.logs.models import LogGroup
from moto.s3.models import FakeBucket


def patch_resources() -> None:
    """Apply all corrections, in the whole process."""
    Stack.stack_resources = property(_stack_resources)
    _leave_out_no_value()
    _name_permissions()
    _name_versions()
    _write_policies_of_roles()
    _tag_keys_and_write_their_policies()
    _describe_encryption()
    _version_buckets()
    _describe_variables_as_text()
    _end_arns_of_log_groups()


def _stack_resources(stack: Stack) -> list[Any]:
    """Return the existing resources. moto's own list also creates deleted ones again."""
    known = stack.resource_map
    return [model for name in known._resource_json_map if (model := known._parsed_resources.get(name)) is not None]


def _leave_out_no_value() -> None:
    """Remove `AWS::NoValue` from lists. moto leaves a null, which is not valid in a policy."""
    moto_clean = parsing.clean_json

    def clean(node: Any, known: Any) -> Any:
        cleaned = moto_clean(node, known)
        return [item for item in cleaned if item is not None] if isinstance(node, list) else cleaned

    parsing.clean_json = clean  # it calls itself by this name


def _name_permissions() -> None:
    """Name function permissions. moto gives them no name."""
    moto_create = Permission.create_from_cloudformation_json

    def create(name: str, *rest: Any, **more: Any) -> Any:
        permission = moto_create(name, *rest, **more)
        permission.physical_resource_id = name
        return permission

    Permission.create_from_cloudformation_json = staticmethod(create)


def _name_versions() -> None:
    """Name versions by ARN and give them the attribute `Version`, which an alias needs. moto has neither."""
    moto_create = LambdaVersion.create_from_cloudformation_json

    def create(name: str, resource: Mapping[str, Any], account: str, region: str, **more: Any) -> Any:
        version = moto_create(name, resource, account, region, **more)
        function = get_backend(account, region).get_function(resource["Properties"]["FunctionName"])
        version.physical_resource_id = f"{function.function_arn.partition(':$')[0]}:{version.version}"
        return version

    LambdaVersion.create_from_cloudformation_json = staticmethod(create)
    LambdaVersion.get_cfn_attribute = lambda version, _: str(version.version)
    LambdaVersion.has_cfn_attr = classmethod(lambda _, attr: attr == "Version")


def _after_create_and_update(resource_class: Any, write: Callable[[Any, Mapping[str, Any]], None]) -> None:
    """Write into a resource what moto does not read from the template, when it is created and when it is updated."""
    moto_create = resource_class.create_from_cloudformation_json
    moto_update = resource_class.update_from_cloudformation_json

    def create(name: str, resource: Mapping[str, Any], account: str, region: str, **more: Any) -> Any:
        made = moto_create(name, resource, account, region, **more)
        write(made, resource["Properties"])
        return made

    def update(*, cloudformation_json: Mapping[str, Any], **request: Any) -> Any:
        made = moto_update(cloudformation_json=cloudformation_json, **request)
        write(made, cloudformation_json["Properties"])
        return made

    resource_class.create_from_cloudformation_json = staticmethod(create)
    resource_class.update_from_cloudformation_json = staticmethod(update)


def _write_policies_of_roles() -> None:
    """Store a role's inline policies as JSON text, on update too. moto stores no text, and ignores updates."""

    def write(role: Any, properties: Mapping[str, Any]) -> None:
        policies = properties.get("Policies", ())
        role.policies = {one["PolicyName"]: json.dumps(one["PolicyDocument"]) for one in policies}

    _after_create_and_update(Role, write)


def _tag_keys_and_write_their_policies() -> None:
    """Rename a key's tags to the names in KMS's API, and store its policy as JSON text, both of which moto expects."""
    moto_create = Key.create_from_cloudformation_json

    def create(name: str, cloudformation_json: Mapping[str, Any], *rest: Any, **more: Any) -> Any:
        properties = cloudformation_json["Properties"]
        tags = [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in properties.get("Tags", ())]
        changed = {**properties, "Tags": tags, "KeyPolicy": json.dumps(properties["KeyPolicy"])}
        return moto_create(name, {**cloudformation_json, "Properties": changed}, *rest, **more)

    Key.create_from_cloudformation_json = staticmethod(create)


def _describe_encryption() -> None:
    """Describe a stream's encryption, on update too. moto does not read it; enforcement.py requires its key."""

    def write(stream: Any, properties: Mapping[str, Any]) -> None:
        encryption = properties.get("StreamEncryption", {})
        stream.encryption_type, stream.key_id = encryption.get("EncryptionType", "NONE"), encryption.get("KeyId")

    # The class by its type's name, because kinesis.py puts another in the place of moto's own.
    _after_create_and_update(parsing.resource_class_from_type("AWS::Kinesis::Stream"), write)


def _version_buckets() -> None:
    """Set a bucket's versioning, which moto does not read."""
    moto_create = FakeBucket.create_from_cloudformation_json

    def create(name: str, resource: Mapping[str, Any], *rest: Any, **more: Any) -> Any:
        bucket = moto_create(name, resource, *rest, **more)
        bucket.versioning_status = resource.get("Properties", {}).get("VersioningConfiguration", {}).get("Status")
        return bucket

    FakeBucket.create_from_cloudformation_json = staticmethod(create)


def _describe_variables_as_text() -> None:
    """Return a function's variables as text, as Lambda does. moto returns a template's numbers as numbers."""
    moto_get = LambdaFunction.get_configuration

    def get(function: Any, *rest: Any, **more: Any) -> Any:
        described = moto_get(function, *rest, **more)
        variables = described.get("Environment", {}).get("Variables", {})
        variables.update({name: str(value) for name, value in variables.items()})
        return described

    LambdaFunction.get_configuration = get


def _end_arns_of_log_groups() -> None:
    """End a log group's ARN in `:*` as CloudFormation does, so that a policy with it covers the group's streams."""
    LogGroup.get_cfn_attribute = lambda group, _: f"{group.arn}:*"
