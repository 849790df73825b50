"""The parameters of a deployment: those of samconfig.toml's environment, and those that only the workflow knows.

`sam deploy --parameter-overrides` does not add to samconfig.toml's, it replaces them: so all are given.
"""

import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path

from infra.errors import TemplateError


def deployment_parameters(samconfig: Path, environment: str, more: Mapping[str, str]) -> list[str]:
    """Returns ``Name=value`` for each parameter; `more` wins, but an empty value in it says nothing.

    Args:
        samconfig: The file.
        environment: One of its tables, as in ``prod``.
        more: Values that are not in the file: of one account, as an ARN.

    Raises:
        TemplateError: The file has no such environment.
    """
    tables = tomllib.loads(samconfig.read_text(encoding="utf-8"))
    if environment not in tables:
        raise TemplateError(samconfig, f"has no environment {environment}: add [{environment}.deploy.parameters]")
    overrides = tables[environment].get("deploy", {}).get("parameters", {}).get("parameter_overrides", [])
    words = shlex.split(overrides) if isinstance(overrides, str) else list(map(str, overrides))
    given = dict(word.split("=", 1) for word in words)
    given |= {name: value for name, value in more.items() if value}
    return [f"{name}={value}" for name, value in given.items()]
