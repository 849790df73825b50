"""A comparator as Lambda would get it: one module for a package, and scikit-learn's model pickled in the bucket."""

import pickle
import shutil
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.local.runtime.emulator import FunctionConfig

_MODEL_KEY = "comparator/model.pkl"


def store_pickled(s3: Any, bucket: str, model: object) -> None:
    """Stores what the comparator unpickles."""
    s3.put_object(Bucket=bucket, Key=_MODEL_KEY, Body=pickle.dumps(model))


def comparator_of(ours: FunctionConfig, module: Path, folder: Path) -> FunctionConfig:
    """Returns the function that a module of the bench is, configured as ours, with all that is installed here.

    Args:
        ours: The function to compare with.
        module: With a `lambda_handler`.
        folder: Where its package is made.
    """
    package = folder / "comparator"
    package.mkdir()
    shutil.copy(module, package)
    return replace(
        ours,
        package=package,
        handler=f"{module.stem}.lambda_handler",
        environment={**ours.environment, "MODEL_KEY": _MODEL_KEY},
        site_packages=[Path(sysconfig.get_path("purelib"))],
    )
