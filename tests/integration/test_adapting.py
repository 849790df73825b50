"""The worked example of docs/adapting.md: five files make the packages predict deliveries in another city."""

import json
import re
import subprocess
import sys
from pathlib import Path

from infra.stack.template import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "deliveries"
TEXT = (ROOT / "docs" / "adapting.md").read_text(encoding="utf-8")
FIVE_FILES = TEXT.partition("## The five files")[2].partition("\n## ")[0]


def test_copy_with_five_files_changed_trains_on_deliveries_and_predicts_them(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "build.py"), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603 - our own
    assert run.returncode == 0, run.stdout + run.stderr
    out = run.stdout

    errors = re.search(r"RMSE (\S+) minutes, linear model (\S+)", out)
    assert errors
    assert float(errors[1]) < 0.8 * float(errors[2])
    (line,) = re.findall(r"delivery-predictions (\{.*\})", out)
    prediction = json.loads(line)
    assert prediction["prediction"]["ride_id"] == "order-7"
    low, high = prediction["interval"]
    assert 25 < low < prediction["prediction"]["ride_duration"] < high < 60  # some 35 minutes by the made-up rule
    assert prediction["version"].startswith("deliveries-2026-01-")

    changed = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if differs(path, tmp_path)}
    listed = re.findall(r"^\| `(\S+)` \|", FIVE_FILES, re.MULTILINE)
    assert {path.name for path in changed} == {Path(name).name for name in listed}
    assert len(changed) == 5


def differs(path: Path, folder: Path) -> bool:
    """Return whether a file of the packages is not the project's."""
    name = path.relative_to(folder)
    if not path.is_file() or "__pycache__" in name.parts or name.parts[0] == "bucket":
        return False
    original = ROOT / name
    return not original.exists() or original.read_bytes() != path.read_bytes()
