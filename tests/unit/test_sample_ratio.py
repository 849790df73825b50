"""The sample-ratio check: how often it cries wolf, and what it finds."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.experiments.sample_ratio import LEVEL, sample_ratio

N_DAYS = 28


def counts_of(rng: np.random.Generator, n_rides: int, share: float) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    n = rng.poisson(n_rides, N_DAYS)
    candidate = rng.binomial(n, share)
    return np.stack([n - candidate, candidate], axis=1)


@pytest.mark.parametrize(("n_rides", "share"), [(300, 0.5), (20_000, 0.1), (1_000_000, 0.02)])
def test_planned_shares_rarely_fail_though_every_day_is_a_look(n_rides: int, share: float) -> None:
    rng = np.random.default_rng(8)
    checks = [sample_ratio(counts_of(rng, n_rides, share), share) for _ in range(1_000)]

    assert sum(not one.is_ok for one in checks) <= 1_000 * LEVEL
    assert sum(one.p_bound <= 0.2 for one in checks) <= 200


@pytest.mark.parametrize(
    ("n_rides", "planned", "got"), [(20_000, 0.5, 0.495), (1_000_000, 0.1, 0.099), (2_000, 0.1, 0.13)]
)
def test_a_wrong_share_is_found(n_rides: int, planned: float, got: float) -> None:
    rng = np.random.default_rng(9)
    found = [not sample_ratio(counts_of(rng, n_rides, got), planned).is_ok for _ in range(50)]

    assert np.mean(found) >= 0.95


@given(counts=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=10), data=st.data())
def test_a_failed_check_stays_failed(counts: list[tuple[int, int]], data: st.DataObject) -> None:
    array = np.array(counts, dtype=np.int64).reshape(-1, 2)
    shares = data.draw(st.lists(st.sampled_from([0.01, 0.5]), min_size=len(counts), max_size=len(counts)))
    bounds = [sample_ratio(array[:n], shares[:n]).p_bound for n in range(len(counts) + 1)]

    assert bounds[0] == 1.0
    assert all(0 <= later <= earlier for earlier, later in pairwise(bounds))


@given(ride=st.integers(1, 30))
def test_ids_that_come_many_times_make_it_fail(ride: int) -> None:
    """A ride's id decides its arm, so a thousand rides with one id are no thousand draws."""
    assert not sample_ratio(np.array([[0, 1000 * ride]]), 0.5).is_ok
