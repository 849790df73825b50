"""Build the function's package: requirements from the lock, then `sam build` into .aws-sam/build."""

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
from dataclasses import dataclass
from pathlib import Path

from infra.stack.template import ROOT, TEMPLATE
from infra.stack.tools import run, run_uv, sam_command
from training.errors import UserError

REQUIREMENTS = ROOT / "lambda_function" / "requirements.txt"
BUILD_DIR = ROOT / ".aws-sam" / "build"
HOST_BUILDS = ROOT / ".aws-sam" / "host"
"""Builds for this machine's own processor, a folder for each digest of the sources."""

FUNCTION = "Predictor"
"""The function's logical name in the template; `sam build` gives this name to its folder."""

PYTHON = (3, 13)
"""The function's runtime; `sam build` needs a Python of the same version."""

MAX_PACKAGE_BYTES = 62_000_000
"""Our own budget, unzipped. Lambda's limit is 262,144,000 bytes; the runtime's boto3 does not count."""

_TASK_ROOT = "/var/task"  # the folder into which Lambda unpacks the package
_N_HOST_BUILDS = 3

_HEADER = "# The function's dependencies, out of uv.lock by `make build`. Don't edit: change pyproject.toml.\n"


@dataclass(frozen=True, slots=True)
class Package:
    """A built package: the folder with the contents of the zip, and its size, unzipped."""

    folder: Path
    n_bytes: int


def export_requirements() -> str:
    """Return the text of requirements.txt: the requirements of `export` without digests."""
    return _HEADER + export("--no-hashes")


def export(*more: str) -> str:
    """Return the function's requirements from uv.lock, each with the digests of its files.

    Raises:
        UserError: There is no uv, or it failed.
    """
    options = ["--no-dev", "--no-emit-project", "--no-annotate", "--no-header", *more]
    return run_uv("export", "--frozen", "--quiet", *options)


def build(architecture: str = "arm64", build_dir: Path = BUILD_DIR) -> Package:
    """Run `sam build` with the existing requirements.txt.

    Args:
        architecture: Of the machine code in the package: ``arm64``, as deployed, or ``x86_64``.
        build_dir: The folder for the result; emptied first.

    Raises:
        UserError: This Python is not the function's, sam failed, or the package is over MAX_PACKAGE_BYTES.
    """
    if sys.version_info[:2] != PYTHON:
        wanted = f"Python {PYTHON[0]}.{PYTHON[1]}"
        raise UserError(f"the package is built with {wanted}, and this is {sys.version.split()[0]}", f"use {wanted}")
    parameters = ["--parameter-overrides", f"Architecture={architecture}"]
    run([*sam_command(), "build", "--build-dir", str(build_dir), *parameters], "cannot build the package")
    _drop_tests(build_dir / FUNCTION)
    _compile(build_dir / FUNCTION)
    for folder in function_folders(build_dir):
        if folder.name != FUNCTION:
            _copy_package(build_dir / FUNCTION, folder)
    package = _package(build_dir)
    if package.n_bytes > MAX_PACKAGE_BYTES:
        what = f"the package has {package.n_bytes:,} bytes unzipped, and its budget is {MAX_PACKAGE_BYTES:,}"
        raise UserError(what, "remove a dependency, or raise MAX_PACKAGE_BYTES")
    return package


def function_folders(build_dir: Path) -> list[Path]:
    """Return the folders of a build: one for each function of the template, with the same package in each."""
    return sorted(path for path in build_dir.iterdir() if path.is_dir())


def _package(build_dir: Path) -> Package:
    folder = build_dir / FUNCTION
    return Package(folder, sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()))


def _drop_tests(folder: Path) -> None:
    """Remove the tests in numpy's wheel: 7 MB, about the size of the bytecode."""
    for tests in [path for path in folder.rglob("tests") if path.is_dir()]:
        shutil.rmtree(tests, ignore_errors=True)  # a nested one is already removed


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


def build_for_host() -> Package:
    """Build a package that this machine can run, or return an earlier build of the same sources.

    Raises:
        UserError: As for `build`; or Lambda has no such processor.
    """
    architecture = host_architecture()
    if architecture is None:
        raise UserError("the package runs on Linux on x86_64 or arm64, and this machine is neither")
    home = HOST_BUILDS / f"{architecture}-{_source_digest()}"
    HOST_BUILDS.mkdir(parents=True, exist_ok=True)
    with HOST_BUILDS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes wait for the same build instead of repeating it
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix="building-", dir=HOST_BUILDS) as building:
                build(architecture, Path(building) / "build").folder.parent.rename(home)
            for old in sorted(HOST_BUILDS.iterdir(), key=lambda path: path.stat().st_mtime)[:-_N_HOST_BUILDS]:
                shutil.rmtree(old, ignore_errors=True)
    return _package(home)


def _source_digest() -> str:
    sources = [p for p in (ROOT / "lambda_function").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    digest = hashlib.sha256()
    for path in sorted([*sources, TEMPLATE, Path(__file__)]):
        digest.update(f"{path.relative_to(ROOT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()[:12]


def main(arguments: list[str] | None = None) -> int:
    """Write requirements.txt, build, report both, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack.package", description=__doc__)
    parser.add_argument("--architecture", choices=["arm64", "x86_64"], default="arm64")
    architecture = parser.parse_args(arguments).architecture
    try:
        REQUIREMENTS.write_text(export_requirements(), encoding="utf-8")
        package = build(architecture)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(
        f"{REQUIREMENTS.relative_to(ROOT)}: exported from uv.lock\n"
        f"{package.folder.relative_to(ROOT)}: {package.n_bytes / 1e6:.1f} MB unzipped for {architecture} "
        f"(budget {MAX_PACKAGE_BYTES / 1e6:.0f} MB; boto3 comes with the runtime)\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
