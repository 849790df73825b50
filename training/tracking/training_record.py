"""The record of a training: its time, the rides it was measured on, and its errors on the unseen months.

It is an artifact beside the bundle: none of it is in the model's bytes.
"""

from datetime import datetime
from typing import Annotated

import msgspec

from lambda_function.core.bundle import TrainingData
from training.model.results import MonthsResult

TRAINING_RECORD = "training.json"
"""The artifact's name."""


class TrainingRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A training. `test` has the errors on months that nothing was chosen on."""

    started_at: Annotated[datetime, msgspec.Meta(tz=True)]
    duration_s: float
    validate_data: tuple[TrainingData, ...] = ()
    test_data: tuple[TrainingData, ...] = ()
    test: MonthsResult | None = None

    @property
    def span_s(self) -> tuple[float, float]:
        """The beginning and the end in seconds since the epoch."""
        start_s = self.started_at.timestamp()
        return start_s, start_s + self.duration_s


def encode_record(record: TrainingRecord) -> bytes:
    """Return the artifact's bytes."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


decode_record = msgspec.json.Decoder(TrainingRecord).decode
