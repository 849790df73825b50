"""What moto's CloudFormation asks of a resource type, cut down to what types differ in: names, putting, deleting."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

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
