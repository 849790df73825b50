"""What to train: months, parameters and knowing exceptions, from a TOML file and from options that outrank it."""

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from training.data.contract import check_rule_names
from training.data.months import Month, Service, parse_months
from training.errors import ConfigError
from training.model.parameters import PARAMETERS, check_parameters

DEFAULTS: dict[str, Any] = {"service": "green", "train": "2021-01", "validate": "2021-02", "test": "", "allow": ()}
"""What holds where neither a file nor an option says otherwise."""

SETTINGS = (*DEFAULTS, "parameters")
"""What a file may set."""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_SHAPES: dict[str, tuple[Callable[[object], bool], str]] = {
    "allow": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "a list of rules"),
    "parameters": (lambda value: isinstance(value, dict), "a table"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """A training run, decided: no month twice, none measured on that is not later than all that is learnt from.

    Attributes:
        service: Whose rides.
        train_months: Learnt from, ascending.
        validate_months: Measured on, later.
        test_months: Kept for the gate, later than those learnt from; may be none.
        parameters: All of the model's.
        allow: Rules of the data contract that may be broken.
    """

    service: Service
    train_months: tuple[Month, ...]
    validate_months: tuple[Month, ...]
    test_months: tuple[Month, ...]
    parameters: dict[str, Any]
    allow: tuple[str, ...]


def build_config(file: Path | None, options: Mapping[str, Any], parameters: Sequence[str] = ()) -> TrainingConfig:
    """Puts a run together: defaults, then a file, then options.

    Args:
        file: TOML with any of SETTINGS, `parameters` a table.
        options: Any of DEFAULTS; None stands for "not given".
        parameters: The model's, as in ``max_iter=400``: a TOML value each.

    Raises:
        ConfigError: Something is unknown, is no value, or the months don't follow each other.
        UserError: A text names no months, a parameter is unknown or out of its range, or there is no such rule.
    """
    written = {} if file is None else _read(file)
    given = {name: value for name, value in options.items() if value is not None}
    settings = {**DEFAULTS, **written, **given}
    if settings["service"] not in get_args(Service):
        raise ConfigError("service", f"is {settings['service']!r}", f"choose one of {', '.join(get_args(Service))}")
    months = {name: _months(name, settings[name]) for name in ("train", "validate", "test")}
    _check_order(months)
    chosen = {**PARAMETERS, **settings.get("parameters", {}), **dict(map(_parse_parameter, parameters))}
    check_parameters(chosen)
    check_rule_names(settings["allow"])
    return TrainingConfig(
        service=settings["service"],
        train_months=months["train"],
        validate_months=months["validate"],
        test_months=months["test"],
        parameters=chosen,
        allow=tuple(settings["allow"]),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        written = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), "cannot be read", "name a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(file), f"is not TOML ({error})", "put that line right") from error
    for name, value in written.items():
        if name not in SETTINGS:
            raise ConfigError(f"{file}: {name}", "is no setting", _suggest(name, SETTINGS))
        fits, shape = _SHAPES.get(name, (_is_text, "a text in quotes"))
        if not fits(value):
            raise ConfigError(f"{file}: {name}", f"is {value!r}", f"write {shape}")
    return written


def _months(name: str, text: str) -> tuple[Month, ...]:
    return parse_months(text) if text or name != "test" else ()


def _check_order(months: Mapping[str, tuple[Month, ...]]) -> None:
    last = months["train"][-1]
    for name in ("validate", "test"):
        for month in months[name]:
            if month in months["train"]:
                raise ConfigError(
                    f"--{name}", f"names {month}, which is learnt from already", f"choose months after {last}"
                )
            if month < last:
                raise ConfigError(f"--{name}", f"names {month}, which lies before", f"choose months after {last}")
    if shared := sorted(set(months["validate"]) & set(months["test"])):
        raise ConfigError("--test", f"names {shared[0]}, which is validated on", "choose months of their own for it")


def _parse_parameter(text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals):
        raise ConfigError("--set", f"is given {text!r}", "write NAME=VALUE, as in max_iter=400")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            "--set", f"gives {name} the value {value!r}", "write a number, true, false or a text in quotes"
        ) from error


def _suggest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"choose among {', '.join(known)}"
