"""template.yaml → plain CloudFormation, with the SAM translator, offline."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from infra.errors import TemplateError

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
"""The repository's own template."""

REGION = "us-east-1"
"""The region that the translator resolves ARNs' partitions for; nothing is asked of it."""

# It says that it has no settings for features of its own, which are AWS's to set.
logging.getLogger("samtranslator.feature_toggle").setLevel(logging.ERROR)

# The translator takes code that is in S3 already; nobody reads this address.
_CODE_ADDRESS = "s3://packaged/predictor.zip"


class MacroError(Exception):
    """SAM's macro refuses a template; its text is the translator's own."""


def read_template(path: Path) -> dict[str, Any]:
    """Reads a template as it stands, with `!Ref x` and its kin in their long form.

    Raises:
        TemplateError: There is no such file, or it is not YAML, or not a template.
    """
    try:
        template = yaml.load(path.read_text(encoding="utf-8"), _TemplateLoader)  # noqa: S506  # nosec B506 - a SafeLoader
    except OSError as error:
        raise TemplateError(path, f"can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise TemplateError(path, f"is not YAML: {error}") from error
    if not isinstance(template, dict) or "Resources" not in template:
        raise TemplateError(path, "has no Resources: it is not a template")
    return template


def transform(path: Path = TEMPLATE, parameters: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Translates a SAM template.

    Args:
        path: The template.
        parameters: Values for the template's parameters; the defaults stand for the others.

    Returns:
        The template as plain CloudFormation; references to parameters may have been replaced by their values.

    Raises:
        TemplateError: It can't be read, or the translator refuses it.
    """
    template = read_template(path)
    _point_code_at_s3(template)
    try:
        return translate(template, parameters or {})
    except MacroError as error:
        raise TemplateError(path, f"is refused by the SAM translator: {error}") from error


def translate(template: dict[str, Any], parameters: Mapping[str, object], region: str = REGION) -> dict[str, Any]:
    """Runs SAM's macro over a template, as CloudFormation does when one is deployed.

    Args:
        template: In long forms, as `read_template` returns it, its code in S3 already; it may be changed.
        parameters: Values for the template's parameters; the defaults stand for the others.
        region: What the translator resolves ARNs' partitions for.

    Raises:
        MacroError: The translator refuses the template.
    """
    # The translator asks its session for nothing but the region; a real one would read the user's profiles.
    translator = Translator({}, Parser(), boto_session=SimpleNamespace(region_name=region))
    try:
        plain: dict[str, Any] = translator.translate(template, parameter_values=dict(parameters))
    except InvalidDocumentException as error:
        raise MacroError("; ".join(cause.message for cause in error.causes)) from error
    finally:
        translator.metrics.publish()  # to nobody; unpublished, they would be complained about at exit
    return plain


def _point_code_at_s3(template: dict[str, Any]) -> None:
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = _CODE_ADDRESS


# libyaml's takes a tenth of the time; every wheel of PyYAML has it, builds from source need not.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TemplateLoader(_Loader):  # type: ignore[misc, valid-type]
    """Reads the short forms of CloudFormation's intrinsic functions too."""


def _long_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_TemplateLoader.add_multi_constructor("!", _long_form)


# MERGED FROM infra/template/conditions.py
# A template's conditions, decided: what is conditional is there or gone, and `Fn::If` is one of its branches.
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
