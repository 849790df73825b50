"""The cost of outcomes: sums checked by hand, what must never make it cheaper, and what the command shows."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.operate.cost import HOURS_PER_MONTH, SECONDS_PER_MONTH, cost
from infra.operate.cost_inputs import PLAIN, Load, alarm_metrics, read_load, read_work
from infra.operate.cost_outcomes import (
    N_METRICS,
    PARTS,
    Measured,
    OutcomesCost,
    OutcomesSettings,
    cost_outcomes,
    read_settings,
)
from infra.stack.template import TEMPLATE, read_template
from lambda_function.aws.telemetry import ArchiveReport, ArchiveTelemetry
from tests.kits.cli import Cli

KINDS = ("rides", "predictions", "outcomes")
MEASURED = Measured(
    archive_us=dict.fromkeys(KINDS, 3.0),
    stored_bytes=dict(zip(KINDS, (30.0, 30.0, 20.0), strict=True)),
    join_s_per_million=20.0,
    divided_s_per_million=40.0,
    scan_us=0.5,
    labelled_bytes=50.0,
)
SETTINGS = OutcomesSettings(labelled_days=90.0, n_alarm_metrics=10)
# 6 MB or 10,000 records end a batch: a ride event has 650 bytes in the envelope, a prediction 776, an outcome 547.
FULL_BATCHES = [min(10_000, 6 * 1024 * 1024 / (n_bytes * 4 / 3 + 467)) for n_bytes in (137, 232, 60)]
LOADS = st.builds(Load, rides_per_s=st.floats(0.001, 1e6), n_shards=st.integers(1, 500))


def dollars(rides_per_s: float = 1000.0, n_shards: int = 1, **settings: Any) -> OutcomesCost:
    load = Load(rides_per_s, n_shards, retention_hours=48.0)
    return cost_outcomes(load, replace(SETTINGS, **settings), MEASURED)


def test_archive_is_paid_by_the_batch_and_the_stored_byte() -> None:
    parts = dollars().dollars_a_month
    rides = 1000 * SECONDS_PER_MONTH
    invocations = sum(rides / batch for batch in FULL_BATCHES)
    assert parts["archive_objects"] == pytest.approx(invocations * 0.005 / 1000)
    ms = [(batch * 5 / 1000 + 0.5) * 1769 / 512 + 30 for batch in FULL_BATCHES]  # 3 us, and 2 of the runtime
    gb_s = sum(rides / batch * one / 1000 / 2 for batch, one in zip(FULL_BATCHES, ms, strict=True))
    assert parts["archive_function"] == pytest.approx(invocations * 0.2 / 1e6 + gb_s * 0.0000133334)
    assert parts["archive_storage"] == pytest.approx(rides * 80 / 1e9 * 90 / (730 / 24) * 0.023)
    assert parts["join_storage"] == pytest.approx(rides * 50 / 1e9 * 90 / (730 / 24) * 0.023)


def test_window_makes_the_objects_of_a_slow_stream() -> None:
    parts = dollars(rides_per_s=1.0).dollars_a_month
    assert parts["archive_objects"] == pytest.approx(3 * 60 * HOURS_PER_MONTH * 0.005 / 1000)
    longer = dollars(rides_per_s=1.0, window_s=300.0).dollars_a_month
    assert longer["archive_objects"] == pytest.approx(parts["archive_objects"] / 5)


def test_join_is_paid_once_an_hour_of_rides_and_again_if_outcomes_are_late() -> None:
    found = dollars()
    assert [SETTINGS.n_hours(kind) for kind in KINDS] == [3, 4, 4]
    assert SETTINGS.n_late_hours == 45
    assert [found.join_s, found.late_s] == pytest.approx([3.6 * 40, 3.6 * 0.5])
    assert dollars(rides_per_s=300.0).join_s == pytest.approx(1.08 * 20)
    rides, predictions, outcomes = (3.6e6 / batch for batch in FULL_BATCHES)  # objects an hour
    n_gets = 3 * rides + 4 * predictions + 4 * outcomes + 2 * 45
    ms = 1000 * found.join_s + 4 * 150 + n_gets * 20 / 8
    gb_s = HOURS_PER_MONTH * ms / 1000 * 3008 / 1024
    parts = found.dollars_a_month
    assert parts["join_function"] == pytest.approx(gb_s * 0.0000133334 + 4 * HOURS_PER_MONTH * 0.2 / 1e6)
    more_gb_s = HOURS_PER_MONTH * (found.join_s + (n_gets - 90) * 20 / 8 / 1000) * 3008 / 1024
    more_requests = HOURS_PER_MONTH * (n_gets - 90) * 0.405 / 1e6
    assert found.second_pass == pytest.approx(more_gb_s * 0.0000133334 + more_requests)
    n_written = 4 * 4 + 2 * (3 + 11) + 2 + n_gets / 1000 + 6  # listings cost as much as writes
    assert parts["join_requests"] == pytest.approx(HOURS_PER_MONTH * (n_gets * 0.4 + n_written * 5) / 1e6)


def test_stream_and_fixed_parts_are_paid_by_the_month() -> None:
    found = dollars(n_shards=2)
    assert found.stream == pytest.approx(2 * 730 * (0.015 + 0.020) + 2628 * 0.014)
    assert found.dollars_a_month["metrics"] == pytest.approx(N_METRICS * 0.30)
    assert found.dollars_a_month["alarms"] == pytest.approx(10 * 0.10)


def test_other_services_are_paid_by_the_record() -> None:
    found = dollars()
    assert found.firehose == pytest.approx(2628e6 * 3 * 5 / 1024**2 * 0.029)
    assert found.table == pytest.approx(2 * 2628 * 0.625 + 2.628 * 500 * 90 / (730 / 24) * 0.25)


def test_share_of_the_stack_at_a_thousand_rides_a_second() -> None:
    load = read_load(1000.0, 1)
    plain = cost(load, read_work({}, Path("nowhere"))).variants[PLAIN].total
    outcomes = cost_outcomes(load, read_settings())
    stack = plain + outcomes.stream
    assert (outcomes.total - outcomes.storage) / stack < 0.10
    assert (outcomes.total - outcomes.storage + outcomes.second_pass) / stack < 0.13
    assert outcomes.total / stack < 0.30
    assert outcomes.firehose > 4 * stack
    assert outcomes.table > 15 * stack


@given(LOADS, st.floats(1, 100), st.integers(0, 100))
def test_more_rides_and_more_shards_never_cost_less(load: Load, times: float, more: int) -> None:
    before = cost_outcomes(load, SETTINGS, MEASURED)
    after = cost_outcomes(replace(load, rides_per_s=load.rides_per_s * times), SETTINGS, MEASURED)
    assert after.total >= before.total * (1 - 1e-9)
    wider = cost_outcomes(replace(load, n_shards=load.n_shards + more), SETTINGS, MEASURED)
    assert wider.total >= before.total * (1 - 1e-9)
    assert set(before.dollars_a_month) == set(PARTS)


def test_settings_are_the_templates() -> None:
    template = read_template(TEMPLATE)
    settings = read_settings()
    assert settings.window_s == template["Parameters"]["ArchiveWindowSeconds"]["Default"]
    assert settings.archive_days == template["Parameters"]["ArchiveDays"]["Default"]
    assert settings.labelled_days == template["Parameters"]["LabelledDays"]["Default"]
    assert settings.n_alarm_metrics == alarm_metrics(template, of_outcomes=True)


def test_alarms_on_archive_and_join_are_counted_apart() -> None:
    def alarm(**properties: Any) -> Mapping[str, Any]:
        return {"Type": "AWS::CloudWatch::Alarm", "Properties": {"MetricName": "Errors", **properties}}

    function = {"Name": "FunctionName", "Value": {"Ref": "Archiver"}}
    service = {"Name": "service", "Value": {"Fn::Sub": "${AWS::StackName}/join"}}
    template = {
        "Resources": {
            "A": alarm(Dimensions=[function]),
            "B": alarm(Dimensions=[service]),
            "C": alarm(Dimensions=[{"Name": "FunctionName", "Value": {"Ref": "Predictor"}}]),
        }
    }
    assert [alarm_metrics(template, of_outcomes=is_of) for is_of in (True, False)] == [2, 1]


def test_metrics_of_the_archive_are_three(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = ArchiveTelemetry("cost-of-archive", "ridecast", "INFO")
    telemetry.report(
        ArchiveReport(
            stream="ride-events",
            kind="rides",
            shard_id="shardId-000000000000",
            first_sequence_number="1",
            n_records=9,
            n_objects=1,
            n_bytes=300,
        )
    )
    telemetry.failed(RuntimeError())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = {
        metric["Name"]
        for line in lines
        if "_aws" in line
        for directive in line["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
    }
    assert len(names) == 3


def test_command_shows_outcomes_beside_the_stack(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    cli = Cli(monkeypatch, capsys)
    text = cli.run("cost", "--rides-per-s", "1")
    for part in (*PARTS.values(), "archive and join", "stream of outcomes", "Firehose", "a DynamoDB table"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80
    outcomes = cli("cost")["outcomes"]
    assert outcomes["total"] == pytest.approx(sum(outcomes["dollars_a_month"].values()))
    assert outcomes["settings"]["window_s"] == 60.0
