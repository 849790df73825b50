"""For every test: how hard hypothesis tries, an AWS account that is none, and one small model a session."""

import os

import pytest
from hypothesis import HealthCheck, settings

from lambda_function.model import ModelBundle
from tests.builders import small_bundle
from training.export import ExportedBundle

settings.register_profile("fast", max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# Whoever runs the tests may be logged in to AWS: they must not reach it.
os.environ.pop("AWS_PROFILE", None)
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps what needs servers, files of real months or the built package out of the fast tier."""
    for item in items:
        if {"integration", "package"} & set(item.path.parts):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def bundle() -> ExportedBundle:
    """A small bundle, as training exports it."""
    return small_bundle()


@pytest.fixture(scope="session")
def model(bundle: ExportedBundle) -> ModelBundle:
    """The small bundle's model."""
    return bundle.model
