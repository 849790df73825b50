"""Which borough each zone lies in, as TLC's table of zones has it."""

import csv
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from lambda_function.features import LAST_ZONE

UNKNOWN = "unknown"
"""Of the zones without a place, 264 and 265."""


def _load() -> tuple[tuple[str, ...], NDArray[np.intp]]:
    with files("lambda_function").joinpath("zones.csv").open() as file:
        boroughs = {int(row["location_id"]): row["borough"] for row in csv.DictReader(file)}
    names = (*sorted(set(boroughs.values())), UNKNOWN)
    of_zone = [names.index(boroughs.get(zone, UNKNOWN)) for zone in range(LAST_ZONE + 1)]
    return names, np.array(of_zone, np.intp)


BOROUGHS, BOROUGH_OF_ZONE = _load()
"""The names, Newark's airport (EWR) and UNKNOWN among them; intp (266,), by LocationID: the place among the names."""
