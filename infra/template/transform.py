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
        template = yaml.load(path.read_text(encoding="utf-8"), _TemplateLoader)  # noqa: S506 - a SafeLoader
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
