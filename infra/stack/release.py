"""Build what a deployment needs: packages as zips, a template that names them, bills of materials, and digests of all.

The deployment workflow takes the same folder to every environment: `infra.stack.change_set plan` uploads it, as
`sam deploy --template-file` on its template would. The zip's bytes depend on its contents only: not on clock, order of
a folder or umask. So two builds of one commit have one digest, and anybody can verify by a new build that the deployed
code is that commit's.
"""

import argparse
import hashlib
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import yaml

from infra.stack.package import BUILD_DIR, SOURCES, PackageSource, build, export, function_folders
from infra.stack.sbom import write_sbom
from infra.stack.template import FUNCTION_TYPE, ROOT, read_template
from infra.stack.upload import DIGESTS_NAME, TEMPLATE_NAME
from training.errors import UserError

RELEASE_DIR = ROOT / "build" / "release"

_DIGEST_DIGITS = 16
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can have
_UNIX = 3
_LEVEL = 6  # 9 takes 2.4 times as long and saves 0.6%
_READABLE, _EXECUTABLE = 0o644, 0o755  # Lambda runs as another user than the files' owner


def sbom_name(source: PackageSource) -> str:
    """Return the name of a package's bill of materials in a release."""
    return f"sbom-{source.function.lower()}.cdx.json"


def write_release(build_dir: Path, folder: Path, exported: Mapping[PackageSource, str]) -> None:
    """Write a release to an empty or missing folder: zips, template, bills of materials, SHA256SUMS.

    Functions with the same files share a zip. `build_dir` has the built template and a folder for each function, as
    `infra.stack.package.build` makes them; `exported` has the output of `uv export`, with digests, of each package.

    Raises:
        UserError: The folder is not empty, or a bill of materials is not valid, or there is no built template.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if found := sorted(path.name for path in folder.iterdir()):
        raise UserError(f"{folder} already contains {', '.join(found)}", "empty it")
    archives = _write_archives(function_folders(build_dir), folder)
    template = read_template(build_dir / TEMPLATE_NAME)
    for resource in template["Resources"].values():
        if resource["Type"] == FUNCTION_TYPE:
            resource["Properties"]["CodeUri"] = archives[resource["Properties"]["CodeUri"]]
    (folder / TEMPLATE_NAME).write_text(yaml.safe_dump(template, sort_keys=False, width=120), encoding="utf-8")
    for source, requirements in exported.items():
        write_sbom(requirements, folder / sbom_name(source))
    digests = [f"{_sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / DIGESTS_NAME).write_text("".join(digests), encoding="utf-8")


def write_archive(folder: Path, path: Path) -> str:
    """Zip the contents of a folder, without its own name, and return the zip's SHA-256 in hex.

    The digest holds for one version of zlib: another may compress the same files differently.
    """
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    with ZipFile(path, "w") as archive:
        for name, file in sorted(files.items()):
            archive.writestr(_entry(name, file), file.read_bytes(), compresslevel=_LEVEL)
    return _sha256(path)


def _entry(name: str, file: Path) -> ZipInfo:
    entry = ZipInfo(name, _EPOCH)
    entry.create_system = _UNIX
    entry.compress_type = ZIP_DEFLATED
    mode = _EXECUTABLE if file.stat().st_mode & stat.S_IXUSR else _READABLE
    entry.external_attr = (stat.S_IFREG | mode) << 16
    return entry


def _write_archives(functions: list[Path], folder: Path) -> dict[str, str]:
    """Return the zips' names by function; folders with the same files, linked by the build, are zipped once."""
    names: dict[frozenset[tuple[str, int]], str] = {}
    archives = {}
    for function in functions:
        files = frozenset(
            (str(path.relative_to(function)), path.stat().st_ino) for path in function.rglob("*") if path.is_file()
        )
        if files not in names:
            path = folder / f"{function.name}.zip"
            names[files] = f"package-{write_archive(function, path)[:_DIGEST_DIGITS]}.zip"
            path.replace(folder / names[files])
        archives[function.name] = names[files]
    return archives


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Build a release, print its digests, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack.release", description=__doc__)
    parser.add_argument("--architecture", choices=["arm64", "x86_64"], default="arm64")
    parser.add_argument("--output", type=Path, default=RELEASE_DIR)
    options = parser.parse_args(arguments)
    try:
        build(options.architecture)
        write_release(BUILD_DIR, options.output, {source: export(source) for source in SOURCES})
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write((options.output / DIGESTS_NAME).read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
