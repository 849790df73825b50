"""What the deployed template wants of a resource: its properties, with references replaced by what they refer to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.operate.doctor.template_diff import parse_deployed
from infra.stack.conditions import decide
from infra.stack.describe import DescribedStack, Resource

_IN_TEXT = re.compile(r"\$\{([^!}]+)\}")

_ARNS = {
    "AWS::IAM::Role": "arn:{partition}:iam::{account}:role/{name}",
    "AWS::KMS::Key": "arn:{partition}:kms:{region}:{account}:key/{name}",
    "AWS::Lambda::Function": "arn:{partition}:lambda:{region}:{account}:function:{name}",
    "AWS::Kinesis::Stream": "arn:{partition}:kinesis:{region}:{account}:stream/{name}",
    "AWS::Logs::LogGroup": "arn:{partition}:logs:{region}:{account}:log-group:{name}:*",
    "AWS::S3::Bucket": "arn:{partition}:s3:::{name}",
    "AWS::SQS::Queue": "arn:{partition}:sqs:{region}:{account}:{last}",
}
"""ARNs by type; `{last}` is the last part of a name that is an address."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A deployed template."""

    resources: Mapping[str, Any]  # the template's, without conditions
    values: Mapping[str, str]  # of references by name: parameters, pseudo parameters, resources and their ARNs

    def properties(self, logical_name: str) -> dict[str, Any]:
        """Return a resource's properties; None in the place of a value that this does not resolve.

        A resource that the template does not have has no properties.
        """
        properties: dict[str, Any] = self._resolve(self.resources.get(logical_name, {}).get("Properties", {}))
        return properties

    def _resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._resolve(item) for item in node]
        if not isinstance(node, Mapping):
            return node
        function, argument = next(iter(node.items()), ("", None))
        if function == "Ref" or function.startswith("Fn::"):
            return self._call(function, argument)
        return {key: self._resolve(value) for key, value in node.items()}

    def _call(self, function: str, argument: Any) -> str | None:
        """Return the value of a function of CloudFormation; None if it is not known."""
        if function == "Fn::Sub" and isinstance(argument, str):
            return self._fill(argument)
        if function == "Fn::Select":
            return self._select(*argument)
        if function in {"Ref", "Fn::GetAtt"}:
            return self.values.get(argument if isinstance(argument, str) else ".".join(argument))
        return None

    def _select(self, index: int, parts: Mapping[str, Any]) -> str | None:
        """Return a part of a text that is split."""
        separator, text = parts.get("Fn::Split", ("", None))
        found = self._resolve(text)
        return found.split(separator)[int(index)] if isinstance(found, str) else None

    def _fill(self, text: str) -> str | None:
        names = _IN_TEXT.findall(text)
        if any(name not in self.values for name in names):
            return None
        return _IN_TEXT.sub(lambda found: self.values[found[1]], text)


def read_wanted(cloudformation: Any, stack: DescribedStack, resources: tuple[Resource, ...]) -> Wanted:
    """Read the template that a stack was deployed from.

    Raises:
        UserError: The template has a condition that can't be evaluated.
        YAMLError: The template can't be read.
    """
    answer = cloudformation.get_template(StackName=stack.name, TemplateStage="Processed")
    template = parse_deployed(answer["TemplateBody"])
    defaults = {name: str(one["Default"]) for name, one in template["Parameters"].items() if "Default" in one}
    parameters = {**defaults, **stack.parameters}
    _, partition, _, region, account, *_ = stack.outputs["FunctionAliasArn"].split(":")
    place = {"partition": partition, "region": region, "account": account}
    pseudo = {
        "AWS::StackName": stack.name,
        "AWS::Region": region,
        "AWS::AccountId": account,
        "AWS::Partition": partition,
    }
    names = {one.logical_name: one.physical_name for one in resources}
    arns = {
        f"{one.logical_name}.Arn": _ARNS[one.type].format(
            **place, name=one.physical_name, last=one.physical_name.rpartition("/")[2]
        )
        for one in resources
        if one.type in _ARNS
    }
    return Wanted(decide(template, parameters)["Resources"], {**parameters, **pseudo, **names, **arns})
