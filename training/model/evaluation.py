"""What a bundle says of how well it predicts: `evaluation.json`, one of its files.

All minutes are rounded to METRIC_DECIMALS: the file's digest is part of the model's version, which no machine may
change.
"""

import msgspec

EVALUATION = "evaluation.json"
"""The file's name in a bundle."""

METRIC_DECIMALS = 4


class Measured(msgspec.Struct, frozen=True):
    """`training.evaluation.metrics.Errors`, rounded."""

    n_rides: int
    rmse_minutes: float
    mae_minutes: float
    bias_minutes: float


class SliceResult(msgspec.Struct, frozen=True):
    """The rides of one slice, as in ``by="hour", name="08"``: the model beside the baseline.

    `coverage` (0 to 1) and `width_minutes` (mean) are those of the prediction intervals, None where the bundle has
    none.
    """

    by: str
    name: str
    model: Measured
    baseline: Measured
    coverage: float | None = None
    width_minutes: float | None = None


class MonthsResult(msgspec.Struct, frozen=True):
    """How the model does on months that it has not learnt from, as a whole and by slice."""

    months: tuple[str, ...]
    model: Measured
    baseline: Measured
    coverage: float | None
    width_minutes: float | None
    slices: tuple[SliceResult, ...]


class ArrivalResult(msgspec.Struct, frozen=True):
    """How it does where events carry no pickup time and arrive so late: the arrival stands in for the pickup."""

    arrival: str
    model: Measured


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file."""

    validate: MonthsResult
    test: MonthsResult | None = None
    without_pickup_time: tuple[ArrivalResult, ...] = ()


def encode_evaluation(evaluation: Evaluation) -> bytes:
    """Returns the file's bytes."""
    return msgspec.json.format(msgspec.json.encode(evaluation), indent=1) + b"\n"


decode_evaluation = msgspec.json.Decoder(Evaluation).decode
