"""The bill of materials lists exactly the contents of the package, and is the same each time."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.stack.package import Package
from infra.stack.sbom import SPEC_VERSION, write_sbom
from training.errors import UserError


@pytest.fixture(scope="module")
def sbom(exported: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("sbom") / "sbom.json"
    write_sbom(exported, path)  # validates it, too
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def distributions(package: Package) -> set[tuple[str, str]]:
    """Names and versions of the package's distributions, by its own records."""
    records = (path.name.removesuffix(".dist-info") for path in package.folder.glob("*.dist-info"))
    return {(_normal(name), version) for name, _, version in (record.rpartition("-") for record in records)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_lists_exactly_the_packages_distributions(sbom: dict[str, Any], package: Package) -> None:
    listed = {(_normal(one["name"]), one["version"]) for one in sbom["components"]}

    assert listed == distributions(package)
    assert len(sbom["components"]) == len(listed) > 3


def test_it_is_cyclonedx_of_this_project(sbom: dict[str, Any]) -> None:
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", SPEC_VERSION)
    assert sbom["metadata"]["component"]["name"] == "ridecast"


def test_each_component_has_the_digests_of_the_lock(sbom: dict[str, Any], exported: str) -> None:
    for component in sbom["components"]:
        (distribution,) = [one for one in component["externalReferences"] if one["type"] == "distribution"]
        digests = [one["content"] for one in distribution["hashes"] if one["alg"] == "SHA-256"]
        assert digests
        assert all(f"--hash=sha256:{digest}" in exported for digest in digests)


def test_it_is_the_same_each_time(sbom: dict[str, Any], exported: str, tmp_path: Path) -> None:
    write_sbom(exported, tmp_path / "again.json")

    assert json.loads((tmp_path / "again.json").read_bytes()) == sbom


def test_document_that_cannot_be_written_is_an_error(exported: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write the bill of materials: cyclonedx-py reports"):
        write_sbom(exported, tmp_path / "no such folder" / "sbom.json")
