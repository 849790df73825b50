"""Outlines of TLC's zones, from a GeoJSON file: what a map shows beneath its dots."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import ZonesFileError


def read_outlines(path: Path) -> tuple[NDArray[np.float64], ...]:
    """Reads the rings of a GeoJSON's polygons: float64 (m, 2) each, longitude and latitude.

    Raises:
        ZonesFileError: It cannot be read or holds no outlines.
    """
    try:
        document = json.loads(path.read_bytes())
        rings = tuple(ring for feature in document["features"] for ring in _rings(feature["geometry"]))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ZonesFileError(path) from error
    if not rings:
        raise ZonesFileError(path)
    return rings


def _rings(geometry: Any) -> Iterator[NDArray[np.float64]]:
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    for polygon in polygons:
        for ring in polygon:
            yield np.array(ring, np.float64)[:, :2]
