"""Translate a SAM template to plain CloudFormation with the SAM translator, offline."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from infra.stack.template import FUNCTION_TYPE, REGION, TEMPLATE, read_template
from training.errors import UserError

# The translator warns that it lacks settings for features that only AWS can set.
logging.getLogger("samtranslator.feature_toggle").setLevel(logging.ERROR)

# The translator requires code in S3. The address is never read.
_CODE_ADDRESS = "s3://packaged/predictor.zip"


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
        if resource["Type"] == FUNCTION_TYPE:
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
