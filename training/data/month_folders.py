"""Months as other tools leave them in a folder: folders of part files, and names that are nearly TLC's."""

import re
from collections.abc import Iterator
from pathlib import Path

_HIVE_FOLDERS = ("year=*/month=*", "*/year=*/month=*", "*/*/year=*/month=*")
_HIVE = re.compile(r"year=([0-9]{4})/month=(0?[1-9]|1[0-2])", re.ASCII)
_NAMED = re.compile(r"_tripdata_([0-9]{4})-(0[1-9]|1[0-2])(?:\.parquet)?", re.ASCII | re.IGNORECASE)
_TIME_PREFIX = {"green": b"lpep_pickup", "yellow": b"tpep_pickup"}
_SERVICES = ("green", "yellow", "fhv")
_LIKE_A_MONTH = re.compile(r"[0-9]{4}[-_]?[0-9]{2}", re.ASCII)
_FOOTER_BYTES = 1 << 18  # names of columns are at the end of a file of Parquet
_DIGITS = re.compile(r"([0-9]+)", re.ASCII)


def part_files(folder: Path) -> list[Path]:
    """Return the files of a folder and of the folders in it, in the order of the numbers in their names.

    Names that begin with ``_`` or ``.`` are not data: Spark, Hive and systems write them beside the parts.
    """
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    parts = [path for path in found if not any(name.startswith(("_", ".")) for name in path.parts)]
    return [folder / path for path in sorted(parts, key=lambda path: _by_number(str(path)))]


def months_in(service: str, data_dir: Path) -> dict[tuple[int, int], Path]:
    """Return a service's months in a folder, as year and month, with the file or the folder of part files of each.

    A month under TLC's name comes before one that has it in other case or without its ending, and that before
    ``year=2021/month=01``. Of two with equal claims, neither is taken.
    """
    by_claim: dict[int, dict[tuple[int, int], list[Path]]] = {}
    for claim, month, path in _claims(service, data_dir):
        by_claim.setdefault(claim, {}).setdefault(month, []).append(path)
    found: dict[tuple[int, int], Path] = {}
    for claim in sorted(by_claim):
        found |= {m: paths[0] for m, paths in by_claim[claim].items() if m not in found and len(paths) == 1}
    return found


def near_names(service: str, year: int, month: int, data_dir: Path) -> list[str]:
    """Return names in a folder, and in the folders in it, that may be of a service's month, sorted.

    They have the month in their name, and no other service; or have an equal claim to be the month.
    """
    texts = [f"{year:04d}{between}{month:02d}" for between in ("-", "_", "", "/")]
    others = [other for other in _SERVICES if other != service]
    paths = (path.relative_to(data_dir) for pattern in ("*", "*/*") for path in data_dir.glob(pattern))
    names = {
        str(path)
        for path in paths
        if any(text in str(path) for text in texts) and not any(other in str(path).lower() for other in others)
    }
    claims = {
        str(path.relative_to(data_dir)) for _, found, path in _claims(service, data_dir) if found == (year, month)
    }
    return sorted(names | claims)


def passed_over(service: str, data_dir: Path) -> list[str]:
    """Return the names in a folder that have a service and a month in them, but are not read as a month."""
    read = {path.name for path in months_in(service, data_dir).values()}
    names = sorted(path.name for path in data_dir.iterdir() if path.name not in read)
    return [name for name in names if service in name.lower() and _LIKE_A_MONTH.search(name) and "_sample_" not in name]


def _claims(service: str, data_dir: Path) -> Iterator[tuple[int, tuple[int, int], Path]]:
    """Yield files and folders of a service's months, each with the rank of its claim: 0 for the best."""
    for path in sorted(data_dir.iterdir()):
        if found := _NAMED.fullmatch(path.name[len(service) :]):
            is_exact = path.name.startswith(service) and path.name.endswith(".parquet")
            is_month = path.name.lower().startswith(service) and (path.suffix or path.is_dir())
            if is_month:
                yield 0 if is_exact else 1, (int(found[1]), int(found[2])), path
    for pattern in _HIVE_FOLDERS:
        for path in sorted(data_dir.glob(pattern)):
            found = _HIVE.fullmatch("/".join(path.parts[-2:]))
            if found and path.is_dir() and _is_of_service(path, service):
                yield 2, (int(found[1]), int(found[2])), path


def _is_of_service(folder: Path, service: str) -> bool:
    """Return whether the first part file has the service's times."""
    first = next(iter(part_files(folder)), None)
    if first is None:
        return False
    with first.open("rb") as file:
        file.seek(max(0, first.stat().st_size - _FOOTER_BYTES))
        return _TIME_PREFIX[service] in file.read().lower()


def _by_number(text: str) -> list[str | int]:
    """Return a key that sorts ``part-2`` before ``part-10``."""
    return [int(part) if part.isdecimal() else part for part in _DIGITS.split(text)]
