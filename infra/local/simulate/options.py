"""What a simulation simulates."""

from dataclasses import dataclass
from typing import Any

from training.data.months import Month, Service, met_months, parse_months
from training.data.tlc_file import Timestamps
from training.errors import UserError

RIDES_A_MONTH = 6_000
"""Of a month with more, a sample: a training on a year of them takes half the time of one on 10,000 a month."""

DEFAULT_TRAIN, DEFAULT_MONTHS = "2019-01..2019-12", "2020-01..2020-06"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """Options of a simulation.

    Attributes:
        service: Whose rides.
        train_months: The months that the first model learns from, ascending.
        months: The months to simulate, ascending, without a gap, after the training months.
        rides_a_month: The most rides of a month.
        timestamps: What times with a time zone are in TLC's months, as for `load_rides`.
        synthetic: Whether rides are made up even if TLC's months are on this machine.
        seed: Of the samples of rides, and of made-up rides.
        calibration: Whether outcomes correct the served model every day.
        retraining: Whether the loop trains models, and promotes them.
        parameters: Of the first model; None for the project's.
    """

    service: Service = "yellow"
    train_months: tuple[Month, ...] = parse_months(DEFAULT_TRAIN)
    months: tuple[Month, ...] = parse_months(DEFAULT_MONTHS)
    rides_a_month: int = RIDES_A_MONTH
    timestamps: Timestamps | None = None
    synthetic: bool = False
    seed: int = 1
    calibration: bool = True
    retraining: bool = True
    parameters: dict[str, Any] | None = None


def check_months(train_months: tuple[Month, ...], months: tuple[Month, ...]) -> None:
    """Check that months can be simulated.

    Raises:
        UserError: A month is trained on too, or lies before or between the training months, or one is missing.
    """
    if shared := met_months(months, train_months):
        raise UserError(f"{shared[0]} is a training month already", "simulate months after those of --train")
    if months[0] < train_months[-1]:
        raise UserError(f"{months[0]} lies before {train_months[-1]}, a training month", "simulate later months")
