"""The examples in docs/outcomes.md that read labelled rides work as they stand there."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.builders_labelled import hourly_files, labelled_row

TEXT = (Path(__file__).parents[2] / "docs" / "outcomes.md").read_text(encoding="utf-8")
READING = TEXT.partition("## How to read labelled rides")[2].partition("\n## ")[0]
PANDAS, DUCKDB, _ = re.findall(r"```python\n(.*?)```", READING, flags=re.DOTALL)

AUGUST = datetime(2026, 8, 1, 8, 30)  # noqa: DTZ001 - New York's wall clock
ROWS = [
    labelled_row(pickup_time=AUGUST, predicted_minutes=12.0, duration_minutes=9.0, low_minutes=8.0, high_minutes=11.0),
    labelled_row(pickup_time=AUGUST, predicted_minutes=8.0, duration_minutes=12.0, low_minutes=7.0, high_minutes=10.0),
    labelled_row(pickup_time=AUGUST, status="no_outcome", duration_minutes=None),
    labelled_row(pickup_time=AUGUST - timedelta(days=3)),
    labelled_row(pickup_time=AUGUST + timedelta(days=1), predicted_minutes=7.0, duration_minutes=7.0),
]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has labelled rides in the folder `bucket`."""
    for key, body in hourly_files(ROWS).items():
        path = tmp_path / "bucket" / key
        path.parent.mkdir(parents=True)
        path.write_bytes(body)
    monkeypatch.chdir(tmp_path)


def names_in(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own document
    return names


@pytest.mark.slow  # imports pandas
@pytest.mark.usefixtures("bucket")
def test_pandas_reads_labelled_rides_from_a_day_on() -> None:
    by_hour = names_in(PANDAS)["by_hour"]
    assert by_hour.index.tolist() == [8]
    assert by_hour.loc[8, ["count", "mean"]].tolist() == pytest.approx([3, (3 - 4 + 0) / 3])


@pytest.mark.usefixtures("bucket")
def test_duckdb_measures_each_version() -> None:
    ((version, n_rides, rmse_minutes, inside),) = names_in(DUCKDB)["by_version"]
    assert version == ROWS[0]["model_version"]
    assert n_rides == 3
    assert rmse_minutes == pytest.approx(((9 + 16 + 0) / 3) ** 0.5)
    assert inside == pytest.approx(1 / 2)  # of the rides that have an interval
