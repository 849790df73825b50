"""The gate: each rule passes and fails at its limit, a report has a line for each rule; and the bootstrap over days."""

from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lambda_function.core.bundle import GOLDEN, MANIFEST
from lambda_function.core.intervals import Interval
from tests.builders import SMALL_PARAMETERS, golden_of, small_bundle, small_rides, training_facts
from tests.builders_report import failed_rules, gate_report, manifest, months_result, slice_result
from training.data.months import Month, parse_days, parse_months
from training.data.rides import Rides
from training.data.synthetic import synthetic_rides
from training.evaluation.bootstrap import (
    LEVEL,
    Comparison,
    DaySums,
    Intervals,
    compare_coverage,
    compare_days,
    compare_errors,
)
from training.evaluation.gate import (
    GateReport,
    decode_gate_report,
    encode_gate_report,
    no_unseen_month,
    report_lines,
    run_gate,
    unseen_month,
)
from training.evaluation.gate_rules import (
    MAX_LOADED_BYTES,
    MAX_PREDICT_RATIO,
    MIN_SLICE_RIDES,
    IntervalsCompared,
    RuleResult,
    rule_better,
    rule_coverage,
    rule_parity,
    rule_predict_time,
    rule_service,
    rule_size,
    rule_slices,
    rule_unseen,
    used_months,
)
from training.evaluation.predict_time import predict_time_ratio
from training.model.bundle import ExportedBundle
from training.model.export import export_bundle
from training.model.fit import fit_forest
from training.model.results import MonthsResult

INTERVAL = Interval(0.8, (), (), {})
MARCH = Month(2021, 3)
UNSEEN_RIDES = synthetic_rides(MARCH, 3000, seed=7)
CANDIDATE, CHAMPION = "green-2021-02-aaaaaaaaaaaa", "green-2021-01-bbbbbbbbbbbb"


@cache
def weak_bundle() -> ExportedBundle:
    """Return a model of three trees, trained and validated on the months of the small one."""
    parameters: dict[str, Any] = {**SMALL_PARAMETERS, "max_iter": 3}
    return export_bundle(fit_forest(small_rides(), parameters), small_rides(), training_facts(parameters))


def gate(
    candidate: ExportedBundle,
    champion: ExportedBundle | None,
    rides: Rides = UNSEEN_RIDES,
    time_ratio: float = 1.0,
) -> GateReport:
    return run_gate(
        candidate, champion, rides, small_rides(), channel="stable", time_ratio=lambda _model, _rides: time_ratio
    )


def result_of(coverage: float, of_slice: float = 0.9, n_rides: int = MIN_SLICE_RIDES) -> MonthsResult:
    """Return a result with a coverage overall and in its only slice."""
    result = months_result(slice_result("hour", "08", n_rides=n_rides, coverage=of_slice))
    return msgspec.structs.replace(result, coverage=coverage)


def comparison_of(low: float, high: float, n_days: int = 31) -> Comparison:
    return Comparison((low + high) / 2, low, high, 0.95, n_days, 60_000)


def test_better_candidate_passes_every_rule() -> None:
    report = gate(small_bundle(), weak_bundle())
    assert failed_rules(report) == []
    assert report.passed
    assert (report.against, report.channel, report.months) == (weak_bundle().model_version, "stable", ("2021-03",))
    assert report.manifest_sha256 == small_bundle().manifest_sha256
    assert report.comparison
    assert report.comparison.n_rides == len(UNSEEN_RIDES)
    assert report.candidate
    assert report.champion
    gain = report.candidate.rmse_minutes - report.champion.rmse_minutes
    assert report.comparison.difference_rmse_minutes == pytest.approx(gain, abs=1e-4)


def test_worse_candidate_fails_the_rules_on_errors_and_no_others() -> None:
    report = gate(weak_bundle(), small_bundle())
    assert not report.passed
    assert "beats the model in the channel" in failed_rules(report)
    assert set(failed_rules(report)) <= {"beats the model in the channel", "no slice is worse"}


def test_candidate_for_an_empty_channel_is_compared_with_the_baseline() -> None:
    report = gate(small_bundle(), None)
    assert report.passed
    assert report.against is None
    assert "baseline" in report.rules[2].seen
    assert "against the baseline" in report_lines(report)[0]


def test_model_in_the_channel_cannot_beat_itself() -> None:
    report = gate(small_bundle(), small_bundle())
    assert failed_rules(report) == ["beats the model in the channel"]
    assert "in the channel already" in report.rules[2].seen
    assert not rule_better(months_result(), comparison_of(-0.10, -0.01), CHAMPION, CHAMPION).passed


def test_month_that_one_of_them_was_validated_on_fails() -> None:
    report = gate(small_bundle(), weak_bundle(), synthetic_rides(Month(2021, 2), 3000, seed=7))
    assert failed_rules(report) == ["unseen month"]
    assert f"{small_bundle().model_version} has met 2021-02" in report.rules[0].seen
    assert not no_unseen_month(small_bundle(), weak_bundle(), channel="stable").passed


def test_slow_model_fails_even_if_it_is_better() -> None:
    assert failed_rules(gate(small_bundle(), weak_bundle(), time_ratio=1.51)) == ["predict time"]


def test_report_is_read_as_it_was_written() -> None:
    report = gate(small_bundle(), weak_bundle())
    assert decode_gate_report(encode_gate_report(report)) == report
    assert set(msgspec.json.decode(encode_gate_report(report))) == {
        *("passed", "model_version", "manifest_sha256", "against", "channel", "months"),
        *("candidate", "rival", "comparison", "rules"),
    }


def test_report_has_pass_or_fail_and_one_line_for_each_rule() -> None:
    report = gate(weak_bundle(), small_bundle())
    headline, *rules = report_lines(report)
    assert headline.startswith(f"{weak_bundle().model_version} fails the gate of stable")
    assert len(rules) == len(report.rules) == 8
    for line, rule in zip(rules, report.rules, strict=True):
        assert line.startswith(("pass  " if rule.passed else "FAIL  ") + rule.rule + ": " + rule.seen)
        assert "\n" not in line


def test_warning_is_shown_and_refuses_no_model() -> None:
    warning = RuleResult("coverage", passed=True, wanted="0.78 to 0.82", seen="0.75", is_warning=True)
    report = msgspec.structs.replace(gate_report(), rules=(warning,))
    assert report_lines(report)[1] == "warn  coverage: 0.75 (wanted: 0.78 to 0.82)"
    assert decode_gate_report(encode_gate_report(report)) == report


def test_month_is_the_latest_that_neither_has_met() -> None:
    candidate = manifest(train_months=("2021-03",), validate_months=("2021-04",), data=())
    champion = manifest(train_months=("2021-01",), validate_months=("2021-06",), data=())
    months = parse_months("2021-01..2021-06")
    assert unseen_month(candidate, champion, months) == Month(2021, 5)
    assert unseen_month(candidate, None, months) == Month(2021, 6)
    assert unseen_month(candidate, champion, parse_months("2021-03,2021-04,2021-06")) is None
    of_data = manifest(train_months=(), validate_months=("2021-02",))
    assert used_months(of_data) == {Month(2021, 1), Month(2021, 2)}


def test_days_of_a_month_that_a_model_has_met_are_seen() -> None:
    candidate = manifest(train_months=("2021-03-01..2021-03-20",), validate_months=("2021-03-21..2021-03-25",), data=())
    seen, unseen = parse_days("2021-03-25..2021-03-30"), parse_days("2021-03-26..2021-03-30")
    assert [rule_unseen(months, candidate, None).passed for months in (seen, unseen)] == [False, True]
    assert unseen_month(candidate, None, parse_days("2021-02,2021-03")) == Month(2021, 2)


def test_channel_keeps_its_service() -> None:
    assert rule_service(manifest(), manifest()).passed
    assert rule_service(manifest(service="yellow"), None).passed
    assert not rule_service(manifest(service="yellow"), manifest()).passed


@pytest.mark.parametrize(
    ("comparison", "passed"),
    [
        (comparison_of(-0.10, -0.01), True),
        (comparison_of(-0.10, 0.0), False),
        (comparison_of(0.01, 0.02), False),
        (comparison_of(-0.10, -0.01, n_days=7), True),
        (comparison_of(-0.10, -0.01, n_days=6), False),
    ],
)
def test_interval_must_be_below_zero_over_enough_days(comparison: Comparison, passed: bool) -> None:
    assert rule_better(months_result(), comparison, CANDIDATE, CHAMPION).passed is passed


def intervals_of(*slices: tuple[float, float, float]) -> Intervals:
    """Return the value, low and high of some slices."""
    return Intervals(*np.array(slices).reshape(-1, 3).T)


@pytest.mark.parametrize(
    ("worse", "passed"),
    [((0.05, 0.0301, 0.07), False), ((0.05, 0.0299, 0.07), True), ((-0.1, -0.2, 0.0), True), ((0.2, -0.1, 0.5), True)],
)
def test_slice_fails_if_its_interval_lies_above_three_percent(worse: tuple[float, float, float], passed: bool) -> None:
    slices = [slice_result("hour", "08"), slice_result("hour", "09")]
    rule = rule_slices(slices, intervals_of(worse, (-0.05, -0.1, 0.0)))
    assert rule.passed is passed
    assert ("1 of 2 do" in rule.seen) is not passed
    assert ("worst: hour 08 +5.0%" in rule.seen) is (worse[1] > 0)
    assert rule_slices([], intervals_of()).passed


def test_coverage_of_a_first_model_only_warns() -> None:
    for coverage, of_slice, is_warning in ((0.80, 0.80, False), (0.75, 0.80, True), (0.80, 0.60, True)):
        result = result_of(coverage, of_slice)
        rule = rule_coverage(result, result.slices, manifest(interval=INTERVAL), None)
        assert rule.passed
        assert rule.is_warning is is_warning
        assert "mean width 7.50 min" in rule.seen


SURE, UNSURE = (0.03, 0.01, 0.05), (0.03, -0.01, 0.07)


@pytest.mark.parametrize(
    ("overall", "further", "worse", "passed"),
    [
        (0.77, SURE, SURE, False),
        (0.83, SURE, SURE, False),
        (0.77, UNSURE, SURE, True),
        (0.77, SURE, UNSURE, True),
        (0.7801, SURE, SURE, True),
        (0.8199, SURE, SURE, True),
    ],
)
def test_coverage_off_the_level_fails_only_if_the_champions_intervals_were_better(
    overall: float, further: tuple[float, float, float], worse: tuple[float, float, float], passed: bool
) -> None:
    result = result_of(overall, of_slice=0.8)
    compared = IntervalsCompared(intervals_of(further), intervals_of(worse))
    rule = rule_coverage(result, [], manifest(interval=INTERVAL), manifest(interval=INTERVAL), compared)
    assert rule.passed is passed
    assert rule.is_warning is (passed and abs(overall - 0.8) > 0.02)


@pytest.mark.parametrize(
    ("of_slice", "further", "passed"),
    [(0.739, SURE, False), (0.861, SURE, False), (0.739, UNSURE, True), (0.741, SURE, True)],
)
def test_coverage_of_a_slice_may_be_off_where_the_champions_is(
    of_slice: float, further: tuple[float, float, float], passed: bool
) -> None:
    result = result_of(0.8, of_slice)
    compared = IntervalsCompared(intervals_of(further), intervals_of(SURE))
    interval = manifest(interval=INTERVAL)
    rule = rule_coverage(result, result.slices, interval, interval, None, compared)
    assert rule.passed is passed
    assert not rule.is_warning  # what is left of it may be chance


def test_model_without_intervals_may_follow_only_one_without() -> None:
    result = months_result()
    assert rule_coverage(result, (), manifest(), None).passed
    assert rule_coverage(result, (), manifest(), manifest()).passed
    assert not rule_coverage(result, (), manifest(), manifest(interval=INTERVAL)).passed


def test_coverage_is_compared_with_the_level_in_the_bundle() -> None:
    at_90 = manifest(interval=msgspec.structs.replace(INTERVAL, level=0.9))
    rule = rule_coverage(result_of(0.9), (), at_90, None)
    assert not rule.is_warning
    assert rule.wanted.startswith("0.88 to 0.92 overall, 0.84 to 0.96 in slices")
    assert rule_coverage(result_of(0.8), (), at_90, None).is_warning


def test_golden_ride_with_another_prediction_fails_parity() -> None:
    assert rule_parity(small_bundle()).passed
    golden = golden_of(small_bundle())
    golden[3]["duration_minutes"] += 1e-6
    files = {**small_bundle().files, GOLDEN: msgspec.json.encode(golden)}
    rule = rule_parity(ExportedBundle(files, small_bundle().model))
    assert not rule.passed
    assert "1.0e-06 min off, 100 rides" in rule.seen


def test_bundle_over_the_budget_fails() -> None:
    assert rule_size(small_bundle()).passed
    large = {**small_bundle().files, MANIFEST: bytes(MAX_LOADED_BYTES)}
    assert not rule_size(ExportedBundle(large, small_bundle().model)).passed


def test_predict_time_is_a_ratio_to_the_reference_forest() -> None:
    """The clock adds a second a reading; the model's turns last three times the reference's."""
    readings = iter(np.cumsum([0, 3, 0, 1] * 9).tolist())
    ratio = predict_time_ratio(small_bundle().model, UNSEEN_RIDES, clock=lambda: next(readings))
    assert ratio == 3.0
    assert not rule_predict_time(ratio).passed
    assert rule_predict_time(MAX_PREDICT_RATIO).passed


# Bootstrap over days --------------------------------------------------------------------------------------------------

N_DAYS, RIDES_A_DAY = 28, 50
DAY = np.repeat(np.arange(N_DAYS), RIDES_A_DAY)

seeds = st.integers(0, 2**32 - 1)


def squares(seed: int, scale: float = 4.0) -> NDArray[np.float64]:
    """Return squared errors of rides that are independent within a day."""
    values: NDArray[np.float64] = np.random.default_rng(seed).normal(0, scale, len(DAY)) ** 2
    return values


def compare(candidate: NDArray[np.float64], champion: NDArray[np.float64], day: NDArray[np.int64] = DAY) -> Comparison:
    """Compare two models by their squared errors a ride."""
    return compare_days(np.bincount(day), np.bincount(day, candidate), np.bincount(day, champion))


def as_list(comparison: Comparison) -> list[float]:
    return [comparison.difference_rmse_minutes, comparison.low, comparison.high]


@given(seed=seeds)
def test_model_is_neither_better_nor_worse_than_itself(seed: int) -> None:
    assert as_list(compare(squares(seed), squares(seed))) == [0, 0, 0]


@given(seed=seeds)
def test_model_better_on_every_ride_has_an_interval_below_zero(seed: int) -> None:
    comparison = compare(0.5 * squares(seed), squares(seed))
    assert comparison.low < comparison.difference_rmse_minutes < comparison.high < 0


@given(seed=seeds)
def test_exchanging_the_models_exchanges_the_signs(seed: int) -> None:
    one, other = squares(seed), squares(seed + 1)
    there, back = compare(one, other), compare(other, one)
    assert back.difference_rmse_minutes == -there.difference_rmse_minutes
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-9)


def test_difference_is_that_of_the_two_rmses() -> None:
    one, other = squares(1), squares(2)
    difference = np.sqrt(one.mean()) - np.sqrt(other.mean())
    comparison = compare(one, other)
    assert comparison.difference_rmse_minutes == pytest.approx(difference, abs=1e-12)
    assert (comparison.n_days, comparison.n_rides, comparison.level) == (N_DAYS, N_DAYS * RIDES_A_DAY, LEVEL)


def test_better_results_on_two_days_do_not_make_a_better_model() -> None:
    champion = squares(1)
    candidate = np.where(DAY < 2, 0.1, 1.0) * champion
    comparison = compare(candidate, champion)
    assert comparison.difference_rmse_minutes < 0 <= comparison.high


def test_differences_between_days_widen_the_interval() -> None:
    """Drawing single rides would miss this: a day's rides all gain or all lose."""
    gain = np.where(np.arange(N_DAYS) % 2, 0.7, 1.2)[DAY]
    alike_within_days = compare(gain * squares(1), squares(1))
    mixed_within_days = compare(np.random.default_rng(3).permuted(gain) * squares(1), squares(1))
    assert (alike_within_days.high - alike_within_days.low) > 2 * (mixed_within_days.high - mixed_within_days.low)


N_SLICES = 40


def slice_sums(seed: int, *, worse: float = 1.0) -> DaySums:
    """Return squared errors of two models in slices of 20 rides a day; the first slice's may be worse by a factor."""
    rng = np.random.default_rng(seed)
    n_rides = np.full((N_DAYS, N_SLICES), 20.0)
    of_day = rng.gamma(8, 1 / 8, (N_DAYS, 1))  # a day's slices share its traffic
    candidate, champion = (16 * of_day * rng.gamma(20, 1.0, n_rides.shape) for _ in range(2))
    candidate[:, 0] *= worse
    return DaySums(n_rides, candidate, champion)


def test_forty_slices_of_equal_models_are_seldom_worse_in_any() -> None:
    """One comparison in twenty at most; without the correction it would be nearly every one."""
    n_wrong = sum(bool((found.low > 0).any()) for found in map(compare_errors, map(slice_sums, range(60))))
    assert n_wrong <= 6


def test_single_spoilt_slice_is_found_among_forty() -> None:
    found = compare_errors(slice_sums(3, worse=1.3**2))
    assert (np.flatnonzero(found.low > 0.03)).tolist() == [0]
    assert found.value[0] == pytest.approx(0.3, abs=0.1)


def test_slice_of_few_days_has_a_wide_interval() -> None:
    sums = slice_sums(3, worse=1.3**2)
    few = np.zeros((N_DAYS, N_SLICES), np.bool_)
    few[:, 1:] = few[:4] = True  # the first slice has rides on four days
    found = compare_errors(DaySums(*(np.where(few, one, 0.0) for one in sums)))
    assert found.low[0] < 0.03 < found.value[0]
    alone = np.zeros_like(few)
    alone[:, 1:] = alone[0] = True
    assert compare_errors(DaySums(*(np.where(alone, one, 0.0) for one in sums))).low[0] == -np.inf


def test_coverage_further_from_the_level_is_above_zero_on_either_side() -> None:
    n_rides = np.full((N_DAYS, 3), 100.0)
    champion, candidate = np.full((N_DAYS, 3), 78.0), np.array([[70.0, 90.0, 81.0]]).repeat(N_DAYS, axis=0)
    found = compare_coverage(DaySums(n_rides, candidate, champion), 0.8)
    assert found.value == pytest.approx([0.08, 0.08, -0.01])
    assert found.low == pytest.approx(found.value)  # every day is alike


def test_months_with_too_few_rides_for_any_slice_have_no_intervals() -> None:
    no_slice = DaySums(*(np.zeros((5, 0)) for _ in range(3)))
    assert [len(ends) for ends in compare_errors(no_slice)] == [0, 0, 0]


def test_days_without_rides_are_left_out() -> None:
    with_gap = compare_days(np.array([10, 0, 30]), np.array([90.0, 0.0, 120.0]), np.array([100.0, 0.0, 130.0]))
    without = compare_days(np.array([10, 30]), np.array([90.0, 120.0]), np.array([100.0, 130.0]))
    assert with_gap == without
    assert with_gap.n_days == 2


def test_single_day_is_a_point() -> None:
    comparison = compare(np.array([9.0, 9.0]), np.array([16.0, 16.0]), np.array([5, 5]))
    assert as_list(comparison) == [-1, -1, -1]
