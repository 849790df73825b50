"""Build the functions' packages: requirements from the lock, then `sam build` into .aws-sam/build.

Functions of the template with the same CodeUri have the same package. One CodeUri is `lambda_function/`; the others are
folders of links to what their functions import (docs/decisions/0027).
"""

import argparse
import compileall
import fcntl
import hashlib
import os
import platform
import py_compile
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.stack.strip import strip
from infra.stack.template import FUNCTION_TYPE, ROOT, TEMPLATE, read_template
from infra.stack.tools import run, run_uv, sam_command
from training.errors import UserError

BUILD_DIR = ROOT / ".aws-sam" / "build"
KEPT_BUILDS = ROOT / ".aws-sam" / "host"
"""Builds of one package each, a folder for each processor and digest of the package's sources."""

PYTHON = (3, 13)
"""The functions' runtime; `sam build` needs a Python of the same version."""

_TASK_ROOT = "/var/task"  # the folder into which Lambda unpacks the package
_N_KEPT_BUILDS = 8

_HEADER = "# The function's dependencies, out of uv.lock by `make build`. Don't edit: change pyproject.toml.\n"


@dataclass(frozen=True, slots=True)
class PackageSource:
    """What a package is built from.

    Attributes:
        function: The function that it is built for, by its name in the template; `sam build` gives this name to its
            folder. Other functions with the same CodeUri get a copy.
        folder: The CodeUri, with requirements.txt.
        extras: Extras of pyproject.toml that it has beside the project's own dependencies.
        max_bytes: Our own budget, unzipped. Lambda's limit is 262,144,000 bytes.
    """

    function: str
    folder: Path
    extras: tuple[str, ...]
    max_bytes: int

    @property
    def requirements(self) -> Path:
        """The file that `sam build` installs from."""
        return self.folder / "requirements.txt"


PREDICTOR = PackageSource("Predictor", ROOT / "lambda_function", (), 62_000_000)
JOINER = PackageSource("Joiner", ROOT / "infra" / "stack" / "packages" / "joiner", ("monitoring",), 142_000_000)
TRAINER = PackageSource("Trainer", ROOT / "infra" / "stack" / "packages" / "trainer", ("fit",), 240_000_000)
LOOPER = PackageSource("Looper", ROOT / "infra" / "stack" / "packages" / "looper", ("loop",), 82_000_000)
SOURCES = (PREDICTOR, JOINER, TRAINER, LOOPER)


@dataclass(frozen=True, slots=True)
class Package:
    """A built package: the folder with the contents of the zip, and its size, unzipped."""

    folder: Path
    n_bytes: int


def export_requirements(source: PackageSource) -> str:
    """Return the text of a package's requirements.txt: the requirements of `export` without digests."""
    return _HEADER + export(source, "--no-hashes")


def export(source: PackageSource, *more: str) -> str:
    """Return a package's requirements from uv.lock, each with the digests of its files.

    Raises:
        UserError: There is no uv, or it failed.
    """
    options = ["--no-dev", "--no-emit-project", "--no-annotate", "--no-header", *more]
    extras = [f"--extra={extra}" for extra in source.extras]
    return run_uv("export", "--frozen", "--quiet", *options, *extras)


def build(architecture: str = "arm64", build_dir: Path = BUILD_DIR, only: PackageSource | None = None) -> list[Package]:
    """Run `sam build` with the existing requirements.txt, and return the packages in the order of SOURCES.

    Args:
        architecture: Of the machine code in the packages: ``arm64``, as deployed, or ``x86_64``.
        build_dir: The folder for the result; emptied first. It gets a folder for each function.
        only: Build this package alone, for the function that names it.

    Raises:
        UserError: This Python is not the functions', sam failed, or a package is over its budget.
    """
    if sys.version_info[:2] != PYTHON:
        wanted = f"Python {PYTHON[0]}.{PYTHON[1]}"
        raise UserError(f"the package is built with {wanted}, and this is {sys.version.split()[0]}", f"use {wanted}")
    options = ["--build-dir", str(build_dir), "--parameter-overrides", f"Architecture={architecture}"]
    run([*sam_command(), "build", *([only.function] if only else []), *options], "cannot build the packages")
    return [_finish(source, build_dir) for source in ([only] if only else SOURCES)]


def _finish(source: PackageSource, build_dir: Path) -> Package:
    """Complete one package in a build, and copy it to the other functions that have it."""
    folder = build_dir / source.function
    strip(folder)
    _compile(folder)
    others = functions_of(source) - {source.function}
    for other in function_folders(build_dir):
        if other.name in others:
            _copy_package(folder, other)
    package = _package(folder)
    if package.n_bytes > source.max_bytes:
        what = f"{source.function}'s package has {package.n_bytes:,} bytes unzipped, its budget is {source.max_bytes:,}"
        raise UserError(what, "remove a dependency, or raise max_bytes in infra/stack/package.py")
    return package


def functions_of(source: PackageSource) -> set[str]:
    """Return the functions of the template that have a package, by their names there."""
    return {name for name, properties in _functions().items() if _is_of(source, properties)}


def source_of(handler: str) -> PackageSource:
    """Return the package of the template's function with a handler, as in ``lambda_function.handler.lambda_handler``.

    Raises:
        UserError: No function of the template has it.
    """
    for properties in _functions().values():
        if properties["Handler"] == handler:
            return next(source for source in SOURCES if _is_of(source, properties))
    raise UserError(f"{TEMPLATE.name} has no function with the handler {handler}")


def _functions() -> dict[str, dict[str, Any]]:
    resources = read_template(TEMPLATE)["Resources"]
    return {name: one["Properties"] for name, one in resources.items() if one["Type"] == FUNCTION_TYPE}


def _is_of(source: PackageSource, properties: Mapping[str, Any]) -> bool:
    return (ROOT / str(properties["CodeUri"])).resolve() == source.folder


def function_folders(build_dir: Path) -> list[Path]:
    """Return the folders of a build: one for each function of the template, with its package."""
    return sorted(path for path in build_dir.iterdir() if path.is_dir())


def _package(folder: Path) -> Package:
    return Package(folder, sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()))


def _compile(folder: Path) -> None:
    """Add the bytecode: Lambda can't store any, and would compile the sources at each cold start.

    Compiling took 240 of 440 ms of init. The bytecode is unchecked because a zip changes the times of its sources.
    """
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    if not compileall.compile_dir(folder, quiet=2, invalidation_mode=mode, stripdir=folder, prependdir=_TASK_ROOT):
        raise UserError(f"some sources in {folder} do not compile")


def _copy_package(package: Path, folder: Path) -> None:
    """Replace another function's folder by the package: the sources are the same, and compiling them takes seconds."""
    shutil.rmtree(folder)
    shutil.copytree(package, folder, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # some file systems have no links
        shutil.copy2(source, target)


def host_architecture() -> str | None:
    """Return Lambda's name of this machine's processor; None if Lambda has no such processor, or this is not Linux."""
    names = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
    return names.get(platform.machine()) if sys.platform == "linux" else None


def build_for_host(source: PackageSource = PREDICTOR) -> Package:
    """Build a package that this machine can run, or return an earlier build of the same sources.

    Raises:
        UserError: As for `build`; or Lambda has no such processor.
    """
    architecture = host_architecture()
    if architecture is None:
        raise UserError("the package runs on Linux on x86_64 or arm64, and this machine is neither")
    return build_once(source, architecture)


def build_once(source: PackageSource, architecture: str) -> Package:
    """Build a package for a processor, or return an earlier build of the same sources.

    Raises:
        UserError: As for `build`.
    """
    home = KEPT_BUILDS / f"{architecture}-{_source_digest(source)}"
    KEPT_BUILDS.mkdir(parents=True, exist_ok=True)
    with KEPT_BUILDS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes wait for the same build instead of repeating it
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix="building-", dir=KEPT_BUILDS) as building:
                build_dir = Path(building) / "build"
                build(architecture, build_dir, source)
                build_dir.rename(home)
            for old in sorted(KEPT_BUILDS.iterdir(), key=lambda path: path.stat().st_mtime)[:-_N_KEPT_BUILDS]:
                shutil.rmtree(old, ignore_errors=True)
    return _package(home / source.function)


def source_files(source: PackageSource) -> list[Path]:
    """Return the files that `sam build` copies, in order, behind their links."""
    found = [
        Path(folder) / name
        for folder, _, names in os.walk(source.folder, followlinks=True)
        for name in names
        if "__pycache__" not in Path(folder).parts
    ]
    return sorted(path.resolve() for path in found)


def _source_digest(source: PackageSource) -> str:
    properties = _functions()[source.function]
    digest = hashlib.sha256(repr([properties.get(name) for name in ("CodeUri", "Runtime")]).encode())
    for path in [*source_files(source), Path(__file__), Path(__file__).with_name("strip.py")]:
        digest.update(f"{path.relative_to(ROOT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()[:12]


def main(arguments: list[str] | None = None) -> int:
    """Write each requirements.txt, build, report all, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack.package", description=__doc__)
    parser.add_argument("--architecture", choices=["arm64", "x86_64"], default="arm64")
    architecture = parser.parse_args(arguments).architecture
    try:
        for source in SOURCES:
            source.requirements.write_text(export_requirements(source), encoding="utf-8")
        packages = build(architecture)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for source, package in zip(SOURCES, packages, strict=True):
        sys.stdout.write(
            f"{source.requirements.relative_to(ROOT)}: exported from uv.lock\n"
            f"{package.folder.relative_to(ROOT)}: {package.n_bytes / 1e6:.1f} MB unzipped for {architecture} "
            f"(budget {source.max_bytes / 1e6:.0f} MB)\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
