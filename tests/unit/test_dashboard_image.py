"""The picture of a dashboard: panels from the template, points from a function's log, and what is said of mistakes."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from infra.commands.dashboard import dashboard_command, show_dashboard
from infra.console import ConsoleDisplay
from infra.dashboard.body import Panel, Series, read_panels
from infra.dashboard.draw import cloudwatch_only, draw
from infra.dashboard.log import FunctionLog, Sample, read_log
from infra.dashboard.points import Bins, points
from infra.dashboard.run import dashboard_of_demo
from infra.demo.replay_run import Display
from infra.demo.run import LOG_NAME, DemoOptions
from infra.errors import NoMetricsError, TemplateError
from tests.builders import FEBRUARY, JANUARY, invocation, ride_bytes, small_bundle
from tests.fakes import FakeFunction
from tests.kits.metrics import NAMESPACE, own_lines

START_S = 1_609_834_500.0
PNG = b"\x89PNG"


def batch_line(after_s: float = 0.0, **changes: object) -> str:
    """A batch's line of metrics, as the function writes it, so long after the start."""
    line = next(line for line in own_lines() if "Records" in line)
    line["_aws"]["Timestamp"] = int((START_S + after_s) * 1000)
    return json.dumps({**line, **changes})


def log_of(*lines: str) -> FunctionLog:
    return read_log(f"{line}\n" for line in lines)


def series(metric: str, stat: str = "Sum", namespace: str = NAMESPACE, **dimensions: str) -> Series:
    return Series(namespace, metric, tuple(dimensions.items()), stat, metric)


def line_of(log: FunctionLog, one: Series) -> list[float]:
    """A line's values, one a bin; none at all where there is no line."""
    found = points(log.samples, one, Bins.of(log.samples))
    return [] if found is None else [float(value) for value in found]


def template_with(tmp_path: Path, *widgets: object, body: str | None = None) -> Path:
    """A template with nothing but a dashboard of these widgets, or with this body."""
    text = json.dumps({"widgets": widgets}) if body is None else body
    resource = {"Type": "AWS::CloudWatch::Dashboard", "Properties": {"DashboardBody": {"Fn::Sub": text}}}
    path = tmp_path / "template.yaml"
    path.write_text(json.dumps({"Resources": {"Dashboard": resource}}), encoding="utf-8")
    return path


def widget(**properties: object) -> dict[str, Any]:
    return {"type": "metric", "x": 0, "y": 0, "width": 6, "height": 5, "properties": {"title": "t", **properties}}


def test_panel_is_read_with_its_lines(tmp_path: Path) -> None:
    row = ["AWS/Lambda", "Errors", "FunctionName", "${Predictor}", {"stat": "Sum", "label": "failed", "yAxis": "right"}]
    path = template_with(tmp_path, widget(metrics=[row], yAxis={"right": {"label": "s", "min": 0}}))
    (panel,) = read_panels(path)
    assert panel == Panel(
        kind="metric",
        title="t",
        x=0,
        y=0,
        width=6,
        height=5,
        series=(Series("AWS/Lambda", "Errors", (("FunctionName", "${Predictor}"),), "Sum", "failed", "right"),),
        units=(("right", "s"),),
    )


@pytest.mark.parametrize(
    "body",
    [
        '{"widgets": [',
        '{"widgets": {}}',
        json.dumps({"widgets": [widget(metrics=[["AWS/Lambda", "Errors", {"stat": "Sum"}]])]}),
        json.dumps({"widgets": [widget(metrics=[["AWS/Lambda", "Errors", {"stat": "Median", "label": "x"}]])]}),
        json.dumps({"widgets": [{**widget(), "type": "metrik"}]}),
        json.dumps({"widgets": [widget(metrics=[[]])]}),
        json.dumps({"widgets": [widget(metrics=[["a", "b", "name without value", {"stat": "Sum", "label": "x"}]])]}),
    ],
    ids=["cut off", "no list", "no label", "no such statistic", "unknown kind", "empty row", "half a dimension"],
)
def test_broken_body_is_one_sentence(tmp_path: Path, body: str) -> None:
    with pytest.raises(TemplateError, match=r"template\.yaml has a dashboard whose body can't be used: "):
        read_panels(template_with(tmp_path, body=body))


def test_template_without_a_dashboard_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text("Resources: {}", encoding="utf-8")
    with pytest.raises(TemplateError, match="has 0 dashboards, not one"):
        read_panels(path)


def test_log_of_a_real_invocation_tells_what_the_function_did(capsys: pytest.CaptureFixture[str]) -> None:
    function = FakeFunction(small_bundle())
    function.invoke(invocation(ride_bytes(1), b"bad", ride_bytes(2)))
    log = read_log(capsys.readouterr().out.splitlines(keepends=True))
    assert (log.n_batches, log.n_predictions) == (1, 2)
    assert list(log.versions) == [small_bundle().model_version]
    assert line_of(log, series("Records")) == [3]
    assert line_of(log, series("Rejects")) == [1]
    assert line_of(log, series("RejectsByReason", reason="not_json")) == [1]
    assert line_of(log, series("RejectsByReason", reason="too_deep")) == []


@pytest.mark.parametrize(
    ("stat", "expected"),
    [("Sum", 60), ("Average", 20), ("Minimum", 10), ("Maximum", 30), ("SampleCount", 3), ("p50", 20)],
)
def test_bin_holds_cloudwatchs_statistic(stat: str, expected: float) -> None:
    log = log_of(*(batch_line(Predictions=[float(n)]) for n in (10, 20, 30)))
    assert line_of(log, series("Predictions", stat)) == [expected]


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10_000)), min_size=1).map(
        lambda pairs: [Sample(START_S + after_s, "ns", "m", n) for after_s, n in pairs]
    )
)
def test_nothing_is_lost_between_bins_and_they_are_few(samples: list[Sample]) -> None:
    bins = Bins.of(samples)
    found = points(samples, series("m", namespace="ns"), bins)
    assert found is not None
    assert np.nansum(found) == sum(sample.value for sample in samples)
    assert len(found) == len(bins.seconds) <= 121


def test_bin_without_a_batch_has_no_value() -> None:
    first, empty, last = line_of(log_of(batch_line(0), batch_line(2)), series("Records"))
    assert (first, last) == (10, 10)
    assert np.isnan(empty)


def test_log_is_of_one_stack_whatever_that_is_called() -> None:
    log = log_of(batch_line(service="ridecast-prod"))
    assert line_of(log, series("Records", service="${AWS::StackName}")) == [10]
    assert line_of(log, series("Records", service="another")) == []


def test_invocations_are_counted_from_what_each_reports() -> None:
    failed = json.dumps({**own_lines()[-1], "_aws": {**own_lines()[-1]["_aws"], "Timestamp": START_S * 1000}})
    log = log_of(batch_line(), batch_line(), failed)
    assert line_of(log, series("Invocations", namespace="AWS/Lambda", FunctionName="${Predictor}")) == [3]
    assert line_of(log, series("Errors", namespace="AWS/Lambda", FunctionName="${Predictor}")) == [1]
    assert log.n_batches == 2


def test_every_byte_of_the_log_counts() -> None:
    lines = ["not ours: é", batch_line(), batch_line()]
    (n_bytes,) = line_of(log_of(*lines), series("IncomingBytes", namespace="AWS/Logs"))
    assert n_bytes == sum(len(f"{line}\n".encode()) for line in lines)


def test_what_is_no_line_of_metrics_is_passed_over() -> None:
    spoilt = [
        "Traceback (most recent call last):",
        batch_line()[:-5],
        '{"CloudWatchMetrics": 1}',
        '["CloudWatchMetrics"]',
    ]
    assert log_of(*spoilt, batch_line()).n_batches == 1


def test_lines_as_aws_logs_tail_writes_them_are_read() -> None:
    log = log_of(f"2021-01-05T08:15:00.250000+00:00 2021/01/05/[1]abc {batch_line()}")
    assert log.n_batches == 1


def test_only_the_last_run_of_a_log_is_read() -> None:
    log = log_of(batch_line(0, model_version="old"), batch_line(601), batch_line(1201))
    assert (log.n_earlier, log.n_batches) == (1, 2)
    assert "old" not in log.versions


def test_picture_holds_panels_of_every_kind(tmp_path: Path) -> None:
    rows = [["ridecast", name, {"stat": "Sum", "label": name}] for name in ("Predictions", "Rejects", "Unheard")]
    aws = ["AWS/Lambda", "Throttles", {"stat": "Sum", "label": "throttled", "yAxis": "right"}]
    axes = {"left": {"label": "a minute"}, "right": {"label": "s"}}
    place = {"width": 8, "height": 5, "y": 0}
    path = template_with(
        tmp_path,
        widget(metrics=[*rows, aws], yAxis=axes),
        {**widget(metrics=rows, stacked=True, yAxis={"left": {"label": "a minute"}}), **place, "x": 8},
        {**widget(query="q"), **place, "x": 16, "type": "log"},
        {**widget(alarms=["${OneAlarm.Arn}"]), **place, "y": 5, "type": "alarm"},
    )
    panels, log = read_panels(path), log_of(batch_line(), batch_line(3))
    image = tmp_path / "made" / "d.png"
    draw(panels, log, image)
    assert image.read_bytes().startswith(PNG)
    assert cloudwatch_only(panels, log) == ["AWS/Lambda Throttles"]


def test_header_says_how_much_and_when(tmp_path: Path) -> None:
    draw([Panel("alarm", "Alarms", 0, 0, 24, 3, alarms=("OneAlarm",))], log_of(batch_line()), tmp_path / "d.svg")
    text = (tmp_path / "d.svg").read_text(encoding="utf-8")
    assert "OneAlarm" in text
    assert "4 predictions in 1 batch, 2021-01-05 08:15:00 to 08:15:00 UTC; a point is a second" in text


@pytest.mark.parametrize(
    ("lines", "problem"), [(None, "can't be read (No such file or directory)"), (["text"], "holds no metrics")]
)
def test_log_without_metrics_is_one_sentence_that_says_what_to_do(
    tmp_path: Path, lines: Iterable[str] | None, problem: str
) -> None:
    log = tmp_path / "function.log"
    if lines is not None:
        log.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(NoMetricsError) as raised:
        dashboard_command(image=tmp_path / "d.png", log=log)
    assert problem in str(raised.value)
    assert "ridecast demo" in str(raised.value)
    assert raised.value.path == log


def test_kind_of_picture_is_checked_before_a_demo_is_run(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"d\.gif ends in none of \.png, \.svg, \.pdf"):
        dashboard_command(image=tmp_path / "d.gif")


def test_demo_is_drawn_and_nothing_of_the_runs_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # GIVEN a log with an earlier run in it, a minute ago
    log = tmp_path / LOG_NAME
    log.write_text(f"{batch_line(0)}\n", encoding="utf-8")
    options = DemoOptions(
        service="green", train_months=(JANUARY,), validate_months=(FEBRUARY,), n_events=10, folder=tmp_path,
        template=template_with(tmp_path, widget(metrics=[["AWS/SQS", "Visible", {"stat": "Sum", "label": "queue"}]])),
    )  # fmt: skip

    def run(options: DemoOptions, _: Display) -> None:
        with (options.folder / LOG_NAME).open("a", encoding="utf-8") as file:
            file.write(f"{batch_line(60)}\n")

    # WHEN a demo is run and drawn
    report = dashboard_of_demo(options, tmp_path / "d.png", ConsoleDisplay(Console(quiet=True)), run)
    # THEN it is the demo's batch alone
    show_dashboard(report, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "image": str(tmp_path / "d.png"),
        "log": str(log),
        "panels": 1,
        "batches": 1,
        "predictions": 4,
        "cloudwatch_only": ["AWS/SQS Visible"],
    }
    assert (tmp_path / "d.png").read_bytes().startswith(PNG)
