"""The example in docs/monitoring.md that reads days works as it stands there, and its commands exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from infra.cli.app import app
from tests.builders_monitor_page import day_figures_of, served_days
from training.monitoring.monitor.day_figures import encode_day

TEXT = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
PANDAS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)[0]
FOLDER = re.findall(r'Path\("([^"]+)"\)', PANDAS)[0]


@pytest.mark.slow  # imports pandas
def test_pandas_reads_days_and_adds_them_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = day_figures_of(served_days(3, 0))
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for one in days:
        (folder / f"{one.day}.json").write_bytes(encode_day(one))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(PANDAS, names)  # noqa: S102 - our own document
    served = [one.figures.errors.served for one in days]
    assert names["rmse_by_day"].tolist() == pytest.approx([(one.sum_squared_error / one.n) ** 0.5 for one in served])
    assert names["rmse_by_day"].index.tolist() == [str(one.day) for one in days]
    expected = sum(one.sum_error for one in served) / sum(one.n for one in served)
    assert names["bias_minutes"] == pytest.approx(expected)


def test_its_commands_exist() -> None:
    commands: Any = typer.main.get_command(app)
    known = {f"monitor {name}" for name in commands.commands["monitor"].commands}
    console = "\n".join(re.findall(r"```console\n(.*?)```", TEXT, flags=re.DOTALL))
    assert set(re.findall(r"ridecast (monitor [a-z]+)", console)) == known
