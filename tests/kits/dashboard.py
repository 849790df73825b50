"""The dashboards in the template as panels, for tests."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from infra.stack.template import TEMPLATE, read_template

DASHBOARDS = ("Dashboard", "LoopDashboard")

_STAT = re.compile(r"Sum|Average|Minimum|Maximum|SampleCount|p[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a panel.

    Attributes:
        dimensions: Names and values, in the body's order; values may hold a reference, as in ``${Predictor}``.
    """

    namespace: str
    metric: str
    dimensions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One widget.

    Attributes:
        alarms: Logical names, of an alarm widget.
        query: Of a log widget.
    """

    kind: Literal["alarm", "log", "metric"]
    title: str
    series: tuple[Series, ...]
    alarms: tuple[str, ...]
    query: str


def dashboard_body(resource: dict[str, Any]) -> str:
    """Return the JSON of a dashboard, with its references in braces."""
    body = resource["Properties"]["DashboardBody"]["Fn::Sub"]
    return str(body if isinstance(body, str) else body[0])


def read_panels() -> list[Panel]:
    """Read the panels of the template's dashboards."""
    resources = read_template(TEMPLATE)["Resources"]
    bodies = [dashboard_body(resources[name]) for name in DASHBOARDS]
    return [_panel(widget, widget["properties"]) for body in bodies for widget in json.loads(body)["widgets"]]


def _panel(widget: dict[str, Any], properties: dict[str, Any]) -> Panel:
    return Panel(
        kind=widget["type"],
        title=properties["title"],
        series=tuple(_series(*row) for row in properties.get("metrics", ())),
        alarms=tuple(arn.removeprefix("${").removesuffix(".Arn}") for arn in properties.get("alarms", ())),
        query=properties.get("query", ""),
    )


def _series(namespace: str, metric: str, *rest: Any) -> Series:
    """Convert a row of the body: namespace, name, dimensions in pairs, options."""
    *dimensions, options = rest
    assert _STAT.fullmatch(options["stat"]), options
    assert options.keys() <= {"stat", "label", "yAxis"}, options
    pairs = tuple(zip(dimensions[::2], dimensions[1::2], strict=True))
    return Series(namespace, metric, pairs)
