"""Builds a release once: the package as a zip, the template that names it, its bill of materials, and their digests.

The deployment workflow takes the same folder to every environment. `sam deploy --template-file` on its template uploads
the zip as it is.
"""

import argparse
import hashlib
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import yaml
from packaging.markers import Marker

from infra.errors import BuildError
from infra.stack.package import PYTHON, ROOT, build, export_with_digests, find_uv, function_folders
from infra.stack.template import read_template
from training.errors import UserError

# MERGED FROM infra/cicd/archive.py
# A zip whose bytes depend on what is in it alone: no clock, no order of a folder, no umask.
# So two builds of one commit have one digest, and who builds it anew can tell that the deployed code is that commit's.
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can tell
_UNIX = 3
_LEVEL = 9
_READABLE, _EXECUTABLE = 0o644, 0o755  # Lambda runs as another user than the files' owner


def write_archive(folder: Path, path: Path) -> str:
    """Zips what is in a folder.

    Args:
        folder: What to zip; its own name is not in the zip.
        path: The zip; replaced where it exists.

    Returns:
        The zip's SHA-256 in hex. It holds for one version of zlib: another may pack the same files otherwise.
    """
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    with ZipFile(path, "w") as archive:
        for name, file in sorted(files.items()):
            archive.writestr(_entry(name, file), file.read_bytes(), compresslevel=_LEVEL)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _entry(name: str, file: Path) -> ZipInfo:
    entry = ZipInfo(name, _EPOCH)
    entry.create_system = _UNIX
    entry.compress_type = ZIP_DEFLATED
    mode = _EXECUTABLE if file.stat().st_mode & stat.S_IXUSR else _READABLE
    entry.external_attr = (stat.S_IFREG | mode) << 16
    return entry


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
    """Puts a release together from what `infra.stack.package.build` made.

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
    parser = argparse.ArgumentParser(prog="python -m infra.stack.release", description=__doc__)
    parser.add_argument("--architecture", choices=["arm64", "x86_64"], default="arm64")
    parser.add_argument("--output", type=Path, default=RELEASE_DIR)
    options = parser.parse_args(arguments)
    try:
        uv = find_uv()
        if uv is None:
            raise BuildError("no uv on PATH or in .tools/bin: run `make setup`")
        package = build(options.architecture)
        release = write_release(package.folder.parent, options.output, export_with_digests(uv))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write((release.folder / DIGESTS_NAME).read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())


# MERGED FROM infra/cicd/sbom.py
# The package's bill of materials: a CycloneDX document of each distribution in it, with the digests that uv.lock has.
# It is made from the same export of uv.lock as requirements.txt, cut down to the function's Python, so that it lists what
# `sam build` installs; a test compares it with the built package. cyclonedx-py validates it against CycloneDX's schema.
SPEC_VERSION = "1.6"

_RUNTIME = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_system": "Linux",
    "python_full_version": f"{PYTHON[0]}.{PYTHON[1]}.0",
    "python_version": f"{PYTHON[0]}.{PYTHON[1]}",
    "sys_platform": "linux",
}
"""What a requirement's marker is read against: Lambda's, not this machine's."""

_MARKER = re.compile(r"^(?P<pin>[^;\\]+?) *; *(?P<marker>[^\\]+?)(?P<rest> *\\)?$")


def requirements_of_the_runtime(exported: str) -> str:
    r"""Returns the requirements that the function's own Python installs, without their markers.

    Args:
        exported: What `uv export` wrote, digests on lines of their own or none.

    >>> requirements_of_the_runtime("a==1 ; python_full_version < '3.12' \\\n    --hash=sha256:0\nb==2\n")
    'b==2\n'
    """
    requirements = re.split(r"\n(?=\S)", exported.strip())  # a requirement and its digests, each
    return "".join(f"{kept}\n" for one in requirements if (kept := _without_marker(one)))


def _without_marker(requirement: str) -> str:
    first, *digests = requirement.split("\n")
    found = _MARKER.match(first)
    if not found:
        return requirement
    if not Marker(found["marker"]).evaluate(_RUNTIME):
        return ""
    return "\n".join([found["pin"] + (found["rest"] or ""), *digests])


def write_sbom(exported: str, path: Path) -> None:
    """Writes the bill of materials; the same requirements give the same bytes.

    Args:
        exported: What `uv export` wrote, with digests.
        path: The JSON file, replaced where it exists.

    Raises:
        BuildError: The document is not valid, or a requirement can't be read.
    """
    options = ["--pyproject", "pyproject.toml", "--spec-version", SPEC_VERSION, "--output-reproducible", "--validate"]
    done = subprocess.run(  # noqa: S603 - cyclonedx-py, with words from this file
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "cyclonedx_py",
            "requirements",
            *options,
            "--output-file",
            str(path),
            "-",
        ],
        cwd=ROOT,
        input=requirements_of_the_runtime(exported),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError(f"cyclonedx-py says {done.stderr.strip()[-500:]}")
