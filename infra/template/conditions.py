"""A template's conditions, decided: what is conditional is there or gone, and `Fn::If` is one of its branches."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.errors import TemplateError

NO_VALUE = {"Ref": "AWS::NoValue"}


def decide(path: Path, template: Mapping[str, Any], parameters: Mapping[str, str]) -> dict[str, Any]:
    """Returns a plain template without conditions: resources and outputs whose condition is false are not in it.

    Args:
        path: The template's, for what is said of it.
        template: Translated by SAM already.
        parameters: Values of all its parameters.

    Raises:
        TemplateError: A condition is not declared, refers to something else than parameters, or to itself.

    >>> small = {"Conditions": {"Big": {"Fn::Equals": [{"Ref": "Size"}, "big"]}}, "Resources": {},
    ...          "Outputs": {"Size": {"Value": {"Fn::If": ["Big", "huge", "tiny"]}}}}
    >>> decide(Path("template.yaml"), small, {"Size": "big"})["Outputs"]
    {'Size': {'Value': 'huge'}}
    """
    conditions = _Conditions(path, template.get("Conditions", {}), parameters)
    decided = {name: part for name, part in template.items() if name != "Conditions"}
    for section in ("Resources", "Outputs"):
        decided[section] = {
            name: conditions.choose({key: value for key, value in item.items() if key != "Condition"})
            for name, item in template.get(section, {}).items()
            if "Condition" not in item or conditions.holds(item["Condition"])
        }
    return decided


def broken_rules(path: Path, template: Mapping[str, Any], parameters: Mapping[str, str]) -> list[str]:
    """Returns what a template's rules have against these values: the description of each assertion that does not hold.

    Args:
        path: The template's, for what is said of it.
        template: With or without rules.
        parameters: Values of all its parameters.

    Raises:
        TemplateError: A rule is decided in a way not known here.

    >>> rule = {"Assertions": [{"Assert": {"Fn::Equals": [{"Ref": "Size"}, "big"]}, "AssertDescription": "be big"}]}
    >>> broken_rules(Path("template.yaml"), {"Rules": {"Big": rule}}, {"Size": "small"})
    ['be big']
    """
    conditions = _Conditions(path, {}, parameters)
    return [
        str(assertion.get("AssertDescription", name))
        for name, rule in template.get("Rules", {}).items()
        if "RuleCondition" not in rule or conditions.decide(rule["RuleCondition"])
        for assertion in rule["Assertions"]
        if not conditions.decide(assertion["Assert"])
    ]


class _Conditions:
    def __init__(self, path: Path, declared: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        self._path = path
        self._declared = declared
        self._parameters = parameters
        self._under_way: set[str] = set()

    def holds(self, name: str) -> bool:
        """Decides a condition by name."""
        if name not in self._declared:
            raise TemplateError(self._path, f"has no condition {name}")
        if name in self._under_way:
            raise TemplateError(self._path, f"has the condition {name}, which depends on itself")
        self._under_way.add(name)
        try:
            return self.decide(self._declared[name])
        finally:
            self._under_way.remove(name)

    def choose(self, node: Any) -> Any:
        """Returns a piece of template with its branches chosen; what has no value is left out."""
        if isinstance(node, list):
            return [chosen for item in node if (chosen := self.choose(item)) != NO_VALUE]
        if not isinstance(node, dict):
            return node
        if "Fn::If" in node:
            name, yes, no = node["Fn::If"]
            return self.choose(yes if self.holds(name) else no)
        chosen_items = ((key, self.choose(value)) for key, value in node.items())
        return {key: value for key, value in chosen_items if value != NO_VALUE}

    def decide(self, node: Mapping[str, Any]) -> bool:
        """Decides a condition as it is written."""
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
        raise TemplateError(self._path, f"decides a condition by {function}, which is not known locally")

    def _text(self, node: Any) -> str:
        """Returns what is compared: CloudFormation compares texts, numbers among them."""
        if not isinstance(node, dict):
            return str(node)
        if node.get("Ref") not in self._parameters:
            raise TemplateError(self._path, f"decides a condition by {node}, which is no parameter")
        return self._parameters[node["Ref"]]
