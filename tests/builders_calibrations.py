"""Calibrations of the small bundles: as structs, as stored objects, and in a channel."""

from typing import Any

import msgspec

from lambda_function.core.bundle import ModelBundle, sha256
from lambda_function.core.calibration import CALIBRATION_FORMAT, N_WEIGHTS, Calibration, calibration_key
from lambda_function.core.channel import CalibrationRef
from tests.builders import small_bundle
from training.registry.bucket import Bucket
from training.registry.channels import Moved, Mover, calibrate_channel

AS_OF = "2026-11-29T05"
LATER = "2026-11-30T05"
HALF = (-0.5, *(0.0,) * (N_WEIGHTS - 1))
"""Weights that halve every prediction."""

SOME = (0.25, -0.5, 0.125, 0.0, 0.3, -0.2, 0.35, 0.1, -0.4, 0.05)
"""Weights that differ by cell and by predicted minutes."""


def calibration_of(
    model: ModelBundle | None = None,
    as_of: str = AS_OF,
    weights: tuple[float, ...] = SOME,
    interval_scale: float = 1.5,
    **changes: Any,
) -> Calibration:
    """Return a calibration of a model, by default of the small bundle."""
    facts = {
        "format": CALIBRATION_FORMAT,
        "model_version": (model or small_bundle().model).model_version,
        "as_of": as_of,
        "weights": weights,
        "interval_scale": interval_scale,
    }
    return Calibration(**{**facts, **changes})


def calibration_bytes(calibration: Calibration, **more: Any) -> bytes:
    """Return a calibration's object; `more` are fields that the function ignores."""
    return msgspec.json.encode({**msgspec.to_builtins(calibration), "n_used": 7, **more})


def reference_of(data: bytes, as_of: str = AS_OF) -> CalibrationRef:
    """Return what a channel has of a calibration's object."""
    return CalibrationRef(as_of, sha256(data))


def calibrate(
    bucket: Bucket,
    seed: int = 1,
    as_of: str = AS_OF,
    weights: tuple[float, ...] = SOME,
    mover: Mover | None = None,
    channel: str = "stable",
    **options: Any,
) -> Moved:
    """Calibrate the small bundle of a seed in a channel that holds it."""
    data = calibration_bytes(calibration_of(small_bundle(seed).model, as_of, weights))
    return calibrate_channel(bucket, channel, data, mover=mover, **options)


def key_of(seed: int = 1, as_of: str = AS_OF) -> str:
    """Return the key of a calibration of the small bundle of a seed."""
    return calibration_key(small_bundle(seed).model_version, as_of)
