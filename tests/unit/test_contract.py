"""A month that breaks the data contract stops the run; the error names the rule, the month and the value."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import FEBRUARY, JANUARY
from tests.builders_tlc import facts_of, source_of
from training.data.contract import MIN_ROWS, RULES, Finding, check_contract, check_rule_names
from training.data.months import parse_days
from training.data.rides import MonthFacts, Source, compact_columns, month_facts
from training.data.synthetic import synthetic_rides
from training.errors import UserError

MARCH = FEBRUARY.next()
GOOD = source_of(JANUARY)


def february(**facts: object) -> Source:
    """Return the source of a February that is good but for these facts."""
    return source_of(FEBRUARY, facts=facts_of(FEBRUARY, **facts))


BREACHES = [
    ("rows", source_of(FEBRUARY, MIN_ROWS - 1), "4,999 rows, wanted at least 5,000"),
    ("kept", source_of(FEBRUARY, n_kept=53_999, dropped={"time_missing": 6_001}), "90.0% of its rows left"),
    ("duration", february(median_duration_minutes=4.9), "median of 4.9 minutes"),
    ("duration", february(median_duration_minutes=25.1), "wanted 5 to 25 minutes"),
    ("distance", february(median_distance_miles=0.0), "median of 0.00 miles"),
    ("distance", february(median_distance_miles=5.1), "wanted 1 to 5 miles"),
    ("missing-distance", february(n_without_distance=6_001), "10.0% of its rides"),
    ("days", february(n_rides_by_day=(0, *[9] * 26, 0)), r"2 of its days \(day 1, 28\)"),
    ("duplicates", february(n_duplicates=601), "1.0% of its rides twice"),
]


def test_months_as_they_should_be_pass() -> None:
    assert check_contract([GOOD, source_of(FEBRUARY), source_of(MARCH)]) == ()


def test_months_at_the_edge_pass() -> None:
    facts = facts_of(
        FEBRUARY, n_duplicates=600, n_without_distance=6_000, median_duration_minutes=5.0, median_distance_miles=1.0
    )
    others = facts_of(MARCH, median_duration_minutes=25.0, median_distance_miles=5.0)
    edge = source_of(FEBRUARY, n_rows=60_000, n_kept=60_000, facts=facts)
    assert check_contract([source_of(JANUARY, 30_000, n_kept=27_000), edge, source_of(MARCH, facts=others)]) == ()


def test_days_are_held_to_a_whole_months_rows() -> None:
    (days,) = parse_days("2021-02-08..2021-02-14")
    quarter = source_of(days, 15_000)
    assert check_contract([GOOD, quarter]) == ()
    with pytest.raises(UserError, match=r"2021-02-08\.\.2021-02-14 breaks rows-of-median: it has 7,000 rows beside"):
        check_contract([GOOD, source_of(FEBRUARY), source_of(days, 7_000)])
    without_a_day = source_of(days, 15_000, facts=facts_of(days, n_rides_by_day=(9, 9, 0, 9, 9, 9, 9)))
    with pytest.raises(UserError, match=r"no ride on 1 of its days \(day 10\)"):
        check_contract([GOOD, without_a_day])


@pytest.mark.parametrize("n_rides", [MIN_ROWS, 60_000])
def test_made_up_months_pass(n_rides: int) -> None:
    sources = [source for month in (JANUARY, FEBRUARY) for source in synthetic_rides(month, n_rides, seed=7).sources]
    assert check_contract(sources) == ()


@pytest.mark.parametrize(("rule", "bad", "seen"), BREACHES)
def test_breach_is_reported_with_rule_month_and_value(rule: str, bad: Source, seen: str) -> None:
    sources = [bad] if rule == "rows" else [GOOD, bad]  # so few rows are far below a median, too
    with pytest.raises(UserError, match=f"^2021-02 breaks {rule}: it has .*{seen}.* allow it with --allow {rule}$"):
        check_contract(sources)


def test_month_far_below_the_median_is_reported() -> None:
    with pytest.raises(UserError, match=r"^2021-02 breaks rows-of-median: .* --allow rows-of-median$"):
        check_contract([GOOD, source_of(FEBRUARY, 29_999), source_of(MARCH)])


def test_all_breaches_are_reported_at_once_by_month() -> None:
    odd = source_of(MARCH, facts=facts_of(MARCH, n_duplicates=60_000, median_duration_minutes=1.0))
    with pytest.raises(UserError) as caught:
        check_contract([odd, GOOD, source_of(FEBRUARY, 10)])
    assert re.findall(r"\S+ breaks [a-z-]+", str(caught.value)) == [
        "2021-02 breaks rows",
        "2021-02 breaks rows-of-median",
        "2021-03 breaks duration",
    ]
    options = " ".join(f"--allow {rule}" for rule in ("rows", "rows-of-median", "duration", "duplicates"))
    assert str(caught.value).endswith(f"if the city itself changed, as in 2020-04, allow it with {options}")


def test_allowed_breach_is_returned_and_others_still_stop_the_run() -> None:
    few = source_of(JANUARY, 4_000)
    found = check_contract([few], allow=["rows", "days"])
    assert found == (Finding("rows", JANUARY, "4,000 rows", "at least 5,000"),)
    assert str(found[0]) == "2021-01 breaks rows: it has 4,000 rows, wanted at least 5,000"
    with pytest.raises(UserError, match="breaks rows"):
        check_contract([few], allow=["days"])


def test_unknown_rule_is_refused_with_the_known_ones() -> None:
    check_rule_names(RULES)
    with pytest.raises(UserError, match="no rule 'row': choose among rows, rows-of-median, "):
        check_rule_names(["days", "row"])


# A month's facts -----------------------------------------------------------------------------------------------------


def facts_from(days: list[int], miles: list[float], minutes: list[float]) -> MonthFacts:
    """Return the facts of rides of January between two zones, one entry a ride."""
    time = JANUARY.start + (np.array(days, np.int64) - 1) * np.timedelta64(86_400, "s")
    zones = np.full(len(days), 130)
    return month_facts(JANUARY, compact_columns(zones, zones, np.array(miles), time), time, np.array(minutes))


def test_facts_count_days_and_distances_and_take_medians() -> None:
    facts = facts_from([1, 1, 31], [0.0, 2.0, 4.0], [10.0, 20.0, 60.0])
    assert facts.n_rides_by_day == (2, *[0] * 29, 1)
    assert (facts.n_without_distance, facts.median_distance_miles, facts.median_duration_minutes) == (1, 3.0, 20.0)


def test_month_without_any_distance_has_no_median_of_them() -> None:
    facts = facts_from([1, 1], [0.0, float("nan")], [10.0, 20.0])
    assert (facts.n_without_distance, facts.median_distance_miles) == (2, 0.0)


rides = st.tuples(st.integers(1, 3), st.sampled_from([0.0, 1.0, 1.5, float("nan")]), st.sampled_from([5.0, 6.0]))


@given(rides=st.lists(rides, max_size=20))
def test_duplicates_are_the_rides_beyond_the_first_of_equal_ones(rides: list[tuple[int, float, float]]) -> None:
    days, miles, minutes = ([ride[column] for ride in rides] for column in range(3))
    facts = facts_from(days, miles, minutes)  # type: ignore[arg-type]
    distinct = {(day, str(mile), minute) for day, mile, minute in rides}
    assert facts.n_duplicates == len(rides) - len(distinct)
