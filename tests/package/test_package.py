"""The deployable package of `sam build`: its contents, its size, and an import with nothing else on the path."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra.stack.package import MAX_PACKAGE_BYTES, REQUIREMENTS, Package, export_requirements
from infra.stack.template import ROOT
from infra.stack.tools import find_uv

IN_THE_RUNTIME = ("boto3", "botocore", "s3transfer", "urllib3", "dateutil", "six.py")
"""boto3 and its dependencies in Lambda's runtime; the package has its own jmespath."""

MAX_ZIPPED_BYTES = 20_000_000
UNWANTED = {
    "aws_xray_sdk",
    "boto3",
    "infra",
    "moto",
    "pandas",
    "pydantic",
    "s3transfer",
    "scipy",
    "sklearn",
    "training",
}
"""Modules that the function must not import: each adds tens or hundreds of milliseconds to a cold start."""

IMPORT_ALONE = """
import json, sys
package, runtime = sys.argv[1:]
sys.path[:0] = [package]
sys.path.append(runtime)
import lambda_function.handler as handler
import numpy
print(json.dumps({
    "handler": callable(handler.lambda_handler),
    "homes": [handler.__file__, numpy.__file__],
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    site_packages = Path(boto3.__file__).parent.parent
    for name in IN_THE_RUNTIME:
        (tmp_path / name).symlink_to(site_packages / name)
    return tmp_path


def test_handler_imports_with_the_package_and_the_runtime_only(package: Package, runtime: Path) -> None:
    isolated = [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", IMPORT_ALONE]
    result = subprocess.run(  # noqa: S603 - our own words
        [*isolated, str(package.folder), str(runtime)], capture_output=True, text=True, check=False, env={}
    )

    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["handler"]
    assert all(home.startswith(str(package.folder)) for home in found["homes"])
    assert not UNWANTED & set(found["modules"])


def test_package_is_within_its_budgets(package: Package, tmp_path: Path) -> None:
    zipped = Path(shutil.make_archive(str(tmp_path / "package"), "zip", package.folder))
    assert 10_000_000 < package.n_bytes < MAX_PACKAGE_BYTES
    assert zipped.stat().st_size < MAX_ZIPPED_BYTES


def test_package_holds_the_function_and_its_dependencies_only(package: Package) -> None:
    modules = {path.name for path in package.folder.iterdir() if not re.search(r"\.(dist-info|data|libs)$", path.name)}

    assert modules == {
        "__pycache__",
        "aws_lambda_powertools",
        "jmespath",
        "lambda_function",
        "msgspec",
        "numpy",
        "typing_extensions.py",
        "tzdata",
    }
    assert (package.folder / "lambda_function" / "core" / "zones.csv").is_file()


def test_package_contains_bytecode_that_no_file_time_makes_stale(package: Package) -> None:
    sources = list(package.folder.rglob("*.py"))

    assert not list(package.folder.rglob("tests"))
    for source in sources:
        header = Path(cache_from_source(str(source))).read_bytes()[:8]
        assert header == MAGIC_NUMBER + b"\1\0\0\0", source  # PEP 552: unchecked hash


def test_handler_imports_nothing_that_slows_a_cold_start() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import lambda_function.handler"]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)  # noqa: S603 - our own module
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert {"lambda_function", "botocore", "msgspec", "numpy"} <= imported
    assert not UNWANTED & imported


def locked() -> dict[str, set[str]]:
    """Return the function's dependencies, direct and indirect, from uv.lock: name to versions."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    versions: dict[str, set[str]] = {}
    waiting = ["ridecast"]
    while waiting:
        name = waiting.pop()
        entries = [entry for entry in lock if entry["name"] == name]
        versions[name] = {entry["version"] for entry in entries}
        needed = {dependency["name"] for entry in entries for dependency in entry.get("dependencies", [])}
        waiting += sorted(needed - versions.keys())
    del versions["ridecast"]
    return versions


def test_requirements_are_the_locks() -> None:
    pinned: dict[str, set[str]] = {}
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"([a-z0-9-]+)==([^ ;]+)( ; .*)?", line):
            pinned.setdefault(match[1], set()).add(match[2])

    assert pinned == locked()


def test_requirements_hold_pins_and_nothing_else() -> None:
    header, *lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()

    assert header.startswith("# ")
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; python_full_version [<>=]+ '[\d.]+')?", line) for line in lines)


@pytest.mark.slow
def test_requirements_are_what_uv_exports() -> None:
    if find_uv() is None:
        pytest.skip("no uv here; test_requirements_are_the_locks compares the same")

    assert export_requirements() == REQUIREMENTS.read_text(encoding="utf-8")
