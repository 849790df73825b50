"""Resource types that moto's CloudFormation lacks. Most only record their properties, and have a name and an ARN.

What a stand-in does *not* do: an API has no door, a deployment group shifts no traffic, a bucket policy refuses nobody,
a subscription delivers nothing. `real.py` has those that stand on a working part of moto.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import uuid4

from moto.core.common_models import CloudFormationModel

from infra.local.moto_cloudformation.resource import Properties, Resource


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
