"""The dashboard in the template as panels, for tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from infra.stack.template import TEMPLATE, read_template
from training.errors import UserError

Axis = Literal["left", "right"]

STATS = r"^(Sum|Average|Minimum|Maximum|SampleCount|p[0-9]{1,2})$"
"""CloudWatch has more; these are what `points` works out."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel.

    Attributes:
        dimensions: Names and values, in the body's order; values may hold a reference, as in ``${Predictor}``.
        stat: CloudWatch's statistic, one of `STATS`.
    """

    namespace: str
    metric: str
    dimensions: tuple[tuple[str, str], ...]
    stat: str
    label: str
    axis: Axis = "left"


@dataclass(frozen=True, slots=True)
class Panel:
    """One widget, in units of CloudWatch's grid, which is 24 wide.

    Attributes:
        units: What the axes are labelled with.
        alarms: Logical names, of an alarm widget.
        query: Of a log widget.
    """

    kind: Literal["alarm", "log", "metric"]
    title: str
    x: int
    y: int
    width: int
    height: int
    series: tuple[Series, ...] = ()
    stacked: bool = False
    units: tuple[tuple[Axis, str], ...] = ()
    alarms: tuple[str, ...] = ()
    query: str = ""


def read_panels(path: Path = TEMPLATE) -> list[Panel]:
    """Reads the panels of a template's dashboard.

    Raises:
        UserError: The template can't be read, has not one dashboard, or its body is none.
    """
    try:
        body = msgspec.json.decode(_body_text(path), type=_Body)
        return [_panel(widget) for widget in body.widgets]
    except msgspec.DecodeError as error:
        raise UserError(f"{path.name} has a dashboard whose body can't be used: {error}") from error


def _body_text(path: Path) -> str:
    resources = read_template(path)["Resources"].values()
    bodies = [one["Properties"]["DashboardBody"] for one in resources if one["Type"] == "AWS::CloudWatch::Dashboard"]
    if len(bodies) != 1:
        raise UserError(f"{path.name} has {len(bodies)} dashboards, not one")
    body = bodies[0]
    text = body.get("Fn::Sub") if isinstance(body, dict) else body
    if not isinstance(text, str):
        raise UserError(f"{path.name} has a dashboard whose body is no text: write it as !Sub |")
    return text


class _YAxis(msgspec.Struct):
    label: str = ""


class _YAxes(msgspec.Struct):
    left: _YAxis | None = None
    right: _YAxis | None = None


class _Properties(msgspec.Struct):
    title: str
    metrics: list[list[Any]] = []
    stacked: bool = False
    y_axis: _YAxes | None = msgspec.field(name="yAxis", default=None)
    alarms: list[str] = []
    query: str = ""


class _Widget(msgspec.Struct):
    type: Literal["alarm", "log", "metric"]
    x: int
    y: int
    width: int
    height: int
    properties: _Properties


class _Body(msgspec.Struct):
    widgets: list[_Widget]


class _Options(msgspec.Struct):
    stat: Annotated[str, msgspec.Meta(pattern=STATS)]
    label: str
    y_axis: Axis = msgspec.field(name="yAxis", default="left")


_SHORTEST_ROW = 3  # a metric without dimensions


def _panel(widget: _Widget) -> Panel:
    properties = widget.properties
    return Panel(
        kind=widget.type,
        title=properties.title,
        x=widget.x,
        y=widget.y,
        width=widget.width,
        height=widget.height,
        series=tuple(map(_series, properties.metrics)),
        stacked=properties.stacked,
        units=tuple(_units(properties.y_axis)),
        alarms=tuple(arn.removeprefix("${").removesuffix(".Arn}") for arn in properties.alarms),
        query=properties.query,
    )


def _series(row: list[Any]) -> Series:
    if len(row) < _SHORTEST_ROW or len(row) % 2 == 0:
        raise msgspec.ValidationError(f"a metric is namespace, name, dimensions in pairs and options, not {row}")
    *names, options = row
    namespace, metric, *dimensions = msgspec.convert(names, list[str])
    pairs = tuple(zip(dimensions[::2], dimensions[1::2], strict=True))
    given = msgspec.convert(options, _Options)
    return Series(namespace, metric, pairs, given.stat, given.label, given.y_axis)


def _units(axes: _YAxes | None) -> Iterator[tuple[Axis, str]]:
    if axes and axes.left:
        yield "left", axes.left.label
    if axes and axes.right:
        yield "right", axes.right.label
