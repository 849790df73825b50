"""Months are read from what people write, and are ordered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.months import Month, parse_months, tlc_file_name
from training.errors import MonthsError

months = st.builds(Month, st.integers(0, 9998), st.integers(1, 12))


@given(months)
def test_parse_undoes_str(month: Month) -> None:
    assert Month.parse(str(month)) == month


@given(months, months)
def test_months_are_ordered_as_their_texts_are(one: Month, other: Month) -> None:
    assert (one < other) == (str(one) < str(other))


@given(months)
def test_next_month_begins_where_this_one_ends(month: Month) -> None:
    assert month.next() > month
    assert month.next().start == month.end
    assert np.timedelta64(28, "D") <= month.end - month.start <= np.timedelta64(31, "D")


@given(st.lists(months, min_size=1, max_size=5, unique=True))
def test_list_is_read_in_any_order_and_comes_back_sorted(chosen: list[Month]) -> None:
    assert parse_months(",".join(map(str, chosen))) == tuple(sorted(chosen))


def test_months_are_keys() -> None:
    assert {Month(2021, 1): "january"}[Month.parse("2021-01")] == "january"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021-01", ["2021-01"]),
        ("2021-02,2021-01", ["2021-01", "2021-02"]),
        ("2022-11..2023-02", ["2022-11", "2022-12", "2023-01", "2023-02"]),
        ("2023-01..2023-01", ["2023-01"]),
        (" 2023-01 .. 2023-02 , 2021-06 ", ["2021-06", "2023-01", "2023-02"]),
    ],
)
def test_months_lists_and_ranges_are_read(text: str, expected: list[str]) -> None:
    assert [str(month) for month in parse_months(text)] == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'' is not a month"),
        ("2021", "'2021' is not a month"),
        ("2021-13", "'2021-13' is not a month"),
        ("2021-1", "'2021-1' is not a month"),
        ("\u0662\u0660\u0662\u0661-\u0660\u0661", "is not a month"),
        ("2021-01,", "'' is not a month"),
        ("2021-01..", "'' is not a month"),
        ("2021-03..2021-01", "'2021-03..2021-01' runs backwards"),
        ("2021-01,2021-01", "names 2021-01 twice"),
        ("2021-01..2021-03,2021-02", "names 2021-02 twice"),
    ],
)
def test_other_texts_are_refused_in_one_sentence(text: str, complaint: str) -> None:
    with pytest.raises(MonthsError) as caught:
        parse_months(text)
    assert complaint in str(caught.value)
    assert "write months as 2021-01" in str(caught.value)


def test_file_name_is_the_one_tlc_gives() -> None:
    assert tlc_file_name("yellow", Month(2009, 7)) == "yellow_tripdata_2009-07.parquet"
