"""Remove from a built package what its functions never read: tests, sources, headers, sample data, unused AWS services.

`numpy.f2py` stays, because scipy imports it, and so do all licences.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from lambda_function.aws.clients import SERVICES

_FOLDERS = ("tests", "test", "include", "examples")
"""By name, wherever they are."""

_SAMPLES = (
    "numpy/_pyinstaller",
    "scipy/datasets",
    "sklearn/datasets/data",
    "sklearn/datasets/descr",
    "sklearn/datasets/images",
)

_SOURCES = frozenset((".a", ".build", ".c", ".cpp", ".f", ".f90", ".h", ".hpp", ".pc", ".pxd", ".pyi", ".pyx", ".tp"))
"""Of extension modules, and types for checkers."""

_DESCRIPTIONS = "botocore/data"
"""Has a folder a service, 26 MB in all, and some files about all of them."""


def strip(folder: Path) -> None:
    """Strip the package in a folder."""
    for path in [*_folders(folder), *(folder / name for name in _SAMPLES), *_services(folder / _DESCRIPTIONS)]:
        shutil.rmtree(path, ignore_errors=True)  # a package may not have it; a nested one is already removed
    for path in folder.rglob("*"):
        if path.suffix in _SOURCES and path.is_file():
            path.unlink()


def _folders(folder: Path) -> list[Path]:
    return [path for name in _FOLDERS for path in folder.rglob(name) if path.is_dir()]


def _services(descriptions: Path) -> Iterator[Path]:
    """Return the folders of services that no function calls."""
    if descriptions.is_dir():
        yield from (path for path in descriptions.iterdir() if path.is_dir() and path.name not in SERVICES)
