"""The verdict of an experiment: its error rates, what it answers when, and what it says when it can't."""

import math
from collections.abc import Sequence
from datetime import date, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from training.errors import UserError
from training.experiments.verdict import ArmLosses, DayLosses, Rules, judge, judge_split, looks, sequence

FIRST = date(2023, 2, 1)
RULES = Rules()
N_RUNS = 2_000

thousandths = st.integers(-1_000_000, 1_000_000).map(lambda n: n / 1000)  # so that variances are 0 or above rounding
daily_differences = st.lists(thousandths, min_size=1, max_size=40)


def day(number: int) -> date:
    return FIRST + timedelta(days=number - 1)


def shadow(percent: Sequence[float], n_rides: int = 100, mse: float = 16.0) -> list[DayLosses]:
    """Build a day for each figure: by how many percent the candidate is better."""
    champion = n_rides * mse
    return [
        DayLosses(day(number), n_rides, champion, champion * (1 - one / 100)) for number, one in enumerate(percent, 1)
    ]


def noisy(mean: float, deviation: float = 3.0, n_days: int = 28, seed: int = 0) -> list[float]:
    """Return figures of this mean and standard deviation exactly, in random order."""
    x = np.random.default_rng(seed).normal(size=n_days)
    figures: list[float] = (mean + deviation * (x - x.mean()) / x.std(ddof=1)).tolist()
    return figures


# The sequence


@pytest.mark.parametrize("draw", ["normal", "standard_t", "laplace"])
def test_bounds_hold_the_mean_on_all_days_of_at_least_95_runs_in_100(draw: str) -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_t(4, (N_RUNS, 100)) if draw == "standard_t" else getattr(rng, draw)(size=(N_RUNS, 100))

    low, high = sequence(x + 3, Rules(first_look_days=1, budget_days=100))

    missed = ((low > 3) | (high < 3)).any(axis=1).mean()
    assert 0 < missed <= RULES.alpha


@given(differences=st.lists(thousandths, min_size=8, max_size=40, unique=True))
def test_each_end_is_where_the_evidence_against_a_mean_reaches_1_to_alpha(differences: list[float]) -> None:
    x = np.array(differences)
    rules = Rules(first_look_days=len(x), budget_days=99)  # no day before can have narrowed the bounds
    for mean in (float(bound[-1]) for bound in sequence(x, rules)):
        n, total, squares = len(x), (x - mean).sum(), ((x - mean) ** 2).sum()
        evidence = 0.5 * math.log(1 / (n + 1)) + n / 2 * math.log(
            (n + 1) * squares / ((n + 1) * squares - total * total)
        )
        assert evidence == pytest.approx(math.log(1 / rules.alpha), rel=1e-5)


@given(differences=daily_differences, shift=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3))
def test_bounds_move_and_stretch_with_the_differences(differences: list[float], shift: float, scale: float) -> None:
    x = np.array(differences)

    for bound, moved in zip(sequence(x, RULES), sequence(scale * (x + shift), RULES), strict=True):
        np.testing.assert_allclose(moved, scale * (bound + shift), rtol=1e-6, atol=1e-5 * scale)


@given(differences=daily_differences)
def test_bounds_only_narrow_and_are_infinite_before_the_first_look(differences: list[float]) -> None:
    low, high = sequence(np.array(differences), RULES)

    assert (np.diff(low[RULES.first_look_days - 1 :]) >= 0).all()
    assert (np.diff(high[RULES.first_look_days - 1 :]) <= 0).all()
    assert np.isneginf(low[: RULES.first_look_days - 1]).all()
    assert np.isposinf(high[: RULES.first_look_days - 1]).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -7e5, 1 / 3])
def test_equal_days_have_bounds_at_their_value(value: float) -> None:
    low, high = sequence(np.full(1_000, value), RULES)

    assert (low[6:] <= high[6:]).all()
    assert low[-1] == pytest.approx(value)
    assert high[-1] == pytest.approx(value)


# The answer


@pytest.mark.parametrize(
    ("mean", "answer"), [(10.0, "better"), (-10.0, "worse"), (0.0, "equivalent"), (3.0, "undecided")]
)
def test_the_answer_follows_the_difference(mean: float, answer: str) -> None:
    deviation = 8.0 if answer == "undecided" else 1.5
    verdict = judge(shadow(noisy(mean, deviation)), RULES)

    assert verdict.answer == answer
    assert verdict.mean_percent == pytest.approx(mean, abs=1.5)


def test_two_equal_versions_are_equivalent_at_the_first_look() -> None:
    verdict = judge(shadow([0.0] * 28), RULES)

    assert (verdict.answer, verdict.decided_on_day, verdict.low_percent, verdict.high_percent) == (
        "equivalent", 7, 0.0, 0.0,
    )  # fmt: skip


def test_a_difference_within_the_margin_is_equivalent_though_its_sign_is_sure() -> None:
    verdict = judge(shadow([1.0] * 7), RULES)

    assert verdict.answer == "equivalent"
    assert verdict.low_percent == pytest.approx(1.0)
    assert judge(shadow([1.0] * 7), Rules(margin_percent=0.5)).answer == "better"


@given(percent=st.lists(st.floats(-30, 30), min_size=7, max_size=40), cut=st.integers(0, 33))
def test_a_verdict_stands_whatever_comes_later(percent: list[float], cut: int) -> None:
    days = shadow(percent)
    first, later = judge(days[: 7 + cut], RULES), judge(days, RULES)

    if first.answer != "running":
        assert first == later
    if later.decided_on_day:
        assert judge(days[: later.decided_on_day], RULES) == later


@given(percent=st.lists(st.floats(-30, 30), max_size=35), data=st.data())
def test_the_order_of_days_and_the_unit_of_losses_change_nothing(percent: list[float], data: st.DataObject) -> None:
    days = shadow(percent)
    shuffled = data.draw(st.permutations(days))
    doubled = [DayLosses(one.day, one.n_rides, 2 * one.champion, 2 * one.candidate) for one in days]

    assert judge(shuffled, RULES) == judge(days, RULES) == judge(doubled, RULES)


@given(percent=st.lists(st.floats(-30, 30), min_size=7, max_size=28))
def test_without_a_margin_the_champion_is_worse_when_the_candidate_is_better(percent: list[float]) -> None:
    rules = Rules(margin_percent=0)
    days = shadow([*percent, 25.0])
    swapped = [DayLosses(one.day, one.n_rides, one.candidate, one.champion) for one in days]
    assume(not any(look.is_contradiction for look in looks(days, rules)))  # after one, nothing is ever better
    one, other = judge(days, rules), judge(swapped, rules)

    opposite = {"better": "worse", "worse": "better"}
    assert other.answer == opposite.get(one.answer, one.answer)
    assert other.decided_on_day == one.decided_on_day


@given(gaps=st.sets(st.integers(2, 28), max_size=3))
def test_days_without_rides_count_for_the_budget_only(gaps: set[int]) -> None:
    percent = noisy(2.0, 14.0)
    days = [one for one in shadow(percent) if (one.day - FIRST).days + 1 not in gaps]
    with_empty = days + [DayLosses(day(number), 0, 0.0, 0.0) for number in sorted(gaps)]
    verdict = judge(with_empty, RULES)

    assert (verdict.answer, verdict.n_days) == ("undecided", 28 - len(gaps))
    assert verdict.needed.startswith("the budget of 28 days is over")
    assert judge(days, RULES).answer == ("running" if 28 in gaps else "undecided")


def test_the_budget_begins_with_the_first_day_even_without_rides() -> None:
    empty = [DayLosses(day(number), 0, 0.0, 0.0) for number in range(1, 21)]
    rides = [one for one in shadow([5.0] * 40) if one.day > day(20)]

    assert judge(empty + rides[:6], RULES).answer == "running"
    assert judge(empty + rides[:7], RULES).decided_on_day == 27
    assert judge([*empty, *rides[5:]], RULES).answer == "undecided"  # day 26 is the first with rides: three are used
    assert judge([*empty, *rides[5:]], RULES).n_days == 3


def test_days_of_one_ride_are_days() -> None:
    assert judge(shadow(noisy(20.0), n_rides=1), RULES).answer == "better"


def test_a_perfect_champion_can_be_compared_with() -> None:
    assert judge([DayLosses(day(n), 5, 0.0, 0.0) for n in range(1, 9)], RULES).answer == "equivalent"
    assert judge([DayLosses(day(n), 5, 0.0, 9.0) for n in range(1, 9)], RULES).answer == "worse"


@pytest.mark.parametrize(("then", "answer"), [(90.0, "undecided"), (-300.0, "worse")])
def test_a_day_that_contradicts_the_days_before_ends_it_and_never_helps_the_candidate(then: float, answer: str) -> None:
    rules = Rules(margin_percent=0.01)
    days = shadow([*noisy(0.0, 0.3, 10), *[then] * 18])
    before, verdict = judge(days[:10], rules), judge(days, rules)

    assert before.answer == "running"
    assert verdict.answer == answer
    assert 11 < verdict.n_days < 20
    assert looks(days, rules)[-1].is_contradiction
    assert verdict.low_percent is not None
    assert verdict.high_percent is not None
    assert verdict.low_percent < verdict.high_percent
    assert ("contradicts the days before" in verdict.needed) == (answer == "undecided")


# What is refused, what is needed


@pytest.mark.parametrize("loss", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("who", ["champion", "candidate"])
def test_losses_that_are_no_sums_of_squares_are_refused_by_day_and_version(loss: float, who: str) -> None:
    days = shadow([1.0, 2.0, 3.0])
    days[1] = msgspec.structs.replace(days[1], **{who: loss})

    with pytest.raises(UserError, match=f"the {who}'s squared errors of 2023-02-02 add up to {loss}"):
        judge(days, RULES)


def test_a_day_that_is_there_twice_is_refused() -> None:
    with pytest.raises(UserError, match="2023-02-01 is there twice"):
        judge(shadow([1.0]) * 2, RULES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin_percent": -1.0}, {"margin_percent": math.nan}, {"first_look_days": 0}, {"budget_days": 6},
        {"alpha": 0.0}, {"alpha": 1.0},
    ],
)  # fmt: skip
def test_rules_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError):
        Rules(**wrong)  # type: ignore[arg-type]


def test_what_is_needed_is_said() -> None:
    few = judge(shadow([1.0] * 3), RULES)
    assert (few.answer, few.needed) == ("running", "4 more days with rides until the first look")
    assert judge([], RULES).needed == "7 more days with rides until the first look"
    assert judge([], RULES).mean_percent is None

    some = judge(shadow(noisy(3.0, 3.0, 8)), RULES)
    assert some.needed == "about 6 more days, if they differ as the 8 so far"
    assert judge(shadow(noisy(3.0, 12.0, 8)), RULES).needed.endswith("so far, but the budget has 20 left")
    assert judge(shadow(noisy(3.0, 12.0)), RULES).needed.startswith("the budget of 28 days is over: about")


def test_as_many_days_as_are_said_to_be_needed_decide() -> None:
    percent = noisy(3.0, 3.0, 8)
    n_more = int(judge(shadow(percent), RULES).needed.split()[1])

    verdicts = [judge(shadow([*percent, *noisy(3.0, 3.0, n_more, seed)]), RULES) for seed in range(40)]
    days = [one.decided_on_day or 99 for one in verdicts]
    assert abs(float(np.median(days)) - (8 + n_more)) <= 3


def test_looks_show_every_day_with_rides_and_its_bounds() -> None:
    seen = looks(shadow(noisy(4.0)), RULES)

    assert [one.number for one in seen] == list(range(1, 29))
    assert {one.low_percent for one in seen[:6]} == {None}
    last = seen[-1]
    assert last.low_percent is not None
    assert last.high_percent is not None
    assert last.low_percent < last.mean_percent < last.high_percent


# Split


def split(rng: np.random.Generator, share: float, gain: float = 0.0, n_rides: int = 2_000) -> list[ArmLosses]:
    """Build 28 days of rides that draw their arm; days differ in difficulty, and squared errors have long tails."""
    days = []
    for number in range(1, 29):
        n = rng.poisson(n_rides * (0.6 if number % 7 < 2 else 1.0))
        loss = rng.lognormal(0, 0.3) * 16 * rng.standard_t(5, n) ** 2
        is_candidate = rng.random(n) < share
        candidate = loss[is_candidate] * (1 - gain)
        days.append(
            ArmLosses(
                day(number), int((~is_candidate).sum()), float(loss[~is_candidate].sum()), len(candidate),
                float(candidate.sum()),
            )
        )  # fmt: skip
    return days


def test_a_split_of_equal_arms_is_rarely_decided() -> None:
    rng = np.random.default_rng(3)
    answers = [judge_split(split(rng, 0.2, n_rides=500), 0.2, RULES).answer for _ in range(150)]

    assert sum(one in {"better", "worse", "void"} for one in answers) <= 7


def test_a_split_finds_a_better_candidate_and_a_worse_one() -> None:
    rng = np.random.default_rng(4)

    assert judge_split(split(rng, 0.5, gain=0.25), 0.5, RULES).answer == "better"
    assert judge_split(split(rng, 0.5, gain=-0.35), 0.5, RULES).answer == "worse"


def test_a_split_with_other_shares_than_planned_is_void() -> None:
    verdict = judge_split(split(np.random.default_rng(5), 0.5, gain=0.3), 0.45, RULES)

    assert (verdict.answer, verdict.decided_on_day) == ("void", None)
    assert "not the planned share" in verdict.needed


def test_a_share_that_grew_is_checked_day_by_day() -> None:
    rng = np.random.default_rng(6)
    days = split(rng, 0.1)[:10] + split(rng, 0.5)[10:]
    shares = [0.1] * 10 + [0.5] * 18

    assert judge_split(days, shares, RULES).answer != "void"
    assert judge_split(days[::-1], shares[::-1], RULES) == judge_split(days, shares, RULES)
    assert judge_split(days, [*[0.1] * 9, None, None, *[0.5] * 17], RULES).answer != "void"
    assert judge_split(days, 0.1, RULES).answer == "void"


def test_days_without_rides_in_one_arm_count_for_the_budget_only() -> None:
    days = [ArmLosses(day(number), 1, 16.0, 0, 0.0) for number in range(1, 29)]
    verdict = judge_split(days, 0.001, RULES)

    assert (verdict.answer, verdict.n_days) == ("undecided", 0)
