"""Where the project is on this machine, and its folder of bundles, models and logs."""

import os
from pathlib import Path

BUILD_VARIABLE = "RIDECAST_BUILD"
"""The environment variable that names another build folder; a relative one counts from the current folder."""

_MARKS = ("pyproject.toml", "template.yaml", "training/project.py")
"""Files that a checkout of this project has, under whatever name it was cloned."""


def project_root(folder: Path | None = None) -> Path:
    """Return the root of the project, as an absolute path.

    It is the nearest checkout that contains the current folder, else the checkout that this code is a part of, else the
    current folder.

    Args:
        folder: A folder in place of the current one.
    """
    here = (folder or Path.cwd()).resolve()
    candidates = (here, *here.parents, Path(__file__).resolve().parents[1])
    return next((one for one in candidates if _is_checkout(one)), here)


def build_folder() -> Path:
    """Return the default folder of bundles, models and logs: RIDECAST_BUILD, else `build` in the project's root."""
    named = os.environ.get(BUILD_VARIABLE)
    return Path(named).expanduser() if named else project_root() / "build"


def _is_checkout(folder: Path) -> bool:
    return all(os.path.isfile(folder / name) for name in _MARKS)  # noqa: PTH113 - False in a folder of another user
