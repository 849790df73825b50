"""Training on real months: as accurate as promised, better than the baseline, and the same to the byte each time."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from training.dataset import Rides, default_data_dir, load_rides
from training.months import Month, Service, parse_months
from training.pipeline import TrainingRun, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("TLC_DATA_DIR"), reason="TLC_DATA_DIR names no folder of TLC months"),
]
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Split:
    """Months to train on, a month to validate on, and what has to come of it."""

    service: Service
    train_months: str
    validate_months: str
    max_rmse_minutes: float
    max_ratio: float

    def __str__(self) -> str:
        return f"{self.service} {self.train_months} to {self.validate_months}"


PROMISED = [
    Split("green", "2021-01", "2021-02", 5.20, 0.68),
    Split("green", "2023-01", "2023-02", 4.02, 0.68),
    Split("green", "2023-01,2023-02", "2023-03", 4.06, 0.68),
]
# Bars 1 to 2 % above what was measured: room for another release of scikit-learn, none for a fault. Of yellow there is
# a sample of 10,000 rides a month; December 2018 is far from the eleven months before it, for either model.
OTHER = [
    Split("green", "2022-01", "2022-02", 4.62, 0.67),  # 4.561, 0.658
    Split("green", "2022-02", "2022-03", 4.36, 0.64),  # 4.297, 0.622
    Split("yellow", "2019-01..2019-05", "2019-06", 4.37, 0.72),  # 4.306, 0.709
    Split("yellow", "2018-01..2018-11", "2018-12", 4.67, 0.785),  # 4.605, 0.772
]


def load(service: Service, months: str) -> Rides:
    """Loads real months, or skips where the folder has not got them: a test downloads nothing."""

    def skip(service: Service, month: Month, cache_dir: Path) -> Path:
        pytest.skip(f"TLC_DATA_DIR has no {service} rides of {month}")

    return load_rides(service, parse_months(months), data_dir=default_data_dir(), fetch=skip)


def run_of(split: Split) -> TrainingRun:
    return train(split.service, load(split.service, split.train_months), load(split.service, split.validate_months))


@pytest.mark.parametrize("split", [*PROMISED, *OTHER], ids=str)
def test_accuracy_is_reached_and_the_baseline_beaten(split: Split) -> None:
    validated = run_of(split).validated
    assert validated.model.rmse_minutes <= split.max_rmse_minutes
    assert validated.model.mae_minutes <= split.max_mae_minutes
    assert validated.model.rmse_minutes <= split.max_ratio * validated.baseline.rmse_minutes
    assert validated.model.mae_minutes < validated.baseline.mae_minutes


TRAIN_AND_PRINT_DIGESTS = """
from training.dataset import default_data_dir, load_rides
from training.months import parse_months
from training.pipeline import train
from lambda_function.model import sha256
january, february = (
    load_rides("green", parse_months(month), data_dir=default_data_dir()) for month in ("2021-01", "2021-02")
)
bundle = train("green", january, february).bundle
print(bundle.model_version, *(f"{name}={sha256(data)}" for name, data in sorted(bundle.files.items())))
"""


def test_same_rides_train_to_the_same_bytes_in_any_process() -> None:
    load("green", "2021-01,2021-02")  # or there is nothing to compare

    def digests(hash_seed: str, n_threads: str) -> str:
        """What another process, with other hashes and threads, makes of the same rides."""
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": n_threads}
        finished = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", TRAIN_AND_PRINT_DIGESTS],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return finished.stdout

    first = digests("1", "1")
    assert first.startswith("green-2021-01-")
    assert first.count("=") == 3
    assert digests("2", "2") == first
