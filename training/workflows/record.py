"""Record a training beside its bundle: when it ran, and what it was measured on."""

from datetime import UTC, datetime

from training.data.rides import Rides
from training.model.export import training_data
from training.model.results import MonthsResult
from training.tracking.training_record import TrainingRecord, encode_record


def record_training(
    started_at: datetime, validate_rides: Rides, test_rides: Rides | None, test: MonthsResult | None = None
) -> bytes:
    """Return the record of a training that began then and ends now.

    Args:
        started_at: Aware.
        validate_rides: The rides whose errors are in the bundle.
        test_rides: The rides that nothing was chosen on, if there are any.
        test: The errors on them.
    """
    record = TrainingRecord(
        started_at=started_at.astimezone(UTC),
        duration_s=round((datetime.now(UTC) - started_at).total_seconds(), 3),
        validate_data=training_data(validate_rides),
        test_data=training_data(test_rides) if test_rides else (),
        test=test,
    )
    return encode_record(record)
