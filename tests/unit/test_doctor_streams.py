"""The doctor's checks of capacity: shards for the traffic, concurrency for the shards, quotas for both."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.operate.doctor.doctor import check
from infra.operate.doctor.facts import ConcurrencyFacts, Finding, MappingFacts, QuotaFacts, Severity, StackFacts
from tests.builders_doctor import HEALTHY, INPUT, OUTPUT, only_problem, stack_with


def finding(facts: StackFacts, name: str) -> Finding:
    (found,) = [one for one in check(facts) if one.check == name]
    return found


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        ({"peak_records_per_s": 1400.0}, Severity.good),
        ({"peak_records_per_s": 1401.0}, Severity.warning),
        ({"peak_bytes_per_s": 1.5 * 1024 * 1024}, Severity.warning),
        ({"peak_records_per_s": 9000.0, "is_on_demand": True}, Severity.good),
        ({"n_throttled": 1}, Severity.bad),
        ({"n_throttled": 1, "is_on_demand": True}, Severity.bad),
    ],
)
def test_shards_must_take_the_traffic(change: dict[str, object], severity: Severity) -> None:
    stream = replace(INPUT, **change)  # type: ignore[arg-type]
    found = finding(stack_with(streams=(stream, OUTPUT)), "input stream")

    assert found.severity is severity
    assert bool(found.remedy) == (severity is not Severity.good)
    if severity is not Severity.good and not stream.is_on_demand:
        assert "RideEventsShards=4" in found.remedy


def test_output_stream_has_a_parameter_of_its_own() -> None:
    found = only_problem(stack_with(streams=(INPUT, replace(OUTPUT, n_throttled=9))))
    assert "RidePredictionsShards=4" in found.remedy


def with_concurrency(reserved: int | None, unreserved: int = 1000, account: int = 1000, factor: int = 3) -> StackFacts:
    """A stack whose two shards take six invocations at a time, by default."""
    return stack_with(
        mapping=MappingFacts("Enabled", "OK", factor), concurrency=ConcurrencyFacts(reserved, unreserved, account)
    )


@pytest.mark.parametrize(
    ("reserved", "unreserved", "severity"),
    [
        (None, 1000, Severity.good),
        (None, 7, Severity.good),
        (None, 6, Severity.warning),  # all of it: other functions get nothing
        (6, 994, Severity.good),
        (5, 995, Severity.warning),
        (0, 1000, Severity.bad),
    ],
)
def test_concurrency_must_be_enough_for_the_shards(reserved: int | None, unreserved: int, severity: Severity) -> None:
    found = finding(with_concurrency(reserved, unreserved), "concurrency")

    assert found.severity is severity
    assert found.what.startswith("2 shards x ParallelizationFactor 3 take 6 at a time")
    assert bool(found.remedy) == (severity is not Severity.good)


def test_remedy_for_a_short_reservation_is_its_parameter() -> None:
    found = finding(with_concurrency(5, 995), "concurrency")
    assert found.remedy == "deploy with ReservedConcurrency=6"


def test_remedy_raises_the_accounts_quota_first_if_it_has_no_room_for_the_reservation() -> None:
    found = finding(with_concurrency(2, 102, 104), "concurrency")

    assert "Service Quotas from 104 to 106 at least" in found.remedy
    assert found.remedy.endswith("then deploy with ReservedConcurrency=6")


def test_remedy_in_a_small_account_without_a_reservation_is_to_raise_its_quota() -> None:
    found = finding(with_concurrency(None, 10, 10, factor=10), "concurrency")
    assert "`Concurrent executions` (L-B99A9384) in Service Quotas" in found.remedy


def test_stream_on_demand_needs_room_for_twice_its_shards() -> None:
    on_demand = replace(INPUT, is_on_demand=True, n_open_shards=4)
    concurrency = ConcurrencyFacts(7, 993, 1000)
    found = only_problem(stack_with(streams=(on_demand, OUTPUT), concurrency=concurrency))

    assert found.what.startswith("4 shards that may become 2 times as many x ParallelizationFactor 1 take 8 at a time")
    assert found.remedy == "deploy with ReservedConcurrency=8"


@pytest.mark.parametrize("missing", [{"streams": ()}, {"mapping": None}, {"concurrency": None}])
def test_concurrency_is_not_checked_if_a_part_of_the_sum_is_unknown(missing: dict[str, object]) -> None:
    assert "concurrency" not in {one.check for one in check(stack_with(**missing))}


@given(st.integers(0, 50), st.integers(0, 2000), st.integers(1, 10), st.integers(1, 40))
def test_reservation_deployed_as_the_remedy_says_is_good(reserved: int, unreserved: int, factor: int, n: int) -> None:
    stream, mapping = replace(INPUT, n_open_shards=n), MappingFacts("Enabled", "OK", factor)
    concurrency = ConcurrencyFacts(reserved, unreserved, reserved + unreserved)
    facts = stack_with(streams=(stream, OUTPUT), mapping=mapping, concurrency=concurrency)

    advised = finding(facts, "concurrency").remedy.rpartition("=")[2]

    if advised:
        raised = replace(concurrency, reserved=int(advised))
        assert finding(replace(facts, concurrency=raised), "concurrency").severity is Severity.good


def test_quota_that_is_nearly_used_is_a_warning() -> None:
    found = only_problem(stack_with(quotas=(QuotaFacts("shards", 451, 500),)))

    assert (found.check, found.severity) == ("quota", Severity.warning)
    assert found.what == "451 of the account's 500 shards are used"
    assert finding(replace(HEALTHY, quotas=(QuotaFacts("shards", 450, 500),)), "quota").severity is Severity.good
