"""The deployed dashboard: its JSON, which no other tool parses, and its metrics, which must exist."""

import re

import pytest

from infra.local.stack import Stack
from lambda_function.aws.telemetry import BatchReport
from lambda_function.core.events import REJECT_REASONS
from tests.kits.dashboard import DASHBOARDS, Panel, dashboard_body, read_panels
from tests.kits.metrics import own_metrics

ATTRIBUTES = {"Arn": "AWS::CloudWatch::Alarm", "QueueName": "AWS::SQS::Queue"}


@pytest.fixture(scope="module")
def panels() -> list[Panel]:
    return read_panels()


def test_every_reference_in_the_body_exists(stack: Stack) -> None:
    resources = stack.template["Resources"]
    body = "".join(dashboard_body(resources[name]) for name in DASHBOARDS)
    named = {*stack.template["Resources"], *stack.template["Parameters"], "AWS::Region", "AWS::StackName"}
    references = set(re.findall(r"\$\{([^}]+)\}", body))
    assert len(references) >= 15
    for reference in references:
        name, _, attribute = reference.partition(".")
        assert name in named
        if attribute:
            assert stack.template["Resources"][name]["Type"] == ATTRIBUTES[attribute]


def test_every_metric_of_the_function_is_on_it(panels: list[Panel]) -> None:
    drawn = {(series.namespace, series.metric) for panel in panels for series in panel.series}
    assert {(metric.namespace, metric.name) for metric in own_metrics()} - drawn == set()


def test_every_reason_of_a_reject_has_its_series(panels: list[Panel]) -> None:
    (panel,) = [panel for panel in panels if panel.title == "Rejects by reason"]
    assert tuple(dict(series.dimensions)["reason"] for series in panel.series) == REJECT_REASONS


def test_every_alarm_is_on_it(stack: Stack, panels: list[Panel]) -> None:
    drawn = [name for panel in panels if panel.kind == "alarm" for name in panel.alarms]
    resources = stack.template["Resources"].items()
    alarms = [name for name, one in resources if one["Type"] == "AWS::CloudWatch::Alarm"]
    assert sorted(drawn) == sorted(alarms)


def test_query_uses_fields_that_the_log_has(panels: list[Panel]) -> None:
    (panel,) = [panel for panel in panels if panel.kind == "log"]
    fields = re.findall(r"\bbatch\.(\w+)", panel.query)
    assert panel.query.startswith("SOURCE '${PredictorLogs}' | filter message = 'batch'")
    assert len(fields) >= 2
    assert set(fields) <= set(BatchReport.__slots__)


@pytest.mark.parametrize(("name", "word"), [("Dashboard", ""), ("LoopDashboard", "loop-")])
def test_it_is_named_by_its_stack_and_region(stack: Stack, name: str, word: str) -> None:
    properties = stack.template["Resources"][name]["Properties"]
    assert properties["DashboardName"] == {"Fn::Sub": f"${{AWS::StackName}}-{word}${{AWS::Region}}"}
