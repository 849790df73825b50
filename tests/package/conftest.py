"""The packages for this machine's own processor: built once, and shared with the demo and other tests.

The fixtures have the scope of a module: with a session's, pytest would run each module once for each package.
"""

import sys

import pytest

from infra.stack.package import PYTHON, SOURCES, Package, PackageSource, build_for_host, export, host_architecture
from infra.stack.tools import find_uv


@pytest.fixture(scope="module", params=SOURCES, ids=lambda source: source.function)
def source(request: pytest.FixtureRequest) -> PackageSource:
    """What each package is built from."""
    found: PackageSource = request.param
    return found


@pytest.fixture(scope="module")
def package(source: PackageSource) -> Package:
    if sys.version_info[:2] != PYTHON:
        pytest.skip(f"sam build needs the function's Python, {PYTHON[0]}.{PYTHON[1]}")
    if host_architecture() is None:
        pytest.skip("Lambda has no processor like this machine's, or this is not Linux")
    return build_for_host(source)


@pytest.fixture(scope="module")
def exported(source: PackageSource) -> str:
    """The package's requirements with digests, from uv.lock."""
    if find_uv() is None:
        pytest.skip("no uv here")
    return export(source)
