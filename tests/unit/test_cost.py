"""The cost of a month: sums checked by hand, and changes that must never make it cheaper."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.local.stack import Stack
from infra.operate import prices
from infra.operate.cost import STREAM_PARTS, Assumptions, cost
from infra.operate.cost_inputs import (
    COURSE,
    DEFAULT_US,
    PACKED,
    PACKED_OUTPUT,
    PLAIN,
    VARIANTS,
    Inventory,
    Load,
    Work,
    alarm_metrics,
    count_inventory,
    read_load,
    read_work,
)
from infra.stack.template import TEMPLATE, read_template
from lambda_function.api.handler import RequestReport, RequestTelemetry
from lambda_function.aws.telemetry import BatchReport, Telemetry
from lambda_function.core.events import MODEL_NAME, REJECT_REASONS, Prediction, RideDuration, encode_reject
from tests.builders import event_id, ride_bytes
from tests.builders_failed import reject_at
from tests.kits.cli import Cli
from training.errors import UserError

WORK = {
    PLAIN: Work(8.0, 500.0),
    PACKED_OUTPUT: Work(5.0, 500.0),
    PACKED: Work(5.0, 500.0),
    COURSE: Work(7998.0),
}
SECONDS_PER_MONTH = 2_628_000
SOME = Inventory(
    n_snapshots=1,
    n_alarm_metrics=16,
    n_composite_alarms=1,
    n_dashboards=1,
    n_keys=2,
    n_mapping_metrics=6,
)
LOADS = st.builds(
    Load,
    rides_per_s=st.floats(0.001, 1e6),
    n_shards=st.integers(1, 500),
    window_s=st.floats(0, 300),
    batch_size=st.integers(1, 10_000),
    memory_mb=st.integers(128, 10_240),
    reject_share=st.floats(0, 1),
)


def dollars_per_million(load: Load, work: Mapping[str, Work] = WORK) -> dict[str, float]:
    report = cost(load, work)
    return {name: report.dollars_per_million(name) for name in VARIANTS}


def assert_no_dearer(cheap: dict[str, float], dear: dict[str, float]) -> None:
    for name in VARIANTS:
        assert cheap[name] <= dear[name] * (1 + 1e-9), name


def test_plain_rides_sum_up_as_by_hand() -> None:
    report = cost(Load(rides_per_s=1000.0, n_shards=2), WORK)
    plain = report.variants[PLAIN]
    # 500 rides a shard and second: two invocations a second, and 2,628 million rides a month
    assert plain.rides_per_invocation == 500
    # 0.5 ms + 500 rides of (8 + 2) us + one PutRecords of 10 ms + half a millisecond of rounding
    assert plain.ms_per_invocation == pytest.approx(16.0)
    invocations = 2 * SECONDS_PER_MONTH
    gb_s = invocations * 1769 / 1024 * 0.016
    rejects = 2_628_000  # a thousandth of the rides, each an object of its own
    assert plain.dollars_a_month == pytest.approx(
        {
            "function": invocations * 0.20 / 1e6 + gb_s * 0.0000133334,
            "snapstart": 0.0,
            "stream_in": 2 * 730 * 0.015 + 2628 * 0.014,
            "stream_out": 2 * 730 * 0.015 + 2628 * 0.014,
            "retention": 0.0,
            "bucket": 2 * 43_800 * 0.0004 / 1000
            + rejects * (0.005 / 1000 + 1.00 / 1e6)
            + rejects * 416 / 1e9 * 0.023 * 12,  # kept a year, so twelve months' are there
            "logs": invocations * 2100 / 1e9 * 0.50,
            "metrics": 20 * 0.30,
            "alarms": 0.0,
            "keys": 0.0,
            "api": 0.0,
        }
    )
    assert plain.total == pytest.approx(1.0512 + 1.937051 + 2 * 58.692 + 0.035040 + 15.768 + 0.301731 + 5.5188 + 6.0)
    assert report.dollars_per_million(PLAIN) == pytest.approx(plain.total / 2628)
    assert plain.shards_needed == 1


def test_course_sums_up_as_by_hand_and_has_only_what_it_deploys() -> None:
    # The course's stack has two shards, 512 MB and 48 hours, whatever ours has.
    load = Load(rides_per_s=1000.0, n_shards=5, api_requests_per_s=9.0, inventory=SOME)
    course = cost(load, WORK).variants[COURSE]
    # 500 rides a second and shard, of which Lambda hands over 100: each takes 7,998 + 2 us of CPU and a put_record of
    # 10 ms; 512 MB are 512/1769 of a vCPU
    assert course.rides_per_invocation == 100
    ms = 100 * (8.0 * 1769 / 512 + 10.0) + 0.5
    assert course.ms_per_invocation == pytest.approx(ms)
    invocations = 10 * SECONDS_PER_MONTH
    assert course.dollars_a_month == pytest.approx(
        {
            "function": invocations * (0.20 / 1e6 + 512 / 1024 * ms / 1000 * 0.0000133334),
            "stream_in": 2 * 730 * 0.015 + 2628 * 0.014,
            "stream_out": 2 * 730 * 0.015 + 2628 * 0.014,
            "retention": 2 * 2 * 730 * 0.020,
            "logs": invocations * 400 / 1e9 * 0.50,
        }
    )
    assert course.shards_needed == 38  # a ride at a time, 37.6 ms each


def test_course_gets_its_rides_one_by_one_if_few_arrive() -> None:
    assert cost(Load(rides_per_s=1.0, n_shards=2), WORK).variants[COURSE].rides_per_invocation == 1


def test_packed_output_pays_for_its_bytes() -> None:
    packed = cost(Load(rides_per_s=1000.0, n_shards=2), WORK).variants[PACKED_OUTPUT]
    # 500 predictions of 232 + 20 B in two aggregates, half a unit of 25 KB lost to rounding in each
    units = 500 * 252 / 25_600 + 2 * 0.5
    invocations = 2 * SECONDS_PER_MONTH
    assert packed.dollars_a_month["stream_out"] == pytest.approx(2 * 730 * 0.015 + invocations * units * 0.014 / 1e6)
    assert packed.dollars_a_month["stream_in"] == pytest.approx(2 * 730 * 0.015 + 2628 * 0.014)


def test_longer_retention_is_paid_by_the_shard_hour_on_both_streams() -> None:
    plain = cost(Load(rides_per_s=1000.0, n_shards=3, retention_hours=168.0), WORK).variants[PLAIN]
    assert plain.dollars_a_month["retention"] == pytest.approx(2 * 3 * 730 * 0.020)


def test_inventory_is_paid_by_the_month() -> None:
    load = Load(rides_per_s=1000.0, n_shards=2, inventory=SOME)
    dollars = cost(load, WORK).variants[PLAIN].dollars_a_month
    assert dollars["snapstart"] == pytest.approx(1769 / 1024 * 0.0000015046 * SECONDS_PER_MONTH)
    assert dollars["metrics"] == pytest.approx((20 + 6) * 0.30)
    assert dollars["alarms"] == pytest.approx(16 * 0.10 + 1 * 0.50 + 1 * 3.00)
    assert dollars["keys"] == pytest.approx(2 * 1.00)


def test_requests_over_http_are_paid_at_the_gateway_the_function_and_the_logs() -> None:
    load = Load(rides_per_s=1000.0, n_shards=2, api_requests_per_s=2.0, api_memory_mb=1024, inventory=SOME)
    requests = 2 * SECONDS_PER_MONTH
    assert cost(load, WORK).variants[PLAIN].dollars_a_month["api"] == pytest.approx(
        requests * 1.00 / 1e6
        + requests * (0.20 / 1e6 + 0.0017 * 0.0000133334)  # 1.2 ms and half a millisecond of rounding
        + requests * 1600 / 1e9 * 0.50
        + requests * 600 / 1e9 * 0.09
        + 7 * 0.30
    )


def test_streams_on_demand_are_paid_by_the_gigabyte_in_whole_kilobytes() -> None:
    load = Load(rides_per_s=1000.0, n_shards=2, retention_hours=48.0)
    variants = cost(load, WORK).variants
    # 1,000 records of 1 KB a second on each stream
    gb = 2 * 1000 * SECONDS_PER_MONTH / 1024**2
    kept_gb = 2 * 1000 * 86_400 / 1024**2  # a day's, beyond the first
    by_hand = 2 * 730 * 0.04 + gb * (0.08 + 0.04) + kept_gb * 0.10
    plain = variants[PLAIN]
    assert plain.streams_on_demand == pytest.approx(by_hand)
    dollars = plain.dollars_a_month
    provisioned = dollars["stream_in"] + dollars["stream_out"] + dollars["retention"]
    assert plain.total_on_demand == pytest.approx(plain.total - provisioned + by_hand)
    assert variants[COURSE].streams_on_demand == pytest.approx(by_hand)
    # Packed, 500 ride events of 157 B and 500 predictions of 252 B are one aggregate and two, half a KB lost in each.
    packed_kb = (500 * 157 + 500 * 252) / 1024 + 3 * 0.5
    packed_gb = 2 * SECONDS_PER_MONTH * packed_kb / 1024**2
    packed_kept_gb = 2 * 86_400 * packed_kb / 1024**2
    assert variants[PACKED].streams_on_demand == pytest.approx(58.4 + packed_gb * 0.12 + packed_kept_gb * 0.10)


def test_cpu_time_takes_longer_below_one_vcpu() -> None:
    quick, slow = (cost(Load(1000.0, 2, memory_mb=mb), WORK).variants[PLAIN] for mb in (1769, 512))
    assert quick.ms_per_invocation == pytest.approx(5.5 + 10.5)
    assert slow.ms_per_invocation == pytest.approx(5.5 * 1769 / 512 + 10.5)


def test_batch_ends_at_six_megabytes() -> None:
    variants = cost(Load(rides_per_s=1e6, n_shards=1), WORK).variants
    assert variants[PLAIN].rides_per_invocation == pytest.approx(6 * 1024 * 1024 / 650)
    assert variants[PACKED].rides_per_invocation > 3 * variants[PLAIN].rides_per_invocation


def test_shards_needed_are_what_the_load_takes() -> None:
    variants = cost(Load(rides_per_s=5000.0, n_shards=5), WORK).variants
    assert variants[PLAIN].shards_needed == 5  # 1,000 records a second and shard
    assert variants[PACKED].shards_needed == 2  # 1 MiB a second and shard
    assert variants[COURSE].shards_needed == 189  # 5,000 times 37.6 ms, one after the other


@given(LOADS, st.floats(1, 1000))
def test_more_rides_never_cost_more_a_million(load: Load, times: float) -> None:
    assert_no_dearer(
        dollars_per_million(replace(load, rides_per_s=load.rides_per_s * times)), dollars_per_million(load)
    )


@given(LOADS, st.integers(1, 100))
def test_more_shards_never_cost_less(load: Load, more: int) -> None:
    assert_no_dearer(dollars_per_million(load), dollars_per_million(replace(load, n_shards=load.n_shards + more)))


@given(LOADS, st.floats(0, 300))
def test_longer_window_never_costs_more(load: Load, window_s: float) -> None:
    assume(window_s >= load.window_s)
    assert_no_dearer(dollars_per_million(replace(load, window_s=window_s)), dollars_per_million(load))


@given(LOADS, st.floats(0, 1e4), st.floats(0, 1e5))
def test_slower_function_never_costs_less(load: Load, us_per_ride: float, us_per_invocation: float) -> None:
    slower = {
        name: Work(work.us_per_ride + us_per_ride, work.us_per_invocation + us_per_invocation)
        for name, work in WORK.items()
    }
    assert_no_dearer(dollars_per_million(load), dollars_per_million(load, slower))


@given(LOADS)
def test_packing_never_costs_more_at_kinesis(load: Load) -> None:
    variants = cost(load, WORK).variants
    for part in STREAM_PARTS:
        packed = variants[PACKED].dollars_a_month[part]
        assert packed <= variants[PLAIN].dollars_a_month[part] * (1 + 1e-9)
    assert variants[PACKED].streams_on_demand <= variants[PLAIN].streams_on_demand * (1 + 1e-9)


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
    of_outcomes = alarm_metrics(read_template(TEMPLATE), of_outcomes=True)
    periods_s = [query.get("MetricStat", query)["Period"] for query in watched]
    assert min(periods_s) >= 60  # shorter ones cost three times as much
    counts = count_inventory(read_template(TEMPLATE))
    assert counts == Inventory(
        n_snapshots=1,
        n_alarm_metrics=len(watched) - of_outcomes,
        n_composite_alarms=by_type["AWS::CloudWatch::CompositeAlarm"],
        n_dashboards=by_type["AWS::CloudWatch::Dashboard"],
        n_keys=by_type["AWS::KMS::Key"],
        n_mapping_metrics=6,
    )
    assert len(watched) > len(alarms) > counts.n_composite_alarms > 0
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


def test_assumed_sizes_are_those_of_the_wire() -> None:
    assumed = Assumptions()
    assert len(ride_bytes(1_234_567)) == assumed.ride_bytes
    assert len(encode_reject(reject_at(0, ride_bytes(1_234_567)))) + 1 == pytest.approx(assumed.reject_bytes, abs=5)
    duration = RideDuration(18.23, 1_234_567)
    prediction = Prediction(MODEL_NAME, "green-2021-01-3f2a9c1d0b7e", duration, event_id(0))
    assert len(msgspec.json.encode(prediction)) == assumed.prediction_bytes


def emitted(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines of metrics written since the last call."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if "_aws" in line]


def custom_metrics(lines: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """What CloudWatch bills as one metric each: a name with the values of its dimensions."""
    return {
        (metric["Name"], *(line[dimension] for dimension in sorted(dimensions)))
        for line in lines
        for directive in line["_aws"]["CloudWatchMetrics"]
        for dimensions in directive["Dimensions"]
        for metric in directive["Metrics"]
    }


def batch_report(**more: Any) -> BatchReport:
    return BatchReport(stream="ride-events", shard_id="shardId-000000000000", **more)


def test_assumed_metrics_are_those_that_the_functions_write(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Telemetry("cost-of-stream", "ridecast", "INFO")
    rejects = Counter(dict.fromkeys(REJECT_REASONS, 1))
    stream.report(
        batch_report(first_sequence_number="1", n_records=9, max_record_age_ms=1.0, rejects_by_reason=rejects)
    )
    stream.failed(RuntimeError())
    assert len(custom_metrics(emitted(capsys))) == Assumptions().n_metrics
    api = RequestTelemetry("cost-of-api", "ridecast", "INFO")
    api.report_request(RequestReport())
    api.failed(RuntimeError())
    assert len(custom_metrics(emitted(capsys))) == Assumptions().n_api_metrics


def test_assumed_log_lines_are_as_long_as_the_functions(capsys: pytest.CaptureFixture[str]) -> None:
    version = "green-2021-01-3f2a9c1d0b7e"
    timed = {"max_record_age_ms": 1200.5, "predict_ms": 12.345, "publish_ms": 23.456}
    # As long as a stack's own names, and no other test's: a logger stays with the output of its first.
    Telemetry("cost-log", "ridecast", "INFO").report(
        batch_report(first_sequence_number="4" * 56, n_records=1000, n_predictions=1000, model_version=version, **timed)
    )
    ours = len(capsys.readouterr().out)
    assumed = Assumptions()
    assert ours == pytest.approx(assumed.log_bytes - assumed.platform_log_bytes, abs=150)
    request = RequestReport(route="POST /predictions", status=200, n_predictions=1, model_version=version, request_ms=1)
    RequestTelemetry("cost-log/api", "ridecast", "INFO").report_request(request)
    ours, access_line = len(capsys.readouterr().out), 300
    assert ours + access_line == pytest.approx(assumed.api_log_bytes - assumed.platform_log_bytes, abs=150)


def test_every_price_has_its_page_month_and_confirmation() -> None:
    assert len(prices.ALL) == len({price.unit for price in prices.ALL}) >= 20
    for price in prices.ALL:
        assert price.dollars > 0
        assert price.page.startswith("https://aws.amazon.com/")
        assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", price.as_of)
        assert price.confirmed
    assert prices.LAMBDA_GB_S.of(2) == pytest.approx(0.0000266668)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The command line, in a folder without a bench's results."""
    monkeypatch.chdir(tmp_path)
    return Cli(monkeypatch, capsys)


def test_cost_shows_a_table_and_the_assumptions(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = ("--rides-per-s", "1000", "--shards", "2", "--us-per-ride", "7", "--api-requests-per-s", "1")
    lines = cli.run("cost", *words).splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for part in ("predictions", "retention over 24 hours", "alarms, dashboard", "HTTP API", "total", "the course's"):
        assert part in text
    for line in ("7.00 us a ride", "as given", "a default, not measured", "alarms watch", "7 metrics at most"):
        assert line in text


def test_json_has_all_figures(cli: Cli) -> None:
    result = cli("cost")
    assert set(result["dollars_a_month"]) == set(VARIANTS)
    dollars = result["dollars_per_million_rides"]
    assert dollars["packed output"] < dollars["plain"] < dollars["the course's"]
    plain = result["variants"]["plain"]
    assert sum(plain["dollars_a_month"].values()) == pytest.approx(plain["total"])
    assert result["dollars_a_month"]["plain"] == plain["total"]
    assert result["load"]["inventory"]["n_keys"] == 2
    assert {price["as_of"] for price in result["prices"]["table"]} >= {"2026-09"}
