"""TLC's months: ordered values, and the files on this machine that contain them."""

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from training.errors import UserError

Service = Literal["green", "yellow"]
"""The two taxi services whose rides have zones, a distance and both times."""

MONTHS_HINT = "write months as 2021-01, 2021-01,2021-02 or 2023-01..2023-03"

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_SAMPLE_SPAN = re.compile(r".*_sample_([0-9]{4})(-(?:0[1-9]|1[0-2]))?(?:_([0-9]{4})(-(?:0[1-9]|1[0-2]))?)?\.parquet")
_WHOLE_MONTH = re.compile(r"_tripdata_([0-9]{4}-(?:0[1-9]|1[0-2]))\.parquet")


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month in New York.

    >>> Month(2021, 1) < Month(2021, 2) < Month.parse("2022-01")
    True
    """

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> "Month":
        """Read a month as TLC writes it.

        Raises:
            UserError: The text is not a year of four digits, a hyphen and a month of two digits.

        >>> Month.parse("2021-01")
        Month(year=2021, month=1)
        """
        found = _MONTH.fullmatch(text)
        if found is None:
            raise UserError(f"{text!r} is not a month", MONTHS_HINT)
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    def next(self) -> "Month":
        """Return the month after.

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
    """Read a month, a list, a range, or a mix of them; return at least one month, ascending.

    Raises:
        UserError: A part is not a month, a range runs backwards, or a month is named twice.

    >>> [str(month) for month in parse_months("2023-03, 2022-12..2023-02")]
    ['2022-12', '2023-01', '2023-02', '2023-03']
    """
    months = sorted(month for part in text.split(",") for month in _parse_part(part.strip()))
    for earlier, later in itertools.pairwise(months):
        if earlier == later:
            raise UserError(f"{text!r} names {later} twice", MONTHS_HINT)
    return tuple(months)


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
    """Return the file to load a month from, or None: a whole month before a sample, the data folder before the cache.

    Raises:
        UserError: The data folder does not exist.
    """
    name = tlc_file_name(service, month)
    samples = [path for path, (first, last) in _samples(service, data_dir) if first <= month <= last]
    paths = [*([data_dir / name] if data_dir else []), *samples, cache_dir / name]
    return next((path for path in paths if path.is_file()), None)


def local_months(service: Service, data_dir: Path | None = None, cache_dir: Path | None = None) -> tuple[Month, ...]:
    """Return the months that load without a download, ascending: those that `find_month` finds.

    Raises:
        UserError: The data folder does not exist.
    """
    months: set[Month] = set()
    for _, (first, last) in _samples(service, data_dir):
        months.update(_months_between(first, last))
    for folder in filter(None, (data_dir, cache_dir or default_cache_dir())):
        names = (path.name.removeprefix(service) for path in folder.glob(f"{service}_tripdata_*.parquet"))
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
