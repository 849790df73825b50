"""Builds the function's package: requirements from the lock, then `sam build` into .aws-sam/build."""

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.errors import BuildError, InfraError
from infra.sam import sam_command, sam_environment

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "lambda_function" / "requirements.txt"
BUILD_DIR = ROOT / ".aws-sam" / "build"
FUNCTION = "Predictor"
"""The function's logical name in the template, which `sam build` names its folder by."""

PYTHON = (3, 13)
"""The function's runtime; `sam build` installs with a Python of the same version."""

MAX_PACKAGE_BYTES = 65_000_000
"""Our own budget, unzipped. Lambda's limit is 262,144,000 bytes, the runtime's boto3 not among them."""

_HEADER = "# The function's dependencies, out of uv.lock by `make build`. Don't edit: change pyproject.toml.\n"


@dataclass(frozen=True, slots=True)
class Package:
    """A built package.

    Attributes:
        folder: What would be zipped.
        n_bytes: Its size, unzipped.
        architecture: ``arm64`` or ``x86_64``.
    """

    folder: Path
    n_bytes: int
    architecture: str


def find_uv() -> Path | None:
    """Returns uv from PATH, or the one that `make setup` installed; None where there is neither."""
    found = shutil.which("uv") or shutil.which("uv", path=ROOT / ".tools" / "bin")
    return Path(found) if found else None


def export_requirements(uv: Path) -> str:
    """Returns the text of requirements.txt as the lock wants it.

    Raises:
        BuildError: uv refused.
    """
    options = ["--no-dev", "--no-emit-project", "--no-hashes", "--no-annotate", "--no-header"]
    return _HEADER + _run([str(uv), "export", "--frozen", "--quiet", *options])


def build(architecture: str = "arm64", build_dir: Path = BUILD_DIR) -> Package:
    """Runs `sam build` with requirements.txt as it is.

    Args:
        architecture: Whose machine code goes in: ``arm64``, as deployed, or ``x86_64``.
        build_dir: Where to build; emptied first.

    Raises:
        BuildError: This Python is not the function's, sam failed, or the package is over MAX_PACKAGE_BYTES.
    """
    if sys.version_info[:2] != PYTHON:
        raise BuildError(f"it takes Python {PYTHON[0]}.{PYTHON[1]}, and this is {sys.version.split()[0]}")
    parameters = ["--parameter-overrides", f"Architecture={architecture}"]
    _run([*sam_command(), "build", "--build-dir", str(build_dir), *parameters])
    folder = build_dir / FUNCTION
    package = Package(folder, sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()), architecture)
    if package.n_bytes > MAX_PACKAGE_BYTES:
        raise BuildError(f"{package.n_bytes:,} bytes unzipped, over the budget of {MAX_PACKAGE_BYTES:,}")
    return package


def _run(command: list[str]) -> str:
    result = subprocess.run(  # noqa: S603 - uv or sam, with words from this file
        command, cwd=ROOT, env=sam_environment(), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise BuildError(result.stderr.strip().splitlines()[-1] if result.stderr.strip() else command[0])
    return result.stdout


def main(arguments: list[str] | None = None) -> int:
    """Builds, says what was done, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.package", description=__doc__)
    parser.add_argument("--architecture", choices=["arm64", "x86_64"], default="arm64")
    architecture = parser.parse_args(arguments).architecture
    try:
        uv = find_uv()
        if uv is None:
            raise BuildError("no uv on PATH or in .tools/bin: run `make setup`")
        REQUIREMENTS.write_text(export_requirements(uv), encoding="utf-8")
        package = build(architecture)
    except InfraError as error:
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
