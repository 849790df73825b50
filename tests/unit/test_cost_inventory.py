"""What stands there and is paid by the month is counted in the template: alarms, keys, dashboards, snapshots."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import pytest

from infra.local.stack import Stack
from infra.operate.cost import Inventory, inventory_of
from infra.stack.template import TEMPLATE, read_template


def test_inventory_is_what_the_stack_deploys() -> None:
    resources = Stack().decided["Resources"].values()
    by_type = Counter(resource["Type"] for resource in resources)
    alarms = [one["Properties"] for one in resources if one["Type"] == "AWS::CloudWatch::Alarm"]
    metrics = [query for alarm in alarms for query in alarm.get("Metrics", [alarm])]
    watched = [query for query in metrics if "Expression" not in query]
    periods_s = [query.get("MetricStat", query)["Period"] for query in watched]
    assert min(periods_s) >= 60  # quicker ones cost three times as much
    counts = inventory_of(read_template(TEMPLATE))
    assert counts == Inventory(
        n_snapshots=1,
        n_alarm_metrics=len(watched),
        n_composite_alarms=by_type["AWS::CloudWatch::CompositeAlarm"],
        n_dashboards=by_type["AWS::CloudWatch::Dashboard"],
        n_keys=by_type["AWS::KMS::Key"],
        n_mapping_metrics=6,
    )
    assert counts.n_alarm_metrics > len(alarms) > counts.n_composite_alarms > 0
    assert min(asdict(counts).values()) > 0


def test_alarm_that_calculates_counts_for_each_metric_that_it_calculates_with() -> None:
    share: dict[str, Any] = {"Metrics": [{"Expression": "a / b"}, {"MetricStat": {}}, {"MetricStat": {}}]}
    alarms = {"Share": share, "Errors": {"MetricName": "Errors"}}
    template = {
        "Resources": {name: {"Type": "AWS::CloudWatch::Alarm", "Properties": one} for name, one in alarms.items()}
    }
    assert inventory_of(template) == Inventory(n_alarm_metrics=3)


@pytest.mark.parametrize(("default", "n_snapshots"), [("PublishedVersions", 1), ("None", 0)])
def test_snapshot_is_there_if_the_parameter_says_so(default: str, n_snapshots: int) -> None:
    function = {"Type": "AWS::Serverless::Function", "Properties": {"SnapStart": {"ApplyOn": {"Ref": "SnapStart"}}}}
    template = {"Parameters": {"SnapStart": {"Default": default}}, "Resources": {"Predictor": function}}
    assert inventory_of(template) == Inventory(n_snapshots=n_snapshots)
