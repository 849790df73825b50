"""The notebooks run from their first cell to the last, and what they show names no place of a machine."""

import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"


def cells_of(name: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))["cells"]
    return cells


def test_first_model_learns_from_made_up_rides_and_beats_the_course(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TLC_DATA_DIR", raising=False)
    monkeypatch.setenv("RIDECAST_BUILD", str(tmp_path))
    names: dict[str, Any] = {}
    with mpl.rc_context({"backend": "agg"}):
        for cell in cells_of("first-model.ipynb"):
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)  # noqa: S102 - our own document
        plt.close("all")
    assert (names["error"] ** 2).mean() < (names["course_error"] ** 2).mean()
    assert names["labelled"].version.unique().tolist() == [names["folder"].name]


def test_outputs_are_small_and_name_no_place_of_a_machine() -> None:
    for path in FOLDER.glob("*.ipynb"):
        outputs = json.dumps([cell.get("outputs", []) for cell in cells_of(path.name)])
        assert len(outputs) < 100_000
        assert not re.search(r'["\s(]/[a-z]+/', outputs)
