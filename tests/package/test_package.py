"""The deployable packages of `sam build`: their contents, their size, and an import with nothing else on the path."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.stack.package import JOINER, LOOPER, PREDICTOR, TRAINER, Package, PackageSource, export_requirements
from infra.stack.template import ROOT
from infra.stack.tools import find_uv

IN_THE_RUNTIME = ("boto3", "botocore", "s3transfer", "urllib3", "dateutil", "six.py")
"""boto3 and its dependencies in Lambda's runtime; the package has its own jmespath."""


@dataclass(frozen=True)
class Wanted:
    """What a package shall be.

    Attributes:
        entries: Its entry points, by module.
        modules: What it holds.
        foreign: Modules that it must not import: each adds tens or hundreds of milliseconds to a cold start.
    """

    entries: Sequence[str]
    modules: Set[str]
    foreign: Set[str]


COMMON = {"aws_lambda_powertools", "jmespath", "lambda_function", "msgspec", "numpy", "typing_extensions.py", "tzdata"}
FOREIGN = {
    "aws_xray_sdk",
    "boto3",
    "infra",
    "matplotlib",
    "moto",
    "pandas",
    "pyarrow",
    "pydantic",
    "rich",
    "s3transfer",
}
FOREIGN |= {"scipy", "sklearn", "typer"}
BOTOCORE = {"botocore", "dateutil", "six.py", "urllib3"}  # new enough for durable callbacks
WANTED = {
    PREDICTOR: Wanted(
        ["lambda_function.handler", "lambda_function.archive", "lambda_function.pre_traffic", "lambda_function.api"],
        COMMON | {"__pycache__"},
        FOREIGN | {"duckdb", "training"},
    ),
    JOINER: Wanted(
        ["training.functions.join", "training.functions.monitor", "training.functions.collect"],
        COMMON
        | BOTOCORE
        | {"__pycache__", "_duckdb-stubs", "_duckdb.abi3.so", "adbc_driver_duckdb", "duckdb", "training"},
        FOREIGN,
    ),
    TRAINER: Wanted(
        ["training.functions.train"],
        COMMON
        | BOTOCORE
        | {"__pycache__", "cloudpickle", "joblib", "narwhals", "pyproject.toml", "scipy", "sklearn", "threadpoolctl.py"}
        | {"training", "uv.lock"},
        FOREIGN | {"duckdb"},
    ),
    LOOPER: Wanted(
        ["training.functions.loop"],
        COMMON | BOTOCORE | {"__pycache__", "aws_durable_execution_sdk_python", "boto3", "s3transfer", "training"},
        FOREIGN - {"boto3", "s3transfer"} | {"duckdb"},  # the SDK imports boto3
    ),
}

IMPORT_ALONE = """
import json, sys
from importlib import import_module
package, runtime, *entries = sys.argv[1:]
sys.path[:0] = [package]
sys.path.append(runtime)
import numpy
entries = [import_module(entry) for entry in entries]
print(json.dumps({
    "handlers": all(callable(entry.lambda_handler) for entry in entries),
    "homes": [module.__file__ for module in (numpy, *entries)],
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    site_packages = Path(boto3.__file__).parent.parent
    for name in IN_THE_RUNTIME:
        (tmp_path / name).symlink_to(site_packages / name)
    return tmp_path


def test_entry_points_import_with_the_package_and_the_runtime_only(
    source: PackageSource, package: Package, runtime: Path
) -> None:
    isolated = [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", IMPORT_ALONE]
    command = [*isolated, str(package.folder), str(runtime), *WANTED[source].entries]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env={})  # noqa: S603 - our own words

    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["handlers"]
    assert all(home.startswith(str(package.folder)) for home in found["homes"])
    assert not WANTED[source].foreign & set(found["modules"])


def test_package_is_within_its_budget(source: PackageSource, package: Package) -> None:
    assert 0.8 * source.max_bytes < package.n_bytes < source.max_bytes


def test_package_holds_the_functions_and_their_dependencies_only(source: PackageSource, package: Package) -> None:
    modules = {path.name for path in package.folder.iterdir() if not re.search(r"\.(dist-info|data|libs)$", path.name)}

    assert modules - {"requirements.txt"} == WANTED[source].modules
    assert (package.folder / "lambda_function" / "core" / "zones.csv").is_file()
    assert not [path for path in package.folder.rglob("*") if path.is_symlink()]


def test_package_contains_bytecode_that_no_file_time_makes_stale(package: Package) -> None:
    sources = list(package.folder.rglob("*.py"))

    assert not list(package.folder.rglob("tests"))
    for source in sources:
        header = Path(cache_from_source(str(source))).read_bytes()[:8]
        assert header == MAGIC_NUMBER + b"\1\0\0\0", source  # PEP 552: unchecked hash


def test_entry_points_import_nothing_that_slows_a_cold_start(source: PackageSource) -> None:
    command = [sys.executable, "-X", "importtime", "-c", f"import {', '.join(WANTED[source].entries)}"]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)  # noqa: S603 - our own module
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert {"lambda_function", "botocore", "msgspec"} <= imported
    assert not WANTED[source].foreign & imported


def locked(extras: Sequence[str]) -> dict[str, set[str]]:
    """Return a package's dependencies, direct and indirect, from uv.lock: name to versions."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    versions: dict[str, set[str]] = {}
    (project,) = (entry for entry in lock if entry["name"] == "ridecast")
    waiting = ["ridecast", *(one["name"] for extra in extras for one in project["optional-dependencies"][extra])]
    while waiting:
        name = waiting.pop()
        entries = [entry for entry in lock if entry["name"] == name]
        versions[name] = {entry["version"] for entry in entries}
        needed = {dependency["name"] for entry in entries for dependency in entry.get("dependencies", [])}
        waiting += sorted(needed - versions.keys())
    del versions["ridecast"]
    return versions


def test_requirements_are_the_locks(source: PackageSource) -> None:
    pinned: dict[str, set[str]] = {}
    for line in source.requirements.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"([a-z0-9-]+)==([^ ;]+)( ; .*)?", line):
            pinned.setdefault(match[1], set()).add(match[2])

    assert pinned == locked(source.extras)


def test_requirements_hold_pins_and_nothing_else(source: PackageSource) -> None:
    header, *lines = source.requirements.read_text(encoding="utf-8").splitlines()

    assert header.startswith("# ")
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; python_full_version [<>=]+ '[\d.]+')?", line) for line in lines)


@pytest.mark.slow
def test_requirements_are_what_uv_exports(source: PackageSource) -> None:
    if find_uv() is None:
        pytest.skip("no uv here; test_requirements_are_the_locks compares the same")

    assert export_requirements(source) == source.requirements.read_text(encoding="utf-8")
