"""Months are read from texts and file names, and are ordered."""

import itertools
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.months import (
    Month,
    default_cache_dir,
    default_data_dir,
    local_months,
    met_months,
    parse_days,
    parse_months,
    sample_span,
    tlc_file_name,
)
from training.errors import UserError

JANUARY, FEBRUARY = Month(2021, 1), Month(2021, 2)

months = st.builds(Month, st.integers(0, 9998), st.integers(1, 12))


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
    with pytest.raises(UserError, match=f"{complaint}: write months as 2021-01"):
        parse_months(text)


# Days --------------------------------------------------------------------------------------------------------------


@given(st.dates(date(2019, 1, 1), date(2025, 12, 31)), st.integers(0, 1000))
def test_days_of_a_range_are_each_in_one_calendar_month(first: date, n_more: int) -> None:
    last = first + timedelta(n_more)
    months = parse_days(f"{first}..{last}")
    assert (months[0].first_date, months[-1].last_date) == (first, last)
    assert all(earlier.end == later.start for earlier, later in itertools.pairwise(months))
    assert all(month.whole.start <= month.start < month.end <= month.whole.end for month in months)
    assert parse_days(",".join(map(str, months))) == months


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-01..2024-02-29", ["2024-02"]),
        ("2024-02-01..2024-02-28", ["2024-02-01..2024-02-28"]),
        ("2026-11-05", ["2026-11-05"]),
        ("2026-08..2026-09-02, 2026-07-31", ["2026-07-31", "2026-08", "2026-09-01..2026-09-02"]),
    ],
)
def test_days_and_months_are_read(text: str, expected: list[str]) -> None:
    assert [str(month) for month in parse_days(text)] == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("2026-02-29", "'2026-02-29' is neither a day nor a month"),
        ("0000-01", "'0000-01' is neither a day nor a month"),
        ("20260201", "'20260201' is neither"),
        ("2026-W05-1", "'2026-W05-1' is neither"),
        ("2026-08-05..", "'' is neither"),
        ("2026-08-05..2026-08-04", "runs backwards"),
        ("2026-08,2026-08-05", "names 2026-08-05 twice"),
        ("2026-08-01..2026-08-05,2026-08-05..2026-08-31", "names 2026-08-05..2026-08-31 twice"),
    ],
)
def test_other_days_are_refused_in_one_sentence(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=f"{complaint}.*: write days as 2026-08-01"):
        parse_days(text)


def test_months_are_met_if_they_share_a_day() -> None:
    months = parse_days("2026-08,2026-09-01..2026-09-10,2026-09-20..2026-09-30")
    assert met_months(months, parse_days("2026-09-10..2026-09-19")) == (months[1],)
    assert met_months(months, ()) == ()


# Files -------------------------------------------------------------------------------------------------------------


def test_local_months_are_those_that_load_without_a_download(tmp_path: Path) -> None:
    data_dir, cache_dir = tmp_path / "data", tmp_path / "cache"
    for folder in (data_dir, cache_dir):
        folder.mkdir()
    (data_dir / tlc_file_name("green", FEBRUARY)).touch()
    (data_dir / tlc_file_name("yellow", Month(2022, 1))).touch()
    (cache_dir / tlc_file_name("green", JANUARY)).touch()
    (cache_dir / tlc_file_name("green", FEBRUARY)).touch()
    (data_dir / "green_tripdata_sample_2020-11_2020-12.parquet").touch()
    (cache_dir / "green_tripdata_2021-03.parquet.0.part").touch()
    (cache_dir / "green_tripdata_2021-13.parquet").touch()
    expected = (Month(2020, 11), Month(2020, 12), JANUARY, FEBRUARY)
    assert local_months("green", data_dir, cache_dir) == expected
    assert local_months("green", None, cache_dir) == (JANUARY, FEBRUARY)
    assert local_months("yellow", data_dir, tmp_path / "nowhere") == (Month(2022, 1),)
    with pytest.raises(UserError, match="there is no data folder"):
        local_months("green", tmp_path / "nowhere", cache_dir)


@pytest.mark.parametrize(
    ("name", "span"),
    [
        ("yellow_tripdata_sample_2019.parquet", (Month(2019, 1), Month(2019, 12))),
        ("yellow_tripdata_sample_2019_2020.parquet", (Month(2019, 1), Month(2020, 12))),
        ("green_tripdata_sample_2019-03.parquet", (Month(2019, 3), Month(2019, 3))),
        ("yellow_tripdata_sample_2020-01_2020-06.parquet", (Month(2020, 1), Month(2020, 6))),
        ("yellow_tripdata_sample_2020-13.parquet", None),
        ("yellow_tripdata_2020-01.parquet", None),
    ],
)
def test_span_of_a_sample_is_read_from_its_name(name: str, span: tuple[Month, Month] | None) -> None:
    assert sample_span(name) == span


def test_folders_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TLC_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_data_dir() == tmp_path
    assert default_cache_dir() == tmp_path / "xdg" / "ridecast" / "tlc"
    monkeypatch.setenv("TLC_DATA_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_data_dir() is None
    assert default_cache_dir() == Path.home() / ".cache" / "ridecast" / "tlc"
