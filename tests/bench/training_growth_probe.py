"""The process that the training bench measures: one training on made-up rides.

    python -m tests.bench.training_growth_probe N_RIDES [N_TREES]

Prints each step as it begins, a JSON object a line, and at the end the time and memory that it took.
"""

import json
import sys
import time

from tests.bench.timing import peak_bytes
from training.data.months import Month
from training.data.rides import Rides, concat_rides
from training.data.synthetic import synthetic_rides
from training.model.parameters import PARAMETERS
from training.workflows.pipeline import train

_FIRST_MONTH, _N_MONTHS = Month(2019, 1), 12
_N_VALIDATE_RIDES = 60_000
_SEED = 1


def main(n_rides: int, n_trees: int) -> None:
    """Train on twelve months with this number of rides in total, and validate on the month after."""
    started_s = time.perf_counter()
    steps: dict[str, float] = {}

    def on_step(step: str) -> None:
        steps[step] = time.perf_counter() - started_s
        _write({"step": step})

    on_step("making up rides")
    *months, last = _months()
    validate_rides = synthetic_rides(last, _N_VALIDATE_RIDES, _SEED)
    run = train("yellow", _rides(months, n_rides), validate_rides, {**PARAMETERS, "max_iter": n_trees}, on_step)
    seconds = time.perf_counter() - started_s
    ends = [*list(steps.values())[1:], seconds]
    _write(
        {
            "n_rides": run.n_train,
            "n_trees": n_trees,
            "seconds": seconds,
            "seconds_by_step": {step: end - began for (step, began), end in zip(steps.items(), ends, strict=True)},
            "peak_gb": peak_bytes() / 1e9,
        }
    )


def _months() -> list[Month]:
    months = [_FIRST_MONTH]
    while len(months) <= _N_MONTHS:
        months.append(months[-1].next())
    return months


def _rides(months: list[Month], n_rides: int) -> Rides:
    """Make up month by month, so that no month is in memory twice."""
    return concat_rides(synthetic_rides(month, n_rides // len(months), _SEED) for month in months)


def _write(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else PARAMETERS["max_iter"])
