"""The template and what the code reads say the same: each function's environment, its Python, its packages."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from infra.local.stack import Stack
from infra.stack.package import PYTHON
from infra.stack.template import TEMPLATE
from lambda_function.aws import settings
from lambda_function.aws.settings import ServingSettings

ROOT = TEMPLATE.parent

NO_SETTINGS = {"MALLOC_MMAP_THRESHOLD_"}
"""Variables that are not ours to read: glibc's."""

LEFT_AT_THEIR_DEFAULT = {
    "Predictor": {"DEADLINE_MARGIN_MS"},  # added up from timeouts in clients.py: whoever changes it changes those
    "PreTraffic": {
        "LOG_LEVEL",
        "MODEL_REFRESH_S",  # it looks once
        "MODEL_SIGNING_KEY",  # the version that it tries verifies the bundle
        "POWERTOOLS_METRICS_NAMESPACE",  # it has no metrics
    },
    "ApiFunction": set[str](),
}
"""Settings that the template does not set, by function."""


class Recorder(Mapping[str, str]):
    """An environment that notes what is asked of it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


STACK = Stack()
FUNCTIONS: dict[str, dict[str, Any]] = {
    name: resource["Properties"]
    for name, resource in STACK.template["Resources"].items()
    if resource["Type"] == "AWS::Lambda::Function"
}


def settings_of(function: dict[str, Any]) -> type[ServingSettings]:
    """The settings that a function's handler reads, by its source."""
    package, _, entry = function["Handler"].rpartition(".")
    module = import_module(getattr(import_module(package), entry).__module__)
    (name,) = set(re.findall(r"(\w+)\.from_env\(", Path(str(module.__file__)).read_text(encoding="utf-8")))
    found: type[ServingSettings] = getattr(settings, name)
    return found


def environment_of(function: dict[str, Any], **parameters: str) -> dict[str, str]:
    """A function's variables with the parameters' defaults, and something made up for what AWS would name."""
    values = {**STACK.parameters, **parameters}
    return {name: _resolve(value, values) for name, value in function["Environment"]["Variables"].items()}


def _resolve(value: Any, parameters: Mapping[str, str]) -> str:
    if isinstance(value, dict) and "Fn::If" in value:
        return _resolve(value["Fn::If"][2], parameters)
    return parameters.get(value.get("Ref", ""), "made-up") if isinstance(value, dict) else str(value)


def test_each_function_is_known_here() -> None:
    assert FUNCTIONS.keys() == LEFT_AT_THEIR_DEFAULT.keys()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_environment_has_each_setting_that_is_read_and_no_other(name: str) -> None:
    recorder = Recorder(environment_of(FUNCTIONS[name]))

    settings_of(FUNCTIONS[name]).from_env(recorder)

    variables = set(FUNCTIONS[name]["Environment"]["Variables"])
    assert variables - NO_SETTINGS == recorder.asked - LEFT_AT_THEIR_DEFAULT[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_function_can_not_do_without_is_set(name: str) -> None:
    assert set(settings_of(FUNCTIONS[name]).REQUIRED) <= FUNCTIONS[name]["Environment"]["Variables"].keys()


@pytest.mark.parametrize("parameter", ["LogLevel", "OutputFormat"])
def test_each_value_that_the_template_allows_is_one_that_the_function_takes(parameter: str) -> None:
    allowed = STACK.template["Parameters"][parameter]["AllowedValues"]

    for value in allowed:
        read = settings_of(FUNCTIONS["Predictor"]).from_env(
            environment_of(FUNCTIONS["Predictor"], **{parameter: value})
        )
        assert value in vars(read).values()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_runtime_is_the_projects_python(name: str) -> None:
    version = (ROOT / ".python-version").read_text(encoding="utf-8").strip()

    assert FUNCTIONS[name]["Runtime"] == f"python{version}"
    assert version == f"{PYTHON[0]}.{PYTHON[1]}"


def test_projects_python_is_one_that_the_code_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = (ROOT / ".python-version").read_text(encoding="utf-8").strip()

    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_there_is_no_state_machine_whose_states_nothing_checks() -> None:
    types = {resource["Type"] for resource in STACK.template["Resources"].values()}

    assert not {one for one in types if "StepFunctions" in one or one == "AWS::Serverless::StateMachine"}
