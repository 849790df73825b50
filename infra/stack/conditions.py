"""CloudFormation conditions and rules, evaluated for given parameter values. Pure."""

from collections.abc import Mapping
from typing import Any

from training.errors import UserError

_NO_VALUE = {"Ref": "AWS::NoValue"}


def decide(template: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return a plain template without conditions: resources and outputs whose condition is false are left out.

    Args:
        template: Translated by SAM already.
        parameters: Values of all its parameters.

    Raises:
        UserError: A condition is not declared, refers to something other than parameters, or depends on itself.

    >>> small = {"Conditions": {"Big": {"Fn::Equals": [{"Ref": "Size"}, "big"]}}, "Resources": {},
    ...          "Outputs": {"Size": {"Value": {"Fn::If": ["Big", "huge", "tiny"]}}}}
    >>> decide(small, {"Size": "big"})["Outputs"]
    {'Size': {'Value': 'huge'}}
    """
    conditions = _Conditions(template.get("Conditions", {}), parameters)
    decided = {name: part for name, part in template.items() if name != "Conditions"}
    for section in ("Resources", "Outputs"):
        decided[section] = {
            name: conditions.choose({key: value for key, value in item.items() if key != "Condition"})
            for name, item in template.get(section, {}).items()
            if "Condition" not in item or conditions.holds(item["Condition"])
        }
    return decided


def broken_rules(template: Mapping[str, Any], parameters: Mapping[str, str]) -> list[str]:
    """Return the description of each assertion in the template's rules that these parameter values break.

    Raises:
        UserError: A rule uses a function that is not supported here.

    >>> rule = {"Assertions": [{"Assert": {"Fn::Equals": [{"Ref": "Size"}, "big"]}, "AssertDescription": "be big"}]}
    >>> broken_rules({"Rules": {"Big": rule}}, {"Size": "small"})
    ['be big']
    """
    conditions = _Conditions({}, parameters)
    return [
        str(assertion.get("AssertDescription", name))
        for name, rule in template.get("Rules", {}).items()
        if "RuleCondition" not in rule or conditions.decide(rule["RuleCondition"])
        for assertion in rule["Assertions"]
        if not conditions.decide(assertion["Assert"])
    ]


class _Conditions:
    def __init__(self, declared: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        self._declared = declared
        self._parameters = parameters
        self._in_progress: set[str] = set()

    def holds(self, name: str) -> bool:
        """Evaluate a condition by name."""
        if name not in self._declared:
            raise UserError(f"the template has no condition {name}")
        if name in self._in_progress:
            raise UserError(f"the template's condition {name} depends on itself")
        self._in_progress.add(name)
        try:
            return self.decide(self._declared[name])
        finally:
            self._in_progress.remove(name)

    def choose(self, node: Any) -> Any:
        """Return a part of the template with each `Fn::If` replaced by its branch and `AWS::NoValue` left out."""
        if isinstance(node, list):
            return [chosen for item in node if (chosen := self.choose(item)) != _NO_VALUE]
        if not isinstance(node, dict):
            return node
        if "Fn::If" in node:
            name, yes, no = node["Fn::If"]
            return self.choose(yes if self.holds(name) else no)
        chosen_items = ((key, self.choose(value)) for key, value in node.items())
        return {key: value for key, value in chosen_items if value != _NO_VALUE}

    def decide(self, node: Mapping[str, Any]) -> bool:
        """Evaluate a condition function."""
        ((function, arguments),) = node.items()
        match function:
            case "Condition":
                return self.holds(arguments)
            case "Fn::Not":
                return not self.decide(arguments[0])
            case "Fn::And":
                return all(map(self.decide, arguments))
            case "Fn::Or":
                return any(map(self.decide, arguments))
            case "Fn::Equals":
                left, right = map(self._text, arguments)
                return left == right
        raise UserError(f"the template has a condition with {function}, which is not supported locally")

    def _text(self, node: Any) -> str:
        """Return an operand as text: CloudFormation compares numbers as text too."""
        if not isinstance(node, dict):
            return str(node)
        if node.get("Ref") not in self._parameters:
            raise UserError(f"the template has a condition on {node}, which is not a parameter")
        return self._parameters[node["Ref"]]
