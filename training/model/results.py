"""The structs of `evaluation.json`, the file of a bundle that states how well it predicts.

All minutes are rounded to METRIC_DECIMALS: the file's digest is part of the model's version, which must be the same on
every machine.
"""

import msgspec

EVALUATION = "evaluation.json"
"""The file's name in a bundle."""

METRIC_DECIMALS = 4


class Measured(msgspec.Struct, frozen=True):
    """Errors over rides, in minutes.

    `rmse_minutes` weighs large errors most, `mae_minutes` is the mean size of an error, and `bias_minutes` is above 0
    if predictions are too long on average.
    """

    n_rides: int
    rmse_minutes: float
    mae_minutes: float
    bias_minutes: float


class SliceResult(msgspec.Struct, frozen=True):
    """The errors of model and baseline on the rides of one slice, as in ``by="hour", name="08"``.

    `coverage` (0 to 1) and `width_minutes` (mean) are those of the prediction intervals, None if the bundle has none.
    """

    by: str
    name: str
    model: Measured
    baseline: Measured
    coverage: float | None = None
    width_minutes: float | None = None


class MonthsResult(msgspec.Struct, frozen=True):
    """The errors on months that the model has not learnt from, as a whole and by slice."""

    months: tuple[str, ...]
    model: Measured
    baseline: Measured
    coverage: float | None
    width_minutes: float | None
    slices: tuple[SliceResult, ...]


class ArrivalResult(msgspec.Struct, frozen=True):
    """The model's errors if events carry no pickup time and their records arrive so late: the arrival replaces it."""

    arrival: str
    model: Measured


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    validate: MonthsResult
    test: MonthsResult | None = None
    without_pickup_time: tuple[ArrivalResult, ...] = ()


def encode_evaluation(evaluation: Evaluation) -> bytes:
    """Return the file's bytes."""
    return msgspec.json.format(msgspec.json.encode(evaluation), indent=1) + b"\n"


decode_evaluation = msgspec.json.Decoder(Evaluation).decode


def worse_than_baseline(result: MonthsResult, min_rides: int = 1) -> list[SliceResult]:
    """Return the slices of so many rides in which the model's RMSE is above the baseline's, the largest first."""
    worse = [
        one
        for one in result.slices
        if one.model.rmse_minutes > one.baseline.rmse_minutes and one.model.n_rides >= min_rides
    ]
    return sorted(worse, key=lambda one: -one.model.n_rides)
