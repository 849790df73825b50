"""The metrics of alarms and dashboard exist, and belong to this stack only."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from infra.local.stack import Stack
from tests.kits.alarms import Properties, alarms_of, metrics
from tests.kits.dashboard import read_panels
from tests.kits.metrics import Metric, in_stack, known_metrics


class Used(NamedTuple):
    """A metric that an alarm or the dashboard reads, with the values of its dimensions."""

    namespace: str
    name: str
    dimensions: Mapping[str, Any]


def of_alarm(metric: Properties) -> Used:
    dimensions = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
    return Used(metric["Namespace"], metric["MetricName"], dimensions)


USED = {
    "alarms": [of_alarm(metric) for alarm in alarms_of(Stack()).values() for metric in metrics(alarm)],
    "dashboard": [
        Used(series.namespace, series.metric, dict(series.dimensions))
        for panel in read_panels()
        for series in panel.series
    ],
}
by_reader = pytest.mark.parametrize("used", USED.values(), ids=USED)


@by_reader
def test_every_metric_exists_with_these_dimensions(used: list[Used]) -> None:
    assert {Metric(one.namespace, one.name, frozenset(one.dimensions)) for one in used} - known_metrics() == set()


@by_reader
def test_own_metrics_are_those_of_this_stacks_functions(used: list[Used], stack: Stack) -> None:
    resources = stack.template["Resources"]
    names = ("Predictor", "Archiver", "Joiner", "Monitor", "Collector", "Trainer")
    functions = [resources[name]["Properties"] for name in names]
    variables = [function["Environment"]["Variables"] for function in functions]
    own = [one for one in used if not one.namespace.startswith("AWS/")]

    assert len(own) >= 5
    assert {one.namespace for one in own} == {one["POWERTOOLS_METRICS_NAMESPACE"] for one in variables}
    services = {in_stack("ridecast-prod", one.dimensions["service"]) for one in own}
    assert services <= {in_stack("ridecast-prod", one["POWERTOOLS_SERVICE_NAME"]) for one in variables}
    assert {"ridecast-prod", "ridecast-prod/join"} <= services


@by_reader
def test_two_stacks_in_one_account_share_no_metric(used: list[Used]) -> None:
    dev, prod = (
        {(one.namespace, one.name, *(in_stack(name, value) for value in one.dimensions.values())) for one in used}
        for name in ("ridecast-dev", "ridecast-prod")
    )

    assert len(dev) >= 15
    assert dev & prod == set()
