"""A shard's limits, with a fake clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.moto.kinesis_limits import (
    MAX_READ_BYTES,
    PUT_BYTES_PER_S,
    PUT_RECORDS_PER_S,
    READ_BYTES_PER_S,
    READS_PER_S,
    ShardLimits,
)
from tests.fakes import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limits(clock: FakeClock) -> ShardLimits:
    return ShardLimits(clock)


def n_put(limits: ShardLimits, n_records: int, n_bytes: int) -> int:
    return sum(limits.may_put(n_bytes) for _ in range(n_records))


def test_a_thousand_records_fit_into_a_second(limits: ShardLimits, clock: FakeClock) -> None:
    assert n_put(limits, 1_500, n_bytes=10) == PUT_RECORDS_PER_S
    clock.advance(0.5)
    assert n_put(limits, 1_500, n_bytes=10) == PUT_RECORDS_PER_S // 2


def test_one_mebibyte_fits_into_a_second_in_records_of_any_size(limits: ShardLimits, clock: FakeClock) -> None:
    assert n_put(limits, 10, n_bytes=PUT_BYTES_PER_S // 4) == 4
    clock.advance(1)
    assert n_put(limits, 2, n_bytes=PUT_BYTES_PER_S) == 1


def test_refused_record_costs_nothing(limits: ShardLimits) -> None:
    assert limits.may_put(PUT_BYTES_PER_S - 10)
    assert not limits.may_put(11)
    assert limits.may_put(10)


def test_unused_capacity_does_not_accumulate(limits: ShardLimits, clock: FakeClock) -> None:
    clock.advance(3600)

    assert n_put(limits, 1_500, n_bytes=1) == PUT_RECORDS_PER_S


def test_five_reads_fit_into_a_second(limits: ShardLimits, clock: FakeClock) -> None:
    assert [limits.may_read() for _ in range(6)] == [True] * READS_PER_S + [False]
    clock.advance(0.2)
    assert [limits.may_read() for _ in range(2)] == [True, False]


def test_largest_read_blocks_the_shard_for_five_seconds(limits: ShardLimits, clock: FakeClock) -> None:
    assert limits.may_read()
    limits.count_read(MAX_READ_BYTES)
    clock.advance((MAX_READ_BYTES - READ_BYTES_PER_S) / READ_BYTES_PER_S)
    assert not limits.may_read()
    clock.advance(1)
    assert limits.may_read()


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, PUT_BYTES_PER_S)), max_size=60))
def test_no_schedule_exceeds_the_rate_and_one_burst(puts: list[tuple[float, int]]) -> None:
    clock = FakeClock()
    limits = ShardLimits(clock)
    start_s, n_bytes_through = clock(), 0
    for pause_s, n_bytes in puts:
        clock.advance(pause_s)
        n_bytes_through += n_bytes if limits.may_put(n_bytes) else 0

    assert n_bytes_through <= PUT_BYTES_PER_S * (1 + clock() - start_s) + 1  # and rounding
