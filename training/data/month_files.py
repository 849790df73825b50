"""Where months lie on this machine: in the data folder, whole or in a sample, or in the cache of downloads."""

import os
import re
from pathlib import Path

from training.data.months import Month, Service, tlc_file_name
from training.errors import DataFolderError

_SAMPLE_SPAN = re.compile(r".*_sample_([0-9]{4})(-(?:0[1-9]|1[0-2]))?(?:_([0-9]{4})(-(?:0[1-9]|1[0-2]))?)?\.parquet")
_WHOLE_MONTH = re.compile(r"_tripdata_([0-9]{4}-(?:0[1-9]|1[0-2]))\.parquet")


def default_data_dir() -> Path | None:
    """The folder that TLC_DATA_DIR names, or None where it is not set."""
    folder = os.environ.get("TLC_DATA_DIR")
    return Path(folder).expanduser() if folder else None


def default_cache_dir() -> Path:
    """Where downloaded months are kept: ``$XDG_CACHE_HOME/ridecast/tlc``, or ``~/.cache/ridecast/tlc``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ridecast" / "tlc"


def find_month(service: Service, month: Month, data_dir: Path | None, cache_dir: Path) -> Path | None:
    """The file to take a month from, or None: a whole month before a sample, the data folder before the cache.

    Raises:
        DataFolderError: The data folder is not there.
    """
    name = tlc_file_name(service, month)
    paths = [cache_dir / name]
    if data_dir:
        samples = [sample for sample, span in _samples(service, data_dir) if span[0] <= month <= span[1]]
        paths = [data_dir / name, *samples, *paths]
    return next((path for path in paths if path.is_file()), None)


def months_in_hand(service: Service, data_dir: Path | None = None, cache_dir: Path | None = None) -> tuple[Month, ...]:
    """The months that `find_month` finds a file for, ascending: what can be loaded without a download.

    Args:
        service: Whose rides.
        data_dir: As in `training.dataset.load_rides`: only what is given counts.
        cache_dir: `default_cache_dir` if not given.

    Raises:
        DataFolderError: The data folder is not there.
    """
    months: set[Month] = set()
    for folder in filter(None, (data_dir, cache_dir or default_cache_dir())):
        names = (path.name.removeprefix(service) for path in folder.glob(f"{service}_tripdata_*.parquet"))
        months.update(Month.parse(found[1]) for name in names if (found := _WHOLE_MONTH.fullmatch(name)))
    for _, (month, last) in _samples(service, data_dir) if data_dir else ():
        while month <= last:
            months.add(month)
            month = month.next()  # noqa: PLW2901 - walks through the sample's months
    return tuple(sorted(months))


def sample_span(file_name: str) -> tuple[Month, Month] | None:
    """First and last month that a sample's name promises, or None where it promises none.

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


def _samples(service: Service, data_dir: Path) -> list[tuple[Path, tuple[Month, Month]]]:
    """The samples of a folder with the months they promise, by name."""
    if not data_dir.is_dir():
        raise DataFolderError(data_dir)
    paths = sorted(data_dir.glob(f"{service}_tripdata_sample_*.parquet"))
    return [(path, span) for path in paths if (span := sample_span(path.name))]
