"""Inputs of a cost: times from the bench or a default, the load and the inventory from the template."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from infra.local.stack import Stack
from infra.operate.cost_inputs import (
    COURSE,
    DEFAULT_US,
    PACKED,
    PACKED_OUTPUT,
    PLAIN,
    Inventory,
    Load,
    count_inventory,
    read_load,
    read_work,
)
from infra.stack.template import TEMPLATE, read_template
from training.errors import UserError


def bench_file(folder: Path, figures: Any) -> Path:
    path = folder / "bench.json"
    path.write_text(json.dumps([{"name": name, "value": us, "unit": "us a ride"} for name, us in figures.items()]))
    return path


def test_time_is_the_benchs_on_its_largest_batch(tmp_path: Path) -> None:
    figures = {
        "handler: batch of 9,400": 6.0,
        "handler: batch of 1,000": 9.0,
        "handler: batch of 1": 706.0,
        "handler: batch of 9,400, packed output": 4.5,
        "handler: the course's, put_record a ride, random forest": 8000.0,
        "handler: a plain batched one, scikit-learn, same model": 20.0,
    }
    path = bench_file(tmp_path, figures)
    work = read_work({}, path)
    assert {name: one.us_per_ride for name, one in work.items()} == {
        PLAIN: 6.0,
        PACKED_OUTPUT: 4.5,
        PACKED: 4.5,
        COURSE: 8000.0,
    }
    assert (work[PLAIN].us_per_invocation, work[COURSE].us_per_invocation) == (700.0, 0.0)
    assert work[PLAIN].source == f"measured: {path}, handler: batch of 9,400"


def test_time_without_a_measurement_is_a_default(tmp_path: Path) -> None:
    work = read_work({}, tmp_path / "bench.json")
    assert {name: one.us_per_ride for name, one in work.items()} == DEFAULT_US
    assert all("default" in one.source for one in work.values())


def test_given_time_has_precedence(tmp_path: Path) -> None:
    work = read_work(
        {PLAIN: 1.0, COURSE: 2.0, PACKED_OUTPUT: None}, bench_file(tmp_path, {"handler: batch of 9,400": 6.0})
    )
    assert (work[PLAIN].us_per_ride, work[COURSE].us_per_ride) == (1.0, 2.0)
    assert work[PLAIN].source == work[COURSE].source == "as given"
    assert work[PACKED].us_per_ride == DEFAULT_US[PACKED]


@pytest.mark.parametrize("text", ["{", "[1]", "[{}]", '[{"name": "x", "value": "y"}]', "\udcff"])
def test_file_that_is_not_a_benchs_result_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="run `make bench`, or delete it"):
        read_work({}, path)


def test_load_has_the_templates_settings() -> None:
    load = read_load(100.0, 3, api_requests_per_s=2.0)
    assert load == Load(
        100.0,
        3,
        window_s=1.0,
        batch_size=10_000,
        memory_mb=1769,
        retention_hours=48.0,
        kept_days=365.0,
        api_requests_per_s=2.0,
        api_memory_mb=1769,
        inventory=count_inventory(read_template(TEMPLATE)),
    )
    assert read_load(100.0, 3, window_s=5.0).window_s == 5.0


def test_inventory_is_what_the_stack_deploys() -> None:
    resources = Stack().decided["Resources"].values()
    by_type = Counter(resource["Type"] for resource in resources)
    alarms = [one["Properties"] for one in resources if one["Type"] == "AWS::CloudWatch::Alarm"]
    metrics = [query for alarm in alarms for query in alarm.get("Metrics", [alarm])]
    watched = [query for query in metrics if "Expression" not in query]
    periods_s = [query.get("MetricStat", query)["Period"] for query in watched]
    assert min(periods_s) >= 60  # shorter ones cost three times as much
    counts = count_inventory(read_template(TEMPLATE))
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


def test_alarm_on_an_expression_counts_for_each_metric_in_it() -> None:
    share: dict[str, Any] = {"Metrics": [{"Expression": "a / b"}, {"MetricStat": {}}, {"MetricStat": {}}]}
    alarms = {"Share": share, "Errors": {"MetricName": "Errors"}}
    template = {
        "Resources": {name: {"Type": "AWS::CloudWatch::Alarm", "Properties": one} for name, one in alarms.items()}
    }
    assert count_inventory(template) == Inventory(n_alarm_metrics=3)


@pytest.mark.parametrize(("default", "n_snapshots"), [("PublishedVersions", 1), ("None", 0)])
def test_snapshot_depends_on_the_parameter(default: str, n_snapshots: int) -> None:
    function = {"Type": "AWS::Serverless::Function", "Properties": {"SnapStart": {"ApplyOn": {"Ref": "SnapStart"}}}}
    template = {"Parameters": {"SnapStart": {"Default": default}}, "Resources": {"Predictor": function}}
    assert count_inventory(template) == Inventory(n_snapshots=n_snapshots)
