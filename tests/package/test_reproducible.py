"""Two builds of the same sources are the same package, to the byte: a new build of a commit gives what is deployed."""

import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.stack.package import (
    JOINER,
    LOOPER,
    PREDICTOR,
    SOURCES,
    TRAINER,
    Package,
    PackageSource,
    build,
    export,
    function_folders,
    functions_of,
    host_architecture,
)
from infra.stack.release import sbom_name, write_release
from infra.stack.template import FUNCTION_TYPE
from infra.stack.tools import find_uv
from infra.stack.upload import DIGESTS_NAME, TEMPLATE_NAME
from training.errors import UserError

MAX_ZIPPED_BYTES = {PREDICTOR: 20_000_000, JOINER: 48_000_000, TRAINER: 72_000_000, LOOPER: 26_000_000}
"""Our own budgets. The trainer's is above the 50 MB of a direct upload: all packages go through the bucket."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of both builds; deleted at the end because it has hundreds of megabytes."""
    made = tmp_path_factory.mktemp("builds")
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def again(folder: Path) -> Path:
    """A second build, of all functions together and in another place."""
    build(host_architecture() or "", folder / "another" / "place")
    return folder / "another" / "place"


@pytest.fixture(scope="module")
def release(again: Path, folder: Path) -> Path:
    if find_uv() is None:
        pytest.skip("no uv here")
    write_release(again, folder / "release", {source: export(source) for source in SOURCES})
    return folder / "release"


def archives(release: Path) -> list[str]:
    return [path.name for path in release.glob("package-*.zip")]


def code_uris(release: Path) -> dict[str, str]:
    template: dict[str, Any] = yaml.safe_load((release / TEMPLATE_NAME).read_text(encoding="utf-8"))
    functions = {n: one for n, one in template["Resources"].items() if one["Type"] == FUNCTION_TYPE}
    return {name: one["Properties"]["CodeUri"] for name, one in functions.items()}


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """What a package's zip is made of: each file's digest and mode."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): (sha256(path.read_bytes()).hexdigest(), path.stat().st_mode) for path in files
    }


def test_second_build_elsewhere_has_the_same_files(source: PackageSource, package: Package, again: Path) -> None:
    assert contents(package.folder) == contents(again / source.function)


def test_functions_with_the_same_sources_share_a_zip(again: Path, release: Path) -> None:
    uris = code_uris(release)

    assert len(function_folders(again)) == len(uris)
    assert len(archives(release)) == len(SOURCES)  # so sam uploads each once
    for source in SOURCES:
        assert len({uris[name] for name in functions_of(source)}) == 1


def test_every_function_of_the_template_has_a_package_of_ours(release: Path) -> None:
    assert code_uris(release).keys() == set().union(*map(functions_of, SOURCES))
    assert set(code_uris(release).values()) == set(archives(release))


def test_zips_are_within_our_budget(release: Path) -> None:
    uris = code_uris(release)
    for source, budget in MAX_ZIPPED_BYTES.items():
        assert 0.8 * budget < (release / uris[source.function]).stat().st_size < budget


def test_digests_are_of_every_file_of_the_release(release: Path) -> None:
    lines = (release / DIGESTS_NAME).read_text(encoding="utf-8").splitlines()

    files = [*archives(release), *map(sbom_name, SOURCES), TEMPLATE_NAME]
    assert [line.split("  ")[1] for line in lines] == sorted(files)


def test_release_is_not_mixed_with_an_older_one(again: Path, release: Path) -> None:
    with pytest.raises(UserError, match="already contains SHA256SUMS, package-"):
        write_release(again, release, {})
