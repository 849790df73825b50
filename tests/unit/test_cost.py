"""What a million rides cost: sums checked by hand, and what must never make it cheaper or dearer."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.cli import main
from infra.cost import prices
from infra.cost.cost import cost
from infra.cost.inputs import DEFAULT_US, Given, load_of, work_of
from infra.cost.load import ONE_BY_ONE, PACKED, PACKED_OUTPUT, PLAIN, VARIANTS, Assumptions, Load, Work
from infra.errors import CostInputError
from lambda_function.events import MODEL_NAME, Prediction, RideDuration, encode_reject
from tests.builders import event_id, ride_bytes
from tests.builders_kept import reject_at

WORK = {
    PLAIN: Work(8.0, 500.0),
    PACKED_OUTPUT: Work(5.0, 500.0),
    PACKED: Work(5.0, 500.0),
    ONE_BY_ONE: Work(497.5),
}
SECONDS_PER_MONTH = 2_628_000

LOADS = st.builds(
    Load,
    rides_per_s=st.floats(0.001, 1e6),
    n_shards=st.integers(1, 500),
    window_s=st.floats(0, 300),
    batch_size=st.integers(1, 10_000),
    memory_mb=st.integers(128, 10_240),
    reject_share=st.floats(0, 1),
)


def totals(load: Load, **work: Work) -> dict[str, float]:
    return {name: one.total for name, one in cost(load, {**WORK, **work}).variants.items()}


def assert_no_dearer(cheap: dict[str, float], dear: dict[str, float]) -> None:
    for name in VARIANTS:
        assert cheap[name] <= dear[name] * (1 + 1e-9), name


def test_plain_rides_sum_up_as_by_hand() -> None:
    report = cost(Load(rides_per_s=1000.0, n_shards=2), WORK)
    plain = report.variants[PLAIN]
    # A million rides take 1,000 s and, at 500 a shard and second, 2,000 invocations.
    assert plain.rides_per_invocation == 500
    # 0.5 ms + 500 rides of (8 + 2) us + one PutRecords of 10 ms + half a millisecond of rounding
    assert plain.ms_per_invocation == pytest.approx(16.0)
    gb_s = 2000 * 1769 / 1024 * 0.016
    shard_hours = 2 * 1000 / 3600
    assert plain.dollars_per_million == pytest.approx(
        {
            "lambda": 2000 * 0.20 / 1e6 + gb_s * 0.0000133334,
            "kinesis_in": shard_hours * 0.015 + 1e6 * 0.014 / 1e6,
            "kinesis_out": shard_hours * 0.015 + 1e6 * 0.014 / 1e6,
            "s3": 2 * 1000 / 60 * 0.0004 / 1000 + 1000 * 0.005 / 1000 + 1000 * 416 / 1e9 * 0.023,
            "cloudwatch": 2000 * 1900 / 1e9 * 0.50 + 17 * 0.30 * 1000 / SECONDS_PER_MONTH,
        }
    )
    assert plain.total == pytest.approx(0.0004 + 0.000737087 + 2 * 0.022333333 + 0.005022901 + 0.003840639, abs=1e-8)
    assert report.dollars_a_month(PLAIN) == pytest.approx(plain.total * 2628)
    assert plain.shards_needed == 1


def test_one_by_one_sums_up_as_by_hand() -> None:
    single = cost(Load(rides_per_s=1000.0, n_shards=2), WORK).variants[ONE_BY_ONE]
    # 497.5 us + 2 us + 10 ms + half a millisecond of rounding
    assert single.ms_per_invocation == pytest.approx(10.9995)
    assert single.dollars_per_million["lambda"] == pytest.approx(0.20 + 1e6 * 1769 / 1024 * 0.0109995 * 0.0000133334)
    assert single.dollars_per_million["cloudwatch"] == pytest.approx(0.0004 * 0.50 * 1000)
    assert single.shards_needed == 11  # a ride at a time, 10.9995 ms each


def test_packed_output_pays_for_its_bytes() -> None:
    packed = cost(Load(rides_per_s=1000.0, n_shards=2), WORK).variants[PACKED_OUTPUT]
    # 500 predictions of 232 + 20 B in two aggregates, half a unit of 25 KB lost to rounding in each
    units = 500 * 252 / 25_600 + 2 * 0.5
    assert packed.dollars_per_million["kinesis_out"] == pytest.approx(
        2 * 1000 / 3600 * 0.015 + 2000 * units * 0.014 / 1e6
    )
    assert packed.dollars_per_million["kinesis_in"] == pytest.approx(2 * 1000 / 3600 * 0.015 + 0.014)


def test_longer_retention_is_paid_by_the_shard_hour_on_both_streams() -> None:
    load = Load(rides_per_s=1000.0, n_shards=2)
    kept = replace(load, retention_hours=168.0)
    assert totals(kept)[PLAIN] - totals(load)[PLAIN] == pytest.approx(2 * 2 * 1000 / 3600 * 0.020)


def test_batch_ends_at_six_megabytes() -> None:
    variants = cost(Load(rides_per_s=1e6, n_shards=1), WORK).variants
    assert variants[PLAIN].rides_per_invocation == pytest.approx(6 * 1024 * 1024 / 650)
    assert variants[PACKED].rides_per_invocation > 3 * variants[PLAIN].rides_per_invocation


def test_shards_needed_are_what_the_load_takes() -> None:
    variants = cost(Load(rides_per_s=5000.0, n_shards=5), WORK).variants
    assert variants[PLAIN].shards_needed == 5  # 1,000 records a second and shard
    assert variants[PACKED].shards_needed == 2  # 1 MiB a second and shard
    assert variants[ONE_BY_ONE].shards_needed == 55


@given(LOADS, st.floats(1, 1000))
def test_more_rides_never_cost_more_a_million(load: Load, times: float) -> None:
    assert_no_dearer(totals(replace(load, rides_per_s=load.rides_per_s * times)), totals(load))


@given(LOADS, st.integers(1, 100))
def test_more_shards_never_cost_less(load: Load, more: int) -> None:
    assert_no_dearer(totals(load), totals(replace(load, n_shards=load.n_shards + more)))


@given(LOADS, st.floats(0, 300))
def test_longer_window_never_costs_more(load: Load, window_s: float) -> None:
    assume(window_s >= load.window_s)
    assert_no_dearer(totals(replace(load, window_s=window_s)), totals(load))


@given(LOADS, st.floats(0, 1e4), st.floats(0, 1e5))
def test_slower_function_never_costs_less(load: Load, us_per_ride: float, us_per_invocation: float) -> None:
    slower = {
        name: Work(work.us_per_ride + us_per_ride, work.us_per_invocation + us_per_invocation)
        for name, work in WORK.items()
    }
    assert_no_dearer(totals(load), {name: one.total for name, one in cost(load, slower).variants.items()})


@given(LOADS)
def test_packing_never_costs_more_at_kinesis(load: Load) -> None:
    variants = cost(load, WORK).variants
    for stream in ("kinesis_in", "kinesis_out"):
        packed = variants[PACKED].dollars_per_million[stream]
        assert packed <= variants[PLAIN].dollars_per_million[stream] * (1 + 1e-9)


def test_assumed_sizes_are_those_of_the_wire() -> None:
    assumed = Assumptions()
    assert len(ride_bytes(1_234_567)) == assumed.ride_bytes
    assert len(encode_reject(reject_at(0, ride_bytes(1_234_567)))) + 1 == pytest.approx(assumed.reject_bytes, abs=5)
    duration = RideDuration(18.23, 1_234_567)
    prediction = Prediction(MODEL_NAME, "green-2021-01-3f2a9c1d0b7e", duration, event_id(0))
    assert len(msgspec.json.encode(prediction)) == assumed.prediction_bytes


def test_prices_name_their_page_and_the_file_its_date() -> None:
    assert all(price.page and price.unit and price.dollars > 0 for price in prices.ALL)
    assert len(prices.AS_OF.split("-")) == 2
    assert prices.LAMBDA_GB_S.of(2) == pytest.approx(0.0000266668)


# -- where the figures come from


def bench_file(folder: Path, figures: Any) -> Path:
    path = folder / "bench.json"
    path.write_text(json.dumps([{"name": name, "value": us, "unit": "us a ride"} for name, us in figures.items()]))
    return path


def test_time_is_what_the_bench_has_measured_on_its_largest_batch(tmp_path: Path) -> None:
    figures = {
        "handler: batch of 9,400": 6.0,
        "handler: batch of 1,000": 9.0,
        "handler: batch of 1": 706.0,
        "handler: batch of 9,400, packed output": 4.5,
        "handler: the course's, put_record a ride, linear model": 500.0,
        "handler: a plain batched one, scikit-learn, same model": 20.0,
    }
    path = bench_file(tmp_path, figures)
    work = work_of(Given(), path)
    assert {name: one.us_per_ride for name, one in work.items()} == {
        PLAIN: 6.0,
        PACKED_OUTPUT: 4.5,
        PACKED: 4.5,
        ONE_BY_ONE: 500.0,
    }
    assert (work[PLAIN].us_per_invocation, work[ONE_BY_ONE].us_per_invocation) == (700.0, 0.0)
    assert work[PLAIN].source == f"measured: {path}, handler: batch of 9,400"


def test_time_that_nobody_measured_is_a_default_and_says_so(tmp_path: Path) -> None:
    work = work_of(Given(), tmp_path / "bench.json")
    assert {name: one.us_per_ride for name, one in work.items()} == DEFAULT_US
    assert all("default" in one.source for one in work.values())


def test_time_that_is_given_stands_above_all(tmp_path: Path) -> None:
    work = work_of(Given(plain=1.0, one_by_one=2.0), bench_file(tmp_path, {"handler: batch of 9,400": 6.0}))
    assert (work[PLAIN].us_per_ride, work[ONE_BY_ONE].us_per_ride) == (1.0, 2.0)
    assert work[PLAIN].source == work[ONE_BY_ONE].source == "as given"
    assert work[PACKED].us_per_ride == DEFAULT_US[PACKED]


@pytest.mark.parametrize("text", ["{", "[1]", "[{}]", '[{"name": "x", "value": "y"}]', "\udcff"])
def test_file_that_is_no_benchs_result_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CostInputError, match="run `make bench`, or delete it"):
        work_of(Given(), path)


def test_load_is_the_templates_own() -> None:
    load = load_of(100.0, 3)
    assert load == Load(100.0, 3, window_s=1.0, batch_size=10_000, memory_mb=1769, retention_hours=48.0)
    assert load_of(100.0, 3, window_s=5.0).window_s == 5.0


def test_cost_shows_a_table_what_it_rests_on_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # no bench has run here
    words = ["ridecast", "cost", "--rides-per-s", "1000", "--shards", "2", "--us-per-ride", "7"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    *shown, last = capsys.readouterr().out.splitlines()
    text = "\n".join(shown)
    for part in ("Kinesis out", "total", "one by one", "7.00 us a ride", "as given", "a default, not measured", "2025"):
        assert part in text
    result = json.loads(last)
    dollars = result["dollars_per_million_rides"]
    assert dollars["packed output"] < dollars["plain"] < dollars["one by one"]
    assert result["load"]["memory_mb"] == 1769
