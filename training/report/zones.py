"""The names of TLC's taxi zones."""

import csv
from importlib.resources import files


def _load_names() -> dict[int, str]:
    with files("training.report").joinpath("zone_names.csv").open(encoding="utf-8") as file:
        return {int(row["location_id"]): row["name"] for row in csv.DictReader(file)}


_NAMES = _load_names()


def zone_name(zone: int) -> str:
    """Return the name of a LocationID; "" for one without a name.

    >>> zone_name(130), zone_name(999)
    ('Jamaica', '')
    """
    return _NAMES.get(zone, "")
