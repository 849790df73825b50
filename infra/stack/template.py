"""Read template.yaml and translate it to plain CloudFormation with the SAM translator, offline."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from training.errors import UserError

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "template.yaml"
BOOTSTRAP = Path(__file__).parent / "bootstrap.yaml"
"""The repository, its template, and the template of what a deployment itself needs."""

REGION = "us-east-1"
"""The region for which the translator resolves the partition of ARNs; no request is sent to it."""

# The translator warns that it lacks settings for features that only AWS can set.
logging.getLogger("samtranslator.feature_toggle").setLevel(logging.ERROR)

# The translator requires code in S3. The address is never read.
_CODE_ADDRESS = "s3://packaged/predictor.zip"


def read_template(path: Path) -> dict[str, Any]:
    """Read a template; short forms such as `!Ref x` become their long forms.

    Raises:
        UserError: The file is missing, or is not YAML, or is not a template.
    """
    try:
        template = yaml.load(path.read_text(encoding="utf-8"), _TemplateLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(template, dict) or "Resources" not in template:
        raise UserError(f"{path.name} is not a template: it has no Resources")
    return template


def transform(path: Path = TEMPLATE, parameters: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Read a SAM template and translate it.

    Args:
        path: The template.
        parameters: Values for the template's parameters; others have their defaults.

    Returns:
        The template as plain CloudFormation; references to parameters may have been replaced by their values.

    Raises:
        UserError: The template cannot be read, or the translator refuses it.
    """
    template = read_template(path)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = _CODE_ADDRESS
    return translate(template, parameters or {})


def translate(template: dict[str, Any], parameters: Mapping[str, object], region: str = REGION) -> dict[str, Any]:
    """Run SAM's macro on a template, as CloudFormation does when it deploys one.

    Args:
        template: In long forms, as `read_template` returns it, its code in S3 already; may be changed in place.
        parameters: Values for the template's parameters; others have their defaults.
        region: The region for which the translator resolves the partition of ARNs.

    Raises:
        UserError: The translator refuses the template.
    """
    # The translator uses its session for the region only; a real session would read the user's profiles.
    translator = Translator({}, Parser(), boto_session=SimpleNamespace(region_name=region))
    try:
        plain: dict[str, Any] = translator.translate(template, parameter_values=dict(parameters))
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes)
        raise UserError(f"the SAM translator refuses the template: {causes}") from error
    finally:
        translator.metrics.publish()  # sends nothing; unpublished metrics cause a warning at exit
    return plain


# libyaml's loader takes a tenth of the time. Wheels of PyYAML have it; builds from source may lack it.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _TemplateLoader(_Loader):  # type: ignore[misc, valid-type]
    """A YAML loader that reads the short forms of CloudFormation's functions too."""


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
