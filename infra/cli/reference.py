"""Write docs/reference.md: the commands from their help texts, and `load_model` from its docstrings.

`python -m infra.cli.reference` writes the page; `make format` does so too.
"""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from infra.cli.app import app
from training.inference.load import LoadedModel, load_model
from training.project import project_root

PAGE = Path("docs/reference.md")

_HEAD = """# Reference

`make format` writes this page from docstrings and help texts, so change those.
[Use a model in Python](training.md#use-a-model-in-python) and the [README](../README.md) show how to use it all.
"""
_N_SHARED = 6
"""An option of this many commands with the same text is explained once."""

_SECTIONS = {"Args:", "Returns:", "Raises:", "Attributes:", "Example:"}
_Option = tuple[str, str]  # as in ("--json", "Print one JSON object and nothing else.")


def reference_page() -> str:
    """Return the page."""
    commands = dict(_commands(typer.main.get_command(app), "ridecast"))
    counts = Counter(option for command in commands.values() for option in _options(command))
    shared = sorted(option for option, n in counts.items() if n >= _N_SHARED)
    parts = [
        _HEAD,
        "## Python\n",
        _described("load_model", load_model),
        _described("LoadedModel.predict", LoadedModel.predict),
        "## Commands\n\nOptions of many commands; each command lists the names of those that it has:\n",
        _table(shared),
        *(_command(name, command, shared) for name, command in commands.items()),
    ]
    return "\n".join(parts)


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the name and the command of each leaf of a tree of commands."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, one in command.commands.items():
        yield from _commands(one, f"{name} {word}")


def _options(command: Any) -> list[_Option]:
    context = command.context_class(command)
    records = (one.get_help_record(context) for one in command.params)
    return [(_plain(record[0]), _visible(_plain(record[1]))) for record in records if record]


def _command(name: str, command: Any, shared: list[_Option]) -> str:
    options = _options(command)
    parts = [f"### {name}\n", f"{_visible(inspect.cleandoc(command.help or ''))}\n"]
    if own := [option for option in options if option not in shared]:
        parts.append(_table(own))
    if common := [f"`{name.partition(' ')[0]}`" for name, text in options if (name, text) in shared]:
        parts.append(f"Also {', '.join(common)}.\n")
    return "\n".join(parts)


def _table(options: list[_Option]) -> str:
    rows = [f"| `{name}` | {text} |" for name, text in options]
    return "\n".join(["| option | meaning |", "|---|---|", *rows, ""])


def _plain(text: str) -> str:
    """Return a help text in one line of a table, without the place of this checkout."""
    return " ".join(text.split()).replace(f"{project_root()}/", "").replace("|", r"\|")


def _visible(text: str) -> str:
    """Return a text of which Markdown takes nothing as HTML."""
    return text.replace("<", "&lt;")


def _described(name: str, function: Callable[..., Any]) -> str:
    """Return how to call a function, and its docstring, whose sections become lists."""
    given = inspect.signature(function).parameters.values()
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in given if one.name != "self"]
    call = inspect.Signature(bare)
    return f"### {name}\n\n```\n{name}{call}\n```\n\n{_as_markdown(inspect.getdoc(function) or '')}"


def _as_markdown(docstring: str) -> str:
    lines: list[str] = []
    section = ""
    for line in docstring.splitlines():
        if line in _SECTIONS:
            section = line
            lines += [f"**{line.removesuffix(':')}**", ""]
        elif section in {"Args:", "Raises:", "Attributes:"} and re.match(r" {4}\w+: ", line):
            item, _, text = line.strip().partition(": ")
            lines.append(f"- `{item}`: {text}")
        else:
            lines.append(
                line.removeprefix("    ") if section in {"Returns:", "Example:"} else line.replace("     ", " ")
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (project_root() / PAGE).write_text(reference_page(), encoding="utf-8")
