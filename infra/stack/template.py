"""Read CloudFormation templates as they are written; `translate.py` makes plain CloudFormation of them."""

from pathlib import Path
from typing import Any

import yaml

from training.errors import UserError

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "template.yaml"
BOOTSTRAP = Path(__file__).parent / "bootstrap.yaml"
"""The repository, its template, and the template of what a deployment itself needs."""

FUNCTION_TYPE = "AWS::Serverless::Function"

REGION = "us-east-1"
"""The region for which the translator resolves the partition of ARNs; no request is sent to it."""


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
