"""The cost of a month: sums checked by hand, and changes that must never make it cheaper."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.operate.cost import STREAM_PARTS, cost
from infra.operate.cost_inputs import COURSE, PACKED, PACKED_OUTPUT, PLAIN, VARIANTS, Inventory, Load, Work

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
            "logs": invocations * 1900 / 1e9 * 0.50,
            "metrics": 17 * 0.30,
            "alarms": 0.0,
            "keys": 0.0,
            "api": 0.0,
        }
    )
    assert plain.total == pytest.approx(1.0512 + 1.937051 + 2 * 58.692 + 0.035040 + 15.768 + 0.301731 + 4.9932 + 5.10)
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
    assert dollars["metrics"] == pytest.approx((17 + 6) * 0.30)
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
