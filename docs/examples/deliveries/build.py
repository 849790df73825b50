"""Copy the project's two packages into a folder and make them predict deliveries: docs/adapting.md explains it.

    python docs/examples/deliveries/build.py build/deliveries

Then it runs `try_it.py` on the copy.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def build(folder: Path) -> None:
    """Copy the packages and change five files."""
    for package in ("lambda_function", "training"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "zones.csv", folder / "lambda_function" / "core")
    shutil.copy(HERE / "deliveries.py", folder / "training" / "data")
    command = ["git", "apply", str(HERE / "code.patch")]
    outside = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}  # else git applies it to its repository
    subprocess.run(command, cwd=folder, env=outside, check=True)  # noqa: S603


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    build(target)
    command = [sys.executable, str(HERE / "try_it.py")]
    subprocess.run(command, cwd=target, env={**os.environ, "PYTHONPATH": str(target)}, check=True)  # noqa: S603
