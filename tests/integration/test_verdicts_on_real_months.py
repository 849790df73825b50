"""The verdict on real months: how seldom it is wrong, and what it must find.

The models have an eighth of the usual trees. `tests.bench.verdict_errors` measures models of full size, more pairs and
more runs.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.bench.paired_days import Pair, Span, Spec, pairs_of
from tests.bench.verdict_errors import LARGE_BY_DAY, RULES, find, measure
from tests.builders_tlc import needs_real_months, real_rides

pytestmark = [needs_real_months, pytest.mark.slow]

FEW = ("max_iter", 60)
OLD, NEW, NEW_2 = Spec("2022-01", (FEW,)), Spec("2023-01", (FEW,)), Spec("2023-01", (FEW, ("random_state", 2)))
COARSE = Spec("2023-01", (("max_iter", 10),))
N_RUNS = 200


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[Spec, Spec], Pair]:
    real_rides("2022-01,2023-01..2023-03", "green")  # skips without them
    folder: Path = tmp_path_factory.mktemp("models")
    span = Span("green", "2023-02..2023-03", (OLD, COARSE, NEW, NEW_2))
    return {(pair.one, pair.other): pair for pair in pairs_of(span, folder, lambda _: None)}


def test_verdicts_are_false_in_at_most_5_of_100_experiments(pairs: Mapping[tuple[Spec, Spec], Pair]) -> None:
    for pair in pairs.values():
        errors = measure(pair, N_RUNS)

        assert errors.false[1] <= RULES.alpha, str(pair)
        assert errors.by_unit["day"] > RULES.alpha, str(pair)
        if pair.is_seeds:
            assert errors.equivalent >= 0.9


def test_a_much_better_model_is_found_within_two_weeks(pairs: Mapping[tuple[Spec, Spec], Pair]) -> None:
    power = find(pairs[COARSE, NEW])

    assert power.first[0] == "better"
    assert power.first[1] is not None
    assert power.first[1] <= LARGE_BY_DAY
    assert power.wrong == 0
