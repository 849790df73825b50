"""What came back, held against what must: a sentence for each kind of fault."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from infra.smoke.plan import Trial
from lambda_function.events import Prediction, decode_prediction

_TOLERANCE_MINUTES = 0.0051
"""Predictions are rounded to hundredths, golden minutes are not."""


def own_predictions(data: Iterable[bytes], trial: Trial) -> list[tuple[str, Prediction]]:
    """Returns the predictions of the trial's rides among all that are on the stream, by ride id."""
    ours = []
    for one in data:
        try:
            prediction = decode_prediction(one)
        except msgspec.MsgspecError:
            continue  # somebody else's: whatever is ours and can't be read is missing in the end
        if prediction.prediction.ride_id in trial.minutes:
            ours.append((str(prediction.prediction.ride_id), prediction))
    return ours


def find_problems(trial: Trial, predictions: Mapping[str, Sequence[Prediction]]) -> list[str]:
    """Returns a sentence for each kind of fault, with the first ride that has it.

    A prediction that comes again with the same bytes is no fault.
    """
    every = [(ride_id, one) for ride_id, ones in predictions.items() for one in ones]
    faults: dict[str, list[str]] = {
        "have no prediction": [ride_id for ride_id in trial.minutes if ride_id not in predictions],
        f"are not predicted by {trial.model_version}": [
            ride_id for ride_id, one in every if one.version != trial.model_version
        ],
        f"are not within {trial.range_minutes[0]:g} to {trial.range_minutes[1]:g} minutes": [
            ride_id for ride_id, one in every if not _is_within(one, trial.range_minutes)
        ],
        "are predicted otherwise than in the golden file": [
            ride_id
            for ride_id, one in every
            if one.version == trial.model_version
            and not abs(one.prediction.ride_duration - trial.minutes[ride_id]) <= _TOLERANCE_MINUTES
        ],
        "have two predictions that differ": [
            ride_id for ride_id, ones in predictions.items() if any(one != ones[0] for one in ones)
        ],
    }
    n_rides = len(trial.minutes)
    return [f"{len(ids)} of {n_rides} rides {fault}, the first is {ids[0]}" for fault, ids in faults.items() if ids]


def _is_within(prediction: Prediction, range_minutes: tuple[float, float]) -> bool:
    minutes = prediction.prediction.ride_duration
    low, high = prediction.interval or (minutes, minutes)
    return range_minutes[0] <= minutes <= range_minutes[1] and low <= minutes <= high
