"""Settings for all tests: hypothesis profiles, AWS credentials of no account, the fast tier, one small model."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lambda_function.core.bundle import ModelBundle
from tests.builders import small_bundle
from training.model.bundle import ExportedBundle

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it in its workers: tables would fold there and nowhere else

os.environ["RIDECAST_BUILD"] = "build"  # of the current folder: a test in its own folder leaves the project's alone

settings.register_profile("fast", max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

# A developer may be logged in to AWS; tests must not reach it.
os.environ.pop("AWS_PROFILE", None)
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


HEAVY_FOLDERS = {"bench", "deploy_local", "fuzz", "integration", "package", "parity", "soak"}
_FIT = "backtest bench cli_models cross_fit export fit gate labelled_rides pipeline release tracking tracking_mirror"
_FRAMES = "inference"
_RETRAIN = "loop_poisoned retrain"
_DRAW = "cli_experiments join_bench monitor_page notebooks report synthetic"
_TEMPLATE = (
    "cicd cost cost_loop cost_monitor cost_outcomes execution_role http_template template template_data template_loop"
    " template_rollout template_streams"
)
_STACKS = (
    "audit bad_input calibrated_channels calibrated_experiments calibration_state calibrator cli cli_calibrate"
    " cli_joined cli_local cli_loop cli_monitor detectors experiments join loop loop_crashes loop_function loop_local"
    " loop_signing monitor monitor_function second_pass signals split_channels split_experiments split_stream"
)
_SLOW = " ".join((_FIT, _FRAMES, _RETRAIN, _DRAW, _TEMPLATE, _STACKS))
SLOW_FILES = {f"test_{name}.py" for name in _SLOW.split()}
"""Tests that fit models, draw, import pandas, run git, translate the template, or build a stack for each case: a file
of them takes seconds, others milliseconds."""


def _is_slow(path: Path) -> bool:
    return bool(HEAVY_FOLDERS & set(path.parts)) or path.name in SLOW_FILES


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import slow test files for the fast tier: scikit-learn and matplotlib take seconds."""
    return True if config.option.markexpr == "not slow" and _is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need servers, real months, the built package or their own model as slow."""
    for item in items:
        if _is_slow(item.path):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def bundle() -> ExportedBundle:
    """Return a small bundle of a training run."""
    return small_bundle()


@pytest.fixture(scope="session")
def model(bundle: ExportedBundle) -> ModelBundle:
    """Return the small bundle's model."""
    return bundle.model
