"""Builds a release once: the package as a zip, the template that names it, its bill of materials, and their digests.

The deployment workflow takes the same folder to every environment. `sam deploy --template-file` on its template uploads
the zip as it is.
"""

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.cicd.archive import write_archive
from infra.cicd.sbom import write_sbom
from infra.errors import BuildError, InfraError
from infra.package import ROOT, build, export_with_digests, find_uv, function_folders
from infra.template.transform import read_template

RELEASE_DIR = ROOT / "build" / "release"
TEMPLATE_NAME, SBOM_NAME, DIGESTS_NAME = "template.yaml", "sbom.cdx.json", "SHA256SUMS"

_DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Release:
    """What is deployed.

    Attributes:
        folder: Holds it all, and SHA256SUMS, which `sha256sum --check` reads.
        archives: Names of the zips; functions that hold the same have the same.
    """

    folder: Path
    archives: tuple[str, ...]


def write_release(build_dir: Path, folder: Path, exported: str) -> Release:
    """Puts a release together from what `infra.package.build` made.

    Args:
        build_dir: With the built template and a folder a function.
        folder: The release's, made anew file by file; nothing else may be in it.
        exported: What `uv export` wrote, with digests.

    Raises:
        BuildError: The folder holds something else, or the bill of materials is not valid.
        TemplateError: There is no built template.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if left := sorted(path.name for path in folder.iterdir()):
        raise BuildError(f"{folder} holds {', '.join(left)} already: empty it")
    archives = _write_archives(function_folders(build_dir), folder)
    template = _with_archives(read_template(build_dir / TEMPLATE_NAME), archives)
    (folder / TEMPLATE_NAME).write_text(yaml.safe_dump(template, sort_keys=False, width=120), encoding="utf-8")
    write_sbom(exported, folder / SBOM_NAME)
    _write_digests(folder)
    return Release(folder, tuple(sorted(set(archives.values()))))


def _write_archives(functions: list[Path], folder: Path) -> dict[str, str]:
    """Returns the zips' names by function; folders of the same files, linked by the build, are zipped once."""
    names: dict[frozenset[tuple[str, int]], str] = {}
    archives = {}
    for function in functions:
        files = frozenset(
            (str(path.relative_to(function)), path.stat().st_ino) for path in function.rglob("*") if path.is_file()
        )
        archives[function.name] = names[files] = names.get(files) or _archive(function, folder)
    return archives


def _archive(function: Path, folder: Path) -> str:
    path = folder / f"{function.name}.zip"
    name = f"package-{write_archive(function, path)[:_DIGEST_DIGITS]}.zip"
    path.replace(folder / name)
    return name


def _with_archives(template: dict[str, Any], archives: dict[str, str]) -> dict[str, Any]:
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            properties["CodeUri"] = archives[properties["CodeUri"]]
    return template


def _write_digests(folder: Path) -> None:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    lines = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (folder / DIGESTS_NAME).write_text("".join(lines), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Builds a release, says what is in it, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.cicd.release", description=__doc__)
    parser.add_argument("--architecture", choices=["arm64", "x86_64"], default="arm64")
    parser.add_argument("--output", type=Path, default=RELEASE_DIR)
    options = parser.parse_args(arguments)
    try:
        uv = find_uv()
        if uv is None:
            raise BuildError("no uv on PATH or in .tools/bin: run `make setup`")
        package = build(options.architecture)
        release = write_release(package.folder.parent, options.output, export_with_digests(uv))
    except InfraError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write((release.folder / DIGESTS_NAME).read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
