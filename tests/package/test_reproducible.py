"""Two builds of the same sources are the same package, to the byte: a new build of a commit gives what is deployed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.stack.package import Package, build, function_folders, host_architecture
from infra.stack.release import SBOM_NAME, write_archive, write_release
from infra.stack.upload import DIGESTS_NAME, TEMPLATE_NAME
from training.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of both builds; deleted at the end because it has hundreds of megabytes."""
    made = tmp_path_factory.mktemp("builds")
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def release(package: Package, folder: Path, exported: str) -> Path:
    write_release(package.folder.parent, folder / "release", exported)
    return folder / "release"


def archives(release: Path) -> list[str]:
    return [path.name for path in release.glob("package-*.zip")]


def test_second_build_elsewhere_has_the_same_digest(package: Package, folder: Path) -> None:
    architecture = host_architecture()
    assert architecture
    again = build(architecture, folder / "another" / "place")

    first, second = (write_archive(one.folder, folder / "package.zip") for one in (package, again))
    assert first == second


def test_every_function_has_the_same_package(package: Package, release: Path) -> None:
    assert len(function_folders(package.folder.parent)) > 1
    assert len(archives(release)) == 1  # so sam uploads it once


def test_template_of_the_release_names_the_zip(release: Path) -> None:
    template: dict[str, Any] = yaml.safe_load((release / TEMPLATE_NAME).read_text(encoding="utf-8"))
    functions = [one for one in template["Resources"].values() if one["Type"] == "AWS::Serverless::Function"]

    assert {one["Properties"]["CodeUri"] for one in functions} == set(archives(release))


def test_digests_are_of_every_file_of_the_release(release: Path) -> None:
    lines = (release / DIGESTS_NAME).read_text(encoding="utf-8").splitlines()

    assert [line.split("  ")[1] for line in lines] == sorted([*archives(release), SBOM_NAME, TEMPLATE_NAME])


def test_release_is_not_mixed_with_an_older_one(package: Package, release: Path) -> None:
    with pytest.raises(UserError, match="already contains SHA256SUMS, package-"):
        write_release(package.folder.parent, release, "")
