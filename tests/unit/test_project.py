"""The project's root and its build folder are found from any current folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.project import BUILD_VARIABLE, build_folder, project_root

CHECKOUT = Path(__file__).resolve().parents[2]


def make_checkout(folder: Path) -> Path:
    for name in ("pyproject.toml", "template.yaml", "training/project.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_the_root_is_the_nearest_checkout_above_the_current_folder(tmp_path: Path) -> None:
    outer = make_checkout(tmp_path / "outer")
    inner = make_checkout(outer / "inner")
    deep = inner / "docs/notebooks"
    deep.mkdir(parents=True)

    assert project_root(deep) == project_root(inner) == inner
    assert project_root(outer) == outer


def test_outside_any_checkout_the_root_is_the_one_that_the_code_belongs_to(tmp_path: Path) -> None:
    assert project_root(tmp_path) == CHECKOUT


def test_a_folder_that_cannot_be_looked_into_is_no_checkout(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path)
    assert project_root(checkout / ("long" * 100)) == checkout  # another user's folder gives an error as well


def test_the_build_folder_is_in_the_root_unless_the_environment_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = make_checkout(tmp_path)
    (checkout / "docs").mkdir()
    monkeypatch.chdir(checkout / "docs")

    monkeypatch.setenv(BUILD_VARIABLE, "elsewhere/build")
    assert build_folder() == Path("elsewhere/build")
    monkeypatch.delenv(BUILD_VARIABLE)
    assert build_folder() == checkout / "build"


def test_installed_without_a_checkout_the_root_is_the_current_folder(tmp_path: Path) -> None:
    package = tmp_path / "site/training"
    package.mkdir(parents=True)
    (package / "project.py").write_text((CHECKOUT / "training/project.py").read_text())
    current = tmp_path / "current"
    current.mkdir()
    script = "import runpy; print(runpy.run_path('../site/training/project.py')['project_root']())"

    command = [sys.executable, "-c", script]
    shown = subprocess.run(command, cwd=current, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert shown.stdout.strip() == str(current)
