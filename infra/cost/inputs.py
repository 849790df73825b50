"""What the cost is worked out from: the bench's figures, the template's properties, and a default for each figure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.cost.inventory import inventory_of
from infra.cost.load import COURSE, PACKED, PACKED_OUTPUT, PLAIN, Load, Work
from infra.errors import CostInputError
from infra.template.transform import TEMPLATE, read_template

DEFAULT_US = {PLAIN: 8.0, PACKED_OUTPUT: 5.0, PACKED: 5.0, COURSE: 286.0}
"""Where nothing is measured: the budgets of the two forms, and the least that the course's handler was found at."""

DEFAULT_INVOCATION_US = 500.0

_BATCH = re.compile(r"handler: batch of (?P<n>[\d,]+)(?P<packed>, packed output)?")
_COURSE_HANDLER = "handler: the course's, put_record a ride, linear model"


@dataclass(frozen=True, slots=True)
class Given:
    """Microseconds a ride as the user gives them; None where not."""

    plain: float | None = None
    packed: float | None = None
    course: float | None = None


def work_of(given: Given, bench: Path) -> dict[str, Work]:
    """Returns the work by variant: as given, else as measured, else by default; each says which.

    Raises:
        CostInputError: There is a bench's result, and it is none.
    """
    measured = _measured(bench)
    plain = _work(PLAIN, given.plain, measured)
    packed = _work(PACKED_OUTPUT, given.packed, measured)
    return {
        PLAIN: plain,
        PACKED_OUTPUT: packed,
        PACKED: packed,
        COURSE: _work(COURSE, given.course, measured),
    }


def _work(variant: str, us_per_ride: float | None, measured: Mapping[str, Work]) -> Work:
    fixed = Work(0.0) if variant == COURSE else measured.get("fixed", Work(0.0, DEFAULT_INVOCATION_US))
    if us_per_ride is not None:
        return Work(us_per_ride, fixed.us_per_invocation, "as given")
    if variant in measured:
        found = measured[variant]
        return Work(found.us_per_ride, fixed.us_per_invocation, found.source)
    return Work(DEFAULT_US[variant], fixed.us_per_invocation, "a default, not measured")


def _measured(bench: Path) -> dict[str, Work]:
    """Reads what the bench has measured: of the handler the largest batch, and what a batch of one costs on top."""
    try:
        figures = {str(figure["name"]): float(figure["value"]) for figure in json.loads(bench.read_text())}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CostInputError(bench, str(error)) from error
    found: dict[str, Work] = {}
    largest = 0
    for name, us in figures.items():
        source = f"measured: {bench}, {name}"
        if name == _COURSE_HANDLER:
            found[COURSE] = Work(us, source=source)
        elif (batch := _BATCH.fullmatch(name)) and batch["packed"]:
            found[PACKED_OUTPUT] = Work(us, source=source)
        elif batch and (n := int(batch["n"].replace(",", ""))) > largest:
            largest, found[PLAIN] = n, Work(us, source=source)
    if PLAIN in found and (one := figures.get("handler: batch of 1")):
        found["fixed"] = Work(0.0, max(0.0, one - found[PLAIN].us_per_ride))
    return found


def load_of(
    rides_per_s: float,
    n_shards: int,
    window_s: float | None = None,
    api_requests_per_s: float = 0.0,
    template: Path = TEMPLATE,
) -> Load:
    """Returns a load on the stack as the template sets it up.

    Raises:
        TemplateError: The template can't be read.
    """
    document = read_template(template)
    defaults = {name: parameter.get("Default") for name, parameter in document["Parameters"].items()}
    return Load(
        rides_per_s=rides_per_s,
        n_shards=n_shards,
        window_s=float(defaults["BatchWindowSeconds"]) if window_s is None else window_s,
        batch_size=int(defaults["BatchSize"]),
        memory_mb=int(defaults["MemoryMb"]),
        retention_hours=float(document["Resources"]["RideEvents"]["Properties"]["RetentionPeriodHours"]),
        kept_days=float(defaults["KeptRecordsDays"]),
        api_requests_per_s=api_requests_per_s,
        api_memory_mb=int(defaults["ApiMemoryMb"]),
        inventory=inventory_of(document),
    )
