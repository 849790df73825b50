"""The bench of the monitor's figures: it measures what it makes."""

from pathlib import Path

import pytest

from tests.bench.monitor_hour import make_hour, probe
from tests.builders import interval_bundle


def test_probe_makes_figures_of_the_hour_and_returns_the_cost(tmp_path: Path) -> None:
    file = tmp_path / "rides.parquet"
    make_hour(300, file)
    cost = probe(300, file, interval_bundle().model)
    assert (cost.n_rides, cost.read_s > 0, cost.figures_s > 0, cost.scoring_s > 0) == (300, True, True, True)
    with pytest.raises(SystemExit, match="300 rides are judged, and not 301"):
        probe(301, file, interval_bundle().model)
