"""The package for this machine's own processor: built once, and shared with the demo and other tests."""

import sys

import pytest

from infra.stack.package import PYTHON, Package, build_for_host, export, host_architecture
from infra.stack.tools import find_uv


@pytest.fixture(scope="session")
def package() -> Package:
    if sys.version_info[:2] != PYTHON:
        pytest.skip(f"sam build needs the function's Python, {PYTHON[0]}.{PYTHON[1]}")
    if host_architecture() is None:
        pytest.skip("Lambda has no processor like this machine's, or this is not Linux")
    return build_for_host()


@pytest.fixture(scope="session")
def exported() -> str:
    """The package's requirements with digests, from uv.lock."""
    if find_uv() is None:
        pytest.skip("no uv here")
    return export()
