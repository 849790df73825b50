"""TLC's months: ordered values, read from what a person writes, and the names of the files that hold them."""

import itertools
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.errors import MonthsError

Service = Literal["green", "yellow"]
"""The two taxi services whose rides have zones, a distance and both times."""

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month in New York.

    Attributes:
        year: 0 to 9999.
        month: 1 to 12.

    >>> Month(2021, 1) < Month(2021, 2) < Month.parse("2022-01")
    True
    """

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> "Month":
        """Reads a month as TLC writes it.

        Raises:
            MonthsError: The text is not a year of four digits, a hyphen and a month of two.

        >>> Month.parse("2021-01")
        Month(year=2021, month=1)
        """
        found = _MONTH.fullmatch(text)
        if found is None:
            raise MonthsError(text, "is not a month")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    def next(self) -> "Month":
        """The month after.

        >>> str(Month(2020, 12).next())
        '2021-01'
        """
        return Month(self.year + 1, 1) if self.month == 12 else Month(self.year, self.month + 1)  # noqa: PLR2004

    @property
    def start(self) -> np.datetime64:
        """The month's first second, datetime64[s], wall-clock time."""
        return np.datetime64(f"{self}-01", "s")

    @property
    def end(self) -> np.datetime64:
        """The first second after the month, datetime64[s], wall-clock time.

        >>> str(Month(2021, 2).end)
        '2021-03-01T00:00:00'
        """
        return np.datetime64(np.datetime64(str(self), "M") + np.timedelta64(1, "M"), "s")


def parse_months(text: str) -> tuple[Month, ...]:
    """Reads a month, a list, a range, or a mix of them.

    Returns:
        The months, at least one, ascending.

    Raises:
        MonthsError: A part is no month, a range runs backwards, or a month is named twice.

    >>> [str(month) for month in parse_months("2023-03, 2022-12..2023-02")]
    ['2022-12', '2023-01', '2023-02', '2023-03']
    """
    months = sorted(month for part in text.split(",") for month in _parse_part(part.strip()))
    for earlier, later in itertools.pairwise(months):
        if earlier == later:
            raise MonthsError(text, f"names {later} twice")
    return tuple(months)


def tlc_file_name(service: Service, month: Month) -> str:
    """The name that TLC gives the month's file.

    >>> tlc_file_name("green", Month(2021, 1))
    'green_tripdata_2021-01.parquet'
    """
    return f"{service}_tripdata_{month}.parquet"


def _parse_part(part: str) -> list[Month]:
    first_text, dots, last_text = part.partition("..")
    first = Month.parse(first_text.strip())
    last = Month.parse(last_text.strip()) if dots else first
    if last < first:
        raise MonthsError(part, "runs backwards")
    months = [first]
    while months[-1] < last:
        months.append(months[-1].next())
    return months
