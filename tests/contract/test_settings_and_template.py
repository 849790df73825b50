"""The template sets what the code reads: each function's environment and its Python."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from infra.stack.package import PYTHON
from infra.stack.template import TEMPLATE
from lambda_function.aws.settings import CommonSettings
from tests.kits.template import LOOP, of_type, stack

ROOT = TEMPLATE.parent

NO_SETTINGS = {"MALLOC_MMAP_THRESHOLD_"}
"""Variables that other software reads: glibc."""

LEFT_AT_THEIR_DEFAULT = {
    "Predictor": {"DEADLINE_MARGIN_MS"},  # the sum of the timeouts in clients.py
    "PreTraffic": {
        "LOG_LEVEL",
        "MODEL_ACTIVATION_DELAY_S",  # it reads the channel once
        "MODEL_REFRESH_S",
        "MODEL_SIGNING_KEY",  # the version that it tests verifies the bundle
        "POWERTOOLS_METRICS_NAMESPACE",  # it has no metrics
    },
    "ApiFunction": set[str](),
    "Archiver": set[str](),
    "Joiner": set[str](),
    "Monitor": set[str](),
    "Looper": set[str](),
    "Collector": set[str](),
    "Trainer": set[str](),
}
"""Settings that the template does not set, by function."""


class Recorder(Mapping[str, str]):
    """An environment that records the names that are read."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.names_read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names_read.add(name)
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


STACK = stack()
FUNCTIONS = {name: one["Properties"] for name, one in of_type("AWS::Lambda::Function", **LOOP).items()}


def settings_of(function: dict[str, Any]) -> type[CommonSettings]:
    """Return the class of the settings that a function's handler reads, found in its source."""
    package, _, entry = function["Handler"].rpartition(".")
    module = import_module(getattr(import_module(package), entry).__module__)
    (name,) = set(re.findall(r"(\w+)\.from_env\(", Path(str(module.__file__)).read_text(encoding="utf-8")))
    found: type[CommonSettings] = getattr(module, name)
    return found


def environment_of(function: dict[str, Any], **parameters: str) -> dict[str, str]:
    """Return a function's variables with the parameters' defaults, and a placeholder for names that AWS generates."""
    values = {**STACK.parameters, **parameters}
    return {name: _resolve(value, values) for name, value in function["Environment"]["Variables"].items()}


def _resolve(value: Any, parameters: Mapping[str, str]) -> str:
    return (
        parameters.get(value.get("Ref", ""), f"made-up-{value.get('Ref')}") if isinstance(value, dict) else str(value)
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_environment_has_each_setting_that_is_read_and_no_other(name: str) -> None:
    recorder = Recorder(environment_of(FUNCTIONS[name]))

    settings_of(FUNCTIONS[name]).from_env(recorder)

    variables = set(FUNCTIONS[name]["Environment"]["Variables"])
    assert FUNCTIONS.keys() == LEFT_AT_THEIR_DEFAULT.keys()
    assert variables - NO_SETTINGS == recorder.names_read - LEFT_AT_THEIR_DEFAULT[name]


@pytest.mark.parametrize("parameter", ["LogLevel", "OutputFormat"])
def test_function_accepts_each_value_that_the_template_allows(parameter: str) -> None:
    allowed = STACK.template["Parameters"][parameter]["AllowedValues"]

    for value in allowed:
        read = settings_of(FUNCTIONS["Predictor"]).from_env(
            environment_of(FUNCTIONS["Predictor"], **{parameter: value})
        )
        assert value in vars(read).values()


def test_runtime_is_the_projects_python() -> None:
    version = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert version == f"{PYTHON[0]}.{PYTHON[1]}"
    assert {function["Runtime"] for function in FUNCTIONS.values()} == {f"python{version}"}
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
