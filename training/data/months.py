"""Months and parts of months: ordered values, and the files on this machine that contain TLC's months."""

import calendar
import itertools
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np

from training.data.month_folders import months_in
from training.errors import UserError

Service = Literal["green", "yellow"]
"""The two taxi services whose rides have zones, a distance and both times."""

MONTHS_HINT = "write months as 2021-01, 2021-01,2021-02 or 2023-01..2023-03"
DAYS_HINT = "write days as 2026-08-01..2026-10-31, 2026-11-05 or 2026-08"

_ONE_DAY = np.timedelta64(1, "D")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_SAMPLE_SPAN = re.compile(r".*_sample_([0-9]{4})(-(?:0[1-9]|1[0-2]))?(?:_([0-9]{4})(-(?:0[1-9]|1[0-2]))?)?\.parquet")
_WHOLE_MONTH = re.compile(r"_tripdata_([0-9]{4}-(?:0[1-9]|1[0-2]))\.parquet")

_LAST_DAY = 31
"""`Month.last_day` of every month of which no day is missing at the end."""


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month in New York, or consecutive days of one. TLC's months are whole; labelled rides come by the day.

    >>> Month(2021, 1) < Month(2021, 2) < Month.parse("2022-01")
    True
    >>> str(Month.of_days(date(2026, 11, 1), date(2026, 11, 14)))
    '2026-11-01..2026-11-14'
    >>> Month.of_days(date(2021, 2, 1), date(2021, 2, 28)) == Month(2021, 2)
    True
    """

    year: int
    month: int
    first_day: int = 1
    last_day: int = _LAST_DAY  # 31 is the last day of any month

    @classmethod
    def of_days(cls, first: date, last: date) -> "Month":
        """Return the days from first to last, which lie in one calendar month."""
        is_to_the_end = last.day == calendar.monthrange(last.year, last.month)[1]
        return cls(first.year, first.month, first.day, _LAST_DAY if is_to_the_end else last.day)

    @classmethod
    def parse(cls, text: str) -> "Month":
        """Read a month as TLC writes it.

        Raises:
            UserError: The text is not a year of four digits, a hyphen and a month of two digits.

        >>> Month.parse("2021-01") == Month(2021, 1)
        True
        """
        found = _MONTH.fullmatch(text)
        if found is None:
            raise UserError(f"{text!r} is not a month", MONTHS_HINT)
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        if self == self.whole:
            return f"{self.year:04d}-{self.month:02d}"
        first, last = self.first_date, self.last_date
        return str(first) if first == last else f"{first}..{last}"

    @property
    def first_date(self) -> date:
        """The first day."""
        return date(self.year, self.month, self.first_day)

    @property
    def last_date(self) -> date:
        """The last day."""
        return date(self.year, self.month, min(self.last_day, calendar.monthrange(self.year, self.month)[1]))

    @property
    def whole(self) -> "Month":
        """The calendar month that the days lie in."""
        return Month(self.year, self.month)

    @property
    def share(self) -> float:
        """The days' share of their calendar month, 1.0 for a whole one."""
        return float((self.end - self.start) / (self.whole.end - self.whole.start))

    def overlaps(self, other: "Month") -> bool:
        """Return whether a day is in both."""
        return bool(self.start < other.end and other.start < self.end)

    def next(self) -> "Month":
        """Return the month after.

        >>> str(Month(2020, 12).next())
        '2021-01'
        """
        return Month(self.year + 1, 1) if self.month == 12 else Month(self.year, self.month + 1)  # noqa: PLR2004

    @property
    def start(self) -> np.datetime64:
        """The first second, datetime64[s], wall-clock time."""
        return np.datetime64(f"{self.year:04d}-{self.month:02d}-{self.first_day:02d}", "s")

    @property
    def end(self) -> np.datetime64:
        """The first second after it, datetime64[s], wall-clock time.

        >>> str(Month(2021, 2).end)
        '2021-03-01T00:00:00'
        """
        first = np.datetime64(f"{self.year:04d}-{self.month:02d}", "M")
        next_first = (first + np.timedelta64(1, "M")).astype("M8[s]")
        return min(next_first, first.astype("M8[s]") + self.last_day * _ONE_DAY)


def parse_months(text: str) -> tuple[Month, ...]:
    """Read a month, a list, a range, or a mix of them; return at least one month, ascending.

    Raises:
        UserError: A part is not a month, a range runs backwards, or a month is named twice.

    >>> [str(month) for month in parse_months("2023-03, 2022-12..2023-02")]
    ['2022-12', '2023-01', '2023-02', '2023-03']
    """
    months = sorted(month for part in text.split(",") for month in _parse_part(part.strip()))
    return _without_overlap(months, text, MONTHS_HINT)


def parse_days(text: str) -> tuple[Month, ...]:
    """Read days and months, lists and ranges of them; return the days of each calendar month, ascending.

    Raises:
        UserError: A part is neither a day nor a month, a range runs backwards, or a day is named twice.

    >>> [str(month) for month in parse_days("2026-08-15..2026-10-31, 2026-11")]
    ['2026-08-15..2026-08-31', '2026-09', '2026-10', '2026-11']
    """
    months = sorted(month for part in text.split(",") for month in _parse_days_part(part.strip()))
    return _without_overlap(months, text, DAYS_HINT)


def met_months(months: Iterable[Month], met: Iterable[Month]) -> tuple[Month, ...]:
    """Return those of some months that have a day in common with one of the others, ascending."""
    others = tuple(met)
    return tuple(sorted(month for month in months if any(month.overlaps(other) for other in others)))


def _without_overlap(months: list[Month], text: str, hint: str) -> tuple[Month, ...]:
    for earlier, later in itertools.pairwise(months):
        if earlier.overlaps(later):
            raise UserError(f"{text!r} names {later} twice", hint)
    return tuple(months)


def _parse_days_part(part: str) -> list[Month]:
    first_text, dots, last_text = (text.strip() for text in part.partition(".."))
    first, last = _days_of(first_text)[0], _days_of(last_text if dots else first_text)[1]
    if last < first:
        raise UserError(f"{part!r} runs backwards", DAYS_HINT)
    return [
        Month.of_days(max(first, month.first_date), min(last, month.last_date))
        for month in _months_between(Month(first.year, first.month), Month(last.year, last.month))
    ]


def _days_of(text: str) -> tuple[date, date]:
    """Return the first and the last day of a day or a month."""
    with suppress(ValueError):  # no such day, or the year 0
        if _MONTH.fullmatch(text):
            month = Month.parse(text)
            return month.first_date, month.last_date
        if _DAY.fullmatch(text):
            day = date.fromisoformat(text)
            return day, day
    raise UserError(f"{text!r} is neither a day nor a month", DAYS_HINT)


def _parse_part(part: str) -> list[Month]:
    first_text, dots, last_text = part.partition("..")
    first = Month.parse(first_text.strip())
    last = Month.parse(last_text.strip()) if dots else first
    if last < first:
        raise UserError(f"{part!r} runs backwards", MONTHS_HINT)
    return _months_between(first, last)


def _months_between(first: Month, last: Month) -> list[Month]:
    months = [first]
    while months[-1] < last:
        months.append(months[-1].next())
    return months


def tlc_file_name(service: Service, month: Month) -> str:
    """Return TLC's name of the month's file.

    >>> tlc_file_name("green", Month(2021, 1))
    'green_tripdata_2021-01.parquet'
    """
    return f"{service}_tripdata_{month}.parquet"


def default_data_dir() -> Path | None:
    """Return the folder that TLC_DATA_DIR names, or None."""
    folder = os.environ.get("TLC_DATA_DIR")
    return Path(folder).expanduser() if folder else None


def default_cache_dir() -> Path:
    """Return the folder of downloads: ``$XDG_CACHE_HOME/ridecast/tlc``, or ``~/.cache/ridecast/tlc``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ridecast" / "tlc"


def find_month(service: Service, month: Month, data_dir: Path | None, cache_dir: Path) -> Path | None:
    """Return the file, or the folder of part files, to load a month from; None if there is none.

    A whole month comes before a sample, the data folder before the cache.

    Raises:
        UserError: The data folder does not exist.
    """
    samples = [path for path, (first, last) in _samples(service, data_dir) if first <= month <= last]
    whole = months_in(service, data_dir).get((month.year, month.month)) if data_dir else None
    paths = [*([whole] if whole else []), *samples, cache_dir / tlc_file_name(service, month)]
    return next((path for path in paths if path == whole or path.is_file()), None)


def local_months(service: Service, data_dir: Path | None = None, cache_dir: Path | None = None) -> tuple[Month, ...]:
    """Return the months that load without a download, ascending: those that `find_month` finds.

    Raises:
        UserError: The data folder does not exist.
    """
    months: set[Month] = set()
    for _, (first, last) in _samples(service, data_dir):
        months.update(_months_between(first, last))
    if data_dir:
        months.update(Month(*found) for found in months_in(service, data_dir))
    downloads = (cache_dir or default_cache_dir()).glob(f"{service}_tripdata_*.parquet")
    names = (path.name.removeprefix(service) for path in downloads)
    months.update(Month.parse(found[1]) for name in names if (found := _WHOLE_MONTH.fullmatch(name)))
    return tuple(sorted(months))


def sample_span(file_name: str) -> tuple[Month, Month] | None:
    """Return the first and last month that a sample's name states, or None for any other file.

    >>> [str(month) for month in sample_span("yellow_tripdata_sample_2018.parquet")]
    ['2018-01', '2018-12']
    >>> [str(month) for month in sample_span("yellow_tripdata_sample_2020-01_2020-06.parquet")]
    ['2020-01', '2020-06']
    """
    found = _SAMPLE_SPAN.fullmatch(file_name)
    if found is None:
        return None
    first_year, first_month, last_year, last_month = found.groups()
    last = last_year + (last_month or "-12") if last_year else first_year + (first_month or "-12")
    return Month.parse(first_year + (first_month or "-01")), Month.parse(last)


def _samples(service: Service, data_dir: Path | None) -> list[tuple[Path, tuple[Month, Month]]]:
    """Return a folder's samples with their first and last month, by name."""
    if data_dir is None:
        return []
    if not data_dir.is_dir():
        raise UserError(
            f"there is no data folder {data_dir}", "set TLC_DATA_DIR to a folder of TLC months, or unset it"
        )
    paths = sorted(data_dir.glob(f"{service}_tripdata_sample_*.parquet"))
    return [(path, span) for path in paths if (span := sample_span(path.name))]
