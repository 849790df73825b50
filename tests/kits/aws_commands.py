"""Run commands of AWS's own command line, as a document or a remedy writes them, with boto3."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from botocore import xform_name

_COMMAND = re.compile(r"`aws ([^`]+)`")
_SERVICES = {"s3api": "s3"}


def commands_in(text: str) -> list[str]:
    """Return the commands in a text, without `aws`."""
    return _COMMAND.findall(text)


def run_command(make_client: Callable[[str], Any], command: str) -> None:
    """Run a command: service, operation and options. An option that the operation does not have is a KeyError."""
    service, operation, *words = shlex.split(command)
    client = make_client(_SERVICES.get(service, service))
    method = operation.replace("-", "_")
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method]).input_shape
    members = {xform_name(name, "-"): (name, member) for name, member in shape.members.items()}
    request = {}
    for option, values in _options(words):
        name, member = members[option.removeprefix("no-")]
        request[name] = _value(member, values, is_on=not option.startswith("no-"))
    getattr(client, method)(**request)


def _options(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each option's name and the words up to the next one."""
    places = [place for place, word in enumerate(words) if word.startswith("--")]
    for place, end in zip(places, [*places[1:], len(words)], strict=True):
        yield words[place].removeprefix("--"), words[place + 1 : end]


def _value(member: Any, values: list[str], *, is_on: bool) -> Any:
    match member.type_name:
        case "boolean":
            return is_on
        case "integer" | "long":
            return int(values[0])
        case "list":
            return values
        case "structure" | "map":
            text = values[0]
            return json.loads(text) if text.startswith("{") else dict(part.split("=", 1) for part in text.split(","))
    return values[0]
