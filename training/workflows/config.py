"""Configure a training run: months, parameters and allowed breaches, from a TOML file and from options."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from training.data.contract import check_rule_names
from training.data.months import Month, Service, met_months, parse_months
from training.errors import UserError
from training.model.parameters import PARAMETERS, check_parameters, suggest_name

DEFAULTS: dict[str, Any] = {"service": "green", "train": "2021-01", "validate": "2021-02", "test": "", "allow": ()}
"""The values without a file and options."""

SETTINGS = (*DEFAULTS, "parameters")
"""The settings that a file may have."""


_SHAPES: dict[str, tuple[Callable[[object], bool], str]] = {
    "allow": (
        lambda value: isinstance(value, list) and all(isinstance(rule, str) for rule in value),
        "a list of rules",
    ),
    "parameters": (lambda value: isinstance(value, dict), "a table"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """A valid training run: no month is used twice, and validation and test months are later than training months."""

    service: Service
    train_months: tuple[Month, ...]  # months to train on, ascending
    validate_months: tuple[Month, ...]  # months to measure on
    test_months: tuple[Month, ...]  # months for the gate; may be empty
    parameters: dict[str, Any]  # all parameters of the model
    allow: tuple[str, ...]  # rules of the data contract that the months may break


def build_config(
    file: Path | None,
    options: Mapping[str, Any],
    parameters: Sequence[str] = (),
    parse: Callable[[str], tuple[Month, ...]] = parse_months,
) -> TrainingConfig:
    """Build a run from the defaults, a file and options: an option overrides the file, which overrides the default.

    The file is TOML and has any of SETTINGS, options are any of DEFAULTS, and an option that is None is not given.
    `parameters` of the model have TOML values, as in ``max_iter=400``. `parse` reads months, or days of labelled rides.

    Raises:
        UserError: A setting, parameter or rule is unknown or has a wrong value, or the months are in a wrong order.
    """
    written = {} if file is None else _read(file)
    given = {name: value for name, value in options.items() if value is not None}
    settings = {**DEFAULTS, **written, **given}
    if settings["service"] not in get_args(Service):
        raise UserError(f"service is {settings['service']!r}", f"choose one of {', '.join(get_args(Service))}")
    months = {
        name: parse(text) if (text := settings[name]) or name != "test" else ()
        for name in ("train", "validate", "test")
    }
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
        raise UserError(f"{file} cannot be read", "name a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file} is not TOML ({error})", "correct that line") from error
    for name, value in written.items():
        if name not in SETTINGS:
            raise UserError(f"{file}: {name} is no setting", suggest_name(name, SETTINGS))
        fits, shape = _SHAPES.get(name, (lambda value: isinstance(value, str), "a text in quotes"))
        if not fits(value):
            raise UserError(f"{file}: {name} is {value!r}", f"write {shape}")
    return written


def _check_order(months: Mapping[str, tuple[Month, ...]]) -> None:
    last = months["train"][-1]
    for name in ("validate", "test"):
        for month in met_months(months[name], months["train"]):
            raise UserError(f"--{name} names {month}, which is a training month", f"choose months after {last}")
        for month in months[name]:
            if month < last:
                raise UserError(f"--{name} names {month}, which is too early", f"choose months after {last}")
    if shared := met_months(months["test"], months["validate"]):
        raise UserError(f"--test names {shared[0]}, which is a validation month", "choose other months")


def _parse_parameter(text: str) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals):
        raise UserError(f"--set got {text!r}", "write NAME=VALUE, as in max_iter=400")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        hint = "write a number, true, false or a text in quotes"
        raise UserError(f"--set gives {name} the value {value!r}", hint) from error
