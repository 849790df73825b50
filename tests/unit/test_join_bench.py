"""The bench of the join: it joins what it archives, and draws its growth."""

import json
from pathlib import Path

import pytest

from lambda_function.core.records import OUTCOMES, PREDICTIONS, RIDES
from tests.bench.join_growth import JoinCost, plot_joins, probe
from tests.builders import interval_bundle
from tests.builders_archive import HOUR, archive_steady_stream
from training.monitoring.join.archive_reader import ArchiveReader
from training.monitoring.summary import load_summary
from training.registry.bucket import Bucket
from training.registry.channels import store_bundle
from training.registry.folder_s3 import FolderS3

N_RIDES = 400


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """Two hours of a steady stream."""
    bucket = Bucket(FolderS3(tmp_path), "bench")
    store_bundle(bucket, interval_bundle())
    archive_steady_stream(bucket.s3, interval_bundle().model, N_RIDES, n_hours=2)
    return bucket


def test_steady_stream_has_as_many_rides_each_hour_and_an_outcome_for_most(bucket: Bucket) -> None:
    reader = ArchiveReader(bucket)

    def count(kind: str, *hours: int) -> int:
        return sum(len(one.records) for hour in hours for one in reader.read(kind, HOUR + hour))

    assert [count(RIDES, 0), count(RIDES, 1)] == [N_RIDES, N_RIDES]
    assert count(PREDICTIONS, 0, 1, 2) == 2 * N_RIDES
    assert 2 * N_RIDES * 0.95 < count(OUTCOMES, 0, 1, 2) < 2 * N_RIDES


def test_probe_joins_the_hour_and_prints_its_cost(
    bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe(N_RIDES, 2, tmp_path)
    cost = JoinCost(**json.loads(capsys.readouterr().out))
    assert (cost.n_rides, cost.n_hours) == (N_RIDES, 2)
    summary = load_summary(bucket, HOUR)
    assert summary is not None
    assert (summary.n_recomputed, summary.n_skewed, summary.n_lost, summary.n_outcomes_unmatched) == (N_RIDES, 0, 0, 0)
    with pytest.raises(SystemExit, match="found"):
        probe(N_RIDES + 1, 2, tmp_path)


def test_growth_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "growth.svg"
    plot_joins([JoinCost(1000, 1, 1.0, 0.4), JoinCost(2000, 1, 2.0, 0.5)], path)
    assert path.read_text().count("rides in the hour, millions") == 2
