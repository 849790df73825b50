"""Daily differences of real models on later months: the input of verdict_errors.py.

On each span of months, every two models are a pair. The models learned from earlier months only, and differ in their
months, parameters or seeds.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.load import tlc_months
from training.data.months import Service, parse_months
from training.data.rides import Rides
from training.evaluation.metrics import predictor
from training.evaluation.slices import by_day
from training.experiments.verdict import DayLosses
from training.model.bundle import ExportedBundle, read_bundle, write_bundle
from training.model.parameters import PARAMETERS
from training.workflows.pipeline import train

Floats = NDArray[np.float64]

_N_HOURS = 24
_N_VALIDATION_RIDES = 2_000


class Spec(NamedTuple):
    """What a model learns from, and how it differs from the default."""

    months: str
    changes: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return " ".join([self.months, *(f"{name}={value}" for name, value in self.changes)])


class Span(NamedTuple):
    """Months on which models are compared, all of them later than what the models learned from."""

    service: Service
    months: str
    models: tuple[Spec, ...]

    def __str__(self) -> str:
        return f"{self.service} {self.months}"


SEED_2, SEED_3 = (("random_state", 2),), (("random_state", 3),)
FEWER_TREES, SMALLER_TREES = (("max_iter", 100),), (("max_leaf_nodes", 8),)

SPANS = (
    Span("green", "2022-02..2022-03", (
        Spec("2021-01"), Spec("2021-02"), Spec("2021-01..2021-02"), Spec("2022-01"), Spec("2022-01", SEED_2),
        Spec("2022-01", SEED_3), Spec("2022-01", FEWER_TREES),
    )),
    Span("green", "2023-02..2023-03", (
        Spec("2021-01..2021-02"), Spec("2022-01"), Spec("2022-01..2022-03"), Spec("2022-03"), Spec("2023-01"),
        Spec("2023-01", SEED_2), Spec("2023-01", SEED_3), Spec("2023-01", FEWER_TREES),
        Spec("2023-01", SMALLER_TREES),
    )),
    Span("yellow", "2019-01..2019-06", (
        Spec("2018-01..2018-12"), Spec("2018-01..2018-12", SEED_2), Spec("2018-01..2018-12", FEWER_TREES),
        Spec("2018-01..2018-12", SMALLER_TREES), Spec("2018-01..2018-06"), Spec("2018-07..2018-12"),
        Spec("2018-10..2018-12"),
    )),
    Span("yellow", "2020-01..2020-06", (
        Spec("2018-01..2018-12"), Spec("2019-01..2019-12"), Spec("2019-01..2019-12", SEED_2),
        Spec("2019-07..2019-12"),
    )),
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two models on the same rides: sums of each day (n_days,), with those that tests by ride and by hour need."""

    span: Span
    one: Spec
    other: Spec
    days: tuple[date, ...]  # of the calendar, without gaps
    n_rides: Floats
    squares: Floats  # (2, n_days): each model's squared errors
    ride_squares: Floats  # of the rides' differences of squared errors, the second model's scaled as in `scaled(0)`
    n_hours: Floats  # with rides
    hour_squares: Floats  # of the hours' sums of these differences
    is_seeds: bool = field(init=False)  # whether they differ in their seeds only

    def __post_init__(self) -> None:
        changed = {name for name, _ in {*self.one.changes} ^ {*self.other.changes}}
        object.__setattr__(self, "is_seeds", self.one.months == self.other.months and changed == {"random_state"})

    def __str__(self) -> str:
        return f"{self.one} | {self.other}"

    @property
    def mean_percent(self) -> float:
        """By how many percent of the first model's MSE the second is better, on all days."""
        first, second = self.squares.sum(axis=1)
        return float(100 * (1 - second / first))

    def scaled(self, gain_percent: float) -> Floats:
        """Return the squares (2, n_days) with the second model's scaled, so that it is better by this on all days."""
        first, second = self.squares.sum(axis=1)
        factors = np.array([[1.0], [first / second * (1 - gain_percent / 100)]])
        scaled: Floats = self.squares * factors
        return scaled

    def losses(
        self, squares: Floats, start: int, n_days: int, swapped: NDArray[np.bool_] | None = None
    ) -> list[DayLosses]:
        """Return days in a row of squares (2, n_days); on those swapped (n_days,), the second model is the champion."""
        taken = slice(start, start + n_days)
        champion, candidate = squares[:, taken]
        if swapped is not None:
            champion, candidate = np.where(swapped, candidate, champion), np.where(swapped, champion, candidate)
        columns = self.n_rides[taken].astype(int).tolist(), champion.tolist(), candidate.tolist()
        return [DayLosses(*row) for row in zip(self.days[taken], *columns, strict=True)]


def pairs_of(span: Span, folder: Path, on_step: Callable[[str], None]) -> Iterator[Pair]:
    """Give every two models of a span on its rides; fitted models are kept in the folder."""
    rides = load(span.service, span.months)
    squares = {}
    for spec in span.models:
        on_step(f"{span}: {spec}")
        squares[spec] = predictor(fitted(span.service, spec, folder).model)(rides).error_minutes ** 2
    for one, other in itertools.combinations(span.models, 2):
        yield paired(span, (one, other), rides, squares[one], squares[other])


def paired(span: Span, models: tuple[Spec, Spec], rides: Rides, one: Floats, other: Floats) -> Pair:
    """Sum the squared errors (n,) of two models on the same rides."""
    slicing = by_day(rides)
    days, n_days = tuple(date.fromisoformat(name) for name in slicing.names), len(slicing.names)
    number = slicing.number(rides.columns)
    hour = number * _N_HOURS + rides.columns.pickup_minute // 60 % _N_HOURS
    n_hours = (np.bincount(hour, minlength=n_days * _N_HOURS).reshape(n_days, _N_HOURS) > 0).sum(axis=1)
    difference = one - other * (one.sum() / other.sum())
    by_hour = np.bincount(hour, difference, n_days * _N_HOURS).reshape(n_days, _N_HOURS)
    return Pair(
        span, *models, days,
        n_rides=np.bincount(number, minlength=n_days).astype(np.float64),
        squares=np.stack([np.bincount(number, of, n_days) for of in (one, other)]),
        ride_squares=np.bincount(number, difference**2, n_days),
        n_hours=n_hours.astype(np.float64),
        hour_squares=(by_hour**2).sum(axis=1),
    )  # fmt: skip


def load(service: Service, months: str) -> Rides:
    """Read local months."""
    return tlc_months(service)(parse_months(months))


def fitted(service: Service, spec: Spec, folder: Path) -> ExportedBundle:
    """Read a model from the folder, or fit it and write it there."""
    changes: dict[str, Any] = dict(spec.changes)
    name = "-".join([service, spec.months, *(f"{key}{value}" for key, value in changes.items())])
    stored = sorted((folder / name).glob("*/"))
    if stored:
        return read_bundle(stored[0])
    rides = load(service, spec.months)
    few = rides.take(slice(0, _N_VALIDATION_RIDES))  # for figures in the bundle that nothing here uses
    bundle = train(service, rides, few, {**PARAMETERS, **changes}, has_reference=False).bundle
    write_bundle(bundle, folder / name)
    return bundle
